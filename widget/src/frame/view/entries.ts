/**
 * The entries in order, each drawn once and updated in place. They stand in parts, of which the browser lays out only those
 * near what is seen: a thread of thousands costs little more than one of twenty.
 */
import type { Entry } from "../../chat/state.ts";
import { h } from "./dom.ts";
import type { ItemView } from "./items.ts";

/** Entries in a part: a page of history. */
const PART = 20;

interface Known {
  readonly view: ItemView | null;
  readonly entry: Entry;
}

export interface Entries {
  readonly element: HTMLElement;
  draw(entries: readonly Entry[]): void;
}

export function createEntries(make: (entry: Entry) => ItemView | null): Entries {
  const element = h("div", { class: "entries" });
  const views = new Map<string, Known>();
  let drawn: readonly Entry[] = [];

  const take = (child: Element | undefined) => {
    const part = child?.parentElement;
    child?.remove();
    if (part && !part.firstChild) part.remove();
  };
  const put = (child: HTMLElement, after: HTMLElement | null) => {
    let part = after?.parentElement;
    const isFull = part && part.lastChild === after && part.childElementCount >= PART;
    if (!part || isFull) {
      const fresh = h("div", { class: "part" });
      if (part) part.after(fresh);
      else element.prepend(fresh);
      part = fresh;
    }
    part.insertBefore(child, after?.parentElement === part ? after.nextSibling : part.firstChild);
  };
  const nextOf = (after: HTMLElement | null) =>
    after ? (after.nextElementSibling ?? after.parentElement?.nextElementSibling?.firstElementChild) : element.firstElementChild?.firstElementChild;

  /** An entry that cannot be drawn is told to the console, and keeps none of the others from the screen. */
  const safely = <T>(draw: () => T): T | null => {
    try {
      return draw();
    } catch (error) {
      reportError(error);
      return null;
    }
  };

  /** The view of an entry, as it stands now. */
  const show = (entry: Entry): HTMLElement | undefined => {
    let known = views.get(entry.key);
    if (!known || known.entry.item.type !== entry.item.type) {
      take(known?.view?.element);
      known = { view: safely(() => make(entry)), entry };
    } else if (known.entry !== entry) {
      const { view } = known;
      safely(() => view?.update(entry));
      known = { view, entry };
    }
    views.set(entry.key, known);
    return known.view?.element;
  };

  return {
    element,
    draw(entries) {
      const before = drawn;
      drawn = entries;
      // Mostly an answer grows, and all else stays as it is.
      if (entries.length === before.length && entries.every(({ key, item }, at) => key === before[at]?.key && item.type === before[at]?.item.type)) {
        entries.forEach((entry, at) => entry !== before[at] && show(entry));
        return;
      }
      const keys = new Set(entries.map(({ key }) => key));
      for (const [key, { view }] of views) {
        if (keys.has(key)) continue;
        take(view?.element);
        views.delete(key);
      }
      let after: HTMLElement | null = null;
      for (const entry of entries) {
        const child = show(entry);
        if (!child) continue;
        if (nextOf(after) !== child) {
          take(child);
          put(child, after);
        }
        after = child;
      }
    },
  };
}
