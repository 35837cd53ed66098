import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import english from "../src/locale/en.json";
import { ENGLISH, LANGUAGES, loadLocale, makeLocale, pickTag, type Words } from "../src/locale/index.ts";

const folder = `${import.meta.dirname}/../src/locale/`;
const read = (tag: string) => JSON.parse(readFileSync(`${folder}${tag}.json`, "utf8")) as Record<string, unknown>;
const names = (sentence: unknown) => [...new Set(JSON.stringify(sentence).match(/\{\w+\}/g))].sort();
/** English words that are right in other languages, too. */
const SAME = new Set(["code", "suggestions", "sources", "source", "no", "default_model", "chart", "menu"]);

describe("the languages", () => {
  it("are twelve or more, each a file", () => {
    const files = readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -5));
    expect(files.sort()).toEqual(Object.keys(LANGUAGES).sort());
    expect(files.length).toBeGreaterThanOrEqual(12);
  });

  it.each(Object.keys(LANGUAGES).filter((tag) => tag !== "en"))("%s says all that English says", (tag) => {
    const words = read(tag);
    expect(Object.keys(words)).toEqual(Object.keys(english));
    expect(Object.keys(words.error as object)).toEqual(Object.keys(english.error));
    const rules = new Intl.PluralRules(tag);
    for (const [key, sentence] of Object.entries(words)) {
      if (key === "error") continue;
      expect(names(sentence), key).toEqual(names(english[key as keyof typeof english]));
      if (typeof sentence === "string") {
        expect(sentence.trim(), key).toBe(sentence);
        if (sentence.length > 12 && !SAME.has(key)) expect(sentence, key).not.toBe(english[key as keyof typeof english]);
      } else {
        const forms = Object.keys(sentence as object);
        for (let number = 0; number <= 200; number++) expect(forms, `${key} of ${number}`).toContain(rules.select(number));
      }
    }
  });

  it("choose the form that a number asks for", () => {
    const polish = makeLocale("pl", read("pl") as unknown as Words);
    expect([1, 3, 5, 22].map((left) => polish.t("left", { left }))).toEqual([
      "Pozostał 1 znak", "Pozostały 3 znaki", "Pozostało 5 znaków", "Pozostały 22 znaki",
    ]);
    expect(ENGLISH.t("left", { left: 1 })).toBe("1 character left");
  });

  it("are picked by the first wish that is spoken", () => {
    expect(pickTag([null, "", "tlh", "pt-BR", "de"])).toBe("pt");
    expect(pickTag([undefined, "xx"])).toBe("en");
  });

  it("are fetched one at a time, and English stands in", async () => {
    const asked: string[] = [];
    const fetch = async (name: string) => {
      asked.push(name);
      return Response.json(read("ar"));
    };
    const arabic = await loadLocale(["ar-EG"], fetch);
    expect([arabic.tag, arabic.direction]).toEqual(["ar", "rtl"]);
    expect(await loadLocale(["en-GB", "ar"], fetch)).toBe(ENGLISH);
    expect(asked).toEqual(["words-ar.json"]);
    expect(await loadLocale(["fr"], () => Promise.reject(new TypeError("no network")))).toBe(ENGLISH);
    expect(await loadLocale(["fr"], async () => Response.json([]))).toBe(ENGLISH);
  });
});
