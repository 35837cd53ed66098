/** Joins the conversation's state, the network and what is kept between visits. Knows nothing of the DOM. */
import type { Api } from "../net/api.ts";
import { Problem, SessionLapsed, Unreachable } from "../net/problem.ts";
import { browserWorld, Run, type Outcome, type World } from "../net/run.ts";
import type { Session } from "../net/session.ts";
import type { Storage } from "../frame/storage.ts";
import { isRecord, text as textOf, type Json } from "../shared/guards.ts";
import { plainly, userMessage, type Said, type StreamEvent, type StreamingRequest, type Submission, type WidgetAction } from "./protocol.ts";
import { reduce, type Action } from "./reducer.ts";
import { emptyState, type ChatState, type Entry, type Failure } from "./state.ts";

export interface Outside {
  changed(state: ChatState): void;
  /** An answer came to its end. */
  answered(): void;
  effect(name: string, data: Json): void;
  /** Runs a client tool in the page. Raises, with words for the model, when it cannot; must come to an end. */
  tool(name: string, args: Json): Promise<unknown>;
  /** The kept conversation moved on in this tab: others may show it, too. */
  moved?(kept: Kept): void;
  /** Only a new frame document can go on. `unsent` is what the visitor wanted to say. */
  lapsed(unsent: string | null): void;
}

/** Kept between page loads: which thread, whose, and the run that was being written. */
export interface Kept {
  readonly user: string;
  readonly thread: string | null;
  readonly run: string | null;
}

export class Chat {
  state: ChatState = emptyState;
  #run: Run | null = null;
  #user = "";
  #sent = 0;
  #heard = false;
  #refreshing = false;
  #started: Promise<void> | null = null;
  /** What was asked and not taken, other than a message: to be asked again. */
  #repeat: (() => Promise<void>) | null = null;
  #called = new Set<string>();
  #calls = 0;

  constructor(
    private readonly session: Session,
    private readonly api: Api,
    private readonly storage: Storage,
    private readonly outside: Outside,
    private readonly world: World = browserWorld,
  ) {}

  get busy(): boolean {
    return this.state.phase !== "idle";
  }

  /** Find the conversation again, and the answer that was being written. Safe to call often; one start at a time. */
  start(): Promise<void> {
    this.#started ??= this.#start().catch((error: unknown) => {
      this.#started = null;
      this.#fail("history.failed", error, null);
    });
    return this.#started;
  }

  /** After a while out of sight: a session that lapsed is noticed before the visitor writes something. */
  async wake(): Promise<void> {
    try {
      await this.session.token();
    } catch (error) {
      if (error instanceof SessionLapsed) this.outside.lapsed(null);
    }
  }

  async #start(): Promise<void> {
    if (this.state.history.phase === "failed" || this.#kept()) this.#dispatch({ type: "history.loading" });
    this.#user = (await this.session.user()).id;
    const kept = this.#kept();
    if (!kept || kept.user !== this.#user) {
      this.#dispatch({ type: "history.loaded", thread: null, page: { data: [], has_more: false, after: null } });
      return;
    }
    if (kept.thread) await this.#load(kept.thread);
    const { run: unfinished } = kept;
    if (unfinished) {
      void this.#follow((run) => run.follow(unfinished))
        .then(() => this.#askPage())
        .catch((error: unknown) => this.#fail("ended", error, null));
    } else void this.#askPage();
  }

  async #load(thread: string): Promise<void> {
    try {
      this.#dispatch({ type: "history.loaded", ...(await this.api.history(thread)) });
    } catch (error) {
      if (!(error instanceof Problem && error.status === 404)) throw error;
      this.#forget(); // deleted, or no longer this visitor's
    }
  }

  async loadEarlier(): Promise<void> {
    const { thread, history } = this.state;
    if (!thread || !history.earlier || history.phase === "loading") return;
    this.#dispatch({ type: "history.loading" });
    try {
      this.#dispatch({ type: "history.earlier", page: await this.api.earlier(thread.id, history.earlier) });
    } catch (error) {
      this.#fail("history.failed", error, null);
    }
  }

  async send(what: string | Said): Promise<void> {
    const given = typeof what === "string" ? plainly(what) : what;
    const said: Said = { ...given, text: given.text.trim() };
    if (!(said.text || said.attachments.length) || this.busy || this.state.history.phase === "loading") return;
    const key = `local-${++this.#sent}`;
    this.#repeat = null;
    this.#calls = 0;
    this.#dispatch({ type: "sent", key, said });
    await this.start();
    const { failure, history } = this.state;
    if (history.phase === "failed" && failure) this.#dispatch({ type: "ended", how: "failed", failure });
    else await this.#say(said);
  }

  /** Again: the message that was not sent, or the answer that went wrong. */
  async retry(): Promise<void> {
    if (this.busy) return;
    if (this.state.history.phase === "failed") {
      if (this.state.thread) return this.loadEarlier();
      return this.start();
    }
    if (this.#repeat) return this.#repeat();
    const last = this.state.entries.findLast(({ item }) => item.type === "user_message");
    if (!last) return;
    if (last.local) {
      this.#dispatch({ type: "resent", key: last.key });
      // The last attempt may have arrived though its answer did not.
      if (!(await this.#arrived(last))) await this.#say(saidIn(last));
      return;
    }
    await this.#again(last.item.id);
  }

  stop(): void {
    if (!this.#run && this.state.phase === "sending") return this.#dispatch({ type: "ended", how: "stopped" }); // the page is being asked
    if (!this.#run || this.#run.stopping || !this.busy) return;
    this.#dispatch({ type: "phase", phase: "stopping" });
    this.#run.stop();
  }

  newConversation(): void {
    this.#run?.leave();
    this.#run = null;
    this.#forget();
  }

  /** Show another conversation of the visitor's. An answer that is being written here goes on at the server. */
  async open(thread: string): Promise<void> {
    this.newConversation();
    this.#started = Promise.resolve();
    this.#keep({ thread, run: null });
    this.#dispatch({ type: "history.loading" });
    try {
      await this.#load(thread);
    } catch (error) {
      this.#started = null; // trying again begins with what is kept
      this.#fail("history.failed", error, null);
    }
  }

  /** Look whether others wrote: another tab, or a person of the team. */
  async refresh(): Promise<void> {
    const id = this.state.thread?.id;
    if (!id || this.busy || this.#refreshing || this.state.history.phase !== "ready") return;
    this.#refreshing = true;
    const newest = this.state.entries.at(-1)?.item.id;
    try {
      const fresh = await this.api.history(id);
      if (this.busy || this.state.thread?.id !== id) return;
      this.#dispatch({ type: "history.refreshed", ...fresh });
      const last = this.state.entries.at(-1)?.item;
      if (last && last.id !== newest && last.type === "assistant_message") this.outside.answered();
    } catch (error) {
      if (error instanceof Problem && error.status === 404 && this.state.thread?.id === id) this.#forget();
    } finally {
      this.#refreshing = false;
    }
  }

  /** Another tab of this visitor's asked, or heard the end of an answer. */
  async follow({ user, thread, run }: Kept): Promise<void> {
    if (this.busy || user !== this.#user || !thread || thread !== this.state.thread?.id) return;
    await this.refresh();
    if (run && !this.busy) await this.#follow((each) => each.follow(run)).catch((error: unknown) => this.#fail("ended", error, null));
  }

  /** Whether a person of the team was asked for, or answers: what they write comes when it is looked for. */
  get waitsForPerson(): boolean {
    if (this.state.thread?.status.type !== "active" || this.busy) return false;
    const last = this.state.entries.at(-1)?.item;
    const told = this.state.notices.length > 0 && last?.type === "user_message";
    return told || this.state.entries.slice(-20).some(({ item }) => item.type === "task" && item.task.icon === "agent");
  }

  async identify(userToken: string | null): Promise<void> {
    try {
      const user = await this.session.identify(userToken);
      if (user.id === this.#user) return;
      this.#run?.leave();
      this.#run = null;
      this.#user = user.id;
      this.#dispatch({ type: "cleared" });
      this.#started = null;
      await this.start();
    } catch (error) {
      this.#fail("history.failed", error, null);
    }
  }

  // ── one exchange ──

  async #say(said: Said): Promise<void> {
    const { thread } = this.state;
    const input = userMessage(said);
    const request: StreamingRequest = thread
      ? { type: "threads.add_user_message", params: { thread_id: thread.id, input } }
      : { type: "threads.create", params: { input } };
    try {
      await this.#follow((run) => run.ask(request));
      await this.#askPage();
    } catch (error) {
      if (thread && error instanceof Problem && error.status === 404) {
        // The conversation was deleted in the meantime: the message opens a new one.
        this.#dispatch({ type: "cleared" });
        this.#keep({ thread: null, run: null });
        this.#dispatch({ type: "sent", key: `local-${++this.#sent}`, said });
        return this.#say(said);
      }
      this.#fail("ended", error, said.text);
    }
  }

  async #again(itemId: string): Promise<void> {
    const { thread } = this.state;
    if (!thread) return;
    this.#dispatch({ type: "retried", itemId });
    try {
      await this.#follow((run) =>
        run.ask({ type: "threads.retry_after_item", params: { thread_id: thread.id, item_id: itemId } }),
      );
      await this.#askPage();
    } catch (error) {
      this.#fail("ended", error, null);
    }
  }

  // ── forms, widgets and the page's own tools ──

  /** Raises Problem, Unreachable or SessionLapsed when the answer was not taken: the form says so. */
  answerForm(itemId: string, input: Submission): Promise<void> {
    return this.#act((thread_id) => ({ type: "threads.add_structured_input", params: { thread_id, item_id: itemId, input } }));
  }

  /** What was pressed in a widget; raises as above. `streaming` is what the action itself asks for. */
  async act(itemId: string, action: WidgetAction, streaming: boolean): Promise<void> {
    if (streaming) {
      return this.#act((thread_id) => ({ type: "threads.custom_action", params: { thread_id, item_id: itemId, action } }));
    }
    const thread = this.#free();
    this.#begin();
    try {
      const item = await this.api.act({ thread_id: thread, item_id: itemId, action });
      if (item && this.state.thread?.id === thread) this.#dispatch({ type: "stream", event: { type: "thread.item.replaced", item } });
    } finally {
      if (!this.#run) this.#dispatch({ type: "ended", how: "done" });
    }
  }

  async #act(request: (thread: string) => StreamingRequest): Promise<void> {
    const thread = this.#free();
    this.#begin();
    this.#calls = 0;
    try {
      await this.#follow((run) => run.ask(request(thread)));
    } catch (error) {
      if (error instanceof SessionLapsed) this.outside.lapsed(null);
      this.#dispatch({ type: "ended", how: "done" });
      throw error;
    }
    await this.#askPage();
  }

  #begin(): void {
    this.#repeat = null;
    this.#dispatch({ type: "began" });
  }

  #free(): string {
    const { thread } = this.state;
    if (!thread || this.busy) throw new Problem(409, "thread_busy", null, null);
    return thread.id;
  }

  /** The last call that waits for the page, if there is one: run, and its output handed to the assistant. */
  async #askPage(): Promise<void> {
    const { thread, failure } = this.state;
    const item = this.state.entries.findLast((entry) => entry.item.type === "client_tool_call" && entry.item.status === "pending")?.item;
    if (item?.type !== "client_tool_call" || !thread || failure || this.busy || this.#called.has(item.id)) return;
    const begun = this.#claimed();
    const isBegun = begun?.call === item.id;
    if (isBegun && Date.now() - begun.at < CLAIM) return; // another tab is at it
    this.#called.add(item.id);
    this.storage.set("tool", JSON.stringify({ call: item.id, at: Date.now() }));
    this.#begin();
    let result: unknown;
    try {
      if (isBegun) throw new Error("The page was left before the tool had answered; whether it was carried out is not known.");
      if (++this.#calls > MAX_CALLS) throw new Error("Too many calls in one answer.");
      result = (await this.outside.tool(item.name, item.arguments)) ?? null;
      if (JSON.stringify(result).length > MAX_OUTPUT) throw new Error("What the page answered is too long.");
    } catch (error) {
      result = { error: error instanceof Error ? error.message : String(error) };
    }
    // Stopped, or another conversation: whatever is written next withdraws the call.
    if (this.state.thread?.id !== thread.id || this.state.phase !== "sending") return;
    this.#dispatch({ type: "called", itemId: item.id });
    const hand = async (): Promise<void> => {
      this.#begin();
      try {
        await this.#follow((run) => run.ask({ type: "threads.add_client_tool_output", params: { thread_id: thread.id, result } }));
      } catch (error) {
        this.#repeat = hand;
        return this.#fail("ended", error, null);
      }
      await this.#askPage();
    };
    await hand();
  }

  #claimed(): { readonly call: string | null; readonly at: number } | null {
    try {
      const kept: unknown = JSON.parse(this.storage.get("tool") ?? "null");
      return isRecord(kept) ? { call: textOf(kept.call), at: Number(kept.at) || 0 } : null;
    } catch {
      return null;
    }
  }

  async #arrived(entry: Entry): Promise<boolean> {
    const { thread } = this.state;
    if (!thread) return false;
    try {
      const { page } = await this.api.history(thread.id);
      const newest = page.data.find(({ type }) => type === "user_message");
      const known = this.state.entries.some(({ item }) => item.id === newest?.id);
      if (!newest || known || newest.type !== "user_message") return false;
      if (newest.content.map(({ text }) => text).join("") !== saidIn(entry).text) return false;
      this.#dispatch({ type: "ended", how: "done" });
      this.#dispatch({ type: "history.loaded", thread: null, page });
      if (page.data[0] === newest) await this.#again(newest.id);
      return true;
    } catch {
      return false; // sending will say what is wrong
    }
  }

  async #follow(begin: (run: Run) => Promise<Outcome>): Promise<void> {
    this.#heard = false;
    const run = new Run(
      this.api,
      {
        started: (id) => this.#run === run && this.#keep({ run: id }),
        event: (event) => this.#run === run && this.#hear(event),
        link: (phase) => this.#run === run && this.state.phase !== "stopping" && this.#dispatch({ type: "phase", phase }),
        isComplete: () => this.#heard && !this.state.entries.some(({ status }) => status === "streaming"),
      },
      this.world,
    );
    this.#run = run;
    this.#dispatch({ type: "phase", phase: "sending" });
    try {
      const outcome = await begin(run);
      if (this.#run !== run) return;
      this.#keep({ run: null });
      if (outcome === "gone" && this.state.thread) await this.#load(this.state.thread.id);
      const lost = outcome === "lost";
      this.#dispatch({
        type: "ended",
        how: lost ? "failed" : run.stopping ? "stopped" : "done",
        ...(lost && { failure: ours("connection_lost", this.state.thread !== null) }),
      });
      if (!lost && !run.stopping && !this.state.entries.some(({ item }) => item.type === "client_tool_call" && item.status === "pending")) {
        this.outside.answered();
      }
    } finally {
      if (this.#run === run) this.#run = null;
    }
  }

  #hear(event: StreamEvent): void {
    if (event.type === "client_effect") this.outside.effect(event.name, event.data);
    if (event.type === "error") this.#heard = true;
    const isStored = event.type === "thread.item.done" || event.type === "thread.item.replaced";
    const isPrelude = isStored && (PRELUDE.has(event.item.type) || (event.item.type === "structured_input" && event.item.status !== "pending"));
    if (isStored && !isPrelude) this.#heard = true;
    this.#dispatch({ type: "stream", event });
    if (event.type === "thread.created") this.#keep({ thread: event.thread.id });
  }

  // ── state and storage ──

  #dispatch(action: Action): void {
    const next = reduce(this.state, action);
    if (next === this.state) return;
    this.state = next;
    this.outside.changed(next);
  }

  #fail(where: "history.failed" | "ended", error: unknown, unsent: string | null): void {
    if (error instanceof SessionLapsed) this.outside.lapsed(unsent);
    const failure = failureOf(error);
    if (where === "ended") this.#dispatch({ type: "ended", how: "failed", failure });
    else this.#dispatch({ type: "history.failed", failure });
  }

  #kept(): Kept | null {
    try {
      const kept: unknown = JSON.parse(this.storage.get("conversation") ?? "null");
      const user = isRecord(kept) ? textOf(kept.user) : null;
      return user && isRecord(kept) ? { user, thread: textOf(kept.thread), run: textOf(kept.run) } : null;
    } catch {
      return null;
    }
  }

  #keep(change: Partial<Kept>): void {
    const kept = { thread: null, run: null, ...this.#kept(), user: this.#user, ...change };
    this.storage.set("conversation", JSON.stringify(kept));
    this.outside.moved?.(kept);
  }

  #forget(): void {
    this.storage.remove("conversation");
    this.#dispatch({ type: "cleared" });
  }
}

function saidIn({ item }: Entry): Said {
  if (item.type !== "user_message") return plainly("");
  const { content, attachments, quoted_text: quote, tool, model } = item;
  return { text: content.map(({ text }) => text).join(""), attachments, quote, tool, model };
}

const ours = (code: string, allowRetry = true): Failure => ({ code, detail: null, status: null, retryAt: null, allowRetry });

/** Items that come before an answer, and are none. */
const PRELUDE = new Set(["user_message", "workflow", "task"]);

/** Of client tools, in a row: a model that goes on for ever is stopped. */
const MAX_CALLS = 10;
/** Characters of JSON; the server takes some more. */
const MAX_OUTPUT = 60_000;
/** Milliseconds in which a call that another tab began is left to it. */
const CLAIM = 60_000;

/** Refusals that asking again will not change. */
const FINAL = new Set([400, 403, 404, 413, 415, 422]);

export function failureOf(error: unknown, now = Date.now()): Failure {
  if (error instanceof Problem) {
    return {
      code: error.code,
      detail: error.detail,
      status: error.status,
      retryAt: error.retryAfter === null ? null : now + error.retryAfter,
      allowRetry: !FINAL.has(error.status) && error.code !== "thread_locked" && error.code !== "agent_not_published",
    };
  }
  if (error instanceof SessionLapsed) return ours("session_lapsed");
  if (error instanceof Unreachable) return ours("unreachable");
  return ours("unexpected");
}
