/**
 * The launcher, the panel and the iframe in it. The iframe is made on first intent only.
 * Everything is createElement and constructable sheets, so that pages with a strict CSP or Trusted Types take it.
 */
import { isColour } from "../shared/colour.ts";
import { hello, isToHost, type ToFrame } from "../shared/messages.ts";
import css from "./loader.css";
import type { Options } from "./options.ts";

export interface Widget {
  open(): void;
  close(): void;
  toggle(): void;
  /** A token signed by the customer for the person at the screen; null for nobody in particular. */
  identify(userToken?: unknown): void;
  shutdown(): void;
}

/** `load` fires for refused and unreachable frames too; a live one says `ready` at once. */
const READY_AFTER_LOAD = 5_000;
const DEFAULT_ACCENT = "#1f6f5c";
/** What is published has words in the site's own language; these stand in for them. */
const OPEN = "Open chat";
const ICON = "M14 3c6 0 11 4 11 9s-5 9-11 9q-2 0-4-.5L6 24v-5c-2-2-3-4-3-7 0-5 5-9 11-9";
const REFUSED = "The chat could not be opened here";

export function createWidget(options: Options, emit: (event: string, detail?: unknown) => unknown): Widget {
  const { origin, domainKey, locale, target, label, icon, teaser, hidden } = options;
  const address = `${origin}/embed/frame?k=${domainKey}`;
  const narrow = matchMedia("(max-width:640px)");

  let userToken = options.userToken || null;
  let launcher: HTMLButtonElement | undefined;
  let panel: HTMLDialogElement | undefined;
  let bubble: HTMLElement | undefined;
  let frame: HTMLIFrameElement | undefined;
  let port: MessagePort | undefined;
  let ready = false;
  let opened = false;
  /** Remembers for the tab that the teaser was seen; where storage is blocked, for the page. */
  let tab: Record<string, unknown> = {};
  let modal = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let before: HTMLElement | null | undefined;

  const make = <K extends keyof HTMLElementTagNameMap>(
    tag: K,
    properties?: Partial<HTMLElementTagNameMap[K]>,
  ): HTMLElementTagNameMap[K] => Object.assign(document.createElement(tag), properties);

  try {
    tab = sessionStorage as unknown as typeof tab;
  } catch {}

  const host = make("div");
  host.toggleAttribute("data-stonechat");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  root.adoptedStyleSheets = [sheet];

  const dress = (accent: string, left: boolean, name: string) => {
    sheet.replaceSync(`${css}:host{--accent:${accent};--icon:path("${icon || ICON}")}`);
    host.toggleAttribute("data-left", left);
    if (launcher) launcher.ariaLabel = name;
  };
  /** What is posted before the frame listens waits in its port. */
  const post = (message: ToFrame) => port?.postMessage(message);

  // ── the frame ──

  const settle = (isReady: boolean) => {
    clearTimeout(timer);
    ready = isReady;
    host.toggleAttribute("data-ready", isReady);
    notice.textContent = "";
  };
  const drop = () => {
    settle(false);
    port?.close();
    frame?.remove();
    frame = undefined;
  };

  const refuse = () => {
    if (ready) return;
    // Closing and opening tries again; where the page's own policy keeps the frame out, the chat in a tab of its own is well.
    drop();
    notice.append(REFUSED, make("a", { textContent: OPEN, href: address, target: "_blank", rel: "noopener" }));
    emit("error");
  };
  // Of this origin the page loads two things: this script, which runs, and the frame.
  const violated = (event: SecurityPolicyViolationEvent) => event.blockedURI.startsWith(origin) && refuse();

  const greet = () => {
    // Also after a reload inside the frame: each document is greeted once, on a port of its own.
    const channel = new MessageChannel();
    port?.close();
    port = channel.port1;
    port.onmessage = hear;
    settle(false);
    timer = setTimeout(refuse, READY_AFTER_LOAD);
    frame?.contentWindow?.postMessage(hello(target ? "inline" : "panel", locale || null, userToken), origin, [
      channel.port2,
    ]);
  };

  const hear = async ({ data }: MessageEvent<unknown>) => {
    if (!isToHost(data)) return;
    const { type } = data;
    if (type === "ready") {
      settle(true);
      if (opened || target) post({ type: "open", focus: root.activeElement === frame });
      emit(type);
    } else if (type === "close") close();
    else if (type === "launcher") dress(data.accent, data.position === "left", label || data.label);
    else if (type === "unread") launcher?.toggleAttribute("data-unread", !opened && data.count > 0);
    else {
      const answer = emit(type, data.detail);
      if (type !== "tool") return;
      let result: string | null = null;
      let error: string | null = null;
      try {
        if (!answer) throw "no handler";
        result = JSON.stringify(await answer);
      } catch (raised) {
        error = `${raised}`;
      }
      post({ type, id: data.id, result, error });
    }
  };

  const warm = () => {
    if (frame) return;
    frame = make("iframe", { title: "Chat", onload: greet, allow: "microphone;clipboard-write", src: address });
    stage.prepend(frame);
  };

  // ── the panel ──

  const show = () => {
    if (!panel || !opened) return;
    panel.close();
    modal = narrow.matches;
    // Not show(): its focusing steps would take the focus from a page that opens the chat by itself.
    if (modal) panel.showModal();
    else panel.open = true;
  };
  const open = (focus: boolean) => {
    warm();
    if (!launcher || opened) return;
    opened = true;
    hush();
    // In a page of shadow roots, what has the focus is in the innermost one; in our own it is the launcher.
    let within: DocumentOrShadowRoot | null = document;
    while (within?.activeElement) within = (before = within.activeElement as HTMLElement).shadowRoot;
    show();
    launcher.ariaExpanded = "true";
    launcher.removeAttribute("data-unread");
    if (focus) frame?.focus();
    post({ type: "open", focus });
    emit("open");
  };
  const close = () => {
    if (!launcher || !opened) return;
    const within = modal || document.activeElement === host;
    opened = false;
    panel?.close();
    modal = false;
    launcher.ariaExpanded = "false";
    // Focus goes back to what opened the chat, unless the visitor is already elsewhere.
    if (within) (before === document.body ? launcher : before)?.focus();
    post({ type: "closed" });
    emit("close");
  };
  const toggle = () => (opened ? close() : open(true));

  // ── what it says by itself ──

  const hush = () => {
    tab.stonechat = 1;
    bubble?.remove();
  };
  const tease = () => {
    if (opened || tab.stonechat) return;
    bubble = make("div", { className: "teaser", role: "status" });
    root.append(bubble);
    bubble.append(
      make("button", { textContent: teaser as string, onclick: toggle }),
      make("button", { textContent: "×", ariaLabel: "Close", onclick: hush }),
    );
  };
  // The keyboard of a phone covers what is fixed to the page: the panel takes what is left to see.
  const fit = () => {
    const { height, offsetTop } = visualViewport as VisualViewport;
    host.style.cssText = `--h:${height}px;--t:${offsetTop}px`;
  };

  if (target) host.toggleAttribute("data-inline");
  else {
    launcher = make("button", {
      className: "launcher",
      ariaExpanded: "false",
      onpointerenter: warm,
      onfocus: warm,
      onclick: toggle,
    });
    panel = make("dialog", {
      ariaLabel: "Chat",
      // Escape closes a modal dialog by itself, and is only heard of here.
      onclose: () => panel?.open || close(),
      onkeydown: (event) => event.key === "Escape" && close(),
    });
    root.append(launcher, panel);
    narrow.onchange = show;
    (visualViewport as VisualViewport).addEventListener("resize", fit);
    if (teaser) setTimeout(tease, options.delay as unknown as number);
  }
  const notice = make("div", { className: "notice", role: "status" });
  const stage = panel ?? root;
  stage.append(notice);
  dress(
    isColour(options.accent) ? options.accent : DEFAULT_ACCENT,
    options.position === "left",
    label || OPEN,
  );

  // ── its place in the page: frameworks replace <body>, inline targets come and go ──

  const place = () => {
    // Single-page applications change what they show when they change the address.
    if (hidden) host.toggleAttribute("data-hidden", RegExp(hidden).test(location.pathname));
    if (host.isConnected) return;
    (target ? document.querySelector(target) : document.body)?.appendChild(host);
    if (target && host.isConnected) warm();
    show();
  };
  const watcher = new MutationObserver(place);
  watcher.observe(document, { childList: true, subtree: true });
  document.addEventListener("securitypolicyviolation", violated);
  place();
  if ("open" in options) open(false);

  return {
    open: () => open(true),
    close,
    toggle,
    identify(token) {
      userToken = token ? `${token as string}` : null;
      post({ type: "identify", userToken });
    },
    shutdown() {
      close();
      drop();
      watcher.disconnect(); // the other listeners do nothing to a closed panel without a frame
      host.remove();
    },
  };
}
