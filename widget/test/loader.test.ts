import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { start } from "../src/embed/api.ts";
import { optionsOf, type Options } from "../src/embed/options.ts";
import { createWidget } from "../src/embed/widget.ts";

const options: Options = { origin: "https://chat.example", domainKey: "pk_1" };
const fakeWidget = () => ({ open: vi.fn(), close: vi.fn(), toggle: vi.fn(), identify: vi.fn(), shutdown: vi.fn() });

describe("window.Stonechat", () => {
  it("plays what was called before load, in order", () => {
    const widget = fakeWidget();
    const order: string[] = [];
    widget.identify.mockImplementation((token) => order.push(`identify ${token}`));
    widget.open.mockImplementation(() => order.push("open"));
    start(options, [["identify", "jwt"], (function (..._: unknown[]) { return arguments; })("open")], () => widget);
    expect(order).toEqual(["identify jwt", "open"]);
  });

  it("waits for the body when pasted in the head", () => {
    const body = document.body;
    body.remove();
    const create = vi.fn(fakeWidget);
    const api = start(options, [["open"]], create);
    api("close");
    expect(create).not.toHaveBeenCalled();
    document.documentElement.append(body);
    document.dispatchEvent(new Event("DOMContentLoaded"));
    const widget = create.mock.results[0]?.value as ReturnType<typeof fakeWidget>;
    expect(widget.open).toHaveBeenCalledOnce();
    expect(widget.close).toHaveBeenCalledOnce();
  });

  it("tells handlers what happens, and a late one that the chat is ready", () => {
    let emit: (event: string, detail?: unknown) => void = () => undefined;
    const heard: unknown[] = [];
    const api = start(options, [["on", "effect", (detail: unknown) => heard.push(detail)]], (_, tell) => {
      emit = tell;
      return fakeWidget();
    });
    emit("effect", { name: "confetti" });
    emit("ready");
    api("on", "ready", () => heard.push("ready"));
    expect(heard).toEqual([{ name: "confetti" }, "ready"]);
  });

  it("keeps for the next copy what is called after shutdown", () => {
    // As a framework does it that mounts twice before the script is there.
    const [first, second] = [fakeWidget(), fakeWidget()];
    const api = start(options, [["identify", "old"], ["shutdown"], ["identify", "jwt"]], () => first);
    expect(first.identify.mock.calls).toEqual([["old", undefined]]);
    expect(first.shutdown).toHaveBeenCalledOnce();
    start(options, api.q ?? [], () => second);
    expect(second.identify.mock.calls).toEqual([["jwt", undefined]]);
  });

  it("ignores verbs it does not know, and all after shutdown", () => {
    const widget = fakeWidget();
    const api = start(options, [], () => widget);
    api("explode");
    api();
    expect(api.live).toBe(true);
    api("shutdown");
    api("open");
    expect(widget.shutdown).toHaveBeenCalledOnce();
    expect(widget.open).not.toHaveBeenCalled();
    expect(api.live).toBe(false);
  });

  it("reads the script's attributes", () => {
    const script = Object.assign(document.createElement("script"), { src: "https://chat.example/embed.js?v=1" });
    script.dataset.domainKey = "pk_9";
    script.dataset.locale = "de";
    expect(optionsOf(script)).toMatchObject({ origin: "https://chat.example", domainKey: "pk_9", locale: "de" });
  });
});

describe("a script that knows nothing of its tag, as in a shadow root", () => {
  it("says so in the console, and does nothing", async () => {
    expect(document.currentScript).toBeNull();
    await expect(import("../src/embed/main.ts")).rejects.toBe("Stonechat: no currentScript in a shadowRoot");
    expect(window.Stonechat).toBeUndefined();
  });
});

describe("the widget", () => {
  let emit: ReturnType<typeof vi.fn>;
  let widget: ReturnType<typeof createWidget> | undefined;
  const make = (more: Partial<Options> = {}) => (widget = createWidget({ ...options, ...more } as Options, emit as never));
  const host = () => document.querySelector<HTMLElement>("[data-stonechat]");
  const find = <T extends Element = HTMLElement>(selector: string) => host()?.shadowRoot?.querySelector<T>(selector) ?? null;
  const launcher = () => find<HTMLButtonElement>(".launcher")!;
  const frame = () => find<HTMLIFrameElement>("iframe");

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("visualViewport", Object.assign(new EventTarget(), { height: 500, offsetTop: 20 }));
    vi.spyOn(console, "error").mockImplementation(() => undefined); // the DOM here says that it loads no frames
    emit = vi.fn();
  });
  afterEach(() => {
    widget?.shutdown();
    vi.useRealTimers();
  });

  /** The frame's side of the greeting: its port, once the document has loaded. */
  function load(): { port: MessagePort; data: unknown; origin: string } {
    const post = vi.fn();
    Object.defineProperty(frame()!, "contentWindow", { value: { postMessage: post }, configurable: true });
    frame()!.onload?.(new Event("load"));
    const [data, origin, [port]] = post.mock.calls[0] as [unknown, string, [MessagePort]];
    return { port, data, origin };
  }
  const delivered = () => vi.waitFor(() => new Promise((resolve) => setImmediate(resolve)));

  it("draws a named launcher, and no frame until the visitor means it", () => {
    make();
    expect(launcher().ariaLabel).toBe("Open chat");
    expect(frame()).toBeNull();
    launcher().dispatchEvent(new Event("pointerenter"));
    expect(frame()?.src).toBe("https://chat.example/embed/frame?k=pk_1");
    expect(frame()?.title).toBe("Chat");
    expect(find("dialog")?.hasAttribute("open")).toBe(false);
    launcher().click();
    expect(find("dialog")?.hasAttribute("open")).toBe(true);
    expect(launcher().ariaExpanded).toBe("true");
    expect(host()?.shadowRoot?.querySelectorAll("iframe")).toHaveLength(1);
  });

  it("greets the platform's origin only, with what the customer signed", () => {
    make({ userToken: "jwt", locale: "de" }).open();
    const { data, origin } = load();
    expect(origin).toBe("https://chat.example");
    expect(data).toEqual({ type: "stonechat:hello", version: 1, layout: "panel", locale: "de", userToken: "jwt" });
  });

  it("shows the frame when it is ready, dresses as it says, and closes when it asks", async () => {
    make().open();
    const { port } = load();
    const heard: unknown[] = [];
    port.onmessage = ({ data }) => heard.push(data);
    port.postMessage({ type: "ready" });
    port.postMessage({ type: "launcher", accent: "#aa0000", position: "left", label: "Fragen?" });
    port.postMessage({ type: "launcher", accent: "url(x)", position: "left", label: "Evil" });
    port.postMessage({ type: "close" });
    await vi.waitFor(() => expect(emit).toHaveBeenCalledWith("close"));
    expect(host()?.hasAttribute("data-ready")).toBe(true);
    expect(host()?.hasAttribute("data-left")).toBe(true);
    expect(launcher().ariaLabel).toBe("Fragen?");
    expect(find("dialog")?.hasAttribute("open")).toBe(false);
    await delivered();
    expect(heard).toEqual([{ type: "open", focus: true }, { type: "closed" }]);
    port.close();
  });

  it("tells the frame who is there, also when it learns it while the frame begins", async () => {
    make().open();
    const { port } = load();
    widget?.identify("jwt");
    const heard: unknown[] = [];
    port.onmessage = ({ data }) => heard.push(data);
    await vi.waitFor(() => expect(heard).toEqual([{ type: "identify", userToken: "jwt" }]));
    port.close();
  });

  it("wears what was published", () => {
    make({ icon: "M0 0h9v9z", accent: "#aa0000", label: "Fragen?" });
    const css = [...(host()?.shadowRoot?.adoptedStyleSheets[0]?.cssRules ?? [])].map((rule) => rule.cssText).join("");
    expect(css).toContain('--icon: path("M0 0h9v9z")');
    expect(css).toContain("--accent: #aa0000");
    expect(launcher().ariaLabel).toBe("Fragen?");
  });

  it("teases after a while, once a tab, and not who has opened the chat", () => {
    sessionStorage.clear();
    make({ teaser: "Need help?", delay: "5000" });
    vi.advanceTimersByTime(4_900);
    expect(find(".teaser")).toBeNull();
    vi.advanceTimersByTime(200);
    expect(find(".teaser[role=status]")?.textContent).toBe("Need help?×");
    expect(frame()).toBeNull();
    find<HTMLButtonElement>(".teaser button:last-child")?.click();
    expect(find(".teaser")).toBeNull();
    widget?.shutdown();
    make({ teaser: "Need help?", delay: "5000" });
    vi.advanceTimersByTime(6_000);
    expect(find(".teaser")).toBeNull();
    widget?.shutdown();
    sessionStorage.clear();
    make({ teaser: "Need help?", delay: "5000", open: "" });
    vi.advanceTimersByTime(6_000);
    expect(find(".teaser")).toBeNull();
  });

  it("leaves the keyboard of a phone its room", () => {
    make().open();
    visualViewport?.dispatchEvent(new Event("resize"));
    expect(host()?.style.getPropertyValue("--h")).toBe("500px");
    expect(host()?.style.getPropertyValue("--t")).toBe("20px");
  });

  it("opens from the teaser", () => {
    sessionStorage.clear();
    make({ teaser: "Need help?", delay: "0" });
    vi.advanceTimersByTime(1);
    find<HTMLButtonElement>(".teaser button")?.click();
    expect(find("dialog")?.hasAttribute("open")).toBe(true);
    expect(find(".teaser")).toBeNull();
  });

  it("hides on paths that are chosen, and follows a page that changes its address", async () => {
    vi.useRealTimers();
    history.replaceState(null, "", "/checkout/pay");
    make({ hidden: "^(?:\\/checkout\\/.*)$" });
    expect(host()?.hasAttribute("data-hidden")).toBe(true);
    history.replaceState(null, "", "/");
    document.body.append(document.createElement("p"));
    await vi.waitFor(() => expect(host()?.hasAttribute("data-hidden")).toBe(false));
  });

  it("says politely that a frame which never answers could not be opened, and tries again with the next opening", () => {
    make().open();
    const { port } = load();
    vi.advanceTimersByTime(6_000);
    expect(find(".notice")?.textContent).toContain("The chat could not be opened here");
    expect(emit).toHaveBeenCalledWith("error");
    const refused = frame();
    widget?.close();
    widget?.open();
    expect(frame()).not.toBe(refused);
    load().port.close();
    expect(find(".notice")?.textContent).toBe("");
    port.close();
  });

  it("offers a tab of its own when the page's policy forbids the frame", () => {
    make().open();
    const violation = Object.assign(new Event("securitypolicyviolation"), { blockedURI: "https://chat.example/embed/frame" });
    document.dispatchEvent(violation);
    const link = find<HTMLAnchorElement>(".notice a");
    expect(link).toMatchObject({ href: "https://chat.example/embed/frame?k=pk_1", target: "_blank", rel: "noopener" });
    document.dispatchEvent(Object.assign(new Event("securitypolicyviolation"), { blockedURI: "https://other.example" }));
    expect(find(".notice")?.querySelectorAll("a")).toHaveLength(1);
  });

  it("comes back when the page replaces its body", async () => {
    vi.useRealTimers();
    make();
    document.body.replaceChildren();
    await vi.waitFor(() => expect(host()?.isConnected).toBe(true));
  });

  it("fills a target instead, also one that comes later", async () => {
    vi.useRealTimers();
    make({ target: "#chat" });
    expect(host()).toBeNull();
    document.body.append(Object.assign(document.createElement("div"), { id: "chat" }));
    await vi.waitFor(() => expect(document.querySelector("#chat > [data-stonechat][data-inline]")).not.toBeNull());
    expect(launcher()).toBeNull();
    expect(frame()).not.toBeNull();
    document.querySelector("#chat")?.remove();
  });

  it("returns the focus to what opened it", () => {
    const button = document.body.appendChild(document.createElement("button"));
    const widget = make();
    button.focus();
    widget.open();
    (host() as HTMLElement).tabIndex = -1;
    host()?.focus();
    widget.close();
    expect(document.activeElement).toBe(button);
    button.remove();
  });

  it("leaves nothing behind", () => {
    make({ open: "" }).shutdown();
    expect(host()).toBeNull();
  });
});
