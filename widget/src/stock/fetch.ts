/** `fetch` as OpenAI's front end is given it: with the session's token, which is renewed when the platform no longer takes it. */
import { SessionLapsed } from "../net/problem.ts";
import type { Session } from "../net/session.ts";

export function sessionFetch(
  session: Pick<Session, "token" | "renew">,
  lapsed: () => void,
  fetch: typeof globalThis.fetch = (input, init) => globalThis.fetch(input, init),
): typeof globalThis.fetch {
  const withToken = (request: Request, token: string) => {
    const headers = new Headers(request.headers);
    headers.set("Authorization", `Bearer ${token}`);
    return fetch(new Request(request, { headers, cache: "no-store", credentials: "omit" }));
  };
  return async (input, init) => {
    const request = new Request(input, init);
    // The token is for the platform, whoever asks.
    if (new URL(request.url).origin !== location.origin) return fetch(request);
    try {
      const again = request.clone();
      const token = await session.token();
      const response = await withToken(request, token);
      return response.status === 401 ? await withToken(again, await session.renew(token)) : response;
    } catch (error) {
      if (error instanceof SessionLapsed) lapsed();
      throw error;
    }
  };
}
