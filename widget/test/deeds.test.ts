import { beforeEach, describe, expect, it, vi } from "vitest";
import { Chat } from "../src/chat/controller.ts";
import type { Said } from "../src/chat/protocol.ts";
import { safeStorage, type Storage } from "../src/frame/storage.ts";
import { httpApi } from "../src/net/api.ts";
import { parseToFrame, isToHost } from "../src/shared/messages.ts";
import { events, fakeFetch, fakeWorld, json, problem } from "./support.ts";

const base = { thread_id: "thr_1", created_at: "" };
const thread = { type: "thread.created", thread: { id: "thr_1", status: { type: "active" } } };
const user = { type: "thread.item.done", item: { ...base, id: "q1", type: "user_message", content: [{ type: "input_text", text: "Hi" }] } };
const call = (id: string) => ({ type: "thread.item.done", item: { ...base, id, type: "client_tool_call", status: "pending", call_id: "c", name: "basket", arguments: { full: true } } });
const answer = { type: "thread.item.done", item: { ...base, id: "a1", type: "assistant_message", content: [{ type: "output_text", text: "3 lamps", annotations: [] }] } };
const widget = (value: string) => ({ ...base, id: "w1", type: "widget", widget: { type: "Card", children: [{ type: "Text", value }] } });
const form = (status: string) => ({ ...base, id: "f1", type: "structured_input", status, inputs: [{ type: "freeform", id: "q", question: "Why?" }] });

let storage: Storage;
const session = {
  token: async () => "token", renew: async () => "token",
  user: async () => ({ id: "u1", verified: false }), identify: async () => ({ id: "u1", verified: false }),
};
const outside = { changed: vi.fn(), answered: vi.fn(), effect: vi.fn(), tool: vi.fn(), lapsed: vi.fn() };

function chat(...answers: Parameters<typeof fakeFetch>) {
  const server = fakeFetch(...answers);
  return { ...server, chat: new Chat(session as never, httpApi(session as never, server.fetch), storage, outside, fakeWorld()) };
}
const params = (asked: { body: unknown }[], at: number) => asked[at]?.body as { type: string; params: Record<string, unknown> };

beforeEach(() => {
  vi.resetAllMocks();
  const kept = new Map<string, string>();
  storage = safeStorage("t.", () => ({ getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => void kept.set(name, value), removeItem: (name) => void kept.delete(name) }));
});

describe("a tool of the page's", () => {
  it("is run once, and what it came to is handed to the assistant, who goes on", async () => {
    outside.tool.mockResolvedValue({ lines: 3 });
    const { chat: it_, asked } = chat(events([thread, user, call("c1")]), events([answer]));
    await it_.send("Hi");
    expect(outside.tool.mock.calls).toEqual([["basket", { full: true }]]);
    expect(params(asked, 1)).toEqual({ type: "threads.add_client_tool_output", params: { thread_id: "thr_1", result: { lines: 3 } } });
    expect(it_.state.entries.at(-1)?.item.id).toBe("a1");
    expect(it_.state.phase).toBe("idle");
    expect(outside.answered).toHaveBeenCalledTimes(1);
  });

  it.each([
    ["raises", () => Promise.reject(new Error("no handler")), "no handler"],
    ["answers too much", () => Promise.resolve("x".repeat(70_000)), "What the page answered is too long."],
  ])("that %s is answered with an error, so that the conversation goes on", async (_, run, message) => {
    outside.tool.mockImplementation(run);
    const { chat: it_, asked } = chat(events([thread, user, call("c1")]), events([answer]));
    await it_.send("Hi");
    expect(params(asked, 1).params.result).toEqual({ error: message });
  });

  it("that answers nothing answers null", async () => {
    outside.tool.mockResolvedValue(undefined);
    const { chat: it_, asked } = chat(events([thread, user, call("c1")]), events([answer]));
    await it_.send("Hi");
    expect(params(asked, 1).params.result).toBeNull();
  });

  it("whose output does not arrive is not run again: only its output is sent again", async () => {
    outside.tool.mockResolvedValue(1);
    const { chat: it_, asked } = chat(events([thread, user, call("c1")]), problem(503, "unavailable"), events([answer]));
    await it_.send("Hi");
    expect(it_.state.failure).toMatchObject({ allowRetry: true });
    await it_.retry();
    expect(outside.tool).toHaveBeenCalledTimes(1);
    expect(params(asked, 2)).toEqual(params(asked, 1));
    expect(it_.state.entries.at(-1)?.item.id).toBe("a1");
  });

  it("that is asked for ever is refused after a while", async () => {
    outside.tool.mockResolvedValue(1);
    const again = Array.from({ length: 11 }, (_, at) => events([call(`c${at + 2}`)]));
    const { chat: it_, asked } = chat(events([thread, user, call("c1")]), ...again.slice(0, 10), events([answer]));
    await it_.send("Hi");
    expect(outside.tool).toHaveBeenCalledTimes(10);
    expect(params(asked, 11).params.result).toEqual({ error: "Too many calls in one answer." });
  });

  it("that another tab is asking is left to it; one that was cut off by a reload is answered with an error", async () => {
    const history = () => json({ id: "thr_1", status: { type: "active" }, items: { data: [user.item, call("c1").item], has_more: false } });
    storage.set("conversation", JSON.stringify({ user: "u1", thread: "thr_1", run: null }));
    storage.set("tool", JSON.stringify({ call: "c1", at: Date.now() - 1_000 }));
    const other = chat(history());
    await other.chat.start();
    expect(other.asked).toHaveLength(1);

    storage.set("tool", JSON.stringify({ call: "c1", at: Date.now() - 600_000 }));
    const { chat: it_, asked } = chat(history(), events([answer]));
    await it_.start();
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    expect(params(asked, 1).params.result).toEqual({ error: expect.stringContaining("not known") });
    expect(outside.tool).not.toHaveBeenCalled();
  });
});

describe("widgets and forms", () => {
  const begun = events([thread, user, { type: "thread.item.done", item: widget("old") }, { type: "thread.item.done", item: form("pending") }]);

  it("an action streams what comes of it", async () => {
    const { chat: it_, asked } = chat(begun, events([{ type: "thread.item.replaced", item: widget("new") }]), events([]));
    await it_.send("Hi");
    await it_.act("w1", { type: "go", payload: { n: 1 } }, true);
    expect(params(asked, 1)).toEqual({ type: "threads.custom_action", params: { thread_id: "thr_1", item_id: "w1", action: { type: "go", payload: { n: 1 } } } });
    expect(it_.state.entries.find(({ item }) => item.id === "w1")?.item).toMatchObject({ widget: { children: [{ value: "new" }] } });
  });

  it("an action without a stream exchanges its widget", async () => {
    const { chat: it_, asked } = chat(begun, json({ updated_item: widget("new") }));
    await it_.send("Hi");
    await it_.act("w1", { type: "go", payload: null }, false);
    expect(params(asked, 1).type).toBe("threads.sync_custom_action");
    expect(it_.state.entries.find(({ item }) => item.id === "w1")?.item).toMatchObject({ widget: { children: [{ value: "new" }] } });
    expect(it_.state.phase).toBe("idle");
  });

  it.each([true, false])("an action that is refused raises, and leaves the conversation as it was (streaming: %s)", async (streaming) => {
    const { chat: it_ } = chat(begun, problem(422, "wrong_item"));
    await it_.send("Hi");
    await expect(it_.act("w1", { type: "go", payload: null }, streaming)).rejects.toMatchObject({ code: "wrong_item" });
    expect(it_.state).toMatchObject({ phase: "idle", failure: null });
  });

  it("an answered form is sent once and shows what was said", async () => {
    const { chat: it_, asked } = chat(begun, events([{ type: "thread.item.replaced", item: form("answered") }, answer]));
    await it_.send("Hi");
    const submission = { status: "answered", answers: { q: { values: ["So"], skipped: false } } } as const;
    await it_.answerForm("f1", submission);
    expect(params(asked, 1)).toEqual({ type: "threads.add_structured_input", params: { thread_id: "thr_1", item_id: "f1", input: submission } });
    expect(it_.state.entries.find(({ item }) => item.id === "f1")?.item).toMatchObject({ status: "answered" });
  });
});

describe("what goes with a message", () => {
  const file = { id: "atc_1", type: "file", name: "note.txt", mime_type: "text/plain", preview_url: null } as const;
  const said: Said = { text: " Look ", attachments: [file], quote: "this", tool: "lookup", model: "fast" };

  it("files, a quotation, a tool and a model are sent, shown at once, and sent again with a retry", async () => {
    const { chat: it_, asked } = chat(problem(503, "unavailable"), events([thread, user, answer]));
    await it_.send(said);
    expect(it_.state.entries[0]).toMatchObject({ status: "failed", item: { attachments: [file], quoted_text: "this" } });
    await it_.retry();
    const input = {
      content: [{ type: "input_text", text: "Look" }], attachments: ["atc_1"], quoted_text: "this",
      inference_options: { tool_choice: { id: "lookup" }, model: "fast" },
    };
    expect(params(asked, 0).params.input).toEqual(input);
    expect(params(asked, 1).params.input).toEqual(input);
  });

  it("a file's bytes go to this origin, whatever host its link names", async () => {
    const server = fakeFetch(json({ ...file, upload_descriptor: { url: "https://evil.example/v1/uploads/atc_1?token=x", method: "PUT" } }), json({ id: "x" }), json({ text: "Hello" }));
    const api = httpApi(session as never, server.fetch);
    expect((await api.announce({ name: "note.txt", size: 3, mime_type: "text/plain" })).put).toBe("/v1/uploads/atc_1?token=x");
    await expect(api.announce({ name: "note.txt", size: 3, mime_type: "text/plain" })).rejects.toMatchObject({ code: "unexpected_answer" });
    expect(await api.transcribe("AAAA", "audio/webm")).toBe("Hello");
  });
});

describe("the port's new messages", () => {
  it("are checked on both sides", () => {
    expect(parseToFrame({ type: "tool", id: 1, result: "{}", error: null })).toEqual({ type: "tool", id: 1, result: "{}", error: null });
    expect(parseToFrame({ type: "tool", id: 1, result: { a: 1 }, error: 5 })).toEqual({ type: "tool", id: 1, result: null, error: null });
    expect(parseToFrame({ type: "tool", id: 1, error: "x".repeat(9_999) })).toMatchObject({ error: "x".repeat(500) });
    for (const junk of [{ type: "tool" }, { type: "tool", id: "1" }, { type: "tool", id: 1.5 }]) expect(parseToFrame(junk)).toBeNull();
    expect(isToHost({ type: "tool", id: 1, detail: { name: "a", arguments: {} } })).toBe(true);
    for (const junk of [null, 5, "tool", { type: 5 }, { type: "launcher", accent: "red" }]) expect(isToHost(junk)).toBe(false);
  });
});
