/** All that the view needs to know. Immutable: what did not change is the same object. */
import type { NoticeLevel, Thread, ThreadItem } from "./protocol.ts";

export type ItemStatus = "streaming" | "done" | "stopped" | "failed";

export interface Entry {
  /** Stays when a message gets its id from the server, so that its element stays too. */
  readonly key: string;
  readonly item: ThreadItem;
  readonly status: ItemStatus;
  /** Shown before the server has it; `failed` and local means it was not sent. */
  readonly local: boolean;
}

/** Why the last attempt came to nothing. `code` is a problem's or an error event's, or one of our own. */
export interface Failure {
  readonly code: string;
  /** The server's sentence, if it sent one. */
  readonly detail: string | null;
  readonly status: number | null;
  /** Milliseconds since the epoch before which trying again is pointless. */
  readonly retryAt: number | null;
  readonly allowRetry: boolean;
}

export interface Notice {
  readonly level: NoticeLevel;
  readonly title: string | null;
  readonly message: string;
}

/**
 * idle          nothing under way
 * sending       asked, not yet answered
 * streaming     events are arriving
 * reconnecting  the connection dropped, the run goes on at the server
 * offline       as before, and the device has no network
 * stopping      the visitor pressed Stop
 */
export type Phase = "idle" | "sending" | "streaming" | "reconnecting" | "offline" | "stopping";

export interface ChatState {
  readonly thread: Thread | null;
  readonly entries: readonly Entry[];
  readonly phase: Phase;
  readonly allowCancel: boolean;
  readonly progress: { readonly icon: string | null; readonly text: string } | null;
  readonly notices: readonly Notice[];
  readonly failure: Failure | null;
  readonly history: {
    readonly phase: "loading" | "ready" | "failed";
    /** Cursor to the items before the oldest one shown; null when that is the first. */
    readonly earlier: string | null;
  };
}

export const emptyState: ChatState = {
  thread: null,
  entries: [],
  phase: "idle",
  allowCancel: true,
  progress: null,
  notices: [],
  failure: null,
  history: { phase: "ready", earlier: null },
};

/** Whether a person of the team was asked for, or answers: what they write comes when it is looked for. */
export function waitsForPerson({ thread, entries, notices, phase }: ChatState): boolean {
  if (thread?.status.type !== "active" || phase !== "idle") return false;
  const told = notices.length > 0 && entries.at(-1)?.item.type === "user_message";
  return told || entries.slice(-20).some(({ item }) => item.type === "task" && item.task.icon === "agent");
}
