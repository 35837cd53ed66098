/** The page that holds the frame. It is believed once, by source and exact origin, and then only over its port. */
import type { Json } from "../shared/guards.ts";
import { parseHello, parseToFrame, type Hello, type ToFrame, type ToHost } from "../shared/messages.ts";

export interface Parent {
  readonly hello: Hello;
  post(message: ToHost): void;
  listen(onMessage: (message: Exclude<ToFrame, { type: "tool" }>) => void): void;
  /** Runs a tool in the page. Raises when it has none of that name, or none at all, when it throws, or takes too long. */
  tool(name: string, args: Json): Promise<unknown>;
}

/** Milliseconds in which a page's tool must answer: it may ask its visitor. */
const TOOL_TIME = 120_000;

/** `https://*.example.com` covers every host below example.com, not example.com itself. Scheme and port must match. */
export function originMatches(origin: string, pattern: string): boolean {
  if (origin === pattern) return true;
  const wildcard = /^(https?:\/\/)\*(\.[^/*]+)$/.exec(pattern);
  if (!wildcard) return false;
  const [, scheme, suffix] = wildcard as unknown as [string, string, string];
  if (!origin.startsWith(scheme) || !origin.endsWith(suffix)) return false;
  return /^[^/@:]+$/.test(origin.slice(scheme.length, origin.length - suffix.length));
}

/** Resolves with the first greeting that is in order; never, when none comes. */
export function awaitParent(window: Window, parents: readonly string[]): Promise<Parent> {
  return new Promise((resolve) => {
    const onMessage = ({ source, origin, data, ports }: MessageEvent<unknown>) => {
      const [port] = ports;
      if (source !== window.parent || !parents.some((pattern) => originMatches(origin, pattern))) return;
      const hello = parseHello(data);
      if (!hello || !port) return;
      window.removeEventListener("message", onMessage);
      const waiting = new Map<number, (answer: Extract<ToFrame, { type: "tool" }>) => void>();
      let calls = 0;
      resolve({
        hello,
        tool: (name, args) =>
          new Promise((done, failed) => {
            const id = ++calls;
            const timer = setTimeout(() => {
              waiting.delete(id);
              failed(new Error("The page did not answer in time."));
            }, TOOL_TIME);
            waiting.set(id, ({ result, error }) => {
              clearTimeout(timer);
              try {
                if (error === null) done(result === null ? null : JSON.parse(result));
                else failed(new Error(error));
              } catch {
                failed(new Error("The page's answer cannot be read."));
              }
            });
            port.postMessage({ type: "tool", id, detail: { name, arguments: args } } satisfies ToHost);
          }),
        post: (message) => port.postMessage(message),
        listen(heard) {
          port.onmessage = (event: MessageEvent<unknown>) => {
            const message = parseToFrame(event.data);
            if (message?.type !== "tool") return message && heard(message);
            waiting.get(message.id)?.(message);
            waiting.delete(message.id);
          };
        },
      });
    };
    window.addEventListener("message", onMessage);
  });
}
