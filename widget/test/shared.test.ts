import { beforeEach, describe, expect, it, vi } from "vitest";
import { contrast, inkOn, isColour, readableOn } from "../src/shared/colour.ts";
import { hello, isToHost, parseHello, parseToFrame } from "../src/shared/messages.ts";
import { accentProperties, SURFACE } from "../src/frame/theme.ts";
import { originMatches } from "../src/frame/parent.ts";
import { safeStorage } from "../src/frame/storage.ts";
import { cite, utf16Index } from "../src/chat/citations.ts";
import { parseItem } from "../src/chat/parse.ts";
import german from "../src/locale/de.json";
import { ENGLISH, makeLocale, pickTag, type Words } from "../src/locale/index.ts";
import { sentence } from "../src/frame/view/failure.ts";
import { parseConfig } from "../src/frame/config.ts";

const EVERY_COLOUR = ["00", "33", "66", "99", "cc", "ff"].flatMap((r, _, all) =>
  all.flatMap((g) => all.map((b) => `#${r}${g}${b}`)),
);

describe("contrast", () => {
  it.each([
    ["#000000", "#ffffff", 21],
    ["#ffffff", "#ffffff", 1],
    ["#777777", "#ffffff", 4.478],
    ["#ff0000", "#ffffff", 3.998],
  ])("%s on %s is %d, as WCAG has it", (one, other, ratio) => {
    expect(contrast(one, other)).toBeCloseTo(ratio, 2);
    expect(contrast(other, one)).toBeCloseTo(ratio, 2);
  });

  it("the ink on any accent reads at 4.5 to 1, and is the better of the two", () => {
    for (const accent of EVERY_COLOUR) {
      const other = inkOn(accent) === "#ffffff" ? "#000000" : "#ffffff";
      expect(contrast(inkOn(accent), accent)).toBeGreaterThanOrEqual(4.5);
      expect(contrast(inkOn(accent), accent)).toBeGreaterThanOrEqual(contrast(other, accent) - 0.02);
    }
  });

  it("every accent gives readable text and visible shapes in both schemes", () => {
    for (const accent of EVERY_COLOUR) {
      for (const scheme of ["light", "dark"] as const) {
        const made = accentProperties(accent, scheme);
        expect(contrast(made["--accent-text"]!, made["--accent-tint"]!)).toBeGreaterThanOrEqual(4.5);
        expect(contrast(made["--accent-text"]!, SURFACE[scheme])).toBeGreaterThanOrEqual(4.5);
        expect(contrast(made["--accent-line"]!, SURFACE[scheme])).toBeGreaterThanOrEqual(3);
      }
    }
  });

  it("leaves a colour that reads already", () => {
    expect(readableOn("#1f6f5c", "#ffffff", 4.5)).toBe("#1f6f5c");
    expect(isColour("#1f6f5c;}body{display:none")).toBe(false);
  });
});

describe("messages between page and frame", () => {
  const good = hello("panel", "de", "a.b.c");
  it("a greeting in order is understood", () => {
    expect(parseHello(good)).toEqual(good);
    expect(parseHello(hello("inline", null, null))).not.toBeNull();
  });

  it.each([null, "hello", [], {}, { ...good, type: "x" }, { ...good, version: 2 }, { ...good, layout: "popup" },
    { ...good, userToken: 1 }, { ...good, userToken: "x".repeat(9000) }, { ...good, locale: {} }])(
    "a greeting out of order is not: %j", (value) => expect(parseHello(value)).toBeNull(),
  );

  it("the frame hears what the page may say", () => {
    expect(parseToFrame({ type: "open", focus: true, more: 1 })).toEqual({ type: "open", focus: true });
    expect(parseToFrame({ type: "closed" })).toEqual({ type: "closed" });
    expect(parseToFrame({ type: "identify", userToken: null })).toEqual({ type: "identify", userToken: null });
    for (const value of [null, {}, { type: "open" }, { type: "identify" }, { type: "identify", userToken: "" }, { type: "eval" }]) {
      expect(parseToFrame(value)).toBeNull();
    }
  });

  it("the page hears what the frame may say", () => {
    const look = { type: "launcher", accent: "#112233", position: "left", label: "Hi" };
    for (const value of [{ type: "ready" }, { type: "close" }, { type: "message" }, { type: "unread", count: 1 },
      { type: "effect", detail: { name: "x", data: {} } }, look]) expect(isToHost(value)).toBe(true);
    for (const value of [null, 1, [], {}, { type: 1 }, { ...look, accent: "red" }, { ...look, accent: "#112233}*{display:none" }]) {
      expect(isToHost(value)).toBe(false);
    }
  });

  it.each([
    ["https://shop.example", "https://shop.example", true],
    ["https://a.example.com", "https://*.example.com", true],
    ["https://a.b.example.com", "https://*.example.com", true],
    ["https://a.example.com:8443", "https://*.example.com:8443", true],
    ["https://example.com", "https://*.example.com", false],
    ["http://a.example.com", "https://*.example.com", false],
    ["https://a.example.com:8443", "https://*.example.com", false],
    ["https://evilexample.com", "https://*.example.com", false],
    ["https://a.example.com.evil.org", "https://*.example.com", false],
    ["https://anything.org", "*", false],
    ["https://anything.org", "https://*", false],
    ["null", "https://*.example.com", false],
  ])("%s against %s: %s", (origin, pattern, expected) => expect(originMatches(origin, pattern)).toBe(expected));
});

describe("storage", () => {
  it("keeps things under its prefix", () => {
    const store = new Map<string, string>();
    const storage = safeStorage("p.", () => ({
      getItem: (name) => store.get(name) ?? null, setItem: (name, value) => void store.set(name, value), removeItem: (name) => void store.delete(name),
    }));
    storage.set("a", "1");
    expect([...store]).toEqual([["p.a", "1"]]);
    expect(storage.get("a")).toBe("1");
    storage.remove("a");
    expect([storage.get("a"), store.size]).toEqual([null, 0]);
  });

  it.each([
    ["naming it throws", () => { throw new Error("SecurityError"); }],
    ["using it throws", () => ({ getItem() { throw new Error(); }, setItem() { throw new Error("QuotaExceededError"); }, removeItem() { throw new Error(); } })],
  ])("falls back to memory when %s", (_, backing) => {
    const storage = safeStorage("p.", backing as never);
    expect(storage.get("a")).toBeNull();
    storage.set("a", "1");
    expect(storage.get("a")).toBe("1");
    storage.remove("a");
    expect(storage.get("a")).toBeNull();
  });
});

describe("storage that is blocked", () => {
  const blocked = () => safeStorage("stonechat.pk_1.", () => { throw new DOMException("blocked", "SecurityError"); });
  let jar: string;
  let baked: string[];
  const cookies = (get: () => string) => vi.stubGlobal("document", {
    get cookie() { return get(); },
    set cookie(line: string) {
      baked.push(line);
      jar = line.includes("Max-Age=0") ? "" : `other=1; ${line.split(";")[0]}; more=2`;
    },
  });
  beforeEach(() => {
    jar = "";
    baked = [];
  });

  it("keeps who the visitor is in a cookie of its own for each site that holds the chat", () => {
    cookies(() => jar);
    blocked().set("visitor", "v_1.a=b;c");
    expect(baked).toEqual(["__Host-stonechat.pk_1.visitor=v_1.a%3Db%3Bc;Max-Age=31536000;Path=/;Secure;SameSite=None;Partitioned"]);
    expect(blocked().get("visitor")).toBe("v_1.a=b;c");
    expect(safeStorage("stonechat.pk_2.", () => { throw new Error(); }).get("visitor")).toBeNull();
    blocked().remove("visitor");
    expect(blocked().get("visitor")).toBeNull();
  });

  it("sends nothing else around in cookies, such as what is being written", () => {
    cookies(() => jar);
    const storage = blocked();
    storage.set("draft", "secret");
    expect([storage.get("draft"), baked]).toEqual(["secret", []]);
  });

  it("is read from the cookie also where it is only full, and would answer with something older", () => {
    cookies(() => jar);
    const kept = new Map([["stonechat.pk_1.visitor", "v_old"]]);
    let isFull = true;
    const full = () => safeStorage("stonechat.pk_1.", () => ({
      getItem: (name) => kept.get(name) ?? null,
      setItem(name, value) {
        if (isFull) throw new DOMException("full", "QuotaExceededError");
        kept.set(name, value);
      },
      removeItem: (name) => void kept.delete(name),
    }));
    full().set("visitor", "v_new");
    expect(full().get("visitor"), "after a reload").toBe("v_new");
    isFull = false;
    full().set("visitor", "v_newest");
    expect(jar, "the cookie went once the storage took a value again").toBe("");
    expect(full().get("visitor")).toBe("v_newest");
    isFull = true;
    full().set("visitor", "v_last");
    full().remove("visitor");
    expect([full().get("visitor"), jar, kept.size]).toEqual([null, "", 0]);
  });

  it("has memory where cookies are blocked, too", () => {
    cookies(() => { throw new DOMException("sandboxed", "SecurityError"); });
    const storage = blocked();
    expect(storage.get("visitor")).toBeNull();
    storage.set("visitor", "v_1");
    expect(storage.get("visitor")).toBe("v_1");
  });
});

describe("citations", () => {
  const annotation = (url: string, index: number | null) => ({ source: { type: "url", title: url, url }, index });
  it("number each source once, by first mention, over all parts", () => {
    const item = parseItem({ id: "a", type: "assistant_message", content: [
      { type: "output_text", text: "One. Two. Three.", annotations: [annotation("b", 9), annotation("a", 4), annotation("b", 16), annotation("b", 16), annotation("c", null)] },
      { type: "output_text", text: "Four.", annotations: [annotation("a", 5), { source: { type: "bad" } }] },
    ] });
    const { list, marks } = cite(item as never);
    expect(list.map(({ number, source }) => [number, source.title])).toEqual([[1, "a"], [2, "b"], [3, "c"]]);
    expect(marks.map((part) => part.map(({ at, citation }) => [at, citation.number]))).toEqual([[[4, 1], [9, 2], [16, 2]], [[5, 1]]]);
  });

  it("counts as Python does: an emoji is one", () => {
    expect(utf16Index("🌱 ok", 1)).toBe(2);
    expect(utf16Index("🌱 ok", 4)).toBe(5);
    expect(utf16Index("abc", 99)).toBe(3);
  });
});

describe("words", () => {
  const failure = (code: string, status: number | null, detail: string | null = null) => ({ code, status, detail, retryAt: null, allowRetry: true });
  it("pick the first language spoken here", () => {
    expect(pickTag([null, undefined, "tlh", "de-AT", "en"])).toBe("de");
    expect(pickTag(["xx", "constructor"])).toBe("en");
    expect(makeLocale("de", german as Words).duration(20)).toBe("20 Sekunden");
    expect(ENGLISH.duration(3601)).toBe("61 minutes");
  });

  it("say every failure in a sentence", () => {
    const [en, de] = [ENGLISH, makeLocale("de", german as Words)];
    expect(sentence(failure("rate_limited", 429, "Wait a bit."), en)).toBe("Wait a bit.");
    expect(sentence(failure("rate_limited", 429, "Wait a bit."), de)).toMatch(/schnell/);
    expect(sentence(failure("new_code", 429), en)).toBe("A lot is going on right now.");
    expect(sentence(failure("new_code", 503, "pool exhausted"), en)).toMatch(/cannot answer right now/);
    expect(sentence(failure("custom", null, "Bitte später."), de)).toBe("Bitte später.");
    expect(sentence(failure("unreachable", null), en, true)).toMatch(/could not be loaded/);
  });

  it("the document's configuration is read whatever it holds", () => {
    expect(parseConfig(null)).toMatchObject({ domainKey: "", agent: null, error: null });
    expect(parseConfig({ agent: { name: "A", prompts: [{ label: "L" }, { prompt: "P" }], theme: { accent: "red", radius: "huge" } } })).toMatchObject({
      agent: { name: "A", prompts: [{ label: "P", prompt: "P" }] },
      theme: { accent: "#1f6f5c", radius: "medium", scheme: "auto" },
    });
  });
});
