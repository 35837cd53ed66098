import { describe, expect, it } from "vitest";
import { parseEvent, parseItem } from "../src/chat/parse.ts";
import { plainly } from "../src/chat/protocol.ts";
import { reduce, type Action } from "../src/chat/reducer.ts";
import { emptyState, type ChatState } from "../src/chat/state.ts";

const item = (id: string, type: string, rest: object = {}) => ({ id, thread_id: "thr_1", created_at: "2026-01-01T00:00:00Z", type, ...rest });
const user = (id: string, text: string) => item(id, "user_message", { content: [{ type: "input_text", text }], attachments: [] });
const answer = (id: string, text = "", annotations: unknown[] = []) =>
  item(id, "assistant_message", { content: text ? [{ type: "output_text", text, annotations }] : [] });
const source = { type: "annotation", source: { type: "url", title: "Delivery", url: "https://x.example/d" }, index: 4 };
const update = (item_id: string, change: object) => ({ type: "thread.item.updated", item_id, update: change });

/** Runs events as they come over the wire, freezing each state: a reducer that changed one would throw. */
function play(events: object[], from: ChatState = emptyState): ChatState {
  return events.reduce<ChatState>((state, json) => {
    const event = parseEvent(json);
    if (!event) throw new Error(`not an event: ${JSON.stringify(json)}`);
    return deepFreeze(reduce(state, { type: "stream", event }));
  }, deepFreeze(from));
}
const act = (state: ChatState, ...actions: Action[]) => actions.reduce((now, action) => deepFreeze(reduce(now, action)), state);
function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}
const shown = (state: ChatState) =>
  state.entries.map(({ item: it, status }) => [
    it.id,
    status,
    it.type === "assistant_message" || it.type === "user_message" ? it.content.map(({ text }) => text).join("|") : it.type,
  ]);

describe("events of the protocol", () => {
  it("thread.created and thread.updated set the thread, its lock included", () => {
    const state = play([
      { type: "thread.created", thread: { id: "thr_1", items: { data: [] } } },
      { type: "thread.updated", thread: { id: "thr_1", title: "T", status: { type: "locked", reason: "moved" } } },
    ]);
    expect(state.thread).toEqual({ id: "thr_1", title: "T", status: { type: "locked", reason: "moved" } });
  });

  it("an answer streams from added to done", () => {
    const added = play([{ type: "thread.item.added", item: answer("a") }]);
    expect(shown(added)).toEqual([["a", "streaming", ""]]);
    const growing = play(
      [
        update("a", { type: "assistant_message.content_part.added", content_index: 0, content: { type: "output_text", text: "" } }),
        update("a", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "Two " }),
        update("a", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "days" }),
        update("a", { type: "assistant_message.content_part.annotation_added", content_index: 0, annotation_index: 0, annotation: source }),
      ],
      added,
    );
    expect(shown(growing)).toEqual([["a", "streaming", "Two days"]]);
    expect(growing.entries[0]?.item).toMatchObject({ content: [{ annotations: [{ index: 4, source: { url: "https://x.example/d" } }] }] });
    const done = play(
      [
        update("a", { type: "assistant_message.content_part.done", content_index: 0, content: { type: "output_text", text: "Two days." } }),
        { type: "thread.item.done", item: answer("a", "Two days.", [source]) },
      ],
      growing,
    );
    expect(shown(done)).toEqual([["a", "done", "Two days."]]);
  });

  it("a delta for a part that was never announced makes the part", () => {
    const state = play([
      { type: "thread.item.added", item: answer("a") },
      update("a", { type: "assistant_message.content_part.text_delta", content_index: 1, delta: "x" }),
    ]);
    expect(shown(state)).toEqual([["a", "streaming", "|x"]]);
  });

  it("a delta for an unknown item, or of an absurd part, changes no entry", () => {
    const before = play([{ type: "thread.item.added", item: answer("a") }]);
    const after = play(
      [
        update("nobody", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "x" }),
        update("a", { type: "assistant_message.content_part.text_delta", content_index: 1e9, delta: "x" }),
        update("a", { type: "workflow.task.added", task_index: 0, task: { type: "custom" } }),
      ],
      before,
    );
    expect(after.entries).toEqual(before.entries);
  });

  it("thread.item.removed takes an item away, thread.item.replaced changes it in place", () => {
    const state = play([
      { type: "thread.item.done", item: answer("a", "one") },
      { type: "thread.item.added", item: answer("b", "two") },
      { type: "thread.item.done", item: answer("c", "three") },
      { type: "thread.item.removed", item_id: "a" },
      { type: "thread.item.replaced", item: answer("b", "TWO") },
    ]);
    expect(shown(state)).toEqual([
      ["b", "done", "TWO"],
      ["c", "done", "three"],
    ]);
  });

  it("an item added again starts over, as it does when a run is followed from its beginning", () => {
    const state = play([
      { type: "thread.item.done", item: answer("a", "half") },
      { type: "thread.item.added", item: answer("a") },
      update("a", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "half and whole" }),
    ]);
    expect(shown(state)).toEqual([["a", "streaming", "half and whole"]]);
  });

  it("progress_update shows until the answer speaks", () => {
    const searching = play([{ type: "progress_update", icon: "search", text: "Searching" }, { type: "thread.item.added", item: answer("a") }]);
    expect(searching.progress).toEqual({ icon: "search", text: "Searching" });
    const speaking = play([update("a", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "x" })], searching);
    expect(speaking.progress).toBeNull();
  });

  it("workflow tasks are added and updated", () => {
    const state = play([
      { type: "thread.item.added", item: item("w", "workflow", { workflow: { type: "custom", tasks: [] } }) },
      update("w", { type: "workflow.task.added", task_index: 0, task: { type: "web_search", title_query: "delivery", status_indicator: "loading" } }),
      update("w", { type: "workflow.task.updated", task_index: 0, task: { type: "web_search", title: "Found", status_indicator: "complete" } }),
      update("w", { type: "workflow.task.updated", task_index: 9, task: { type: "custom", title: "nowhere" } }),
    ]);
    expect(state.entries[0]?.item).toMatchObject({ workflow: { tasks: [{ type: "web_search", title: "Found", status_indicator: "complete" }] } });
  });

  it("an error fails what was being written and can be tried again", () => {
    const state = play([
      { type: "thread.item.added", item: answer("a", "half") },
      { type: "error", code: "stream.error", allow_retry: true },
    ]);
    expect(shown(state)).toEqual([["a", "failed", "half"]]);
    expect(state.failure).toMatchObject({ code: "stream.error", detail: null, allowRetry: true });
  });

  it("notices collect, stream_options set the Stop button, generated images get their address", () => {
    const state = play([
      { type: "notice", level: "warning", message: "3 left", title: "Nearly" },
      { type: "stream_options", stream_options: { allow_cancel: false } },
      { type: "thread.item.added", item: item("i", "generated_image", { image: null }) },
      update("i", { type: "generated_image.updated", image: { id: "1", url: "data:image/png;base64,AA" } }),
    ]);
    expect(state.notices).toEqual([{ level: "warning", title: "Nearly", message: "3 left" }]);
    expect(state.allowCancel).toBe(false);
    expect(state.entries[0]?.item).toMatchObject({ url: "data:image/png;base64,AA" });
  });

  it("client_effect and updates of unknown kinds leave the state alone", () => {
    const before = play([{ type: "thread.item.done", item: item("w", "widget", { widget: {}, copy_text: "c" }) }]);
    const after = play(
      [
        { type: "client_effect", name: "x", data: {} },
        update("w", { type: "widget.root.updated", widget: {} }),
        update("w", { type: "invented.tomorrow" }),
      ],
      before,
    );
    expect(after.entries).toEqual(before.entries);
  });

  it("unknown events and broken ones are dropped, unknown items kept without being drawn", () => {
    for (const junk of [null, 1, [], {}, { type: "invented" }, { type: "thread.item.done" }, { type: "thread.item.added", item: { id: 1 } }]) {
      expect(parseEvent(junk)).toBeNull();
    }
    expect(parseItem(item("t", "hologram"))).toMatchObject({ type: "other", original: "hologram" });
  });
});

describe("what the visitor does", () => {
  it("a sent message is there at once, and keeps its place and key when the server answers with an id", () => {
    const sent = act(emptyState, { type: "sent", key: "local-1", said: plainly("Hi") });
    expect(shown(sent)).toEqual([["local-1", "done", "Hi"]]);
    expect(sent.phase).toBe("sending");
    const known = play([{ type: "thread.item.done", item: user("msg_1", "Hi") }], sent);
    expect(known.entries).toMatchObject([{ key: "local-1", local: false, item: { id: "msg_1" } }]);
  });

  it("a message that was not sent says so, and can be sent again", () => {
    const failure = { code: "unreachable", detail: null, status: null, retryAt: null, allowRetry: true };
    const failed = act(emptyState, { type: "sent", key: "k", said: plainly("Hi") }, { type: "ended", how: "failed", failure });
    expect(failed.entries[0]).toMatchObject({ status: "failed", local: true });
    expect(failed.failure).toEqual(failure);
    const again = act(failed, { type: "resent", key: "k" });
    expect(again.entries[0]?.status).toBe("done");
    expect(again.failure).toBeNull();
  });

  it("Stop leaves the text and marks it, whether the server closes the item or not", () => {
    const writing = act(play([{ type: "thread.item.added", item: answer("a", "half") }]), { type: "phase", phase: "stopping" });
    expect(shown(act(writing, { type: "ended", how: "stopped" }))).toEqual([["a", "stopped", "half"]]);
    const closed = play([{ type: "thread.item.done", item: answer("a", "half") }], writing);
    expect(shown(act(closed, { type: "ended", how: "stopped" }))).toEqual([["a", "stopped", "half"]]);
  });

  it("Retry takes away what followed the question", () => {
    const state = play([
      { type: "thread.item.done", item: user("q", "?") },
      { type: "thread.item.done", item: answer("a", "no") },
      { type: "error", allow_retry: true },
    ]);
    const retried = act(state, { type: "retried", itemId: "q" });
    expect(shown(retried)).toEqual([["q", "done", "?"]]);
    expect(retried.failure).toBeNull();
  });

  it("history comes newest first and is shown oldest first; earlier pages go above, without doubles", () => {
    const page = (items: object[], after: string | null) => ({ data: items.map((it) => parseItem(it)!), has_more: after !== null, after });
    const loaded = act(emptyState, {
      type: "history.loaded",
      thread: { id: "thr_1", title: null, status: { type: "active" } },
      page: page([answer("a2", "2"), user("q2", "?")], "q2"),
    });
    expect(loaded.history).toEqual({ phase: "ready", earlier: "q2" });
    const all = act(loaded, { type: "history.earlier", page: page([user("q2", "?"), answer("a1", "1"), user("q1", "!")], null) });
    expect(shown(all).map(([id]) => id)).toEqual(["q1", "a1", "q2", "a2"]);
    expect(all.history.earlier).toBeNull();
    expect(act(all, { type: "cleared" })).toEqual(emptyState);
  });

  it("what did not change is the same object", () => {
    const before = play([
      { type: "thread.item.done", item: answer("a", "one") },
      { type: "thread.item.added", item: answer("b") },
    ]);
    const after = play([update("b", { type: "assistant_message.content_part.text_delta", content_index: 0, delta: "x" })], before);
    expect(after.entries[0]).toBe(before.entries[0]);
    expect(after.entries[1]).not.toBe(before.entries[1]);
  });
});
