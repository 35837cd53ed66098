/** `window.Stonechat(verb, ...)`: calls made before load wait in `.q`, calls made before <body> wait here. */
import type { Options } from "./options.ts";
import { createWidget } from "./widget.ts";

/** An array, or the `arguments` of the stub that a customer pasted. */
type Call = Iterable<unknown>;
type Verb = (first?: unknown, second?: unknown) => void;
/** What the last handler answers: of `tool`, the output. */
type Happened = Event & { detail?: unknown; answer?: Promise<unknown> };

export interface Api {
  (...call: unknown[]): void;
  q?: Call[];
  /** Set from load to shutdown. */
  live?: boolean;
}

/** What customers may ask for. `on` is answered at once for a `ready` that has already been. */
export function start(options: Options, early: Call[], create = createWidget): Api {
  // An EventTarget keeps one throwing handler from the others, and reports it.
  const events = new EventTarget();
  let verbs: Record<string, Verb> = {};
  let waiting: Call[] | undefined = early;
  let ready = false;

  const emit = (event: string, detail?: unknown) => {
    ready ||= event === "ready";
    const happened: Happened = new CustomEvent(event, { detail });
    events.dispatchEvent(happened);
    return happened.answer;
  };
  const run = (call: Call) => {
    const [verb, first, second] = call;
    verbs[verb as string]?.(first, second);
  };
  const api: Api = (...call) => {
    if (waiting) waiting.push(call);
    else run(call);
  };
  const boot = () => {
    const widget = create(options, emit);
    verbs = {
      ...widget,
      on(event, handler) {
        const call = handler as (detail?: unknown) => unknown;
        events.addEventListener(event as string, (happened: Happened) => {
          const { detail } = happened;
          happened.answer = new Promise((answer) => answer(call(detail)));
        });
        if (ready && event === "ready") call();
      },
      shutdown() {
        api.live = false;
        verbs = {};
        widget.shutdown();
      },
    };
    const calls = waiting as Call[];
    waiting = undefined;
    calls.forEach(run);
  };
  api.live = true;
  if (document.body) boot();
  else document.addEventListener("DOMContentLoaded", boot);
  return api;
}
