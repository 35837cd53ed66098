/** The conversation: found again, asked, left. Joins its state, the network and what is kept between visits; knows nothing of the DOM. */
import type { Api } from "../net/api.ts";
import { Problem, SessionLapsed } from "../net/problem.ts";
import { browserWorld, type World } from "../net/run.ts";
import type { Session } from "../net/session.ts";
import type { Storage } from "../frame/storage.ts";
import { Calls } from "./calls.ts";
import { failureOf } from "./failures.ts";
import { Following } from "./following.ts";
import { forget, keep, keptIn, keptOf, type Kept } from "./kept.ts";
import type { Outside } from "./outside.ts";
import { plainly, saidIn, userMessage, type Said, type StreamingRequest, type Submission, type WidgetAction } from "./protocol.ts";
import { reduce, type Action } from "./reducer.ts";
import { emptyState, type ChatState, type Entry } from "./state.ts";

export class Chat {
  state: ChatState = emptyState;
  #user = "";
  #sent = 0;
  #refreshing = false;
  #started: Promise<void> | null = null;
  /** What was asked and not taken, other than a message: to be asked again. */
  #repeat: (() => Promise<void>) | null = null;
  #calls: Calls;
  #following: Following;
  /** Counts what was shown: what was asked for another conversation, or for somebody else, comes too late. */
  #view = 0;

  constructor(
    private readonly session: Session,
    private readonly api: Api,
    private readonly storage: Storage,
    private readonly outside: Outside,
    world: World = browserWorld,
  ) {
    this.#calls = new Calls(storage, (name, args) => outside.tool(name, args));
    const current = () => this.state;
    this.#following = new Following(api, outside, world, {
      get state() {
        return current();
      },
      dispatch: (action) => this.#dispatch(action),
      keep: (change) => this.#keep(change),
      load: (thread) => this.#load(thread),
    });
  }

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
    const view = this.#view;
    if (this.state.history.phase === "failed" || keptIn(this.storage)) this.#dispatch({ type: "history.loading" });
    this.#user = (await this.session.user()).id;
    if (view !== this.#view) return;
    const kept = keptIn(this.storage);
    if (!kept || kept.user !== this.#user) {
      return this.#dispatch({ type: "history.loaded", thread: null, page: { data: [], has_more: false, after: null } });
    }
    if (kept.thread) await this.#load(kept.thread);
    const { run: unfinished } = kept;
    if (view !== this.#view) return;
    if (unfinished) {
      void this.#following.follow((run) => run.follow(unfinished))
        .then(() => this.#askPage())
        .catch((error: unknown) => this.#fail("ended", error, null));
    } else void this.#askPage();
  }

  async #load(thread: string): Promise<void> {
    const view = this.#view;
    try {
      const loaded = await this.api.history(thread);
      if (view === this.#view) this.#dispatch({ type: "history.loaded", ...loaded });
    } catch (error) {
      if (view !== this.#view) return;
      if (!(error instanceof Problem && error.status === 404)) throw error;
      this.#forget(); // deleted, or no longer this visitor's
    }
  }

  async loadEarlier(): Promise<void> {
    const { thread, history } = this.state;
    if (!thread || !history.earlier || history.phase === "loading") return;
    const view = this.#view;
    this.#dispatch({ type: "history.loading" });
    try {
      const page = await this.api.earlier(thread.id, history.earlier);
      if (view === this.#view) this.#dispatch({ type: "history.earlier", page });
    } catch (error) {
      if (view === this.#view) this.#fail("history.failed", error, null);
    }
  }

  async send(what: string | Said): Promise<void> {
    const given = typeof what === "string" ? plainly(what) : what;
    const said: Said = { ...given, text: given.text.trim() };
    if (!(said.text || said.attachments.length) || this.busy || this.state.history.phase === "loading") return;
    const key = `local-${++this.#sent}`;
    this.#repeat = null;
    this.#calls.restart();
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
      if (!(await this.#arrived(last))) await this.#say(saidIn(last.item));
      return;
    }
    await this.#again(last.item.id);
  }

  stop(): void {
    if (!this.#following.isOn && this.state.phase === "sending") this.#dispatch({ type: "ended", how: "stopped" }); // the page is being asked
    else if (this.busy) this.#following.stop();
  }

  newConversation(): void {
    this.#leave();
    this.#forget();
  }

  #leave(): void {
    this.#following.leave();
    this.#repeat = null;
    this.#view++;
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
  async follow(moved: unknown): Promise<void> {
    const kept = keptOf(moved);
    if (!kept?.thread || this.busy || kept.user !== this.#user || kept.thread !== this.state.thread?.id) return;
    await this.refresh();
    const { run } = kept;
    if (run && !this.busy) await this.#following.follow((each) => each.follow(run)).catch((error: unknown) => this.#fail("ended", error, null));
  }

  async identify(userToken: string | null): Promise<void> {
    try {
      const user = await this.session.identify(userToken);
      if (user.id === this.#user) return;
      this.#leave();
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
      await this.#following.follow((run) => run.ask(request));
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
      await this.#following.follow((run) =>
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
      if (!this.#following.isOn) this.#dispatch({ type: "ended", how: "done" });
    }
  }

  async #act(request: (thread: string) => StreamingRequest): Promise<void> {
    const thread = this.#free();
    this.#begin();
    this.#calls.restart();
    try {
      await this.#following.follow((run) => run.ask(request(thread)));
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

  /** The call that waits for the page, if there is one: run, and its output handed to the assistant. */
  async #askPage(): Promise<void> {
    const { thread, failure, entries } = this.state;
    const item = thread && !failure && !this.busy ? this.#calls.waiting(entries) : null;
    if (!item || !thread) return;
    this.#begin();
    const result = await this.#calls.run(item);
    // Stopped, or another conversation: whatever is written next withdraws the call.
    if (this.state.thread?.id !== thread.id || this.state.phase !== "sending") return;
    this.#dispatch({ type: "called", itemId: item.id });
    const hand = async (): Promise<void> => {
      this.#begin();
      try {
        await this.#following.follow((run) => run.ask({ type: "threads.add_client_tool_output", params: { thread_id: thread.id, result } }));
      } catch (error) {
        this.#repeat = hand;
        return this.#fail("ended", error, null);
      }
      await this.#askPage();
    };
    await hand();
  }

  async #arrived(entry: Entry): Promise<boolean> {
    const { thread } = this.state;
    if (!thread) return false;
    try {
      const { page } = await this.api.history(thread.id);
      const newest = page.data.find(({ type }) => type === "user_message");
      const known = this.state.entries.some(({ item }) => item.id === newest?.id);
      if (!newest || known || newest.type !== "user_message") return false;
      if (newest.content.map(({ text }) => text).join("") !== saidIn(entry.item).text) return false;
      this.#dispatch({ type: "ended", how: "done" });
      this.#dispatch({ type: "history.loaded", thread: null, page });
      if (page.data[0] === newest) await this.#again(newest.id);
      return true;
    } catch {
      return false; // sending will say what is wrong
    }
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

  #keep(change: Partial<Kept>): void {
    const kept = keep(this.storage, this.#user, change);
    this.outside.moved?.(kept);
  }

  #forget(): void {
    forget(this.storage);
    this.#dispatch({ type: "cleared" });
  }
}
