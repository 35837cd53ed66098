import { beforeEach, describe, expect, it, vi } from "vitest";
import { Chat } from "../src/chat/controller.ts";
import { waitsForPerson } from "../src/chat/state.ts";
import { safeStorage, type Storage } from "../src/frame/storage.ts";
import { httpApi } from "../src/net/api.ts";
import { SessionLapsed } from "../src/net/problem.ts";
import { events, fakeFetch, fakeWorld, json, problem } from "./support.ts";

const user = (id: string, text: string) => ({ id, thread_id: "thr_1", type: "user_message", content: [{ type: "input_text", text }] });
const answer = (id: string, text: string) => ({ id, thread_id: "thr_1", type: "assistant_message", content: text ? [{ type: "output_text", text, annotations: [] }] : [] });
const thread = { id: "thr_1", status: { type: "active" } };
const delta = (item_id: string, text: string) => ({
  type: "thread.item.updated", item_id, update: { type: "assistant_message.content_part.text_delta", content_index: 0, delta: text },
});
const turn = (question: string, reply: string) => [
  { type: "thread.created", thread },
  { type: "thread.item.done", item: user("q1", question) },
  { type: "thread.item.added", item: answer("a1", "") },
  delta("a1", reply),
  { type: "thread.item.done", item: answer("a1", reply) },
];

let storage: Storage;
let session: { token: () => Promise<string>; renew: () => Promise<string>; user: () => Promise<{ id: string; verified: boolean }>; identify: () => Promise<{ id: string; verified: boolean }> };
const outside = { changed: vi.fn(), answered: vi.fn(), effect: vi.fn(), tool: vi.fn(), lapsed: vi.fn() };

function chat(...answers: Parameters<typeof fakeFetch>) {
  const server = fakeFetch(...answers);
  return { ...server, chat: new Chat(session as never, httpApi(session as never, server.fetch), storage, outside, fakeWorld()) };
}
const shown = (it_: Chat) =>
  it_.state.entries.map(({ item, status }) => `${item.id} ${status} ${"content" in item ? item.content.map(({ text }) => text).join("") : ""}`);
const kept = () => JSON.parse(storage.get("conversation") ?? "null") as unknown;
const keep = (run: string | null) => storage.set("conversation", JSON.stringify({ user: "u1", thread: "thr_1", run }));
const types = (asked: { body: unknown }[]) => asked.map(({ body }) => (body as { type?: string } | null)?.type ?? null);

beforeEach(() => {
  vi.clearAllMocks();
  const held = new Map<string, string>();
  storage = safeStorage("t.", () => ({
    getItem: (key) => held.get(key) ?? null, setItem: (key, value) => void held.set(key, value), removeItem: (key) => void held.delete(key),
  }));
  session = {
    token: async () => "token",
    renew: async () => "token",
    user: async () => ({ id: "u1", verified: false }),
    identify: async () => ({ id: "u2", verified: true }),
  };
});

describe("a conversation", () => {
  it("begins with the first message and goes on in the same thread", async () => {
    const { chat: it_, asked } = chat(events(turn("Hi", "Hello")), events([{ type: "thread.item.done", item: user("q2", "More") }, { type: "thread.item.done", item: answer("a2", "Yes") }]));
    await it_.start();
    await it_.send("  Hi ");
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]);
    expect(kept()).toEqual({ user: "u1", thread: "thr_1", run: null });
    await it_.send("More");
    expect(asked.map(({ body }) => body)).toMatchObject([
      { type: "threads.create", params: { input: { content: [{ type: "input_text", text: "Hi" }] } } },
      { type: "threads.add_user_message", params: { thread_id: "thr_1" } },
    ]);
    expect(shown(it_)).toHaveLength(4);
    expect(outside.answered).toHaveBeenCalledTimes(2);
  });

  it("is there again after a reload, and the answer under way is taken up", async () => {
    keep("run_1");
    const { chat: it_, asked } = chat(json({ ...thread, items: { data: [user("q1", "Hi")], has_more: false } }), events(turn("Hi", "Hello")));
    await it_.start();
    await vi.waitFor(() => expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]));
    expect(asked[1]).toMatchObject({ path: "/chatkit/runs/run_1/events" });
    await vi.waitFor(() => expect(kept()).toMatchObject({ run: null }));
  });

  it("whose run the server forgot shows what is in the thread", async () => {
    keep("run_1");
    const whole = { ...thread, items: { data: [user("q1", "Hi"), answer("a1", "Kept")], has_more: false } };
    const { chat: it_ } = chat(json({ ...thread, items: { data: [user("q1", "Hi")], has_more: false } }), problem(404, "not_found"), json(whole));
    await it_.start();
    await vi.waitFor(() => expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Kept"]));
  });

  it("of somebody else, or one that was deleted, is not shown", async () => {
    storage.set("conversation", JSON.stringify({ user: "other", thread: "thr_9", run: null }));
    const stranger = chat(problem(500, "never asked"));
    await stranger.chat.start();
    expect(stranger.asked).toEqual([]);
    keep(null);
    const deleted = chat(problem(404, "not_found"));
    await deleted.chat.start();
    expect(deleted.chat.state.history.phase).toBe("ready");
    expect(kept()).toBeNull();
  });

  it("that was deleted in the meantime is begun anew by the next message", async () => {
    keep(null);
    const { chat: it_, asked } = chat(json({ ...thread, items: { data: [user("q0", "Old")], has_more: false } }), problem(404, "not_found"), events(turn("Hi", "Hello")));
    await it_.start();
    await it_.send("Hi");
    expect(types(asked)).toEqual(["threads.get_by_id", "threads.add_user_message", "threads.create"]);
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]);
  });

  it("that cannot be loaded says so, and is loaded when tried again", async () => {
    keep(null);
    const { chat: it_ } = chat(new TypeError("network"), json({ ...thread, items: { data: [user("q1", "Hi")], has_more: false } }));
    await it_.start();
    expect(it_.state).toMatchObject({ history: { phase: "failed" }, failure: { code: "unreachable" } });
    await it_.retry();
    expect(it_.state.failure).toBeNull();
    expect(shown(it_)).toEqual(["q1 done Hi"]);
  });

  it("can be left for a new one", async () => {
    const { chat: it_ } = chat(events(turn("Hi", "Hello")));
    await it_.send("Hi");
    it_.newConversation();
    expect(it_.state.entries).toEqual([]);
    expect(kept()).toBeNull();
  });

  it("belongs to whom the page identifies, also where the last one's past is still on its way", async () => {
    keep("run_1");
    let arrive: (answer: Response) => void = () => undefined;
    const { chat: it_, asked } = chat(() => new Promise<Response>((resolve) => (arrive = resolve)));
    const started = it_.start();
    await vi.waitFor(() => expect(asked).toHaveLength(1));
    session.user = async () => ({ id: "u2", verified: true });
    await it_.identify("jwt");
    arrive(json({ ...thread, items: { data: [user("q1", "A secret")], has_more: false } }));
    await started;
    expect(it_.state).toMatchObject({ entries: [], thread: null });
    expect(asked).toHaveLength(1);
  });

  it("that was opened last is shown, whichever arrives last", async () => {
    const arrive: ((answer: Response) => void)[] = [];
    const { chat: it_, asked } = chat(() => new Promise<Response>((resolve) => void arrive.push(resolve)));
    const opened = [it_.open("thr_1"), it_.open("thr_2")];
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    const of = (id: string) => json({ ...thread, id, items: { data: [user(id, id)], has_more: false } });
    arrive[1]?.(of("thr_2"));
    arrive[0]?.(of("thr_1"));
    await Promise.all(opened);
    expect(it_.state.thread?.id).toBe("thr_2");
    expect(shown(it_)).toEqual(["thr_2 done thr_2"]);
  });

  it("belongs to whom the page identifies", async () => {
    const { chat: it_ } = chat(events(turn("Hi", "Hello")));
    await it_.send("Hi");
    await it_.identify("jwt");
    expect(it_.state.entries).toEqual([]);
  });
});

describe("when something goes wrong", () => {
  it("a refused message stays, with the time to try again, and is sent again on Retry", async () => {
    const { chat: it_, asked } = chat(problem(429, "rate_limited", { "Retry-After": "20" }), events(turn("Hi", "Hello")));
    await it_.send("Hi");
    expect(shown(it_)).toEqual(["local-1 failed Hi"]);
    expect(it_.state.failure).toMatchObject({ code: "rate_limited", detail: "about rate_limited", allowRetry: true });
    expect(it_.state.failure?.retryAt).toBeGreaterThan(Date.now());
    await it_.retry();
    expect(types(asked)).toEqual(["threads.create", "threads.create"]);
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]);
  });

  it("a message whose sending broke is not sent twice when it had arrived", async () => {
    keep(null);
    const empty = { ...thread, items: { data: [], has_more: false } };
    const arrived = { ...thread, items: { data: [user("q1", "Hi")], has_more: false } };
    const { chat: it_, asked } = chat(json(empty), new TypeError("network"), json(arrived), events(turn("Hi", "Hello").slice(2)));
    await it_.start();
    await it_.send("Hi");
    expect(it_.state.failure?.code).toBe("unreachable");
    await it_.retry();
    expect(types(asked)).toEqual(["threads.get_by_id", "threads.add_user_message", "threads.get_by_id", "threads.retry_after_item"]);
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]);
  });

  it("an answer that failed is asked for again after its question", async () => {
    const failing = [...turn("Hi", "Hel").slice(0, 4), { type: "error", code: "stream.error", allow_retry: true }];
    const { chat: it_, asked } = chat(events(failing), events([{ type: "thread.item.done", item: answer("a2", "Hello") }]));
    await it_.send("Hi");
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 failed Hel"]);
    await it_.retry();
    expect(asked[1]?.body).toEqual({ type: "threads.retry_after_item", params: { thread_id: "thr_1", item_id: "q1" } });
    expect(shown(it_)).toEqual(["q1 done Hi", "a2 done Hello"]);
  });

  it("a connection that cannot be restored fails the answer but keeps its text", async () => {
    const { chat: it_ } = chat(events(turn("Hi", "Hel").slice(0, 4), { cut: true }), new TypeError("network"));
    await it_.send("Hi");
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 failed Hel"]);
    expect(it_.state.failure).toMatchObject({ code: "connection_lost", allowRetry: true });
  });

  it("a lapsed session asks for a new document, with the message that was not sent", async () => {
    const { chat: it_ } = chat(json({}));
    await it_.start();
    session.token = async () => {
      throw new SessionLapsed();
    };
    await it_.send("Hi");
    expect(outside.lapsed).toHaveBeenCalledWith("Hi");
    await it_.wake();
    expect(outside.lapsed).toHaveBeenLastCalledWith(null);
  });

  it("nothing is sent while an answer is written, nor when there is nothing to say", async () => {
    const { chat: it_, asked } = chat(events(turn("Hi", "Hello")));
    await it_.send("   ");
    const first = it_.send("Hi");
    await it_.send("Again");
    await first;
    expect(asked).toHaveLength(1);
  });

  it("effects reach the page", async () => {
    const { chat: it_ } = chat(events([...turn("Hi", "Hello"), { type: "client_effect", name: "confetti", data: { n: 1 } }]));
    await it_.send("Hi");
    expect(outside.effect).toHaveBeenCalledWith("confetti", { n: 1 });
  });
});

describe("other conversations, tabs and people", () => {
  const page = (...data: unknown[]) => json({ ...thread, created_at: "2026-01-01T00:00:00Z", items: { data, has_more: false, after: null } });
  const begun = async (...answers: Parameters<typeof fakeFetch>) => {
    const made = chat(events(turn("Hi", "Hello")), ...answers);
    await made.chat.start();
    await made.chat.send("Hi");
    outside.answered.mockClear();
    return made;
  };

  it("opens another conversation and keeps it for the next visit", async () => {
    const { chat: it_ } = await begun(page(user("q7", "Old"), answer("a7", "Long ago")));
    await it_.open("thr_1");
    expect(shown(it_)).toEqual(["q7 done Old", "a7 done Long ago"]);
    expect(kept()).toEqual({ user: "u1", thread: "thr_1", run: null });
  });

  it("shows what a person wrote, says so, and draws nothing anew where nothing changed", async () => {
    const hi = { ...user("q1", "Hi") };
    const { chat: it_ } = await begun(
      page(hi, answer("a1", "Hello")),
      page(hi, answer("a1", "Hello"), answer("p1", "Jo here")),
    );
    await it_.refresh();
    const before = it_.state;
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello"]);
    expect(outside.answered).not.toHaveBeenCalled();
    await it_.refresh();
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello", "p1 done Jo here"]);
    expect(it_.state.entries[0]).toBe(before.entries[0]);
    expect(outside.answered).toHaveBeenCalledOnce();
  });

  it("lets go of a conversation that was deleted elsewhere", async () => {
    const { chat: it_ } = await begun(problem(404, "not_found"));
    await it_.refresh();
    expect(it_.state.thread).toBeNull();
    expect(kept()).toBeNull();
  });

  it("follows what another tab asks, and nobody else's", async () => {
    const { chat: it_, asked } = await begun(
      page(user("q1", "Hi"), answer("a1", "Hello"), user("q2", "More")),
      events([{ type: "thread.item.added", item: answer("a2", "") }, delta("a2", "Yes"), { type: "thread.item.done", item: answer("a2", "Yes") }]),
    );
    await it_.follow({ user: "u9", thread: "thr_1", run: "run_2" });
    await it_.follow({ user: "u1", thread: "thr_9", run: "run_2" });
    expect(asked).toHaveLength(1);
    await it_.follow({ user: "u1", thread: "thr_1", run: "run_2" });
    expect(shown(it_)).toEqual(["q1 done Hi", "a1 done Hello", "q2 done More", "a2 done Yes"]);
  });

  it("knows when a person is waited for", async () => {
    const task = { id: "t1", thread_id: "thr_1", type: "task", task: { type: "custom", title: "Handed over", icon: "agent" } };
    const { chat: it_ } = await begun(page(user("q1", "Hi"), task, answer("a1", "Someone will answer")));
    expect(waitsForPerson(it_.state)).toBe(false);
    await it_.refresh();
    expect(waitsForPerson(it_.state)).toBe(true);
  });
});
