/** What a browser keeps of the conversation between page loads: which thread, whose, and the run that was being written. */
import type { Storage } from "../frame/storage.ts";
import { isRecord, text, type Json } from "../shared/guards.ts";

export interface Kept {
  readonly user: string;
  readonly thread: string | null;
  readonly run: string | null;
}

/** What is stored under a name; null where it is missing or no object. */
export function stored(storage: Storage, name: string): Json | null {
  try {
    const value: unknown = JSON.parse(storage.get(name) ?? "null");
    return isRecord(value) ? value : null;
  } catch {
    return null;
  }
}

/** What was stored, or told by another tab, if it is in order. */
export function keptOf(value: unknown): Kept | null {
  const user = isRecord(value) ? text(value.user) : null;
  return isRecord(value) && user ? { user, thread: text(value.thread), run: text(value.run) } : null;
}

export const keptIn = (storage: Storage): Kept | null => keptOf(stored(storage, "conversation"));

/** What `user` has now, which is returned. */
export function keep(storage: Storage, user: string, change: Partial<Kept>): Kept {
  const kept = { thread: null, run: null, ...keptIn(storage), user, ...change };
  storage.set("conversation", JSON.stringify(kept));
  return kept;
}

export const forget = (storage: Storage): void => storage.remove("conversation");
