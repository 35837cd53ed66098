/** The whole frame: header, conversation, composer. Draws the state it is given, once a frame at most. */
import { emptyState, type ChatState } from "../../chat/state.ts";
import type { Locale } from "../../locale/index.ts";
import type { Config } from "../config.ts";
import type { Said } from "../../chat/protocol.ts";
import type { Deeds, Kit, LoadExtras } from "../../items/kit.ts";
import { pictureAddress } from "../../items/pictures.ts";
import { createComposer, isRich, type Composer } from "./composer.ts";
import { h, icon, setAttribute, setText, svg } from "./dom.ts";
import { createLog } from "./log.ts";
import { MarkdownView } from "./markdown.ts";
import { proseWords, safeAddress } from "./prose.ts";

export interface AppEvents {
  send(said: Said | string): void;
  stop(): void;
  retry(): void;
  earlier(): void;
  restart(): void;
  close(): void;
  draft(text: string): void;
  /** The visitor wants the menu: their conversations, data and language. */
  menu(opener: HTMLElement): void;
}

export interface App {
  readonly composer: Composer;
  readonly element: HTMLElement;
  render(state: ChatState): void;
  /** Something to know before writing, such as that there is no network; empty for nothing. */
  hint(text: string): void;
  announce(text: string): void;
}

export interface AppOptions {
  readonly config: Config;
  readonly locale: Locale;
  readonly closable: boolean;
  readonly deeds: Deeds;
  readonly extras: LoadExtras;
}

const MAX_ANNOUNCED = 2_000;
const MARKUP = /\*\*|~~|`+|\||^#+ |^> /gm;

export function createApp({ config, locale, closable, deeds, extras }: AppOptions, events: AppEvents): App {
  const { agent, error } = config;
  const name = agent?.name ?? "Chat";

  const restart = h("button", { type: "button", class: "tool", "aria-label": locale.t("new_conversation"), title: locale.t("new_conversation") }, icon("compose"));
  restart.onclick = () => {
    events.restart();
    composer.input.focus();
  };
  const menu = h("button", { type: "button", class: "tool", "aria-label": locale.t("menu"), title: locale.t("menu"), "aria-haspopup": "dialog" }, icon("menu"));
  menu.onclick = () => events.menu(menu);
  const close = h("button", { type: "button", class: "tool", "aria-label": locale.t("close"), title: locale.t("close") }, icon("close"));
  close.onclick = () => events.close();
  const header = h(
    "header",
    { class: "header" },
    h("span", { class: "avatar", "aria-hidden": "true" }, ([...name.trim()][0] ?? "•").toUpperCase()),
    h("div", { class: "who" }, h("h1", {}, name), agent && h("p", {}, locale.t("kind"))),
    agent && menu,
    agent && restart,
    closable && close,
  );

  const start = h("div", { class: "start" });
  if (agent) {
    const chips = agent.prompts.map(({ label, prompt }) => {
      const chip = h("button", { type: "button", class: "chip" }, h("span", {}, label), icon("right"));
      chip.onclick = () => {
        composer.input.focus();
        events.send(prompt);
      };
      return h("li", {}, chip);
    });
    start.append(
      h("span", { class: "avatar large", "aria-hidden": "true" }, icon("spark")),
      h("h2", { dir: "auto" }, agent.greeting || locale.t("greeting")),
      chips.length ? h("ul", { class: "chips", role: "list", "aria-label": locale.t("suggestions") }, ...chips) : "",
    );
  } else {
    const code = error?.code ?? "unexpected";
    const text = locale.error(code) ?? error?.message ?? (locale.error("unexpected") as string);
    start.append(h("span", { class: "avatar large quiet", "aria-hidden": "true" }, icon("alert")), h("h2", {}, text));
    start.classList.add("unavailable");
  }

  for (const key of ["copy", "copied", "table", "code"] as const) proseWords[key] = locale.t(key);
  const hosts = agent?.imageHosts ?? [];
  const kit: Omit<Kit, "grew"> = {
    h, svg, icon, setAttribute, setText, safeAddress, locale, deeds,
    Markdown: MarkdownView,
    pictureAddress: (src) => pictureAddress(src, hosts, location),
    announce: (text) => setText(status, text),
  };
  const log = createLog({ locale, agentName: name, kit, extras, judged: agent?.feedback ?? false }, start, events);
  const rich = isRich(agent);
  const composer = createComposer(locale, agent?.placeholder ?? null, rich, {
    send: (said) => events.send(said),
    stop: () => events.stop(),
    changed: (text) => events.draft(text),
  });
  const locked = h("p", { class: "locked", hidden: true });
  const hint = h("p", { class: "hint banner", role: "status" });
  const status = h("div", { class: "hidden", role: "status" });
  const foot = h(
    "footer",
    { class: "footer" },
    locked,
    hint,
    composer.element,
    agent?.disclaimer ? h("p", { class: "disclaimer" }, agent.disclaimer) : "",
  );
  if (!agent) foot.hidden = true;
  const element = h("main", { class: "app" }, header, log.element, foot, status);

  let isExtended = false;
  const extend = () => {
    if (isExtended || !agent) return;
    isExtended = true;
    extras().then(
      (made) => composer.extend(made.composer({ ...kit, grew: log.grew }, composer.slots(log.scroller), agent)),
      () => {
        isExtended = false;
      },
    );
  };
  if (rich) extend();
  else {
    // Quoting needs it, too: it comes with the first selection within an answer.
    document.addEventListener("selectionchange", () => {
      const selection = getSelection();
      if (selection && !selection.isCollapsed && log.scroller.contains(selection.anchorNode)) extend();
    });
  }

  let drawn: ChatState = emptyState;
  let next: ChatState | null = null;
  let first = true;

  const draw = () => {
    if (!next) return;
    const state = next;
    next = null;
    const standing = state.thread?.status;
    const closed = standing !== undefined && standing.type !== "active";
    const busy = state.phase !== "idle";
    log.update(state, first ? emptyState : drawn);
    composer.update({
      busy,
      canStop: state.allowCancel && state.phase !== "stopping",
      closed: closed || !agent,
      loading: state.history.phase === "loading",
    });
    composer.element.hidden = closed;
    locked.hidden = !closed;
    if (closed) setText(locked, standing.reason ?? locale.t("locked"));
    restart.disabled = !state.entries.length;
    // Said once and whole: a screen reader cannot follow a text that grows.
    if (drawn.phase !== "idle" && !busy) setText(status, announcement(state));
    else if (drawn.phase === "idle" && busy) setText(status, "");
    drawn = state;
    first = false;
  };

  const announcement = ({ entries }: ChatState): string => {
    const last = entries.at(-1)?.item;
    if (last?.type !== "assistant_message") return "";
    const written = last.content.map((part) => part.text).join("\n").slice(0, MAX_ANNOUNCED);
    const text = written.replace(MARKUP, ""); // nobody wants to hear stars
    return locale.t("answer_ready", { name, text });
  };

  return {
    composer,
    element,
    hint: (text) => setText(hint, text),
    announce: kit.announce,
    render(state) {
      if (!next) requestAnimationFrame(draw);
      next = state;
    },
  };
}
