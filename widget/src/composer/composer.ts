/** What an agent offers in the composer beside the field: files, tools, models, dictation; and quoting, always. */
import type { ComposerExtra, Kit, Offer, Offers, Slots } from "../items/kit.ts";
import { dictationButton } from "./dictation.ts";
import { filesOf } from "./files.ts";
import { quoteOf } from "./quote.ts";

export function composerExtra(kit: Kit, slots: Slots, offers: Offers): ComposerExtra {
  const { h, locale } = kit;
  const files = offers.attachments && filesOf(kit, slots, offers.attachments);
  const quote = quoteOf(kit, slots);

  /** The platform's own list: every keyboard, phone and screen reader knows it. */
  const menu = (offered: readonly Offer[], label: string, none: string): HTMLSelectElement | null => {
    if (!offered.length) return null;
    const select = h("select", { class: "c-menu", "aria-label": label, title: label }, h("option", { value: "" }, none), ...offered.map((offer) => h("option", { value: offer.id }, offer.label)));
    select.onchange = () => select.toggleAttribute("data-chosen", select.value !== "");
    return select;
  };
  const tool = menu(offers.tools, locale.t("choose_tool"), locale.t("no_tool"));
  const model = menu(offers.models, locale.t("choose_model"), locale.t("default_model"));
  const mic = offers.dictation ? dictationButton(kit, slots) : null;

  slots.tray.append(quote.element);
  if (files) slots.tray.append(files.element);
  slots.tools.append(...[files?.button, tool, model, mic].filter((part) => part instanceof HTMLElement));
  // An empty tray takes no room.
  const tidy = () => slots.tray.toggleAttribute("data-full", !quote.element.hidden || (files ? !files.element.firstElementChild?.hasAttribute("hidden") : false));
  new MutationObserver(tidy).observe(slots.tray, { subtree: true, attributes: true, attributeFilter: ["hidden"] });

  return {
    said: () => ({ attachments: files?.done() ?? [], quote: quote.text, tool: tool?.value || null, model: model?.value || null }),
    get isBusy() {
      return files?.isBusy ?? false;
    },
    get hasContent() {
      return Boolean(files?.done().length);
    },
    sent() {
      files?.clear();
      quote.clear();
      // A tool is for one message, a model for the conversation.
      if (tool) {
        tool.value = "";
        tool.toggleAttribute("data-chosen", false);
      }
    },
  };
}
