/** What can be done with a finished answer: copy it, judge it (and say why), have it written again. */
import type { Kit } from "../../items/kit.ts";
import { h, icon, setAttribute, type IconName } from "./dom.ts";

const MAX_REASON = 500;
const COPIED_FOR = 2_000;

/** Where the page allows no clipboard, the old way needs no permission, only a selection. */
export const copyText = (source: string, shown: Node): Promise<void> =>
  navigator.clipboard.writeText(source).catch(() => {
    getSelection()?.selectAllChildren(shown);
    document.execCommand("copy");
  });

export interface Answer {
  readonly id: string;
  /** As it was written, in Markdown. */
  readonly text: string;
  readonly shown: Node;
}

/** `judged` is whether visitors may judge; `again` writes the last answer anew. */
export function deedsOf({ locale: { t }, deeds, announce }: Kit, answer: Answer, judged: boolean, again: () => void): HTMLElement[] {
  const tool = (name: IconName, label: string, use: () => void) => {
    const button = h("button", { type: "button", class: `deed ${name}`, "aria-label": label, title: label }, icon(name));
    button.onclick = use;
    return button;
  };
  const copy = tool("copy", t("copy"), async () => {
    await copyText(answer.text, answer.shown);
    announce(t("copied"));
    copy.replaceChildren(icon("check"));
    setTimeout(() => copy.replaceChildren(icon("copy")), COPIED_FOR);
  });
  const row = h("div", { class: "deeds" }, copy);
  const below = h("div", { class: "why" });

  const say = (text: string) => {
    below.replaceChildren(h("p", { class: "state" }, text));
    announce(text);
  };
  const judge = async (kind: "positive" | "negative", reason?: string) => {
    try {
      await deeds.judge(answer.id, kind, reason);
      for (const [button, its] of [[good, "positive"], [bad, "negative"]] as const) setAttribute(button, "aria-pressed", String(kind === its));
      return true;
    } catch (error) {
      say(deeds.sentence(error));
      return false;
    }
  };
  const ask = () => {
    const field = h("textarea", { rows: 2, maxlength: MAX_REASON, class: "why-field", "aria-label": t("judge_why"), dir: "auto" });
    const skip = h("button", { type: "button", class: "why-button" }, t("form_skip"));
    const form = h("form", {}, h("p", { "aria-hidden": "true" }, t("judge_why")), field, h("span", {}, skip, h("button", { class: "why-button strong" }, t("send"))));
    const leave = () => {
      say(t("judge_thanks"));
      bad.focus();
    };
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
      if (!reason || (await judge("negative", reason))) leave();
    };
    below.replaceChildren(form);
    field.focus();
  };
  const good = tool("good", t("judge_good"), async () => (await judge("positive")) && say(t("judge_thanks")));
  const bad = tool("bad", t("judge_bad"), async () => (await judge("negative")) && ask());
  if (judged) row.append(good, bad);
  for (const button of [good, bad]) setAttribute(button, "aria-pressed", "false");
  // Only the last answer has this on the screen: what follows an answer would go with it.
  row.append(tool("retry", t("retry"), again));
  return [row, below];
}
