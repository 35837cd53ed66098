/**
 * The frame as the console shows it beside a form: drawn from what is being edited, with nobody to talk to.
 * The page around it, of the same origin, posts what changed; a question gets a sample of an answer.
 */
import { parseItem } from "../chat/parse.ts";
import { emptyState, type ChatState, type Entry } from "../chat/state.ts";
import { extrasFrom } from "../items/extras.ts";
import type { Deeds } from "../items/kit.ts";
import { ENGLISH as locale } from "../locale/index.ts";
import { contrast, inkOn } from "../shared/colour.ts";
import { isRecord } from "../shared/guards.ts";
import { parseConfig, type Config } from "./config.ts";
import { accentProperties, applyTheme, SURFACE, type Scheme } from "./theme.ts";
import { createApp, type App } from "./view/app.ts";

export const DRAFT = "stonechat:draft";
export const DRAWN = "stonechat:drawn";

const QUESTION = "When will my order arrive?";
const ANSWER =
  "This is how an answer looks: orders leave **within one working day**, and most parcels arrive two days later.";

/** Nothing can be done in a preview. */
const idle: Deeds = {
  act: async () => undefined,
  tellPage: () => undefined,
  answerForm: async () => undefined,
  judge: async () => undefined,
  announce: () => Promise.reject(new Error()),
  discard: async () => undefined,
  transcribe: async () => "",
  cited: () => Promise.reject(new Error()),
  sentence: () => "",
};

const unchanging: MediaQueryList = Object.assign(new EventTarget(), { matches: false }) as MediaQueryList;

function entry(key: string, item: unknown): Entry[] {
  const parsed = parseItem(item);
  return parsed ? [{ key, item: parsed, status: "done", local: false }] : [];
}

/** What is on the screen once `question` was asked. */
export function sampleConversation(question: string): ChatState {
  const base = { thread_id: "thr_preview", created_at: "2000-01-01T00:00:00Z" };
  const annotations = [
    { type: "annotation", index: null, source: { type: "file", filename: "shipping.pdf", title: "Shipping and delivery" } },
  ];
  return {
    ...emptyState,
    entries: [
      ...entry("q", { ...base, id: "q", type: "user_message", content: [{ type: "input_text", text: question }], attachments: [] }),
      ...entry("a", { ...base, id: "a", type: "assistant_message", content: [{ type: "output_text", text: ANSWER, annotations }] }),
    ],
  };
}

/** Draws `config` in `scheme` until the page around it posts another. */
export function runPreview(window: Window, first: Config, scheme: Scheme): void {
  const { document } = window;
  let app: App | null = null;
  let state = emptyState;

  const show = (next: ChatState) => {
    state = next;
    app?.render(state);
  };
  const draw = (config: Config) => {
    applyTheme(document.documentElement, { ...config.theme, scheme }, unchanging);
    const nothing = () => undefined;
    const next = createApp(
      { config, locale, closable: true, deeds: idle, extras: extrasFrom(first.extras) },
      {
        send: (said) => show(sampleConversation(typeof said === "string" ? said : said.text)),
        restart: () => show(emptyState),
        stop: nothing, retry: nothing, earlier: nothing, close: nothing, draft: nothing, menu: nothing,
      },
    );
    // Two previews stand side by side, each with a main of its own.
    next.element.ariaLabel = `Preview, ${scheme}`;
    if (app) app.element.replaceWith(next.element);
    else document.body.append(next.element);
    app = next;
    app.render(state);
    const { accent } = config.theme;
    // Where the accent would be hard to read, links and lines have it darker or lighter: the console can say so.
    const text = accentProperties(accent, scheme)["--accent-text"];
    const drawn = { type: DRAWN, scheme, contrast: contrast(accent, SURFACE[scheme]), ink: inkOn(accent), text, adjusted: text !== accent };
    window.parent.postMessage(drawn, window.location.origin);
  };

  document.documentElement.lang = locale.tag;
  document.documentElement.dataset.layout = "panel";
  window.addEventListener("message", ({ source, origin, data }: MessageEvent<unknown>) => {
    if (source !== window.parent || origin !== window.location.origin || !isRecord(data) || data.type !== DRAFT) return;
    if (data.sample === true) state = sampleConversation(QUESTION);
    else if (data.sample === false) state = emptyState;
    draw(parseConfig({ agent: data.agent }));
  });
  draw(first);
}
