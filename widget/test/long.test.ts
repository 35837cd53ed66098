/** What keeps a long conversation and a long answer light: how much is parsed, drawn and touched. Not how long it takes. */
import { Lexer } from "marked";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Entry } from "../src/chat/state.ts";
import { createEntries } from "../src/frame/view/entries.ts";
import { h, icon, setAttribute, setText } from "../src/frame/view/dom.ts";
import { createLog } from "../src/frame/view/log.ts";
import { emptyState, type ChatState } from "../src/chat/state.ts";
import { MarkdownView } from "../src/frame/view/markdown.ts";
import { ENGLISH } from "../src/locale/index.ts";

const entry = (key: string, text = key, type = "assistant_message"): Entry => ({ key, status: "done", local: false, item: { id: key, thread_id: "t", type, content: [{ type: "output_text", text, annotations: [] }] } as never });
const many = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => entry(`m${from + at}`));

let made: string[];
let updated: string[];
const entries = () => createEntries(({ key, item }) => {
  made.push(key);
  if (item.type === "end_of_turn") return null;
  const element = Object.assign(document.createElement("div"), { id: key });
  return { element, update: () => void updated.push(key) };
});
const order = (root: Element) => [...root.querySelectorAll(".part > *")].map(({ id }) => id);

beforeEach(() => {
  made = [];
  updated = [];
});
afterEach(() => document.body.replaceChildren());

describe("a conversation of thousands", () => {
  it("stands in parts of no more than a page", () => {
    const list = entries();
    list.draw(many(0, 2_000));
    expect(order(list.element)).toEqual(many(0, 2_000).map(({ key }) => key));
    expect(list.element.children).toHaveLength(100);
    expect(Math.max(...[...list.element.children].map((part) => part.childElementCount))).toBe(20);
  });

  it("grows by a word without touching anything but the entry that grew", () => {
    const list = entries();
    const all = many(0, 2_000);
    list.draw(all);
    made.length = 0;
    const touched = vi.spyOn(Node.prototype, "insertBefore");
    list.draw([...all.slice(0, -1), { ...(all.at(-1) as Entry), status: "streaming" }]);
    expect([made, updated, touched.mock.calls.length]).toEqual([[], ["m1999"], 0]);
  });

  it("gets its past above it, page by page, and moves nothing", () => {
    const list = entries();
    list.draw(many(40, 60));
    const part = list.element.firstElementChild;
    list.draw(many(20, 61));
    list.draw(many(0, 61));
    expect(order(list.element)).toEqual(many(0, 61).map(({ key }) => key));
    expect(list.element.children).toHaveLength(4);
    expect(list.element.children[2]).toBe(part);
    expect(new Set(made).size).toBe(made.length);
  });

  it("loses, replaces and moves entries, and keeps no empty part", () => {
    const list = entries();
    list.draw(many(0, 45));
    list.draw([...many(0, 5), entry("x"), entry("hidden", "", "end_of_turn"), entry("m44"), entry("m30")]);
    expect(order(list.element)).toEqual(["m0", "m1", "m2", "m3", "m4", "x", "m44", "m30"]);
    expect([...list.element.children].every((part) => part.childElementCount > 0)).toBe(true);
    list.draw([entry("m0", "", "end_of_turn"), entry("x")]);
    expect(order(list.element)).toEqual(["x"]);
    list.draw([]);
    expect(list.element.childElementCount).toBe(0);
  });

  it("shows the rest when one of them cannot be drawn", () => {
    const told = vi.fn();
    vi.stubGlobal("reportError", told);
    const list = createEntries(({ key }) => {
      if (key === "m1") throw new Error("no");
      return { element: Object.assign(document.createElement("div"), { id: key }), update: () => undefined };
    });
    list.draw(many(0, 3));
    expect(order(list.element)).toEqual(["m0", "m2"]);
    expect(told).toHaveBeenCalledOnce();
  });

  it("holds nothing that only a style hides: where nothing is laid out, screen readers would read it", () => {
    const kit = { h, icon, setAttribute, setText, locale: ENGLISH, pictureAddress: () => null, announce: () => undefined } as never;
    const log = createLog({ locale: ENGLISH, agentName: "A", kit, extras: () => Promise.reject(new Error()), judged: true }, document.createElement("div"), { retry: () => undefined, earlier: () => undefined });
    const asked = (key: string, quoted_text: string | null = null): Entry => ({ key, status: "done", local: false, item: { id: key, thread_id: "t", type: "user_message", quoted_text, attachments: [], content: [{ type: "input_text", text: key }] } as never });
    const called: Entry = { key: "c", status: "done", local: false, item: { id: "c", thread_id: "t", type: "client_tool_call", status: "completed" } as never };
    const thread = (type: string) => ({ id: "t", title: null, status: { type } }) as never;
    let last = emptyState;
    const show = (entries: Entry[], status = "active") => {
      const next: ChatState = { ...emptyState, entries, thread: thread(status) };
      log.update(next, last);
      last = next;
    };
    const again = () => [...log.element.querySelectorAll(".deed-retry")].map((button) => button.closest(".message")?.getAttribute("data-item-id"));
    const entries = [asked("q1"), entry("a1"), asked("q2", "a1"), called, ...many(0, 30)];
    show(entries);
    expect(again()).toEqual(["m29"]);
    expect([...log.element.querySelectorAll(".part [hidden]:not(:empty), .part ul, .part blockquote, .part > [hidden]:not(:empty)")].map(({ textContent }) => textContent)).toEqual(["a1"]);
    show(entries, "locked");
    expect(again()).toEqual([]);
    show([...entries, asked("q3")]);
    expect(again()).toEqual([]);
    show([...entries, asked("q3"), entry("a3")]);
    expect(again()).toEqual(["a3"]);
  });

  it("asks for its past before the reader has reached the beginning, once a page", () => {
    const asked = vi.fn();
    const kit = { h: undefined, locale: ENGLISH, pictureAddress: () => null, announce: () => undefined } as never;
    const log = createLog({ locale: ENGLISH, agentName: "A", kit, extras: () => Promise.reject(new Error()), judged: false }, document.createElement("div"), { retry: () => undefined, earlier: asked });
    const user = { ...entry("u", "u", "user_message") };
    (user.item as unknown as Record<string, unknown>).attachments = [];
    const state = (phase: "ready" | "loading" | "failed", earlier: string | null): ChatState => ({ ...emptyState, entries: [user], history: { phase, earlier } });
    const scroll = () => log.scroller.dispatchEvent(new Event("scroll"));
    log.update(state("ready", null), emptyState);
    scroll();
    expect(asked).not.toHaveBeenCalled();
    log.update(state("ready", "m20"), emptyState);
    scroll();
    expect(asked).toHaveBeenCalledOnce();
    for (const phase of ["loading", "failed"] as const) {
      log.update(state(phase, "m20"), emptyState);
      scroll();
    }
    expect(asked).toHaveBeenCalledOnce();
  });
});

describe("a long answer", () => {
  const PARAGRAPHS = Array.from({ length: 50 }, (_, at) => `Paragraph ${at} with **bold** words.`);

  it("is parsed anew from its last block only", () => {
    const parsed: number[] = [];
    const lex = Lexer.prototype.lex;
    vi.spyOn(Lexer.prototype, "lex").mockImplementation(function (this: Lexer, source: string) {
      parsed.push(source.length);
      return lex.call(this, source);
    });
    const view = new MarkdownView(document.createElement("div"));
    const text = PARAGRAPHS.join("\n\n");
    view.update(text, [], true);
    parsed.length = 0;
    view.update(`${text} And`, [], true);
    expect(parsed).toHaveLength(2); // where it ends, and what is in it
    for (const length of parsed) expect(length).toBeLessThan(60);
  });

  it("keeps the rows of a table, the points of a list and the lines of code that are there", () => {
    const root = document.createElement("div");
    const view = new MarkdownView(root);
    const grow = (...texts: string[]) => texts.forEach((text) => view.update(text, [], true));
    grow("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |");
    const rows = [...root.querySelectorAll("tr")];
    grow("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 67 |");
    expect([...root.querySelectorAll("tr")].slice(0, 3)).toEqual(rows);
    expect(root.querySelectorAll("tr")[0]).toBe(rows[0]);
    expect(root.querySelectorAll("tr")[2]).toBe(rows[2]);
    expect(root.querySelector("tr:last-child td:last-child")?.textContent).toBe("67");

    grow("New\n\n- one\n- two", "New\n\n- one\n- two\n- thr", "New\n\n- one\n- two\n- three **bold");
    expect(root.textContent).toBe("Newonetwothree bold");
    grow("```js\nlet a;\n", "```js\nlet a;\nlet b");
    const line = root.querySelector("code")?.firstChild;
    grow("```js\nlet a;\nlet b = 1;");
    expect(root.querySelector("code")?.firstChild).toBe(line);
    expect(root.textContent).toBe("let a;\nlet b = 1;");
  });
});
