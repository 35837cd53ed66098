/** `window.Stonechat(verb, ...)`: calls made before load wait in `.q`, calls made before <body> wait here. */
import type { Options } from "./options.ts";
import { createWidget } from "./widget.ts";

/** An array, or the `arguments` of the stub that a customer pasted. */
type Call = Iterable<unknown>;
type Verb = (first?: unknown, second?: unknown) => void;
type Handler = (detail?: unknown) => unknown;

export interface Api {
  (...call: unknown[]): void;
  q?: Call[];
  /** Set from load to shutdown. */
  live?: boolean;
}

/** What customers may ask for. `on` is answered at once for a `ready` that has already been. */
export function start(options: Options, early: Call[], create = createWidget): Api {
  const handlers: [unknown, Handler][] = [];
  let verbs: Record<string, Verb> = {};
  let waiting: Call[] | undefined = early;
  let ready = false;

  /** What the last handler answers: of `tool`, the output. */
  const emit = (event: string, detail?: unknown) => {
    let answer: Promise<unknown> | undefined;
    ready ||= event === "ready";
    for (const [name, handler] of handlers) {
      // A handler that throws is reported as a rejection, and keeps none of the others from hearing.
      if (name === event) answer = (async () => handler(detail))();
    }
    return answer;
  };
  const api: Api = (...call) => {
    const [verb, first, second] = call;
    if (waiting) waiting.push(call);
    else verbs[verb as string]?.(first, second);
  };
  const boot = () => {
    const widget = create(options, emit);
    verbs = {
      ...widget,
      on(event, handler) {
        handlers.push([event, handler as Handler]);
        if (ready && event === "ready") (handler as Handler)();
      },
      shutdown() {
        api.live = false;
        // What is called from now on waits for the copy that comes next.
        waiting = api.q = [];
        widget.shutdown();
      },
    };
    const calls = waiting as Call[];
    waiting = undefined;
    calls.forEach((call) => api(...call));
  };
  api.live = true;
  if (document.body) boot();
  else document.addEventListener("DOMContentLoaded", boot);
  return api;
}
