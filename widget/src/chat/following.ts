/** Following a run, one at a time: what it says goes into the state, under which name it is found again into storage. */
import type { Api } from "../net/api.ts";
import { Run, type Outcome, type World } from "../net/run.ts";
import { ours } from "./failures.ts";
import type { Kept } from "./kept.ts";
import type { Outside } from "./outside.ts";
import { isAnswer, type StreamEvent } from "./protocol.ts";
import type { Action } from "./reducer.ts";
import type { ChatState } from "./state.ts";

/** The conversation that the run is in. */
export interface Place {
  readonly state: ChatState;
  dispatch(action: Action): void;
  keep(change: Partial<Kept>): void;
  load(thread: string): Promise<void>;
}

export class Following {
  #run: Run | null = null;
  #heard = false;

  constructor(
    private readonly api: Api,
    private readonly outside: Pick<Outside, "effect" | "answered">,
    private readonly world: World,
    private readonly place: Place,
  ) {}

  /** Whether a run is followed. */
  get isOn(): boolean {
    return this.#run !== null;
  }

  /** The visitor has read enough. */
  stop(): void {
    if (!this.#run || this.#run.stopping) return;
    this.place.dispatch({ type: "phase", phase: "stopping" });
    this.#run.stop();
  }

  /** Listen no longer; the run goes on at the server. */
  leave(): void {
    this.#run?.leave();
    this.#run = null;
  }

  /** From `begin` to the end of the run. Raises Problem, Unreachable or SessionLapsed when what was asked was not taken. */
  async follow(begin: (run: Run) => Promise<Outcome>): Promise<void> {
    const { place } = this;
    this.#heard = false;
    const run = new Run(
      this.api,
      {
        started: (id) => this.#run === run && place.keep({ run: id }),
        event: (event) => this.#run === run && this.#hear(event),
        link: (phase) => this.#run === run && place.state.phase !== "stopping" && place.dispatch({ type: "phase", phase }),
        isComplete: () => this.#heard && !place.state.entries.some(({ status }) => status === "streaming"),
      },
      this.world,
    );
    this.#run = run;
    place.dispatch({ type: "phase", phase: "sending" });
    try {
      const outcome = await begin(run);
      if (this.#run !== run) return;
      place.keep({ run: null });
      if (outcome === "gone" && place.state.thread) await place.load(place.state.thread.id);
      const lost = outcome === "lost";
      place.dispatch({
        type: "ended",
        how: lost ? "failed" : run.stopping ? "stopped" : "done",
        ...(lost && { failure: ours("connection_lost", place.state.thread !== null) }),
      });
      if (!lost && !run.stopping && !place.state.entries.some(({ item }) => item.type === "client_tool_call" && item.status === "pending")) {
        this.outside.answered();
      }
    } finally {
      if (this.#run === run) this.#run = null;
    }
  }

  #hear(event: StreamEvent): void {
    if (event.type === "client_effect") this.outside.effect(event.name, event.data);
    this.#heard ||= isAnswer(event);
    this.place.dispatch({ type: "stream", event });
    if (event.type === "thread.created") this.place.keep({ thread: event.thread.id });
  }
}
