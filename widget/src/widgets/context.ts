/** What the components of one widget share while they are drawn. */
import type { Kit } from "../items/kit.ts";
import { isString, type Json } from "../shared/guards.ts";

/** A field, wherever it stands: a number field gives text, as HTML does. */
export type FieldValue = string | boolean;

/** Fields whose values go with each other: those of a form, a card that is one, or of the whole widget. */
export interface Scope {
  readonly fields: Map<string, () => FieldValue>;
  readonly submit: ((source: HTMLElement) => void) | null;
}

export interface Draw {
  readonly kit: Kit;
  readonly scheme: "light" | "dark";
  /** `#rrggbb` that text stands on. */
  readonly surface: string;
  readonly scope: Scope;
  readonly depth: number;
  /** The children of a component, drawn. */
  children(node: Json, inside?: Partial<Draw>): HTMLElement[];
  run(action: unknown, scope: Scope, source: HTMLElement): void;
  /** An id for a field of this name, for its label to point at. */
  id(name: string): string;
  /** What was entered into a field of this name before the widget was drawn anew. */
  entered(name: string): FieldValue | undefined;
}

const MAX_TEXT = 20_000;

/** Text of a component; numbers are as good. */
export const words = (value: unknown): string =>
  isString(value) ? value.slice(0, MAX_TEXT) : typeof value === "number" || typeof value === "boolean" ? String(value) : "";

/** The values of a scope, nested where a name has dots. */
export function valuesOf({ fields }: Scope): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, read] of fields) {
    const path = name.split(".");
    const last = path.pop() as string;
    let into = values;
    for (const part of path) {
      if (!Object.hasOwn(into, part) || typeof into[part] !== "object") define(into, part, {});
      into = into[part] as Record<string, unknown>;
    }
    define(into, last, read());
  }
  return values;
}

// Not by assignment: a field may be called __proto__.
const define = (into: Record<string, unknown>, name: string, value: unknown) =>
  Object.defineProperty(into, name, { value, enumerable: true, configurable: true, writable: true });
