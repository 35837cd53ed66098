/** The form at the foot: a field that grows, Send, and Stop in its place while an answer is written. */
import { plainly, type Said } from "../../chat/protocol.ts";
import type { ComposerExtra, Offers, Slots } from "../../items/kit.ts";
import type { Locale } from "../../locale/index.ts";
import { h, icon, setAttribute, setText } from "./dom.ts";

export const MAX_CHARACTERS = 8_000;
const WARN_BELOW = 400;

export interface ComposerState {
  readonly busy: boolean;
  readonly canStop: boolean;
  /** No message can be taken at all: the conversation is locked, or nothing is published. */
  readonly closed: boolean;
  readonly loading: boolean;
}

export interface Composer {
  readonly element: HTMLElement;
  readonly input: HTMLTextAreaElement;
  update(state: ComposerState): void;
  fill(text: string): void;
  /** For the second script; `extend` is told once it is here. */
  slots(log: HTMLElement): Slots;
  extend(extra: ComposerExtra): void;
}

export interface ComposerEvents {
  send(said: Said): void;
  stop(): void;
  changed(text: string): void;
}

/** Whether more than a field is offered, so that room for it is kept from the start. */
export const isRich = (offers: Offers | null): boolean =>
  offers !== null && Boolean(offers.attachments || offers.dictation || offers.tools.length || offers.models.length);

export function createComposer(locale: Locale, placeholder: string | null, rich: boolean, events: ComposerEvents): Composer {
  const input = h("textarea", {
    rows: 1,
    "aria-label": locale.t("your_message"),
    "aria-describedby": "composer-hint",
    placeholder: placeholder ?? locale.t("placeholder"),
    autocomplete: "off",
    enterkeyhint: "send",
    dir: "auto",
  });
  const send = h("button", { type: "submit", class: "send", "aria-label": locale.t("send"), title: locale.t("send") }, icon("send"));
  const stop = h("button", { type: "button", class: "send stop", "aria-label": locale.t("stop"), title: locale.t("stop"), hidden: true }, icon("stop"));
  const hint = h("div", { class: "hint", id: "composer-hint", role: "status" });
  const tray = h("div", { class: "tray" });
  const tools = h("div", { class: "extra-tools" });
  const field = h("div", { class: rich ? "field rich" : "field" }, tray, input, rich && tools, send, stop);
  const element = h("form", { class: "composer" }, field, hint);
  let state: ComposerState = { busy: false, canStop: false, closed: false, loading: false };
  let extra: ComposerExtra | null = null;
  let complaint = "";

  const length = () => [...input.value].length;
  const grow = () => {
    input.style.height = "auto";
    input.style.height = `${input.scrollHeight}px`;
  };
  const refresh = () => {
    const left = input.value.length > MAX_CHARACTERS - WARN_BELOW ? MAX_CHARACTERS - length() : MAX_CHARACTERS;
    const over = left < 0;
    setText(hint, over ? locale.t("too_long", { over: -left }) : complaint || (left < WARN_BELOW ? locale.t("left", { left }) : ""));
    hint.classList.toggle("wrong", over || complaint !== "");
    setAttribute(input, "aria-invalid", over ? "true" : null);
    input.disabled = state.closed;
    const isEmpty = !input.value.trim() && !extra?.hasContent;
    send.disabled = isEmpty || over || state.closed || state.busy || state.loading || Boolean(extra?.isBusy);
    const focused = element.ownerDocument.activeElement;
    send.hidden = state.busy;
    stop.hidden = !state.busy;
    stop.disabled = !state.canStop && focused !== stop; // disabling would drop the focus
    // A button that hides takes the focus with it: give it to the field.
    if ((focused === send || focused === stop) && (focused as HTMLElement).hidden) input.focus();
  };
  const submit = () => {
    if (send.disabled) return;
    const said: Said = { ...plainly(input.value), ...extra?.said() };
    extra?.sent();
    complaint = "";
    fill("");
    events.send(said);
  };
  const fill = (text: string) => {
    input.value = text;
    events.changed(text);
    grow();
    refresh();
  };

  input.addEventListener("input", () => {
    complaint = "";
    events.changed(input.value);
    grow();
    refresh();
  });
  input.addEventListener("keydown", (event) => {
    // Enter that confirms an input method's suggestion is not Enter; Safari says so by the key code only.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    submit();
  });
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  field.addEventListener("pointerdown", (event) => {
    if (event.target === field) {
      event.preventDefault();
      input.focus();
    }
  });
  stop.addEventListener("click", () => events.stop());
  refresh();

  return {
    element,
    input,
    fill,
    update(next) {
      state = next;
      refresh();
    },
    slots: (log) => ({
      form: element,
      input,
      tray,
      tools,
      log,
      changed: refresh,
      complain(text) {
        complaint = text;
        refresh();
      },
      insert(text) {
        input.setRangeText(text, input.selectionStart, input.selectionEnd, "end");
        fill(input.value);
        input.focus();
      },
    }),
    extend(made) {
      extra = made;
      refresh();
    },
  };
}
