/** The conversation: entries in order, what is going on under them, and where the reader stands. */
import type { ChatState, Notice } from "../../chat/state.ts";
import type { Kit, LoadExtras } from "../../items/kit.ts";
import type { Locale } from "../../locale/index.ts";
import { tool } from "./deeds.ts";
import { h, icon, setAttribute, setText } from "./dom.ts";
import { createEntries } from "./entries.ts";
import { failureCard } from "./failure.ts";
import { itemView, type Context } from "./items.ts";
import { MarkdownView } from "./markdown.ts";

const NEAR = 96;
/** Pixels above which the past is asked for before its beginning is reached. */
const AHEAD = 800;

export interface Log {
  readonly element: HTMLElement;
  readonly scroller: HTMLElement;
  update(state: ChatState, previous: ChatState): void;
  /** Something grew by itself. */
  grew(): void;
}

export interface LogContext {
  readonly locale: Locale;
  readonly agentName: string;
  readonly kit: Omit<Kit, "grew">;
  readonly extras: LoadExtras;
  readonly judged: boolean;
}

export interface LogEvents {
  retry(): void;
  earlier(): void;
}

export function createLog(given: LogContext, start: HTMLElement, events: LogEvents): Log {
  const { locale, agentName, extras, judged } = given;
  const grew = () => pinned && toEnd();
  // What was pressed goes with what it stood in: the keyboard goes on from here.
  const again = () => {
    scroller.focus({ preventScroll: true });
    events.retry();
  };
  const context: Context = { agentName, extras, judged, kit: { ...given.kit, grew } };
  const retry = tool("retry", locale.t("retry"), again);
  const earlier = h("button", { type: "button", class: "link earlier" }, locale.t("earlier"));
  earlier.onclick = () => events.earlier();
  const entries = createEntries((entry) => itemView(entry, context));
  const activity = h("div", { class: "activity" });
  const notices = h("div", { class: "notices" });
  const failure = h("div", { class: "failures" });
  const loading = h("div", { class: "skeleton" }, h("i"), h("i"), h("i"), h("span", { class: "hidden" }, locale.t("loading")));
  const scroller = h(
    "div",
    { class: "log", role: "log", "aria-live": "off", "aria-label": locale.t("conversation"), tabindex: 0 },
    start,
    earlier,
    loading,
    entries.element,
    activity,
    notices,
    failure,
  );
  const latest = h("button", { type: "button", class: "latest", "aria-label": locale.t("latest"), hidden: true }, icon("down"));
  // Headings in answers and cards begin at the third level: this is their second.
  const element = h("div", { class: "conversation" }, h("h2", { class: "hidden" }, locale.t("conversation")), scroller, latest);

  const distance = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  const toEnd = () => {
    scroller.scrollTop = scroller.scrollHeight;
  };
  // Who reads the end goes on reading it when the field below grows or a keyboard comes up.
  let pinned = true;
  let isReady = false;
  scroller.addEventListener("scroll", () => {
    pinned = distance() < NEAR;
    latest.hidden = pinned;
    if (scroller.scrollTop < AHEAD && isReady && !earlier.hidden) events.earlier();
  }, { passive: true });
  new ResizeObserver(() => pinned && toEnd()).observe(scroller);
  latest.onclick = () => {
    toEnd();
    scroller.focus();
  };

  const drawActivity = ({ phase, progress, entries }: ChatState) => {
    const writing = entries.some(({ status, item }) => {
      return status === "streaming" && item.type === "assistant_message" && item.content.some(({ text }) => text);
    });
    const text =
      phase === "reconnecting" ? locale.t("reconnecting") : phase === "offline" ? locale.t("offline") : (progress?.text ?? "");
    const waiting = phase !== "idle" && !writing && phase !== "stopping";
    const wanted = text ? `text ${text}` : waiting ? "dots" : "";
    if (activity.dataset.shows === wanted) return;
    activity.dataset.shows = wanted;
    activity.replaceChildren();
    if (text) activity.append(h("span", { class: "spinner" }), h("span", { class: "shimmer" }, text));
    else if (waiting) {
      const dots = h("span", { class: "dots" }, h("i"), h("i"), h("i"));
      activity.append(dots, h("span", { class: "hidden" }, locale.t("answering", { name: agentName })));
    }
  };

  /** One button, under the last answer: what follows an answer would go with it. */
  const placeRetry = (isLocked: boolean) => {
    const row = isLocked ? null : entries.element.lastElementChild?.lastElementChild?.querySelector(".deeds");
    if (!row) retry.remove();
    else if (retry.parentElement !== row) row.append(retry);
  };

  const noticeCard = ({ level, title, message }: Notice) => {
    const body = h("div", { class: "prose" });
    new MarkdownView(body).update(message, [], false);
    return h("div", { class: `notice ${level}`, role: "status" }, title && h("strong", {}, title), body);
  };

  return {
    element,
    scroller,
    grew,
    update(state, previous) {
      const atEnd = distance() < NEAR;
      const height = scroller.scrollHeight;
      const isEmpty = !state.entries.length && state.history.phase !== "loading";
      start.hidden = !isEmpty || state.history.phase === "failed";
      loading.hidden = state.history.phase !== "loading" || state.entries.length > 0;
      isReady = state.history.phase === "ready";
      earlier.hidden = !state.history.earlier;
      earlier.disabled = state.history.phase === "loading";
      setText(earlier, state.history.phase === "loading" ? locale.t("loading") : locale.t("earlier"));
      setAttribute(scroller, "aria-busy", state.phase !== "idle" || state.history.phase === "loading" ? "true" : "false");
      if (state.entries !== previous.entries) entries.draw(state.entries);
      placeRetry(state.thread !== null && state.thread.status.type !== "active");
      drawActivity(state);
      if (state.notices !== previous.notices) notices.replaceChildren(...state.notices.map(noticeCard));
      if (state.failure !== previous.failure || state.phase !== previous.phase) {
        const shown = state.failure && state.phase === "idle" ? state.failure : null;
        failure.replaceChildren(
          ...(shown ? [failureCard(shown, locale, state.history.phase === "failed", again)] : []),
        );
      }
      const sent = state.entries.at(-1)?.local && state.entries.length > previous.entries.length;
      const grewAbove = state.entries.length > 0 && previous.entries.length > 0 && state.entries[0]?.key !== previous.entries[0]?.key;
      if (grewAbove && !atEnd) scroller.scrollTop += scroller.scrollHeight - height;
      else if (atEnd || sent || !previous.entries.length) toEnd();
      latest.hidden = distance() < NEAR;
    },
  };
}
