/** The frame's beginning: reads its document's configuration, waits for the page that holds it, and starts the chat. */
import { Chat, failureOf } from "../chat/controller.ts";
import { extrasFrom } from "../items/extras.ts";
import type { Deeds } from "../items/kit.ts";
import { httpApi } from "../net/api.ts";
import { Session } from "../net/session.ts";
import { pickLocale } from "../locale/index.ts";
import { readConfig } from "./config.ts";
import { awaitParent, type Parent } from "./parent.ts";
import { runPreview } from "./preview.ts";
import { safeStorage } from "./storage.ts";
import css from "./styles/frame.css";
import { applyTheme } from "./theme.ts";
import { createApp } from "./view/app.ts";
import { sheetOf } from "./view/dom.ts";
import { sentence } from "./view/failure.ts";

const RENEW_CHECK = 30_000;
const RENEW_BEFORE = 90_000;
/** In the address, so that it outlives a reload even where storage is blocked. */
const RELOADED = "#reloaded";

document.adoptedStyleSheets = [sheetOf(css)];

const config = readConfig(document);
const root = document.documentElement;
if (!config.preview) applyTheme(root, config.theme, matchMedia("(prefers-color-scheme: dark)"));

function run(parent: Parent | null): void {
  const hello = parent?.hello ?? null;
  const isPanel = hello?.layout === "panel";
  const locale = pickLocale([hello?.locale, ...navigator.languages]);
  const storage = safeStorage(`stonechat.${config.domainKey}.`, () => localStorage);
  const tab = safeStorage(`stonechat.${config.domainKey}.`, () => sessionStorage);
  const session = new Session(config.domainKey, config.ticket, hello?.userToken ?? null, storage);
  let visible = !isPanel;
  let unread = 0;

  const api = httpApi(session);
  const chat = new Chat(session, api, storage, {
    changed: (state) => app.render(state),
    answered() {
      parent?.post({ type: "message" });
      if (!visible) parent?.post({ type: "unread", count: ++unread });
    },
    effect: (name, data) => parent?.post({ type: "effect", detail: { name, data: structuredClone(data) } }),
    tool: async (name, args) => {
      if (!parent) throw new Error("There is no page around this chat to ask.");
      return parent.tool(name, args);
    },
    lapsed(unsent) {
      if (location.hash === RELOADED) return; // once; the failure is on the screen
      if (unsent) {
        tab.set("draft", unsent);
        tab.set("resend", String(Date.now()));
      }
      history.replaceState(null, "", RELOADED); // not an entry for the host page's Back button
      location.reload();
    },
  });
  const deeds: Deeds = {
    act: (itemId, action, streaming) => chat.act(itemId, action, streaming),
    tellPage: (item, { type: name, payload }) => parent?.post({ type: "action", detail: { name, payload, item } }),
    answerForm: (itemId, submission) => chat.answerForm(itemId, submission),
    announce: (file) => api.announce(file),
    discard: (attachment) => api.discard(attachment),
    transcribe: (audio, mimeType) => api.transcribe(audio, mimeType),
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
    },
  );

  root.lang = locale.tag;
  root.dataset.layout = hello?.layout ?? "page";
  document.title = config.agent?.name ?? "Chat";
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

  if (!parent) void begin();
  else {
    // The ticket lives a minute: the session is made now, when the visitor's pointer nears the launcher.
    if (config.agent) session.user().catch(() => undefined);
    parent.post({ type: "ready" });
    if (config.agent) {
      const { label, position } = config.agent.launcher;
      parent.post({ type: "launcher", accent: config.theme.accent, position, label: label || locale.t("open_chat") });
    }
  }
}

if (config.preview) runPreview(window, config, config.preview);
else if (window.parent === window) run(null);
else void awaitParent(window, config.parents).then(run);
