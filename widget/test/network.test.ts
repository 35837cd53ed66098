import { describe, expect, it, vi } from "vitest";
import type { StreamEvent } from "../src/chat/protocol.ts";
import { safeStorage } from "../src/frame/storage.ts";
import { httpApi, remainingOf } from "../src/net/api.ts";
import { Problem, retryAfter, SessionLapsed, Unreachable } from "../src/net/problem.ts";
import { Run } from "../src/net/run.ts";
import { Session } from "../src/net/session.ts";
import { events, fakeFetch, fakeWorld, json, problem } from "./support.ts";

const NOW = Date.parse("2026-01-01T12:00:00Z");
const answer = (token: string, minutes = 15) =>
  json(
    { token, token_type: "Bearer", expires_at: new Date(NOW + minutes * 60_000).toISOString(), user: { id: "u1", verified: false }, visitor: "secret" },
    200,
    { Date: new Date(NOW).toUTCString() },
  );
const memory = () => safeStorage("t.", () => { throw new Error("blocked"); });

function session(answers: Parameters<typeof fakeFetch>, clock = { now: NOW }) {
  const server = fakeFetch(...answers);
  const storage = memory();
  return { ...server, storage, clock, session: new Session("pk_1", "ticket-1", null, storage, server.fetch, () => clock.now) };
}

describe("the session", () => {
  it("is bought with the document's ticket, once for all who ask together", async () => {
    const { session: it_, asked, storage } = session([answer("one")]);
    expect(await Promise.all([it_.token(), it_.token(), it_.user()])).toEqual(["one", "one", { id: "u1", verified: false }]);
    expect(asked).toMatchObject([{ path: "/v1/sessions", body: { domain_key: "pk_1", ticket: "ticket-1" } }]);
    expect(storage.get("visitor")).toBe("secret");
  });

  it("is renewed before it lapses, with a ticket bought by the old one, as the same visitor", async () => {
    const { session: it_, asked, clock } = session([answer("one"), json({ ticket: "ticket-2" }), answer("two", 29)]);
    await it_.token();
    clock.now += 14 * 60_000;
    expect(await it_.token()).toBe("two");
    expect(asked[1]?.path).toBe("/embed/ticket?k=pk_1");
    expect(asked[1]?.headers.get("Authorization")).toBe("Bearer one");
    expect(asked[2]?.body).toEqual({ domain_key: "pk_1", ticket: "ticket-2", visitor: "secret" });
  });

  it("says so when it lapsed and no ticket is left", async () => {
    const { session: it_, clock } = session([answer("one")]);
    await it_.token();
    clock.now += 16 * 60_000;
    await expect(it_.token()).rejects.toBeInstanceOf(SessionLapsed);
  });

  it("says so when the server no longer takes the ticket, or the token that buys one", async () => {
    await expect(session([problem(401, "invalid_ticket")]).session.token()).rejects.toBeInstanceOf(SessionLapsed);
    const late = session([answer("one"), problem(401, "invalid_session")]);
    await late.session.token();
    late.clock.now += 14 * 60_000;
    await expect(late.session.token()).rejects.toBeInstanceOf(SessionLapsed);
  });

  it("trusts the server's clock, not the device's", async () => {
    const { session: it_, clock, asked } = session([answer("one")], { now: NOW + 5 * 3600_000 });
    await it_.token();
    clock.now += 10 * 60_000;
    expect(await it_.token()).toBe("one");
    expect(asked).toHaveLength(1);
  });

  it("carries the customer's user token from identify on", async () => {
    const { session: it_, asked } = session([answer("one"), answer("two")]);
    await it_.token();
    await it_.identify("jwt");
    expect(asked[1]?.body).toMatchObject({ user_token: "jwt" });
  });

  it("passes refusals and silence on, and recovers from them", async () => {
    const { session: it_ } = session([problem(409, "agent_not_published"), new TypeError("network"), json({ nonsense: true }), answer("one")]);
    await expect(it_.token()).rejects.toMatchObject({ status: 409, code: "agent_not_published", detail: "about agent_not_published" });
    await expect(it_.token()).rejects.toBeInstanceOf(Unreachable);
    await expect(it_.token()).rejects.toBeInstanceOf(Problem);
    expect(await it_.token()).toBe("one");
  });
});

const token = () => ({ token: vi.fn(async () => "old"), renew: vi.fn(async () => "new") });

describe("requests", () => {
  it("renew a refused token once, then give up", async () => {
    const keeper = token();
    const { fetch, asked } = fakeFetch(problem(401, "invalid_session"), json({ data: [], has_more: false }));
    await httpApi(keeper as never, fetch).earlier("thr", "x");
    expect(asked.map(({ headers }) => headers.get("Authorization"))).toEqual(["Bearer old", "Bearer new"]);
    const refusing = fakeFetch(problem(401, "invalid_session"));
    await expect(httpApi(token() as never, refusing.fetch).earlier("thr", "x")).rejects.toMatchObject({ status: 401 });
    expect(refusing.asked).toHaveLength(2);
  });

  it("a long thread is loaded from its newest end", async () => {
    const { fetch, asked } = fakeFetch(
      json({ id: "thr", items: { data: [{ id: "old", type: "end_of_turn" }], has_more: true } }),
      json({ data: [], has_more: true, after: "hidden" }),
      json({ data: [{ id: "new", type: "end_of_turn" }], has_more: true, after: "new" }),
    );
    const { page } = await httpApi(token() as never, fetch).history("thr");
    expect(page.data.map(({ id }) => id)).toEqual(["new"]);
    expect(asked.slice(1).map(({ body }) => body)).toMatchObject([
      { type: "items.list", params: { order: "desc", after: null } },
      { params: { after: "hidden" } },
    ]);
  });

  it.each([
    ["20", 20_000],
    ["Thu, 01 Jan 2026 12:00:30 GMT", 30_000],
    ["soon", null],
    [null, null],
  ])("Retry-After: %s", (value, expected) => expect(retryAfter(value, NOW)).toBe(expected));
});

const delta = (text: string) => ({ type: "progress_update", text });
const LAST = { type: "thread.item.done", item: { id: "a", type: "assistant_message", content: [] } };

function follow(answers: Parameters<typeof fakeFetch>, world = fakeWorld()) {
  const server = fakeFetch(...answers);
  const heard: StreamEvent[] = [];
  const links: string[] = [];
  let started = "";
  const run = new Run(
    httpApi(token() as never, server.fetch),
    {
      started: (id) => (started = id),
      event: (event) => heard.push(event),
      link: (state) => links.push(state),
      isComplete: () => heard.some(({ type }) => type === "thread.item.done" || type === "error"),
    },
    world,
  );
  const texts = () => heard.map((event) => ("text" in event ? event.text : event.type));
  return { ...server, run, heard, links, texts, world, started: () => started };
}
const ASK = { type: "threads.create", params: { input: { content: [], attachments: [], quoted_text: null, inference_options: {} } } } as const;

describe("a run", () => {
  it("is followed to its end", async () => {
    const it_ = follow([events([delta("1"), delta("2"), LAST])]);
    expect(await it_.run.ask(ASK)).toBe("done");
    expect(it_.texts()).toEqual(["1", "2", "thread.item.done"]);
    expect(it_.started()).toBe("run_1");
    expect(it_.asked[0]?.headers.get("Stonechat-Stream")).toBe("resumable");
  });

  it("is taken up again after the last event seen, without doubles, when the connection drops", async () => {
    const it_ = follow([
      events([delta("1"), delta("2")], { cut: true }),
      events([delta("2"), delta("3")], { first: 2, cut: true }),
      events([LAST], { first: 4 }),
    ]);
    expect(await it_.run.ask(ASK)).toBe("done");
    expect(it_.texts()).toEqual(["1", "2", "3", "thread.item.done"]);
    expect(it_.asked.slice(1).map(({ path, headers }) => [path, headers.get("Last-Event-ID")])).toEqual([
      ["/chatkit/runs/run_1/events", "run_1:2"],
      ["/chatkit/runs/run_1/events", "run_1:3"],
    ]);
    expect(it_.links).toContain("reconnecting");
  });

  it("is asked about once more after a clean end without an answer", async () => {
    const proxied = follow([events([delta("1")]), events([LAST], { first: 2 })]);
    expect(await proxied.run.ask(ASK)).toBe("done");
    expect(proxied.texts()).toEqual(["1", "thread.item.done"]);
    const empty = follow([events([delta("1")]), events([], { first: 2 })]);
    expect(await empty.run.ask(ASK)).toBe("done");
    expect(empty.asked).toHaveLength(2);
  });

  it("is given up after a bounded number of growing waits", async () => {
    const it_ = follow([events([delta("1")], { cut: true }), new TypeError("network")]);
    expect(await it_.run.ask(ASK)).toBe("lost");
    expect(it_.asked).toHaveLength(9);
    expect(it_.world.waits).toEqual([400, 800, 1600, 3200, 6400, 8000, 8000]);
  });

  it("waits as long as an overloaded server asks", async () => {
    const it_ = follow([events([delta("1")], { cut: true }), problem(429, "rate_limited", { "Retry-After": "7" }), events([LAST], { first: 2 })]);
    expect(await it_.run.ask(ASK)).toBe("done");
    expect(it_.world.waits).toContain(7000);
  });

  it("waits for the network, and says so", async () => {
    let checks = 0;
    const it_ = follow([events([delta("1")], { cut: true }), events([LAST], { first: 2 })], fakeWorld(() => ++checks > 5));
    expect(await it_.run.ask(ASK)).toBe("done");
    expect(it_.links.filter((link) => link === "offline")).toHaveLength(5);
  });

  it("after a crash at the server is told what was kept, in frames without a number", async () => {
    const kept = { type: "thread.item.replaced", item: { id: "a", type: "assistant_message", content: [] } };
    const body = `id: run_1:2\ndata: ${JSON.stringify(delta("2"))}\n\ndata: ${JSON.stringify(kept)}\n\n`;
    const it_ = follow([events([delta("1")], { cut: true }), new Response(body, { headers: { "Content-Type": "text/event-stream" } })]);
    await it_.run.ask(ASK);
    expect(it_.texts().slice(0, 3)).toEqual(["1", "2", "thread.item.replaced"]);
  });

  it("that the server forgot is gone", async () => {
    const it_ = follow([problem(404, "not_found")]);
    expect(await it_.run.follow("run_9")).toBe("gone");
  });

  it("is followed from its first event after a reload", async () => {
    const it_ = follow([events([delta("1"), LAST])]);
    expect(await it_.run.follow("run_1")).toBe("done");
    expect(it_.asked[0]?.headers.get("Last-Event-ID")).toBe("run_1:0");
    expect(it_.texts()).toEqual(["1", "thread.item.done"]);
  });

  it("is cancelled at the server by Stop", async () => {
    const it_ = follow([
      () => {
        it_.run.stop(); // pressed before the answer began
        return events([delta("1")])();
      },
      json({}),
    ]);
    expect(await it_.run.ask(ASK)).toBe("done");
    expect(it_.asked[1]).toMatchObject({ method: "POST", path: "/chatkit/runs/run_1/cancel" });
    it_.run.leave();
  });

  it("that was refused says why", async () => {
    await expect(follow([problem(429, "rate_limited", { "Retry-After": "20" })]).run.ask(ASK)).rejects.toMatchObject({ retryAfter: 20_000 });
    await expect(follow([new TypeError("network")]).run.ask(ASK)).rejects.toBeInstanceOf(Unreachable);
    await expect(follow([json({})]).run.ask(ASK)).rejects.toMatchObject({ code: "unexpected_answer" });
  });
});

describe("what is left", () => {
  it.each([
    ['"visitor";r=2;t=40', { remaining: 2, reset: 40 }],
    [null, null],
    ["nonsense", null],
  ])("%s", (header, left) => expect(remainingOf(header)).toEqual(left));
});
