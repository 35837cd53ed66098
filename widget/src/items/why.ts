/** The form under an answer that was disliked: why, in the visitor's own words, or not at all. */
import type { Kit } from "./kit.ts";

const MAX_REASON = 500;

/** `send` answers whether the reason was taken; `leave` is told once the form is of no more use. */
export function whyForm({ h, locale: { t } }: Kit, send: (reason: string) => Promise<boolean>, leave: () => void): HTMLElement {
  const field = h("textarea", { rows: 2, maxlength: MAX_REASON, class: "why-field", "aria-label": t("judge_why"), dir: "auto" });
  const skip = h("button", { type: "button", class: "w-button", "data-variant": "ghost" }, t("form_skip"));
  const done = h("button", { class: "w-button", "data-variant": "solid", "data-color": "primary" }, t("send"));
  const form = h("form", { class: "why" }, h("p", { "aria-hidden": "true" }, t("judge_why")), field, h("span", {}, skip, done));
  skip.onclick = leave;
  form.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
      event.preventDefault();
      form.requestSubmit();
    } else if (event.key === "Escape") {
      event.stopPropagation(); // it closes this, not the chat
      leave();
    }
  };
  form.onsubmit = async (event) => {
    event.preventDefault();
    const reason = field.value.trim();
    if (!reason || (await send(reason))) leave();
  };
  queueMicrotask(() => field.focus());
  return form;
}
