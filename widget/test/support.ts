/** A server of answers made up by the test, and a world without waiting. */
import { frameParser } from "../src/net/sse.ts";
import type { World } from "../src/net/run.ts";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: unknown;
}
type Answer = Response | Error | ((asked: Asked) => Response | Error | Promise<Response>);

/** Answers in order; the last one again and again. Records what was asked. */
export function fakeFetch(...answers: Answer[]) {
  const asked: Asked[] = [];
  const fetch = async (path: string, init: RequestInit = {}): Promise<Response> => {
    init.signal?.throwIfAborted();
    const request = {
      method: init.method ?? "GET",
      path,
      headers: new Headers(init.headers),
      body: typeof init.body === "string" ? (JSON.parse(init.body) as unknown) : null,
    };
    asked.push(request);
    const next = answers.length > 1 ? answers.shift() : answers[0];
    const answer = typeof next === "function" ? await next(request) : next;
    if (answer instanceof Error || !answer) throw answer ?? new TypeError("no answer left");
    return answer.clone();
  };
  return { fetch, asked };
}

export const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
export const problem = (status: number, code: string, headers: Record<string, string> = {}) =>
  json({ status, code, title: code, detail: `about ${code}` }, status, headers);

/** Events as a stream, numbered from `first`; `cut` breaks the connection after them. */
export function events(list: readonly object[], { first = 1, cut = false, run = "run_1" } = {}): () => Response {
  const text = list.map((event, at) => `id: ${run}:${first + at}\ndata: ${JSON.stringify(event)}\n\n`).join("");
  frameParser(() => undefined)(text);
  return () => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(`: ping\n\n${text}`));
        if (!cut) controller.close();
      },
      pull(controller) {
        if (cut) controller.error(new TypeError("network error"));
      },
    });
    const response = new Response(body, { headers: { "Content-Type": "text/event-stream", "Stonechat-Run": run } });
    return Object.assign(response, { clone: () => response });
  };
}

/** Waits take no time, and are written down. */
export function fakeWorld(online: () => boolean = () => true): World & { waits: number[] } {
  const waits: number[] = [];
  return {
    waits,
    random: () => 0.5,
    isOnline: online,
    async wait(milliseconds, signal) {
      signal.throwIfAborted();
      waits.push(milliseconds);
    },
  };
}
