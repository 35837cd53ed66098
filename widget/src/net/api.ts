/** Requests with the session's token: a refused token is renewed once, and the request made again. */
import { parseAttachment, parseItem, parseItems, parseThread } from "../chat/parse.ts";
import type { Attachment, Page, PlainRequest, StreamingRequest, Thread, ThreadItem, WidgetAction } from "../chat/protocol.ts";
import { isRecord, text } from "../shared/guards.ts";
import { Problem, problemOf, Unreachable } from "./problem.ts";
import type { Fetch, Session } from "./session.ts";

const PAGE = 20;
/** Hidden items are left out after paging, so a page may be empty though more follow. */
const MAX_EMPTY_PAGES = 5;

export interface Api {
  ask(request: StreamingRequest, signal: AbortSignal): Promise<Response>;
  resume(run: string, lastEventId: string, signal: AbortSignal): Promise<Response>;
  cancel(run: string): Promise<void>;
  history(thread: string): Promise<{ thread: Thread | null; page: Page<ThreadItem> }>;
  earlier(thread: string, after: string): Promise<Page<ThreadItem>>;
  /** An action that changes its widget and says nothing; null if it changed nothing. */
  act(params: { thread_id: string; item_id: string; action: WidgetAction }): Promise<ThreadItem | null>;
  /** A file is announced; `put` is where its bytes go, on this origin. */
  announce(file: { name: string; size: number; mime_type: string }): Promise<{ attachment: Attachment; put: string }>;
  discard(attachment: string): Promise<void>;
  transcribe(audio_base64: string, mime_type: string): Promise<string>;
  /** Any request that answers JSON, and any other with the session's token: for the panel of conversations. */
  plain(body: PlainRequest): Promise<unknown>;
  request(path: string, init: RequestInit): Promise<Response>;
}

/** What is left of the visitor's messages, as `RateLimit` has it; `reset` in seconds. */
export interface Remaining {
  readonly remaining: number;
  readonly reset: number;
}

export function remainingOf(header: string | null): Remaining | null {
  const found = /;\s*r=(\d{1,9})\s*;\s*t=(\d{1,9})/.exec(header ?? "");
  return found && { remaining: Number(found[1]), reset: Number(found[2]) };
}

export function httpApi(
  session: Session,
  fetch: Fetch = (input, init) => globalThis.fetch(input, init),
  limited: (left: Remaining) => void = () => undefined,
): Api {
  const request = async (path: string, init: RequestInit): Promise<Response> => {
    let token = await session.token();
    for (let attempt = 0; ; attempt++) {
      let response: Response;
      try {
        response = await fetch(path, {
          ...init,
          cache: "no-store",
          headers: { ...(init.headers as Record<string, string>), Authorization: `Bearer ${token}` },
        });
      } catch (error) {
        if (init.signal?.aborted) throw error;
        throw new Unreachable();
      }
      if (response.status === 401 && attempt === 0) token = await session.renew(token);
      else if (response.ok) return response;
      else throw await problemOf(response);
    }
  };

  const post = (body: StreamingRequest | PlainRequest, headers: Record<string, string>, signal?: AbortSignal) =>
    request("/chatkit", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      ...(signal && { signal }),
    });

  const json = async (body: PlainRequest): Promise<unknown> => {
    const response = await post(body, { Accept: "application/json" });
    return response.json().catch(() => {
      throw new Unreachable();
    });
  };

  const items = async (thread: string, after: string | null): Promise<Page<ThreadItem>> => {
    let cursor = after;
    for (let turn = 1; ; turn++) {
      const page = parseItems(
        await json({ type: "items.list", params: { thread_id: thread, limit: PAGE, order: "desc", after: cursor } }),
      );
      if (!page) throw new Problem(502, "unexpected_answer", null, null);
      if (page.data.length || !page.has_more || !page.after || turn === MAX_EMPTY_PAGES) return page;
      cursor = page.after;
    }
  };

  const eventStream = async (response: Response): Promise<Response> => {
    if (response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response;
    throw new Problem(502, "unexpected_answer", null, null);
  };

  const unexpected = () => new Problem(502, "unexpected_answer", null, null);

  return {
    async act(params) {
      const answer = await json({ type: "threads.sync_custom_action", params });
      return isRecord(answer) && answer.updated_item ? parseItem(answer.updated_item) : null;
    },
    async announce(params) {
      const answer = await json({ type: "attachments.create", params });
      const attachment = parseAttachment(answer);
      const upload = isRecord(answer) && isRecord(answer.upload_descriptor) ? text(answer.upload_descriptor.url) : null;
      if (!attachment || !upload || !URL.canParse(upload)) throw unexpected();
      // Whatever host the link names: a visitor's file goes to the platform that this page came from, and nowhere else.
      const { pathname, search } = new URL(upload);
      return { attachment, put: pathname + search };
    },
    async discard(attachment_id) {
      await json({ type: "attachments.delete", params: { attachment_id } });
    },
    async transcribe(audio_base64, mime_type) {
      const answer = await json({ type: "input.transcribe", params: { audio_base64, mime_type } });
      const said = isRecord(answer) ? text(answer.text) : null;
      if (said === null) throw unexpected();
      return said;
    },
    plain: json,
    request,
    async ask(body, signal) {
      const response = await post(body, { Accept: "text/event-stream", "Stonechat-Stream": "resumable" }, signal);
      const left = remainingOf(response.headers.get("RateLimit"));
      if (left) limited(left);
      return eventStream(response);
    },
    resume: async (run, lastEventId, signal) =>
      eventStream(
        await request(`/chatkit/runs/${encodeURIComponent(run)}/events`, {
          headers: { Accept: "text/event-stream", "Last-Event-ID": lastEventId },
          signal,
        }),
      ),
    async cancel(run) {
      await request(`/chatkit/runs/${encodeURIComponent(run)}/cancel`, { method: "POST" });
    },
    async history(id) {
      const answer = await json({ type: "threads.get_by_id", params: { thread_id: id } });
      const thread = parseThread(answer);
      if (!thread || !isRecord(answer)) throw new Problem(502, "unexpected_answer", null, null);
      // It brings the oldest items: all there are in a short thread, the wrong end of a long one.
      const oldest = parseItems(answer.items);
      if (oldest && !oldest.has_more) return { thread, page: { ...oldest, data: oldest.data.toReversed() } };
      return { thread, page: await items(id, null) };
    },
    earlier: items,
  };
}
