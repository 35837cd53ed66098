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
const WORDS = {
  en: ["Open chat", "The chat could not be opened here"],
  de: ["Chat öffnen", "Der Chat lässt sich hier nicht öffnen"],
} as const;

export function createWidget(options: Options, emit: (event: string, detail?: unknown) => void): Widget {
  const { origin, domainKey, locale, target, label } = options;
  const address = `${origin}/embed/frame?k=${domainKey}`;
  const words = WORDS[/^de\b/.test(locale || navigator.language) ? "de" : "en"];
  const page = document.documentElement;
  const narrow = matchMedia("(max-width: 640px)");

  let userToken = options.userToken || null;
  let launcher: HTMLButtonElement | undefined;
  let panel: HTMLDialogElement | undefined;
  let frame: HTMLIFrameElement | undefined;
  let port: MessagePort | undefined;
  let ready = false;
  let opened = false;
  let modal = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let before: HTMLElement | null | undefined;
  let overflow = "";

  const make = <K extends keyof HTMLElementTagNameMap>(
    tag: K,
    properties?: Partial<HTMLElementTagNameMap[K]>,
  ): HTMLElementTagNameMap[K] => Object.assign(document.createElement(tag), properties);

  const host = make("div");
  host.toggleAttribute("data-stonechat");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  root.adoptedStyleSheets = [sheet];

  const dress = (accent: string, left: boolean, name: string) => {
    sheet.replaceSync(`${css}:host{--accent:${accent}}`);
    host.toggleAttribute("data-left", left);
    if (launcher) launcher.ariaLabel = name;
  };
  const post = (message: ToFrame) => ready && port?.postMessage(message);

  // ── the frame ──

  const settle = (isReady: boolean) => {
    clearTimeout(timer);
    ready = isReady;
    host.toggleAttribute("data-ready", isReady);
    notice.textContent = "";
  };
  const refuse = (byThisPage: boolean) => {
    if (ready || !frame) return;
    settle(false);
    // When the page's own policy keeps the frame out, the chat itself is well: a tab of its own works.
    notice.append(words[1], make("a", {
      textContent: words[0],
      href: address,
      target: "_blank",
      rel: "noopener",
      onclick: (event) => {
        if (byThisPage) return;
        event.preventDefault();
        drop();
        warm();
      },
    }));
    emit("error");
  };
  // Of this origin the page loads two things: this script, which runs, and the frame.
  const violated = (event: SecurityPolicyViolationEvent) => event.blockedURI.startsWith(origin) && refuse(true);

  const drop = () => {
    settle(false);
    port?.close();
    frame?.remove();
    frame = undefined;
  };

  const greet = () => {
    // Also after a reload inside the frame: each document is greeted once, on a port of its own.
    const channel = new MessageChannel();
    port?.close();
    port = channel.port1;
    port.onmessage = hear;
    settle(false);
    timer = setTimeout(refuse, READY_AFTER_LOAD, false);
    frame?.contentWindow?.postMessage(hello(target ? "inline" : "panel", locale || null, userToken), origin, [
      channel.port2,
    ]);
  };

  const hear = ({ data }: MessageEvent<unknown>) => {
    if (!isToHost(data)) return;
    const { type } = data;
    if (type === "ready") {
      settle(true);
      if (opened || target) post({ type: "open", focus: root.activeElement === frame });
      emit(type);
    } else if (type === "close") close();
    else if (type === "launcher") dress(data.accent, data.position === "left", label || data.label);
    else if (type === "unread") launcher?.toggleAttribute("data-unread", !opened && data.count > 0);
    else emit(type, data.detail);
  };

  const warm = () => {
    if (frame) return;
    frame = make("iframe", { title: "Chat", onload: greet, src: address });
    stage.prepend(frame);
  };

  // ── the panel ──

  const show = () => {
    if (!panel || !opened) return;
    panel.close();
    lock(narrow.matches);
    // Not show(): its focusing steps would take the focus from a page that opens the chat by itself.
    if (modal) panel.showModal();
    else panel.open = true;
  };
  // Beside a full screen the page must not scroll; an inline style of the page's own is put back.
  const lock = (on: boolean) => {
    if (on !== modal) [page.style.overflow, overflow] = [on ? "hidden" : overflow, page.style.overflow];
    modal = on;
  };
  const open = (focus: boolean) => {
    warm();
    if (!launcher || opened) return;
    opened = true;
    before = document.activeElement as HTMLElement | null;
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
    lock(false);
    launcher.ariaExpanded = "false";
    // Focus goes back to what opened the chat, unless the visitor is already elsewhere.
    if (within) (before?.matches("body,[data-stonechat]") ? launcher : before)?.focus();
    post({ type: "closed" });
    emit("close");
  };
  const toggle = () => (opened ? close() : open(true));

  if (target) host.toggleAttribute("data-inline");
  else {
    launcher = make("button", {
      className: "launcher",
      type: "button",
      ariaExpanded: "false",
      onpointerenter: warm,
      onfocus: warm,
      onclick: toggle,
    });
    panel = make("dialog", {
      className: "panel",
      ariaLabel: "Chat",
      // Escape on a modal dialog; a second one closes it whatever this handler says.
      oncancel(event) {
        event.preventDefault();
        close();
      },
      onclose: () => panel?.open || close(),
      onkeydown: (event) => event.key === "Escape" && close(),
    });
    root.append(launcher, panel);
    narrow.addEventListener("change", show);
  }
  const notice = make("div", { className: "notice", role: "status" });
  const stage = panel ?? root;
  stage.append(notice);
  dress(
    isColour(options.accent) ? options.accent : DEFAULT_ACCENT,
    options.position === "left",
    label || words[0],
  );

  // ── its place in the page: frameworks replace <body>, inline targets come and go ──

  const place = () => {
    if (host.isConnected) return;
    (target ? document.querySelector(target) : document.body)?.appendChild(host);
    if (target && host.isConnected) warm();
    show();
  };
  const watcher = new MutationObserver(place);
  watcher.observe(page, { childList: true, subtree: true });
  document.addEventListener("securitypolicyviolation", violated);
  place();
  if ("open" in options) open(false);

  return {
    open: () => open(true),
    close,
    toggle,
    identify(token) {
      userToken = token ? String(token) : null;
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
