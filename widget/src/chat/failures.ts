/** What went wrong, as the conversation shows it. */
import { Problem, SessionLapsed, Unreachable } from "../net/problem.ts";
import type { Failure } from "./state.ts";

/** Refusals that asking again will not change. */
const FINAL = new Set([400, 403, 404, 413, 415, 422]);

export const ours = (code: string, allowRetry = true): Failure => ({ code, detail: null, status: null, retryAt: null, allowRetry });

export function failureOf(error: unknown, now = Date.now()): Failure {
  if (error instanceof Problem) {
    return {
      code: error.code,
      detail: error.detail,
      status: error.status,
      retryAt: error.retryAfter === null ? null : now + error.retryAfter,
      allowRetry: !FINAL.has(error.status) && error.code !== "thread_locked" && error.code !== "agent_not_published",
    };
  }
  if (error instanceof SessionLapsed) return ours("session_lapsed");
  if (error instanceof Unreachable) return ours("unreachable");
  return ours("unexpected");
}
