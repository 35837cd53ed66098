/** What can be done with a finished answer: copy it, judge it (and say why). The log adds to the last one's to have it written again. */
import type { Kit, LoadExtras } from "../../items/kit.ts";
import { h, icon, setAttribute, type IconName } from "./dom.ts";

const COPIED_FOR = 2_000;
const NAMED = 40;

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

export interface Judging {
  readonly kit: Kit;
  readonly extras: LoadExtras;
  /** Whether visitors may judge answers. */
  readonly judged: boolean;
}

/** What sets one button apart from others that do the same: the beginning of what it is for, without its markup. */
export function named(label: string, text: string): string {
  const words = text.replace(/[*`~#>|]+|-{3,}|\]\([^)]*\)|\[/g, "").replace(/\s+/g, " ").trim();
  return words ? `${label}: ${words.length > NAMED ? `${words.slice(0, NAMED)}…` : words}` : label;
}

/** `of` is the text that it is for. */
export function tool(name: IconName, label: string, use: () => void, of = ""): HTMLButtonElement {
  const button = h("button", { type: "button", class: `deed deed-${name}`, "aria-label": named(label, of), title: label }, icon(name));
  button.onclick = use;
  return button;
}

export function deedsOf({ kit, extras, judged }: Judging, answer: Answer): HTMLElement[] {
  const { locale: { t }, deeds, announce } = kit;
  const copy = tool("copy", t("copy"), async () => {
    await copyText(answer.text, answer.shown);
    announce(t("copied"));
    copy.replaceChildren(icon("check"));
    setTimeout(() => copy.replaceChildren(icon("copy")), COPIED_FOR);
  }, answer.text);
  const row = h("div", { class: "deeds" }, copy);
  const below = h("div");

  const say = (text: string) => {
    below.replaceChildren(h("p", { class: "state" }, text));
    announce(text);
  };
  const thank = () => say(t("judge_thanks"));
  const judge = async (kind: "positive" | "negative", reason?: string) => {
    try {
      await deeds.judge(answer.id, kind, reason);
    } catch (error) {
      say(deeds.sentence(error));
      return false;
    }
    setAttribute(good, "aria-pressed", String(kind === "positive"));
    setAttribute(bad, "aria-pressed", String(kind === "negative"));
    return true;
  };
  const good = tool("good", t("judge_good"), async () => (await judge("positive")) && thank(), answer.text);
  const bad = tool("bad", t("judge_bad"), async () => {
    if (!(await judge("negative"))) return;
    const leave = () => {
      thank();
      bad.focus();
    };
    extras().then(({ why }) => below.replaceChildren(why(kit, (reason) => judge("negative", reason), leave)), thank);
  }, answer.text);
  for (const button of judged ? [good, bad] : []) {
    setAttribute(button, "aria-pressed", "false");
    row.append(button);
  }
  return [row, below];
}
