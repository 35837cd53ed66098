/** The second script: see `items/kit.ts`. */
import type { Extras } from "./items/kit.ts";

export const extras: Partial<Extras> = {};
export const css = "";
