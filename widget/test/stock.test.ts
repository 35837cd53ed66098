// @vitest-environment-options { "url": "https://chat.example.com/embed/frame" }
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SessionLapsed } from "../src/net/problem.ts";
import { sessionFetch } from "../src/stock/fetch.ts";
import { stockLocale } from "../src/stock/locales.ts";
import { readWritten, recordOf, stockOptions, type Moment } from "../src/stock/options.ts";
import { runStock } from "../src/stock/run.ts";
import { h, sheetOf } from "../src/frame/view/dom.ts";
import { ENGLISH } from "../src/locale/index.ts";
import { faultsOf } from "./double/shape.ts";

const moment = (change: Partial<Moment> = {}): Moment => ({
  api: { url: "https://chat.example.com/chatkit", domainKey: "domain_pk_1", fetch, uploadStrategy: { type: "two_phase" } },
  locale: "de",
  scheme: "light",
  thread: null,
  onMenu: () => undefined,
  onClose: () => undefined,
  onClientTool: () => ({}),
  onAction: async () => undefined,
  ...change,
});
const PLAIN = {
  name: "Robin", greeting: "", prompts: [], disclaimer: "", placeholder: "", theme: {}, feedback: true, models: [], tools: [],
  attachments: { enabled: false }, dictation: false,
};
const RICH = {
  ...PLAIN,
  greeting: "Good day",
  prompts: [{ label: "Hours", prompt: "When are you open?" }],
  disclaimer: "May err.",
  placeholder: "Ask away",
  theme: { accent: "#112233", scheme: "auto", radius: "none", density: "compact" },
  models: [{ id: "a/b", label: "Quick", description: "For short questions" }, { id: "c/d", label: "Deep", description: "" }],
  tools: [{ id: "track", label: "Track an order" }],
  attachments: { enabled: true, images: true, documents: false, max_bytes: 5_000, max_files: 2 },
  dictation: true,
};

describe("the options of OpenAI's front end", () => {
  it.each([["a plain agent", PLAIN], ["one with everything", RICH], ["a damaged one", { prompts: 3, theme: "x", tools: [{}] }]])(
    "are valid for %s",
    (_, agent) => {
      expect(faultsOf(stockOptions(agent, moment()))).toEqual([]);
      expect(faultsOf(stockOptions(agent, moment({ locale: null, onClose: null, scheme: "dark", thread: "thr_1" })))).toEqual([]);
    },
  );

  it("say what was published", () => {
    const options = stockOptions(RICH, moment({ thread: "thr_1" }));
    expect(options).toMatchObject({
      api: { domainKey: "domain_pk_1" },
      locale: "de",
      initialThread: "thr_1",
      theme: { colorScheme: "light", radius: "sharp", density: "compact", color: { accent: { primary: "#112233" } } },
      header: { title: { text: "Robin" }, rightAction: { icon: "close" } },
      startScreen: { greeting: "Good day", prompts: [{ label: "Hours", prompt: "When are you open?" }] },
      threadItemActions: { feedback: true },
      disclaimer: { text: "May err." },
      composer: {
        placeholder: "Ask away",
        attachments: { enabled: true, maxSize: 5_000, maxCount: 2, accept: { "image/*": expect.arrayContaining([".png"]) as string[] } },
        tools: [{ id: "track", label: "Track an order" }],
        models: [{ id: "a/b", label: "Quick", description: "For short questions" }, { id: "c/d", label: "Deep" }],
        dictation: { enabled: true },
      },
    });
  });

  it("make an accent that melts into the surface one that does not", () => {
    const primary = (scheme: "light" | "dark") => {
      const { theme } = stockOptions(RICH, moment({ scheme }));
      return typeof theme === "object" ? theme.color?.accent?.primary : null;
    };
    expect(primary("light")).toBe("#112233");
    expect(primary("dark")).not.toBe("#112233");
  });

  it("would be refused by the double if one were wrong", () => {
    const options = stockOptions(RICH, moment());
    expect(faultsOf({ ...options, colour: "red" })).toEqual(["options.colour is no option"]);
    expect(faultsOf({ ...options, api: { url: "x" } })).toEqual(["options.api.domainKey is missing"]);
    expect(faultsOf({ ...options, theme: { radius: "large" } })).not.toEqual([]);
    expect(faultsOf({ ...options, locale: undefined })).not.toEqual([]);
  });

  it("are read from the document, and only where OpenAI's front end is to be drawn", () => {
    const write = (config: unknown) => {
      document.body.innerHTML = '<script type="application/json" id="stonechat-config"></script>';
      (document.getElementById("stonechat-config") as HTMLElement).textContent = JSON.stringify(config);
      return readWritten(document);
    };
    const stock = { script: "https://cdn.example/x.js", domain_key: "domain_pk_1" };
    expect(write({ agent: PLAIN, stock })).toEqual({ agent: PLAIN, script: stock.script, domainKey: "domain_pk_1" });
    expect(write({ agent: PLAIN })).toBeNull();
    expect(write({ agent: null, stock })).toBeNull();
    expect(write({ agent: PLAIN, stock: { ...stock, domain_key: "" } })).toBeNull();
  });

  it("hand a tool's result over as a record, whatever the page returned", () => {
    expect(recordOf({ a: 1 })).toEqual({ a: 1 });
    expect(recordOf([1, 2])).toEqual({ result: [1, 2] });
    expect(recordOf("three")).toEqual({ result: "three" });
    expect(recordOf(undefined)).toEqual({ result: null });
  });
});

describe("what is told of OpenAI's script", () => {
  const TAG = "openai-chatkit";
  /** Starts it; whether the script came is what the test says, as an element is defined once and for all. */
  function begin(isLoaded: boolean) {
    vi.useFakeTimers();
    vi.stubGlobal("matchMedia", () => Object.assign(new EventTarget(), { matches: false }));
    const config = { agent: PLAIN, stock: { script: "https://chat.example.com/none.js", domain_key: "domain_pk_1" } };
    document.body.innerHTML = `<script type="application/json" id="stonechat-config">${JSON.stringify(config)}</script>`;
    vi.spyOn(document.head, "append").mockImplementation(() => undefined);
    vi.spyOn(customElements, "get").mockImplementation((name) => (isLoaded && name === TAG ? HTMLElement : undefined));
    vi.spyOn(customElements, "whenDefined").mockImplementation(() => (isLoaded ? Promise.resolve(HTMLElement) : new Promise(() => undefined)));
    const create = document.createElement.bind(document);
    vi.spyOn(document, "createElement").mockImplementation((tag: string) =>
      tag === TAG ? Object.assign(create("div"), { setOptions: () => undefined }) : create(tag),
    );
    let resolve: (user: object) => void = () => undefined;
    const promise = new Promise((done) => (resolve = done));
    const told: unknown[] = [];
    const instead = vi.fn();
    const request = async (path: string, init: RequestInit) => void told.push([path, init.body]);
    runStock({
      h, sheetOf, locale: ENGLISH, wishes: [], session: { user: () => promise, expires: null }, parent: null, instead,
      storage: { get: () => null, set: () => undefined, remove: () => undefined }, api: { request },
    } as never);
    return { told, instead, arrive: () => resolve({ id: "u1", verified: false }) };
  }
  const late = [["/embed/stock-trouble", '{"reason":"timeout"}']];
  afterEach(() => void vi.useRealTimers());

  it("is nothing where the platform's own session is what was late", async () => {
    const { told, instead } = begin(true);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(instead).toHaveBeenCalledOnce();
    expect(told).toEqual([]);
  });

  it("is that it was late where it did not come, however slow the session was", async () => {
    const { told, instead, arrive } = begin(false);
    await vi.advanceTimersByTimeAsync(3_000);
    arrive();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(instead).toHaveBeenCalledOnce();
    expect(told).toEqual(late);
  });

  it("is that it was late five seconds of its own after it had all it needs", async () => {
    const { told, arrive } = begin(true);
    await vi.advanceTimersByTimeAsync(4_000);
    arrive();
    await vi.advanceTimersByTimeAsync(4_000);
    expect(told, "its clock stood still while it waited for us").toEqual([]);
    await vi.advanceTimersByTimeAsync(1_100);
    expect(told).toEqual(late);
  });
});

describe("whoever signs in while it is waited for", () => {
  it("is not shown the conversation of who was there before", async () => {
    vi.stubGlobal("matchMedia", () => Object.assign(new EventTarget(), { matches: false }));
    const config = { agent: PLAIN, stock: { script: "https://chat.example.com/none.js", domain_key: "domain_pk_1" } };
    document.body.innerHTML = `<script type="application/json" id="stonechat-config">${JSON.stringify(config)}</script>`;
    vi.spyOn(document.head, "append").mockImplementation(() => undefined); // nothing is loaded
    let heard: (message: unknown) => void = () => undefined;
    const users = ["u1", "u2"];
    const user = async () => ({ id: users.shift(), verified: false });
    const history = vi.fn(async (id: string) => ({ thread: { id } }));
    const kept = JSON.stringify({ user: "u1", thread: "thr_1", run: null });
    runStock({
      h, sheetOf, locale: ENGLISH, wishes: [], session: { user, identify: user, expires: null },
      parent: { hello: { layout: "inline" }, post: () => undefined, listen: (listener: typeof heard) => void (heard = listener) },
      storage: { get: () => kept, set: () => undefined, remove: () => undefined }, api: { history }, instead: vi.fn(),
    } as never);
    await vi.waitFor(() => expect(history).toHaveBeenCalledWith("thr_1"));
    heard({ type: "identify", userToken: "of u2" });
    await vi.waitFor(() => expect(users).toEqual([]));
    const threads: unknown[] = [];
    customElements.define("openai-chatkit", class extends HTMLElement {
      setOptions = ({ initialThread }: { initialThread: unknown }) => void threads.push(initialThread);
    });
    await vi.waitFor(() => expect(threads).toEqual([null]));
    document.querySelector("openai-chatkit")?.dispatchEvent(new CustomEvent("chatkit.ready"));
  });
});

describe("the language", () => {
  it.each([
    [["pt-BR", "en"], "pt-BR"],
    [["de-AT"], "de"],
    [["xx", null, "fr-fr"], "fr-FR"],
    [["zh-Hant"], "zh-Hant"],
    [[null, undefined, "tlh"], null],
  ])("of %j is %s", (wishes, expected) => expect(stockLocale(wishes)).toBe(expected));
});

describe("the fetch it is given", () => {
  const calls: Request[] = [];
  const server = (...statuses: number[]) => async (input: RequestInfo | URL) => {
    calls.push(input as Request);
    return new Response("{}", { status: statuses.shift() ?? 200 });
  };
  const session = () => ({ token: async () => "one", renew: vi.fn(async () => "two") });
  beforeEach(() => void calls.splice(0));

  it("adds the token to what goes to the platform, and keeps the rest", async () => {
    const send = sessionFetch(session(), () => undefined, server());
    await send("https://chat.example.com/chatkit", { method: "POST", headers: { "chatkit-frame-instance-id": "7" }, body: "hello" });
    expect(calls[0]?.headers.get("Authorization")).toBe("Bearer one");
    expect(calls[0]?.headers.get("chatkit-frame-instance-id")).toBe("7");
    expect(await calls[0]?.text()).toBe("hello");
  });

  it("sends the token to nobody else", async () => {
    await sessionFetch(session(), () => undefined, server())("https://elsewhere.example/chatkit", { method: "POST", body: "x" });
    expect(calls[0]?.headers.has("Authorization")).toBe(false);
  });

  it("asks again, once, with a new token and the same body when the first is refused", async () => {
    const live = session();
    const response = await sessionFetch(live, () => undefined, server(401, 401))("https://chat.example.com/chatkit", { method: "POST", body: "hello" });
    expect(response.status).toBe(401);
    expect(live.renew).toHaveBeenCalledExactlyOnceWith("one");
    expect(calls.map((call) => call.headers.get("Authorization"))).toEqual(["Bearer one", "Bearer two"]);
    expect(await calls[1]?.text()).toBe("hello");
  });

  it("says when the session lapsed", async () => {
    const lapsed = vi.fn();
    const gone = { token: () => Promise.reject(new SessionLapsed()), renew: async () => "two" };
    await expect(sessionFetch(gone, lapsed, server())("https://chat.example.com/chatkit")).rejects.toBeInstanceOf(SessionLapsed);
    expect(lapsed).toHaveBeenCalledOnce();
  });
});
