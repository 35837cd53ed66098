/** What can go wrong on the way to the server. */
import { isRecord, text } from "../shared/guards.ts";

/** An RFC 9457 problem, or another answer that is not a success. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string | null,
    /** Milliseconds to wait, from `Retry-After`. */
    readonly retryAfter: number | null,
  ) {
    super(detail ?? code);
  }
}

/** No answer at all: no network, a name that does not resolve, a connection cut short. */
export class Unreachable extends Error {}

/** The session lapsed and nothing here can renew it: the document needs a new ticket. */
export class SessionLapsed extends Error {}

const MAX_WAIT = 24 * 3600_000;

export function retryAfter(value: string | null, now: number): number | null {
  if (!value) return null;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(wait) ? Math.min(Math.max(wait, 0), MAX_WAIT) : null;
}

export async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null);
  const document = isRecord(body) ? body : {};
  return new Problem(
    response.status,
    text(document.code) ?? `http_${response.status}`,
    text(document.detail) ?? text(document.title),
    retryAfter(response.headers.get("Retry-After"), Date.now()),
  );
}
