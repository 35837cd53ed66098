/** The page's own tools, which the assistant calls: each call is run once, whatever tabs and reloads there are. */
import type { Storage } from "../frame/storage.ts";
import type { Json } from "../shared/guards.ts";
import { stored } from "./kept.ts";
import type { ClientToolCallItem } from "./protocol.ts";
import type { Entry } from "./state.ts";

/** In a row: a model that goes on for ever is stopped. */
const MAX_CALLS = 10;
/** Characters of JSON; the server takes some more. */
const MAX_OUTPUT = 60_000;
/** Milliseconds in which a call that another tab began is left to it. */
const CLAIM = 60_000;

/** Runs a tool in the page. Raises, with words for the model, when it cannot; must come to an end. */
export type PageTool = (name: string, args: Json) => Promise<unknown>;

export class Calls {
  #called = new Set<string>();
  #inARow = 0;

  constructor(
    private readonly storage: Storage,
    private readonly tool: PageTool,
  ) {}

  /** The visitor said or did something: counting begins anew. */
  restart(): void {
    this.#inARow = 0;
  }

  /** The last call that waits for the page, if this tab is the one to run it. */
  waiting(entries: readonly Entry[]): ClientToolCallItem | null {
    const item = entries.findLast((entry) => entry.item.type === "client_tool_call" && entry.item.status === "pending")?.item;
    if (item?.type !== "client_tool_call" || this.#called.has(item.id)) return null;
    const begun = this.#begun(item);
    return begun !== null && Date.now() - begun < CLAIM ? null : item;
  }

  /** What the page answers, or `{ error }`; never raises. */
  async run(item: ClientToolCallItem): Promise<unknown> {
    const isBegun = this.#begun(item) !== null;
    this.#called.add(item.id);
    this.storage.set("tool", JSON.stringify({ call: item.id, at: Date.now() }));
    try {
      if (isBegun) throw new Error("The page was left before the tool had answered; whether it was carried out is not known.");
      if (++this.#inARow > MAX_CALLS) throw new Error("Too many calls in one answer.");
      const result = (await this.tool(item.name, item.arguments)) ?? null;
      if (JSON.stringify(result).length > MAX_OUTPUT) throw new Error("What the page answered is too long.");
      return result;
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) };
    }
  }

  /** When this call was begun, here or in another tab or before a reload. */
  #begun({ id }: ClientToolCallItem): number | null {
    const claim = stored(this.storage, "tool");
    return claim?.call === id ? Number(claim.at) || 0 : null;
  }
}
