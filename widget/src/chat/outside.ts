/** What the conversation tells, and asks of, the world around it. */
import type { Json } from "../shared/guards.ts";
import type { PageTool } from "./calls.ts";
import type { Kept } from "./kept.ts";
import type { ChatState } from "./state.ts";

export interface Outside {
  changed(state: ChatState): void;
  /** An answer came to its end. */
  answered(): void;
  effect(name: string, data: Json): void;
  readonly tool: PageTool;
  /** The kept conversation moved on in this tab: others may show it, too. */
  moved?(kept: Kept): void;
  /** Only a new frame document can go on. `unsent` is what the visitor wanted to say. */
  lapsed(unsent: string | null): void;
}
