/** The page that holds the frame. It is believed once, by source and exact origin, and then only over its port. */
import { parseHello, parseToFrame, type Hello, type ToFrame, type ToHost } from "../shared/messages.ts";

export interface Parent {
  readonly hello: Hello;
  post(message: ToHost): void;
  listen(onMessage: (message: ToFrame) => void): void;
}

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
      resolve({
        hello,
        post: (message) => port.postMessage(message),
        listen(heard) {
          port.onmessage = (event: MessageEvent<unknown>) => {
            const message = parseToFrame(event.data);
            if (message) heard(message);
          };
        },
      });
    };
    window.addEventListener("message", onMessage);
  });
}
