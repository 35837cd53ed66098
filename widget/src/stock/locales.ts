/** The languages that OpenAI's front end accepts, and which of a visitor's wishes it gets. */
import type { SupportedLocale } from "@openai/chatkit";

const LOCALES = [
  "am", "ar", "bg", "bg-BG", "bn", "bn-BD", "bs", "bs-BA", "ca", "ca-ES", "cs", "cs-CZ", "da", "da-DK", "de", "de-DE", "el",
  "el-GR", "en", "es", "es-419", "es-ES", "et", "et-EE", "fi", "fi-FI", "fr", "fr-CA", "fr-FR", "gu", "gu-IN", "hi", "hi-IN",
  "hr", "hr-HR", "hu", "hu-HU", "hy", "hy-AM", "id", "id-ID", "is", "is-IS", "it", "it-IT", "ja", "ja-JP", "ka", "ka-GE", "kk",
  "kn", "kn-IN", "ko", "ko-KR", "lt", "lv", "lv-LV", "mk", "mk-MK", "ml", "mn", "mr", "mr-IN", "ms", "ms-MY", "my", "my-MM",
  "nb", "nb-NO", "nl", "nl-NL", "pa", "pl", "pl-PL", "pt", "pt-BR", "pt-PT", "ro", "ro-RO", "ru", "ru-RU", "sk", "sk-SK", "sl",
  "sl-SI", "so", "so-SO", "sq", "sq-AL", "sr", "sr-RS", "sv", "sv-SE", "sw", "sw-TZ", "ta", "ta-IN", "te", "te-IN", "th",
  "th-TH", "tl", "tr", "tr-TR", "uk", "uk-UA", "ur", "vi", "vi-VN", "zh", "zh-CN", "zh-HK", "zh-Hant", "zh-TW",
] as const satisfies readonly SupportedLocale[];

/** Fails to compile when a later version of OpenAI's types knows a language that is not listed. */
export type Unlisted = Exclude<SupportedLocale, (typeof LOCALES)[number]>;
export const ALL_LISTED: Unlisted extends never ? true : Unlisted = true;

/** The first wish that is accepted, whole or by its language; null leaves it to the front end. */
export function stockLocale(wishes: readonly (string | null | undefined)[]): SupportedLocale | null {
  const find = (tag: string) => LOCALES.find((known) => known.toLowerCase() === tag.toLowerCase());
  for (const wish of wishes) {
    const found = wish ? (find(wish) ?? find(wish.split("-")[0] ?? "")) : undefined;
    if (found) return found;
  }
  return null;
}
