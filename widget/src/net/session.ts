/**
 * The visitor's session token. A frame ticket (60 seconds) buys a session (15 minutes); while that lives it
 * buys further tickets. When it has lapsed, only a new frame document carries a ticket.
 */
import { isRecord, isString, text } from "../shared/guards.ts";
import type { Storage } from "../frame/storage.ts";
import { Problem, problemOf, SessionLapsed, Unreachable } from "./problem.ts";

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;

export interface User {
  readonly id: string;
  readonly verified: boolean;
}

interface Live {
  readonly token: string;
  /** By this device's clock. */
  readonly expires: number;
  readonly user: User;
}

const TICKET_LIVES = 50_000; // of 60 seconds, less what the way to us took
const RENEW_BEFORE = 90_000;

export class Session {
  #live: Live | null = null;
  #ticket: { value: string; until: number } | null;
  #pending: Promise<Live> | null = null;
  #userToken: string | null;

  constructor(
    private readonly domainKey: string,
    ticket: string,
    userToken: string | null,
    private readonly storage: Storage,
    private readonly fetch: Fetch = (input, init) => globalThis.fetch(input, init),
    private readonly now: () => number = Date.now,
  ) {
    this.#ticket = { value: ticket, until: now() + TICKET_LIVES };
    this.#userToken = userToken;
  }

  /** A token with some life in it. Raises Problem, Unreachable or SessionLapsed. */
  async token(): Promise<string> {
    const live = this.#live;
    if (live && live.expires - this.now() > RENEW_BEFORE) return live.token;
    return (await this.#renewed()).token;
  }

  /** For a token that the server refused. */
  async renew(refused: string): Promise<string> {
    if (this.#live && this.#live.token !== refused) return this.#live.token;
    return (await this.#renewed()).token;
  }

  async user(): Promise<User> {
    return (this.#live ?? (await this.#renewed())).user;
  }

  get expires(): number | null {
    return this.#live?.expires ?? null;
  }

  /** From now on for this person; null for nobody in particular. */
  async identify(userToken: string | null): Promise<User> {
    this.#userToken = userToken;
    await this.#pending?.catch(() => undefined);
    return (await this.#renewed()).user;
  }

  #renewed(): Promise<Live> {
    // One at a time: requests that find the token lapsed together share one renewal.
    this.#pending ??= this.#mint().finally(() => {
      this.#pending = null;
    });
    return this.#pending;
  }

  async #mint(): Promise<Live> {
    const body: Record<string, string> = { domain_key: this.domainKey, ticket: await this.#freshTicket() };
    const visitor = this.storage.get("visitor");
    if (visitor) body.visitor = visitor;
    if (this.#userToken) body.user_token = this.#userToken;
    const response = await this.#request("/v1/sessions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) {
      const problem = await problemOf(response);
      if (problem.code === "invalid_ticket") throw new SessionLapsed();
      throw problem;
    }
    const answer: unknown = await response.json().catch(() => null);
    const user = isRecord(answer) && isRecord(answer.user) ? answer.user : null;
    if (!isRecord(answer) || !isString(answer.token) || !isString(answer.expires_at) || !user || !isString(user.id)) {
      throw new Problem(502, "unexpected_answer", null, null);
    }
    if (isString(answer.visitor) && answer.visitor) this.storage.set("visitor", answer.visitor);
    // Devices' clocks are often wrong; what counts is the time between the server's two.
    const sent = Date.parse(text(response.headers.get("Date")) ?? "");
    const lifetime = Date.parse(answer.expires_at) - (Number.isNaN(sent) ? this.now() : sent);
    this.#live = {
      token: answer.token,
      expires: this.now() + (Number.isNaN(lifetime) ? 0 : lifetime),
      user: { id: user.id, verified: user.verified === true },
    };
    return this.#live;
  }

  async #freshTicket(): Promise<string> {
    if (this.#ticket && this.#ticket.until > this.now()) return this.#ticket.value;
    if (!this.#live || this.#live.expires <= this.now()) throw new SessionLapsed();
    const response = await this.#request(`/embed/ticket?k=${encodeURIComponent(this.domainKey)}`, {
      headers: { Authorization: `Bearer ${this.#live.token}` },
    });
    if (response.status === 401) throw new SessionLapsed();
    if (!response.ok) throw await problemOf(response);
    const answer: unknown = await response.json().catch(() => null);
    if (!isRecord(answer) || !isString(answer.ticket)) throw new Problem(502, "unexpected_answer", null, null);
    this.#ticket = { value: answer.ticket, until: this.now() + TICKET_LIVES };
    return answer.ticket;
  }

  async #request(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.fetch(path, { ...init, cache: "no-store" });
    } catch {
      throw new Unreachable();
    }
  }
}
