/**
 * From a domain key to a `fetch` that the platform answers: opens a session for whoever sits at the page, renews it before it
 * ends, and adds its token to requests to the platform. Copy this file into your project; it depends on nothing.
 */

/** What the platform tells everybody about the agent: what its maker published. */
export interface Agent {
  readonly name: string;
  readonly greeting: string;
  readonly placeholder: string;
  readonly disclaimer: string;
  readonly prompts: readonly { readonly label: string; readonly prompt: string }[];
  readonly theme: { readonly accent: string; readonly density: "compact" | "normal" | "spacious" };
  readonly attachments: { readonly enabled: boolean; readonly max_bytes?: number; readonly max_files?: number };
  readonly feedback: boolean;
}

export interface Options {
  /** Where Stonechat runs, such as `https://chat.example.com`. */
  readonly platform: string;
  /** `pk_…`, made under Install for the address of this page. */
  readonly domainKey: string;
  /** Asks your own server for a token that says who is signed in; it may last 15 minutes, so it is asked again. */
  readonly userToken?: () => Promise<string | null>;
}

export interface Connection {
  readonly agent: Agent;
  /** For `api.fetch` of ChatKit's options. */
  readonly fetch: typeof fetch;
}

interface Session {
  readonly token: string;
  readonly expires_at: string;
  readonly visitor: string | null;
  readonly agent: Agent;
}

const RENEW_BEFORE = 60_000;
const VISITOR = "stonechat.visitor";

/** Rejects where the platform refuses: `message` has its sentence, such as that this site is not on the key's list. */
export async function connect({ platform, domainKey, userToken }: Options): Promise<Connection> {
  let opening: Promise<Session> | null = null;

  const open = async (): Promise<Session> => {
    const body: Record<string, string> = { domain_key: domainKey };
    const visitor = recall();
    const user = await userToken?.();
    if (visitor) body.visitor = visitor;
    if (user) body.user_token = user;
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(`${platform}/v1/sessions`, { method: "POST", headers, body: JSON.stringify(body) });
    const answer = (await response.json()) as Session & { detail?: string; title?: string };
    if (!response.ok) throw new Error(answer.detail ?? answer.title ?? `HTTP ${response.status}`);
    if (answer.visitor) remember(answer.visitor);
    return answer;
  };
  const renew = (): Promise<Session> => {
    const fresh = open();
    fresh.catch(() => (opening = null)); // the next request tries again
    return (opening = fresh);
  };
  const session = async (): Promise<Session> => {
    const current = await (opening ?? renew());
    return Date.parse(current.expires_at) - Date.now() > RENEW_BEFORE ? current : renew();
  };
  const send = (request: Request, { token }: Session) => {
    const headers = new Headers(request.headers);
    headers.set("Authorization", `Bearer ${token}`);
    return fetch(new Request(request, { headers, credentials: "omit" }));
  };

  return {
    agent: (await session()).agent,
    async fetch(input, init) {
      const request = new Request(input, init);
      if (new URL(request.url).origin !== new URL(platform).origin) return fetch(request);
      const again = request.clone();
      const response = await send(request, await session());
      return response.status === 401 ? send(again, await renew()) : response;
    },
  };
}

// A visitor who comes back finds their conversations; where storage is blocked, they begin anew.
function recall(): string | null {
  try {
    return localStorage.getItem(VISITOR);
  } catch {
    return null;
  }
}

function remember(visitor: string): void {
  try {
    localStorage.setItem(VISITOR, visitor);
  } catch {
    // for this page only
  }
}
