/**
 * Markdown tokens to elements. What is not in this file cannot come out of it: HTML in the text is shown as text,
 * links go to http(s) and mailto only, and nothing is loaded from anywhere. An image becomes a link, because its
 * address can carry what the visitor said to a stranger.
 */
import type { Token, Tokens } from "marked";
import type { Mark } from "../../chat/citations.ts";
import { copyText, named } from "./deeds.ts";
import { h, icon, setAttribute, setText } from "./dom.ts";

/** Draws what belongs in a slot, by its number. */
type Fill = (slot: number) => Node | undefined;

export function drawTokens(tokens: readonly Token[], fill: Fill): DocumentFragment {
  const fragment = document.createDocumentFragment();
  fragment.append(...tokens.flatMap((token) => block(token, fill)));
  return fragment;
}

function block(token: Token, fill: Fill): Node[] {
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "code":
      return [codeBlock((token as Tokens.Code).text.replace(SLOT, ""))];
    case "heading":
      // The agent's name is the page's h1 and the greeting its h2.
      return [h(`h${Math.min((token as Tokens.Heading).depth + 2, 6) as 3 | 4 | 5 | 6}`, {}, ...inlines(token, fill))];
    case "hr":
      return [h("hr")];
    case "blockquote":
      return [h("blockquote", {}, drawTokens((token as Tokens.Blockquote).tokens, fill))];
    case "list":
      return [list(token as Tokens.List, fill)];
    case "table":
      return [wide(table(token as Tokens.Table, fill), proseWords.table)];
    case "paragraph":
      return [h("p", {}, ...inlines(token, fill))];
    case "html":
      return [h("p", {}, ...slots(token.raw.trim(), fill))];
    default:
      return inline(token, fill); // a tight list's text
  }
}

/** What is said of code and tables; set once for the language at hand. Without words there is no Copy button. */
export const proseWords = { copy: "", copied: "", table: "", code: "" };

function codeBlock(source: string): HTMLElement {
  const code = h("code", {}, source);
  const block = wide(h("pre", {}, code), proseWords.code);
  if (!proseWords.copy) return block;
  const said = h("span");
  const button = h("button", { type: "button", class: "copy" }, icon("copy"), said);
  const say = (words: string, name: string) => {
    setText(said, words);
    setAttribute(button, "aria-label", name);
  };
  const offer = () => say(proseWords.copy, named(proseWords.copy, source));
  offer();
  button.onclick = async () => {
    await copyText(code.textContent as string, code); // which may have grown
    say(proseWords.copied, proseWords.copied);
    setTimeout(offer, 2_000);
  };
  return h("div", { class: "code" }, block, button);
}

function list({ ordered, start, items }: Tokens.List, fill: Fill): HTMLElement {
  const rows = items.map((item) => h("li", {}, ...item.tokens.flatMap((token) => block(token, fill))));
  return ordered ? h("ol", { start: start === 1 ? null : start }, ...rows) : h("ul", {}, ...rows);
}

function table({ header, rows }: Tokens.Table, fill: Fill): HTMLElement {
  const row = (cells: readonly Tokens.TableCell[], tag: "th" | "td") =>
    h("tr", {}, ...cells.map((cell) => h(tag, { align: cell.align }, ...inlines(cell, fill))));
  return h("table", {}, h("thead", {}, row(header, "th")), h("tbody", {}, ...rows.map((cells) => row(cells, "td"))));
}

/** Scrolls sideways, so the keyboard must reach it. */
const wide = (content: HTMLElement, name: string): HTMLElement =>
  h("div", { class: "wide", tabindex: 0, role: name ? "group" : null, "aria-label": name || null }, content);

const inlines = (token: { tokens?: Token[] }, fill: Fill): Node[] =>
  (token.tokens ?? []).flatMap((child) => inline(child, fill));

function inline(token: Token, fill: Fill): Node[] {
  switch (token.type) {
    case "strong":
    case "em":
    case "del":
      return [h(token.type, {}, ...inlines(token, fill))];
    case "codespan":
      return codespan(token as Tokens.Codespan, fill);
    case "br":
      return [h("br")];
    case "link":
      return /^[[<]/.test(token.raw) ? link(token as Tokens.Link, inlines(token, fill)) : bareLink(token as Tokens.Link, fill);
    case "image":
      return link(token as Tokens.Image, slots((token as Tokens.Image).text || (token as Tokens.Image).href, fill));
    case "checkbox":
      return [new Text((token as Tokens.Checkbox).checked ? "☑ " : "☐ ")];
    case "text":
      return "tokens" in token && token.tokens ? inlines(token, fill) : slots(decoded((token as Tokens.Text).text), fill);
    case "escape":
      // A formula's thin spaces keep their backslash; nobody escapes these signs otherwise.
      return slots(/^\\[,;:!]$/.test(token.raw) ? token.raw : (token as Tokens.Escape).text, fill);
    default:
      return slots(token.raw, fill); // HTML, and what marked may learn one day
  }
}

function codespan({ text }: Tokens.Codespan, fill: Fill): Node[] {
  const marks = slots(text, fill).filter((node) => node instanceof Element);
  return [h("code", {}, text.replace(SLOT, "")), ...marks];
}

/** An address in running text. A slot hides from marked that a sentence ends there: its full stop is no part of it. */
function bareLink({ href, text }: Tokens.Link, fill: Fill): Node[] {
  const plain = text.replace(SLOT, "");
  const address = href.replace(SLOT, "");
  const length = plain.search(/[?!.,:*_'"~]*$/);
  const marks = slots(text, fill).filter((node) => node instanceof Element);
  const end = plain.slice(length);
  return [
    ...link({ href: address.slice(0, address.length - end.length) }, [new Text(plain.slice(0, length))]),
    ...(end ? [new Text(end)] : []),
    ...marks,
  ];
}

function link({ href }: { href: string }, content: Node[]): Node[] {
  const address = safeAddress(href.replace(SLOT, ""));
  if (!address) return content;
  const isMark = (node: Node) => node instanceof Element && node.matches(".mark");
  return [
    h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, ...content.filter((node) => !isMark(node))),
    ...content.filter(isMark), // a link cannot hold another
  ];
}

/** The address in the browser's own reading of it, if it is one to follow; null otherwise. */
export function safeAddress(href: string): string | null {
  try {
    const url = new URL(href);
    // Whoever writes `https://bank.example@other.example` wants the reader to misread it.
    return ["http:", "https:", "mailto:"].includes(url.protocol) && !url.username ? url.href : null;
  } catch {
    return null; // relative to what?
  }
}

const ENTITIES: Readonly<Record<string, string>> = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00A0", hellip: "…", ndash: "–", mdash: "—", copy: "©",
};

const decoded = (text: string): string =>
  text.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]+));/gi, (whole, decimal?: string, hex?: string, name?: string) => {
    if (name) return Object.hasOwn(ENTITIES, name) ? (ENTITIES[name] as string) : whole;
    const point = parseInt(decimal ?? (hex as string), decimal ? 10 : 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : "\uFFFD";
  });

// ── slots ──
// A mark goes through Markdown as one private character between two brackets: punctuation, so that emphasis beside it
// still opens and closes. The caller replaces private characters of the model's own first, so none can be forged.

const FIRST_SLOT = 0xe100;
const SLOT = /⸨([\uE100-\uF8FF])⸩/g;
/** Lines that a mark would stop from being what they are: fences, rules, table rulers. */
const STRUCTURAL = /^\s*(?:(`{3,}|~{3,}).*|[-=*_|:\s]+)$/;

/** The source with a slot wherever a mark can stand; `start` is the source's own place in the text. */
export function withSlots(source: string, start: number, marks: readonly Mark[]): string {
  let result = source;
  for (let slot = marks.length - 1; slot >= 0; slot--) {
    const at = Math.min((marks[slot] as Mark).at - start, source.length);
    const line = source.slice(source.lastIndexOf("\n", at - 1) + 1, at);
    if (at === 0 || STRUCTURAL.test(line)) continue;
    result = `${result.slice(0, at)}⸨${String.fromCharCode(FIRST_SLOT + slot)}⸩${result.slice(at)}`;
  }
  return result;
}

function slots(text: string, fill: Fill): Node[] {
  return text.split(SLOT).flatMap((part, at) => {
    if (at % 2 === 0) return part ? [new Text(part)] : [];
    const drawn = fill(part.charCodeAt(0) - FIRST_SLOT);
    return drawn ? [drawn] : [];
  });
}
