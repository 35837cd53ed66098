/** A part of an answer, selected and taken into the next message. */
import type { Kit, Slots } from "../items/kit.ts";

const MAX_QUOTE = 2_000;

export interface Quote {
  readonly element: HTMLElement;
  readonly text: string | null;
  clear(): void;
}

export function quoteOf({ h, icon, locale }: Kit, slots: Slots): Quote {
  const text = h("span", { class: "c-quoted", dir: "auto" });
  const remove = h("button", { type: "button", class: "c-remove", "aria-label": locale.t("remove_quote"), title: locale.t("remove_quote") }, icon("close"));
  const box = h("div", { class: "c-quote", hidden: true }, h("span", { class: "hidden" }, locale.t("quoted")), text, remove);
  const offer = h("button", { type: "button", class: "c-offer", hidden: true }, icon(null, "M9 7c-2 1-3 2.5-3 5v4h4v-4H8m10-5c-2 1-3 2.5-3 5v4h4v-4h-2"), h("span", {}, locale.t("quote")));
  slots.log.parentElement?.append(offer);

  const selected = (): { words: string; place: DOMRect } | null => {
    const selection = getSelection();
    if (!selection || selection.isCollapsed || !selection.rangeCount) return null;
    const range = selection.getRangeAt(0);
    const around = range.commonAncestorContainer;
    const within = (around instanceof Element ? around : around.parentElement)?.closest(".message.assistant .prose");
    const words = selection.toString().trim().slice(0, MAX_QUOTE);
    return within && slots.log.contains(within) && words ? { words, place: range.getBoundingClientRect() } : null;
  };
  const show = () => {
    const found = selected();
    offer.hidden = !found;
    if (!found) return;
    const frame = (slots.log.parentElement as HTMLElement).getBoundingClientRect();
    const top = Math.max(found.place.top - frame.top - 40, 6);
    offer.style.top = `${Math.min(top, frame.height - 40)}px`;
    offer.style.left = `${Math.min(Math.max(found.place.left - frame.left, 8), Math.max(frame.width - offer.offsetWidth - 8, 8))}px`;
  };
  document.addEventListener("selectionchange", show);
  slots.log.addEventListener("scroll", () => !offer.hidden && show(), { passive: true });
  offer.addEventListener("pointerdown", (event) => event.preventDefault()); // it would end the selection
  offer.onclick = () => {
    const found = selected();
    if (!found) return;
    text.textContent = found.words;
    box.hidden = false;
    getSelection()?.removeAllRanges();
    offer.hidden = true;
    slots.changed();
    slots.input.focus();
  };
  const clear = () => {
    box.hidden = true;
    text.textContent = "";
    slots.changed();
  };
  remove.onclick = () => {
    clear();
    slots.input.focus();
  };
  show();
  return {
    element: box,
    get text() {
      return text.textContent || null;
    },
    clear,
  };
}
