/** Words for people. English is complete; other languages must have the same keys, which the compiler sees to. */
import de from "./de.json";
import en from "./en.json";

type Words = typeof en;
export type Key = Exclude<keyof Words, "error">;

const LOCALES: Readonly<Record<string, Words>> = { en, de };

export interface Locale {
  readonly tag: string;
  t(key: Key, values?: Readonly<Record<string, string | number>>): string;
  /** The sentence for an error code, if there is one. */
  error(code: string): string | null;
  /** "23 seconds", "2 minutes". */
  duration(seconds: number): string;
}

/** The first wish that is spoken here, else English. Wishes are BCP 47 tags. */
export function pickLocale(wishes: readonly (string | null | undefined)[]): Locale {
  const wish = wishes.find((tag) => tag && Object.hasOwn(LOCALES, base(tag)));
  const tag = wish ? base(wish) : "en";
  const words = LOCALES[tag] ?? en;
  const unit = (value: number, name: string) =>
    new Intl.NumberFormat(tag, { style: "unit", unit: name, unitDisplay: "long" }).format(value);
  return {
    tag,
    t: (key, values = {}) => words[key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "")),
    error: (code) => (Object.hasOwn(words.error, code) ? words.error[code as keyof Words["error"]] : null),
    duration(seconds) {
      if (seconds < 90) return unit(Math.max(1, Math.ceil(seconds)), "second");
      if (seconds < 5400) return unit(Math.ceil(seconds / 60), "minute");
      return unit(Math.ceil(seconds / 3600), "hour");
    },
  };
}

const base = (tag: string): string => tag.toLowerCase().split("-")[0] ?? "";
