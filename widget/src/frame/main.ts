/** The frame's beginning: reads its document's configuration, waits for the page that holds it, and starts the chat. */
import { Chat } from "../chat/controller.ts";
import { failureOf } from "../chat/failures.ts";
import type { Kept } from "../chat/kept.ts";
import { waitsForPerson } from "../chat/state.ts";
import { extrasFrom } from "../items/extras.ts";
import type { Deeds } from "../items/kit.ts";
import { httpApi } from "../net/api.ts";
import { Session } from "../net/session.ts";
import { LANGUAGES, loadLocale, type Locale } from "../locale/index.ts";
import type { PanelKit, PanelScript } from "../panel/kit.ts";
import type { Before, StockScript } from "../stock/kit.ts";
import { readConfig } from "./config.ts";
import { awaitParent, type Parent } from "./parent.ts";
import { runPreview } from "./preview.ts";
import { safeStorage, type Storage } from "./storage.ts";
import css from "./styles/frame.css";
import { applyTheme } from "./theme.ts";
import { createApp } from "./view/app.ts";
import { h, setText, sheetOf, svg } from "./view/dom.ts";
import { sentence } from "./view/failure.ts";

const RENEW_CHECK = 30_000;
const RENEW_BEFORE = 90_000;
/** Milliseconds between two looks for what a person of the team wrote: at first, and after so many. */
const LOOK = 5_000;
const QUICK_LOOKS = 36;
const SLOW_LOOK = 20_000;
const MAX_LOOKS = 120;
const WORDS_TIME = 4_000;
/** Messages left at which the visitor is told. */
const FEW = 2;
/** In the address, so that it outlives a reload even where storage is blocked. */
const RELOADED = "#reloaded";

document.adoptedStyleSheets = [sheetOf(css)];

const config = readConfig(document);
const root = document.documentElement;
if (!config.preview) applyTheme(root, config.theme, matchMedia("(prefers-color-scheme: dark)"));

/** What both front ends stand on, ours and OpenAI's. */
interface Ground {
  readonly storage: Storage;
  readonly locale: Locale;
  readonly session: Session;
}

/** Greets the page, and draws the front end that was chosen; ours, wherever the other does not come. */
async function enter(parent: Parent | null): Promise<void> {
  const hello = parent?.hello ?? null;
  const storage = safeStorage(`stonechat.${config.domainKey}.`, () => localStorage);
  const wishes = [storage.get("locale"), hello?.locale, ...navigator.languages, config.agent?.locale];
  const words = (name: string) => fetch(config.path(name), { signal: AbortSignal.timeout(WORDS_TIME) });
  const locale = await loadLocale(wishes, words);
  const session = new Session(config.domainKey, config.ticket, hello?.userToken ?? null, storage);
  root.lang = locale.tag;
  root.dir = locale.direction;
  root.dataset.layout = hello?.layout ?? "page";
  document.title = config.agent?.name ?? "Chat";
  if (parent) {
    // The ticket lives a minute: the session is made now, when the visitor's pointer nears the launcher.
    if (config.agent) session.user().catch(() => undefined);
    parent.post({ type: "ready" }); // what the page says to it waits until somebody listens
    if (config.agent) {
      const { label, position } = config.agent.launcher;
      parent.post({ type: "launcher", accent: config.theme.accent, position, label: label || locale.t("open_chat") });
    }
  }
  const ours = (before: Before | null) => run(parent, { storage, locale, session }, before);
  if (!config.stock) return ours(null);
  const script = (await import(config.path("stock.js")).catch(() => null)) as StockScript | null;
  if (!script) return ours(null);
  script.runStock({
    h, svg, setText, sheetOf, locale, wishes, parent, session, storage, panel: loadPanel,
    languages: LANGUAGES,
    api: httpApi(session),
    sentence: (error) => sentence(failureOf(error), locale),
    lapsed: newDocument,
    instead: ours,
  });
}

let panel: Promise<PanelScript> | null = null;

/** The third script, and its style in place. A failure is forgotten, so that the next need tries again. */
function loadPanel(): Promise<PanelScript> {
  panel ??= (import(config.path("panel.js")) as Promise<PanelScript>).then((script) => {
    document.adoptedStyleSheets.push(sheetOf(script.css));
    return script;
  });
  panel.catch(() => {
    panel = null;
  });
  return panel;
}

/** For a session that lapsed: only a new document carries a ticket. Once; then the failure stays on the screen. */
function newDocument(): void {
  if (location.hash === RELOADED) return;
  history.replaceState(null, "", RELOADED); // not an entry for the host page's Back button
  location.reload();
}

function run(parent: Parent | null, { storage, locale, session }: Ground, before: Before | null): void {
  const isPanel = parent?.hello.layout === "panel";
  const tab = safeStorage(`stonechat.${config.domainKey}.`, () => sessionStorage);
  let visible = !isPanel;
  let unread = 0;

  const others = tabs(config.domainKey);
  let limited: ReturnType<typeof setTimeout> | undefined;
  const api = httpApi(session, undefined, ({ remaining, reset }) => {
    clearTimeout(limited);
    const key = remaining > 0 ? "messages_left" : "messages_none";
    app.hint(remaining <= FEW ? locale.t(key, { number: remaining, time: locale.duration(reset) }) : "");
    if (remaining <= FEW) limited = setTimeout(() => app.hint(""), reset * 1_000);
  });
  const chat = new Chat(session, api, storage, {
    changed: (state) => app.render(state),
    answered() {
      parent?.post({ type: "message" });
      if (!visible) parent?.post({ type: "unread", count: ++unread });
    },
    effect: (name, data) => parent?.post({ type: "effect", detail: { name, data } }),
    tool: async (name, args) => {
      if (!parent) throw new Error("There is no page around this chat to ask.");
      return parent.tool(name, args);
    },
    moved: (kept) => others?.postMessage(kept),
    lapsed(unsent) {
      if (location.hash === RELOADED) return; // once; the failure is on the screen
      if (unsent) {
        tab.set("draft", unsent);
        tab.set("resend", String(Date.now()));
      }
      newDocument();
    },
  });
  const deeds: Deeds = {
    act: (itemId, action, streaming) => chat.act(itemId, action, streaming),
    tellPage: (item, { type: name, payload }) => parent?.post({ type: "action", detail: { name, payload, item } }),
    answerForm: (itemId, submission) => chat.answerForm(itemId, submission),
    async judge(item, kind, reason) {
      const params = { thread_id: chat.state.thread?.id ?? "", item_ids: [item], kind };
      await api.plain({ type: "items.feedback", params, metadata: { reason } });
    },
    announce: (file) => api.announce(file),
    discard: (attachment) => api.discard(attachment),
    transcribe: (audio, mimeType) => api.transcribe(audio, mimeType),
    cited: async (item, index) => {
      const asked = new URLSearchParams({ thread: chat.state.thread?.id ?? "", item, index: String(index) });
      return (await api.request(`/chatkit/sources?${asked}`, {})).json();
    },
    sentence: (error) => sentence(failureOf(error), locale),
  };
  const app = createApp(
    { config, locale, closable: isPanel, deeds, extras: extrasFrom(config.extras) },
    {
      send: (said) => void chat.send(said),
      stop: () => chat.stop(),
      retry: () => void chat.retry(),
      earlier: () => void chat.loadEarlier(),
      restart: () => chat.newConversation(),
      close: () => parent?.post({ type: "close" }),
      draft: (text) => (text ? tab.set("draft", text) : tab.remove("draft")),
      menu: (opener) => void openMenu(opener),
    },
  );

  const openMenu = async (opener: HTMLElement) => {
    const rest = [...app.element.children] as HTMLElement[];
    const kit: PanelKit = {
      h, svg, setText, locale, api,
      languages: LANGUAGES,
      current: () => chat.state.thread?.id ?? null,
      open: (thread) => void chat.open(thread),
      restart: () => chat.newConversation(),
      speak(tag) {
        storage.set("locale", tag);
        location.reload();
      },
      sentence: deeds.sentence,
      announce: app.announce,
      closed() {
        for (const element of rest) element.inert = false;
        opener.focus();
      },
    };
    try {
      const { openPanel } = await loadPanel();
      if (rest.some(({ inert }) => inert)) return; // pressed twice
      for (const element of rest) element.inert = true;
      openPanel(kit, app.element);
    } catch {
      app.hint(locale.error("history") ?? "");
    }
  };

  document.body.append(app.element);

  const begin = async () => {
    if (!config.agent) return;
    await chat.start();
    await chat.wake();
    if (chat.state.history.phase === "failed") return;
    if (location.hash === RELOADED) history.replaceState(null, "", location.pathname + location.search);
    const draft = tab.get("draft");
    const resend = Date.now() - Number(tab.get("resend") ?? 0) < 30_000;
    tab.remove("resend");
    if (!draft || app.composer.input.value) return;
    app.composer.fill(resend ? "" : draft);
    if (resend) void chat.send(draft);
  };
  const show = (focus: boolean) => {
    visible = true;
    unread = 0;
    void begin();
    // On a phone the field would raise the keyboard over the greeting.
    if (focus && !matchMedia("(pointer: coarse)").matches) app.composer.input.focus();
  };

  app.render(chat.state);
  parent?.listen((message) => {
    if (message.type === "open") show(message.focus);
    else if (message.type === "closed") visible = false;
    else void chat.identify(message.userToken);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing && isPanel) parent?.post({ type: "close" });
  });
  // While someone looks on, the session stays alive; afterwards it may lapse, and a new document takes over.
  setInterval(() => {
    const { expires } = session;
    if (!visible || document.hidden || expires === null || expires - Date.now() > RENEW_BEFORE) return;
    session.token().catch(() => undefined);
  }, RENEW_CHECK);

  // Another tab moves on; this one is looked at again; a person was asked for, and may have written. All of it bounded.
  others?.addEventListener("message", ({ data }: MessageEvent<Kept>) => void chat.follow(data));
  let looks = 0;
  const look = () => {
    if (!config.agent) return;
    const waits = waitsForPerson(chat.state);
    if (!waits) looks = 0;
    else if (!document.hidden && looks < MAX_LOOKS && (visible || looks % 3 === 0)) void chat.refresh();
    if (waits) looks++;
    setTimeout(look, waits && looks > QUICK_LOOKS ? SLOW_LOOK : LOOK);
  };
  setTimeout(look, LOOK);
  document.addEventListener("visibilitychange", () => {
    looks = 0;
    if (!document.hidden && visible) void chat.refresh();
  });
  const network = () => app.hint(navigator.onLine === false ? locale.t("you_are_offline") : "");
  addEventListener("online", () => {
    network();
    void chat.refresh();
  });
  addEventListener("offline", network);

  if (before?.opened) show(before.focus);
  else if (!parent) void begin();
}

/** The same chat in other tabs, where the browser lets them meet. */
function tabs(key: string): BroadcastChannel | null {
  try {
    return new BroadcastChannel(`stonechat.${key}`);
  } catch {
    return null;
  }
}

if (config.preview) runPreview(window, config, config.preview);
else if (window.parent === window) void enter(null);
else void awaitParent(window, config.parents).then(enter);
