/** The conversation as a pure function: (state, action) -> state. */
import type { AssistantContent, ItemUpdate, Page, Said, StreamEvent, Thread, ThreadItem } from "./protocol.ts";
import { withComponent } from "./widget.ts";
import { text } from "../shared/guards.ts";
import { emptyState, type ChatState, type Entry, type Failure, type ItemStatus, type Phase } from "./state.ts";

export type Action =
  | { readonly type: "stream"; readonly event: StreamEvent }
  | { readonly type: "sent"; readonly key: string; readonly said: Said }
  /** Something else was asked: a form answered, a button pressed, the page's answer handed in. */
  | { readonly type: "began" }
  /** The page has answered this call. */
  | { readonly type: "called"; readonly itemId: string }
  | { readonly type: "resent"; readonly key: string }
  /** The answer after this item is asked for again: what followed it is gone. */
  | { readonly type: "retried"; readonly itemId: string }
  | { readonly type: "phase"; readonly phase: Exclude<Phase, "idle"> }
  | { readonly type: "ended"; readonly how: "done" | "stopped" | "failed"; readonly failure?: Failure }
  | { readonly type: "history.loading" }
  | { readonly type: "history.failed"; readonly failure: Failure }
  /** `items` newest first, as the server pages them. */
  | { readonly type: "history.loaded"; readonly thread: Thread | null; readonly page: Page<ThreadItem> }
  | { readonly type: "history.earlier"; readonly page: Page<ThreadItem> }
  /** The newest page once more: what others wrote in the meantime. */
  | { readonly type: "history.refreshed"; readonly thread: Thread | null; readonly page: Page<ThreadItem> }
  | { readonly type: "cleared" };

const never = (value: never): never => value;

export function reduce(state: ChatState, action: Action): ChatState {
  switch (action.type) {
    case "stream":
      return reduceEvent(state, action.event);
    case "sent":
      return {
        ...begun(state),
        entries: [
          ...state.entries,
          {
            key: action.key,
            local: true,
            status: "done",
            item: {
              id: action.key,
              thread_id: state.thread?.id ?? "",
              type: "user_message",
              content: [{ type: "input_text", text: action.said.text }],
              attachments: action.said.attachments,
              quoted_text: action.said.quote,
              tool: action.said.tool,
              model: action.said.model,
            },
          },
        ],
      };
    case "began":
      return begun(state);
    case "called":
      return {
        ...state,
        entries: state.entries.map((entry) =>
          entry.item.id === action.itemId && entry.item.type === "client_tool_call"
            ? { ...entry, item: { ...entry.item, status: "completed" } }
            : entry,
        ),
      };
    case "resent":
      return {
        ...begun(state),
        entries: state.entries.map((entry) => (entry.key === action.key ? { ...entry, status: "done" } : entry)),
      };
    case "retried": {
      const at = state.entries.findIndex(({ item }) => item.id === action.itemId);
      return { ...begun(state), entries: at < 0 ? state.entries : state.entries.slice(0, at + 1) };
    }
    case "phase":
      return { ...state, phase: action.phase };
    case "ended":
      return ended(state, action.how, action.failure ?? null);
    case "history.loading":
      return { ...state, failure: null, history: { ...state.history, phase: "loading" } };
    case "history.failed":
      return { ...state, failure: action.failure, history: { ...state.history, phase: "failed" } };
    case "history.loaded":
      return {
        ...state,
        thread: action.thread ?? state.thread,
        // What is being sent while the past is still loading stays below it.
        entries: [...settled(action.page), ...state.entries.filter(({ local }) => local && state.phase === "sending")],
        history: { phase: "ready", earlier: cursor(action.page) },
      };
    case "history.earlier": {
      const known = new Set(state.entries.map(({ item }) => item.id));
      const older = settled(action.page).filter(({ item }) => !known.has(item.id));
      return {
        ...state,
        entries: [...older, ...state.entries],
        history: { phase: "ready", earlier: cursor(action.page) },
      };
    }
    case "history.refreshed":
      return refreshed(state, action.thread, action.page);
    case "cleared":
      return emptyState;
    default:
      return never(action);
  }
}

/** What one event of the protocol does. */
export function reduceEvent(state: ChatState, event: StreamEvent): ChatState {
  switch (event.type) {
    case "thread.created":
    case "thread.updated":
      return { ...state, thread: event.thread };
    case "thread.item.added":
      return put(state, event.item, event.item.type === "user_message" ? "done" : "streaming");
    case "thread.item.updated":
      return updated(state, event.item_id, event.update);
    case "thread.item.done": {
      const next = put(state, event.item, state.phase === "stopping" && event.item.type === "assistant_message" ? "stopped" : "done");
      return speaks(event.item) ? { ...next, progress: null } : next;
    }
    case "thread.item.replaced":
      // Replaced items are stored ones: after a crash, what was kept of an answer that nobody writes any more.
      return put(state, event.item, "done");
    case "thread.item.removed":
      return { ...state, entries: state.entries.filter(({ item }) => item.id !== event.item_id) };
    case "stream_options":
      return { ...state, allowCancel: event.allow_cancel };
    case "progress_update":
      return { ...state, progress: { icon: event.icon, text: event.text } };
    case "client_effect":
      return state; // the controller hands it to the page
    case "error":
      return {
        ...state,
        progress: null,
        // A call that the page was still to answer is not asked any more.
        entries: state.entries.map((entry) => (entry.status === "streaming" || isOpenCall(entry.item) ? { ...entry, status: "failed" } : entry)),
        failure: {
          code: event.code,
          detail: event.message,
          status: null,
          retryAt: null,
          allowRetry: event.allow_retry,
        },
      };
    case "notice":
      return {
        ...state,
        notices: [...state.notices, { level: event.level, title: event.title, message: event.message }],
      };
    default:
      return never(event);
  }
}

const speaks = ({ type }: ThreadItem): boolean => type === "assistant_message" || type === "widget" || type === "structured_input";

const isOpenCall = (item: ThreadItem): boolean => item.type === "client_tool_call" && item.status === "pending";

const find = (state: ChatState, id: string): Entry | undefined => state.entries.find(({ item }) => item.id === id);

const begun = (state: ChatState): ChatState => ({
  ...state,
  phase: "sending",
  allowCancel: true,
  progress: null,
  notices: [],
  failure: null,
});

function put(state: ChatState, item: ThreadItem, status: ItemStatus): ChatState {
  const known = find(state, item.id);
  // The server's copy of a message takes the place of the one shown when it was sent.
  const place = known ?? (item.type === "user_message" ? state.entries.find((entry) => entry.local) : undefined);
  if (!place) return { ...state, entries: [...state.entries, { key: item.id, item, status, local: false }] };
  return {
    ...state,
    entries: state.entries.map((entry) => (entry === place ? { key: place.key, item, status, local: false } : entry)),
  };
}

function updated(state: ChatState, id: string, update: ItemUpdate): ChatState {
  let progress = state.progress;
  const entries = state.entries.map((entry) => {
    if (entry.item.id !== id) return entry;
    const item = updateItem(entry.item, update);
    if (item === entry.item) return entry;
    if (speaks(item)) progress = null;
    return { ...entry, item };
  });
  return { ...state, entries, progress };
}

const EMPTY: AssistantContent = { type: "output_text", text: "", annotations: [] };

function updateItem(item: ThreadItem, update: ItemUpdate): ThreadItem {
  switch (update.type) {
    case "assistant_message.content_part.added":
    case "assistant_message.content_part.done":
      return withPart(item, update.content_index, () => update.content);
    case "assistant_message.content_part.text_delta":
      return withPart(item, update.content_index, (part) => ({ ...part, text: part.text + update.delta }));
    case "assistant_message.content_part.annotation_added":
      return withPart(item, update.content_index, (part) => ({
        ...part,
        annotations: part.annotations.toSpliced(update.annotation_index, 0, update.annotation),
      }));
    case "workflow.task.added":
    case "workflow.task.updated": {
      if (item.type !== "workflow") return item;
      const tasks = item.workflow.tasks.slice();
      if (update.type === "workflow.task.added") tasks.splice(update.task_index, 0, update.task);
      else if (update.task_index < tasks.length) tasks[update.task_index] = update.task;
      return { ...item, workflow: { ...item.workflow, tasks } };
    }
    case "generated_image.updated":
      return item.type === "generated_image" ? { ...item, url: update.url ?? item.url, progress: update.progress } : item;
    case "widget.root.updated":
      return item.type === "widget" ? { ...item, widget: update.widget } : item;
    case "widget.component.updated":
      return item.type === "widget" ? { ...item, widget: withComponent(item.widget, update.component_id, () => update.component) } : item;
    case "widget.streaming_text.value_delta":
      if (item.type !== "widget") return item;
      return {
        ...item,
        widget: withComponent(item.widget, update.component_id, (component) => ({
          ...component,
          value: (text(component.value) ?? "") + update.delta,
          streaming: !update.done,
        })),
      };
    case "other":
      return item;
    default:
      return never(update);
  }
}

const MAX_PARTS = 64;

function withPart(item: ThreadItem, at: number, change: (part: AssistantContent) => AssistantContent): ThreadItem {
  if (item.type !== "assistant_message" || at >= MAX_PARTS) return item;
  const content = item.content.slice();
  // Updates can name a part that was never announced.
  while (content.length <= at) content.push(EMPTY);
  content[at] = change(content[at] ?? EMPTY);
  return { ...item, content };
}

function ended(state: ChatState, how: "done" | "stopped" | "failed", failure: Failure | null): ChatState {
  const status = how === "failed" || state.failure ? "failed" : "stopped";
  return {
    ...state,
    phase: "idle",
    progress: null,
    failure: failure ?? state.failure,
    entries: state.entries.map((entry) => {
      if (entry.status === "streaming") return { ...entry, status };
      return entry.local && how === "failed" ? { ...entry, status: "failed" } : entry;
    }),
  };
}

/** What did not change stays the very object it was, and so does the state if nothing did: nothing is drawn anew. */
function refreshed(state: ChatState, thread: Thread | null, page: Page<ThreadItem>): ChatState {
  const fresh = settled(page);
  const known = new Map(state.entries.map((entry) => [entry.item.id, entry]));
  const from = state.entries.findIndex(({ item }) => item.id === fresh[0]?.item.id);
  const entries = [
    ...state.entries.slice(0, Math.max(from, 0)),
    ...fresh.map((entry) => {
      const old = known.get(entry.item.id);
      if (!old) return entry;
      return JSON.stringify(old.item) === JSON.stringify(entry.item) ? old : { ...entry, key: old.key };
    }),
    ...state.entries.filter(({ local }) => local),
  ];
  const isSame =
    entries.length === state.entries.length &&
    entries.every((entry, at) => entry === state.entries[at]) &&
    JSON.stringify(thread) === JSON.stringify(state.thread);
  if (isSame) return state;
  const history = from < 0 ? { phase: "ready" as const, earlier: cursor(page) } : state.history;
  return { ...state, thread: thread ?? state.thread, entries, history };
}

const settled = (page: Page<ThreadItem>): Entry[] =>
  page.data.map((item) => ({ key: item.id, item, status: "done" as const, local: false })).reverse();

const cursor = (page: Page<ThreadItem>): string | null => (page.has_more ? page.after : null);
