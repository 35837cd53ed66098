/** Checks for values that came from outside: JSON, messages, storage. */

export type Json = Readonly<Record<string, unknown>>;

export const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const isString = (value: unknown): value is string => typeof value === "string";

/** The value if it is a string, else null: for fields that may be missing, null or wrong. */
export const text = (value: unknown): string | null => (isString(value) ? value : null);

/** The number that is given, or written; NaN for anything else, whatever it says of its own value. */
export const numeric = (value: unknown): number => (isString(value) || typeof value === "number" ? Number(value) : NaN);

export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

export const records = (value: unknown): readonly Json[] => list(value).filter(isRecord);
