/** Numbers for an answer's sources: one number a source, in order of first mention. */
import type { AssistantMessageItem, Source } from "./protocol.ts";

export interface Citation {
  readonly number: number;
  /** Its first annotation: which of the answer's, in the order in which they are stored. */
  readonly annotation: number;
  readonly source: Source;
}

/** Where in a part's text a number stands, in UTF-16 units. */
export interface Mark {
  readonly at: number;
  readonly citation: Citation;
}

export interface Citations {
  readonly list: readonly Citation[];
  /** Marks of each content part, by its index. */
  readonly marks: readonly (readonly Mark[])[];
}

const MAX_SOURCES = 200;

const identity = (source: Source): string => {
  if (source.type === "url") return `url ${source.url}`;
  return source.type === "file" ? `file ${source.filename} ${source.title}` : `entity ${source.id}`;
};

/** Code points to UTF-16 units. */
export function utf16Index(text: string, codePoints: number): number {
  let at = 0;
  for (let left = codePoints; left > 0 && at < text.length; left--) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return at;
}

export function cite(item: AssistantMessageItem): Citations {
  const known = new Map<string, Citation>();
  let before = 0;
  const marks = item.content.map((part) => {
    const first = before;
    before += part.annotations.length;
    const found: Mark[] = [];
    const ordered = part.annotations.toSorted((a, b) => (a.index ?? Infinity) - (b.index ?? Infinity));
    for (const annotation of ordered) {
      const { source, index } = annotation;
      let citation = known.get(identity(source));
      if (!citation) {
        if (known.size >= MAX_SOURCES) continue;
        citation = { number: known.size + 1, annotation: first + part.annotations.indexOf(annotation), source };
        known.set(identity(source), citation);
      }
      if (index === null) continue;
      const mark = { at: utf16Index(part.text, index), citation };
      if (!found.some((other) => other.at === mark.at && other.citation === citation)) found.push(mark);
    }
    return found;
  });
  return { list: [...known.values()], marks };
}

/** The address to open, or null: only http(s), relative ones against the platform. */
export function addressOf(source: Source, base: string): string | null {
  if (source.type !== "url") return null;
  try {
    const url = new URL(source.url, base);
    return /^https?:$/.test(url.protocol) && !url.username ? url.href : null;
  } catch {
    return null;
  }
}
