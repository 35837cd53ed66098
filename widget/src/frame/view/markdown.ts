/**
 * A model's Markdown, drawn as it grows. Parsed by marked's lexer only: elements are made from its tokens one by one
 * (prose.ts), so no markup of the model's ever meets an HTML parser.
 */
import { Lexer, type Token } from "marked";
import type { Mark } from "../../chat/citations.ts";
import { drawTokens, withSlots } from "./prose.ts";

/** Private characters, of which marks are made here; and those that turn words round, so that a link reads like another. */
const UNWANTED = /[\uE000-\uF8FF\u202D\u202E]/g;

interface Block {
  readonly start: number;
  readonly end: number;
  readonly element: HTMLElement;
  readonly signature: string;
}

/**
 * Draws a text that grows. Finished blocks are left alone; only the last one is parsed again.
 * `update` may be called with any text: what does not continue the last one starts afresh.
 */
export class MarkdownView {
  #frozen: Block[] = [];
  #tail: HTMLElement | null = null;
  #text = "";

  constructor(
    readonly root: HTMLElement,
    private readonly draw: (mark: Mark) => Node = () => document.createTextNode(""),
  ) {}

  update(source: string, given: readonly Mark[], growing: boolean): void {
    const text = source.replace(UNWANTED, "\uFFFD").replaceAll("\r", " "); // marks count on the length staying
    const marks = given.map(({ at, citation }) => ({ at: text.slice(0, at).trimEnd().length, citation }));
    const settled = this.#frozen.at(-1)?.end ?? 0;
    if (text.slice(0, settled) !== this.#text.slice(0, settled)) this.#reset();
    this.#text = text;
    this.#frozen = this.#frozen.map((block) => {
      const inside = marksIn(marks, block.start, block.end);
      return signatureOf(inside) === block.signature
        ? block
        : this.#put(text.slice(block.start, block.end), inside, block.start, block.element);
    });

    let start = this.#frozen.at(-1)?.end ?? 0;
    const tokens = lex(text.slice(start));
    const last = tokens.findLastIndex(({ type }) => type !== "space");
    tokens.forEach((token, at) => {
      const end = at === tokens.length - 1 ? text.length : start + token.raw.length;
      if (token.type !== "space") {
        const open = growing && at === last;
        const raw = open && token.type !== "code" ? mended(text.slice(start, end)) : text.slice(start, end);
        const block = this.#put(raw, marksIn(marks, start, end), start, this.#tail ?? this.#add(), end);
        this.#tail = open ? block.element : null;
        if (!open) this.#frozen.push(block);
      }
      start = end;
    });
  }

  #put(raw: string, marks: readonly Mark[], start: number, element: HTMLElement, end = start + raw.length): Block {
    const tokens = lex(withSlots(raw, start, marks));
    graft(element, drawTokens(tokens, (slot) => marks[slot] && this.draw(marks[slot])));
    return { start, end, element, signature: signatureOf(marks) };
  }

  #add(): HTMLElement {
    const element = document.createElement("div");
    element.className = "block";
    this.root.append(element);
    return element;
  }

  #reset(): void {
    this.root.replaceChildren();
    this.#frozen = [];
    this.#tail = null;
  }
}

/**
 * Gives `place` the children of `fresh`, keeping what stays the same: rows and lines that are drawn already are not laid out
 * again, and what the reader has selected stays selected.
 */
function graft(place: Node, fresh: Node): void {
  let old = place.firstChild;
  for (const child of [...fresh.childNodes]) {
    const next = old?.nextSibling ?? null;
    if (!old) place.appendChild(child);
    else if (old instanceof Text && child instanceof Text && child.data.startsWith(old.data)) old.appendData(child.data.slice(old.length));
    else if (!old.isEqualNode(child)) {
      if (old instanceof Element && old.cloneNode().isEqualNode(child.cloneNode())) graft(old, child);
      else place.replaceChild(child, old);
    }
    old = next;
  }
  while (old) {
    const next: ChildNode | null = old.nextSibling;
    old.remove();
    old = next;
  }
}

/** Nesting hundreds deep takes the lexer ages, then its stack: such a text is shown as it is. */
const TOO_DEEP = /(?:(?:[>*_~[(+-]|\d+[.)])\s?){300}/;

function lex(source: string): Token[] {
  try {
    if (TOO_DEEP.test(source)) throw new RangeError();
    return new Lexer({ gfm: true, breaks: false }).lex(source);
  } catch {
    return [{ type: "paragraph", raw: source, text: source, tokens: [{ type: "text", raw: source, text: source }] }];
  }
}

const marksIn = (marks: readonly Mark[], start: number, end: number): readonly Mark[] =>
  marks.filter(({ at }) => at > start && at <= end);

const signatureOf = (marks: readonly Mark[]): string =>
  marks.map(({ at, citation }) => `${at}:${citation.number}`).join();

/** Half-written syntax at the end of a growing block, closed or hidden, so that it does not flicker. */
export function mended(source: string): string {
  const text = source
    .replace(/!?\[([^\][\n]*)\]\([^()\s]*$/, "$1")
    .replace(/!?\[([^\][\n]*)$/, "$1")
    .replace(/(^|[\s(])[*_`~]{1,3}$/, "$1");
  const lastLine = text.slice(text.lastIndexOf("\n") + 1);
  const ticks = lastLine.match(/`/g)?.length ?? 0;
  if (ticks % 2) return `${text}\``;
  const stars = text.replace(/`[^`\n]*`/g, "").match(/\*\*/g)?.length ?? 0;
  if (stars % 2 === 0) return text;
  if (text.endsWith("**")) return text.slice(0, -2);
  return text.endsWith("*") ? `${text}*` : `${text}**`;
}
