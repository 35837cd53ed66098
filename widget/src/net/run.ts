/**
 * One run, followed to its end whatever the network does. The run goes on at the server when the connection
 * drops; events carry ids `<run>:<seq>`, so coming back is asking for what follows the last one seen.
 */
import { parseEvent } from "../chat/parse.ts";
import type { StreamEvent, StreamingRequest } from "../chat/protocol.ts";
import type { Api } from "./api.ts";
import { Problem, SessionLapsed } from "./problem.ts";
import { frameParser } from "./sse.ts";

export interface RunListener {
  /** The run has a name, under which a reloaded page can find it again. */
  started(run: string): void;
  event(event: StreamEvent): void;
  link(state: "streaming" | "reconnecting" | "offline"): void;
  /** Whether the events so far amount to a finished answer. */
  isComplete(): boolean;
}

/**
 * done   all events are here
 * gone   the server no longer knows the run: what became of it is in the thread
 * lost   the server could not be reached any more
 */
export type Outcome = "done" | "gone" | "lost";

/** The parts of the world a test replaces. */
export interface World {
  wait(milliseconds: number, signal: AbortSignal): Promise<void>;
  random(): number;
  isOnline(): boolean;
}

const MAX_ATTEMPTS = 8; // without a single event in between: about half a minute
const FIRST_WAIT = 400;
const LONGEST_WAIT = 8_000;
const OFFLINE_CHECKS = 200;
const SILENCE = 60_000; // the server sends comments far more often than this
const AFTER_CANCEL = 4_000;

export class Run {
  #abort = new AbortController();
  #run: string | null = null;
  #sequence = -1;
  #stopping = false;

  constructor(
    private readonly api: Api,
    private readonly listener: RunListener,
    private readonly world: World = browserWorld,
  ) {}

  get stopping(): boolean {
    return this.#stopping;
  }

  /** Ask, and follow. Raises Problem, Unreachable or SessionLapsed when the question was not taken. */
  async ask(request: StreamingRequest): Promise<Outcome> {
    let response: Response;
    try {
      response = await this.api.ask(request, this.#abort.signal);
    } catch (error) {
      if (this.#abort.signal.aborted) return "done";
      throw error;
    }
    this.#run = response.headers.get("Stonechat-Run");
    if (this.#run) this.listener.started(this.#run);
    if (this.#stopping) void this.#cancel();
    this.listener.link("streaming");
    const end = await this.#read(response);
    if (this.#finished(end)) return "done";
    return this.#run ? this.#comeBack(end) : "lost";
  }

  /** Follow a run of which nothing was kept: its events come again from the first. */
  follow(run: string): Promise<Outcome> {
    this.#run = run;
    return this.#comeBack("cut");
  }

  /** The visitor has read enough. The server stops and says so at the end of the stream; else this does. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    if (this.#run) void this.#cancel();
    setTimeout(() => this.#abort.abort(), AFTER_CANCEL);
  }

  /** Leave the run alone at the server, and stop listening. */
  leave(): void {
    this.#stopping = true;
    this.#abort.abort();
  }

  async #cancel(): Promise<void> {
    try {
      await this.api.cancel(this.#run as string);
    } catch {
      this.#abort.abort(); // finished already, or out of reach
    }
  }

  #finished(end: "closed" | "cut"): boolean {
    return this.#abort.signal.aborted || (end === "closed" && (this.#stopping || this.listener.isComplete()));
  }

  async #comeBack(first: "closed" | "cut"): Promise<Outcome> {
    // A clean end without an answer may be a proxy's doing. Asking once more tells.
    let emptyEnds = first === "closed" ? 1 : 0;
    let offline = 0;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      let wait = attempt ? Math.min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * (0.75 + this.world.random() / 2) : 0;
      try {
        while (!this.world.isOnline() && offline++ < OFFLINE_CHECKS) {
          this.listener.link("offline");
          await this.world.wait(3_000, this.#abort.signal);
        }
        if (this.#sequence >= 0 || attempt) this.listener.link("reconnecting");
        if (wait) await this.world.wait(wait, this.#abort.signal);
        const response = await this.api.resume(this.#run as string, `${this.#run}:${Math.max(this.#sequence, 0)}`, this.#abort.signal);
        this.listener.link("streaming");
        const before = this.#sequence;
        const end = await this.#read(response);
        if (this.#finished(end)) return "done";
        const moved = this.#sequence > before;
        if (end === "closed" && !moved && ++emptyEnds > 1) return "done";
        if (moved) attempt = emptyEnds = 0;
      } catch (error) {
        if (this.#abort.signal.aborted) return "done";
        if (error instanceof SessionLapsed) throw error;
        if (error instanceof Problem && error.status < 500 && error.status !== 429 && error.status !== 408) return "gone";
        if (error instanceof Problem && error.retryAfter) {
          wait = Math.min(error.retryAfter, 30_000);
          await this.world.wait(wait, this.#abort.signal).catch(() => undefined);
        }
      }
    }
    return "lost";
  }

  async #read(response: Response): Promise<"closed" | "cut"> {
    const reader = response.body?.getReader();
    if (!reader) return "closed";
    const decoder = new TextDecoder();
    const feed = frameParser(({ data, id }) => this.#take(data, id));
    let silence: ReturnType<typeof setTimeout> | undefined;
    // Stopping aborts the fetch, but a body that was already handed over may not notice.
    const hush = () => void reader.cancel().catch(() => undefined);
    this.#abort.signal.addEventListener("abort", hush, { once: true });
    let silent = false;
    try {
      for (;;) {
        silence = setTimeout(() => {
          silent = true;
          hush();
        }, SILENCE);
        const { done, value } = await reader.read();
        clearTimeout(silence);
        if (done) return silent ? "cut" : "closed";
        feed(decoder.decode(value, { stream: true }));
      }
    } catch {
      hush();
      return "cut";
    } finally {
      clearTimeout(silence);
      this.#abort.signal.removeEventListener("abort", hush);
    }
  }

  #take(data: string, id: string): void {
    const sequence = Number(id.slice(id.lastIndexOf(":") + 1));
    if (id && Number.isInteger(sequence)) {
      if (sequence <= this.#sequence) return; // seen before the connection dropped
      this.#sequence = sequence;
    }
    let json: unknown;
    try {
      json = JSON.parse(data);
    } catch {
      return;
    }
    const event = parseEvent(json);
    if (event) this.listener.event(event);
  }
}

export const browserWorld: World = {
  random: Math.random,
  isOnline: () => navigator.onLine !== false,
  wait: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      const finish = () => {
        clearTimeout(timer);
        removeEventListener("online", finish);
        signal.removeEventListener("abort", finish);
        if (signal.aborted) reject(new DOMException("stopped", "AbortError"));
        else resolve();
      };
      const timer = setTimeout(finish, milliseconds);
      addEventListener("online", finish);
      signal.addEventListener("abort", finish);
      if (signal.aborted) finish();
    }),
};
