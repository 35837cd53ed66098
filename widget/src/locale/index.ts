/**
 * Words for people. English comes with the frame's script; every other language is a file of its own, fetched when it is
 * spoken. Each has English's keys, which a test sees to.
 */
import { isRecord } from "../shared/guards.ts";
import en from "./en.json";

/** A sentence, or one for each of the language's plural forms, chosen by the first number among the values. */
type Sentence = string | Readonly<Partial<Record<Intl.LDMLPluralRule, string>>>;
export type Key = Exclude<keyof typeof en, "error">;
export type Words = Readonly<Record<Key, Sentence>> & { readonly error: Readonly<Record<string, string>> };

/** What is spoken, each by its own name. */
export const LANGUAGES: Readonly<Record<string, string>> = {
  en: "English", ar: "العربية", de: "Deutsch", es: "Español", fr: "Français", it: "Italiano", ja: "日本語", nl: "Nederlands",
  pl: "Polski", pt: "Português", sv: "Svenska", tr: "Türkçe",
};

export interface Locale {
  readonly tag: string;
  readonly direction: "ltr" | "rtl";
  t(key: Key, values?: Readonly<Record<string, string | number>>): string;
  /** The sentence for an error code, if there is one. */
  error(code: string): string | null;
  /** "23 seconds", "2 minutes". */
  duration(seconds: number): string;
}

const base = (tag: string): string => tag.toLowerCase().split("-")[0] ?? "";

/** The first wish that is spoken here, else English. Wishes are BCP 47 tags. */
export function pickTag(wishes: readonly (string | null | undefined)[]): string {
  const wish = wishes.find((tag) => tag && Object.hasOwn(LANGUAGES, base(tag)));
  return wish ? base(wish) : "en";
}

export function makeLocale(tag: string, words: Words): Locale {
  const plural = new Intl.PluralRules(tag);
  const unit = (value: number, name: string) =>
    new Intl.NumberFormat(tag, { style: "unit", unit: name, unitDisplay: "long" }).format(value);
  const form = (sentence: Sentence, values: Readonly<Record<string, string | number>>): string => {
    if (typeof sentence === "string") return sentence;
    const number = Object.values(values).find((value) => typeof value === "number") ?? 0;
    return sentence[plural.select(number as number)] ?? sentence.other ?? "";
  };
  return {
    tag,
    direction: tag === "ar" ? "rtl" : "ltr",
    t: (key, values = {}) =>
      form(words[key] ?? en[key], values).replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "")),
    error: (code) => (Object.hasOwn(words.error, code) ? (words.error[code] as string) : null),
    duration(seconds) {
      if (seconds < 90) return unit(Math.max(1, Math.ceil(seconds)), "second");
      if (seconds < 5400) return unit(Math.ceil(seconds / 60), "minute");
      return unit(Math.ceil(seconds / 3600), "hour");
    },
  };
}

export const ENGLISH: Locale = makeLocale("en", en);

/** The language of the first wish that is spoken; English, too, where its file cannot be had. `fetch` is told its name. */
export async function loadLocale(
  wishes: readonly (string | null | undefined)[],
  fetch: (name: string) => Promise<Response>,
): Promise<Locale> {
  const tag = pickTag(wishes);
  if (tag === "en") return ENGLISH;
  try {
    const words: unknown = await (await fetch(`words-${tag}.json`)).json();
    return isRecord(words) && isRecord(words.error) ? makeLocale(tag, words as unknown as Words) : ENGLISH;
  } catch {
    return ENGLISH;
  }
}
