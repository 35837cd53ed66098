/**
 * What the page's loader and the frame say to each other over one MessagePort.
 * Either side may be an older build than the other, or hostile: whatever does not parse is dropped.
 */
import { isColour } from "./colour.ts";
import { isRecord, isString, text, type Json } from "./guards.ts";

export const VERSION = 1;
const HELLO = "stonechat:hello";
const MAX_TOKEN = 8192;
const MAX_ERROR = 500;

export type Layout = "panel" | "inline";

/** Posted to the frame's window with the port; all else travels over the port. */
export interface Hello {
  readonly type: typeof HELLO;
  readonly version: number;
  readonly layout: Layout;
  readonly locale: string | null;
  readonly userToken: string | null;
}

export type ToFrame =
  | { readonly type: "open"; readonly focus: boolean }
  | { readonly type: "closed" }
  | { readonly type: "identify"; readonly userToken: string | null }
  /** What a client tool came to in the page: JSON, or why not. */
  | { readonly type: "tool"; readonly id: number; readonly result: string | null; readonly error: string | null };

export interface LauncherLook {
  readonly accent: string;
  readonly position: "left" | "right";
  readonly label: string;
}

export type ToHost =
  | { readonly type: "ready" | "close"; readonly detail?: undefined }
  | ({ readonly type: "launcher" } & LauncherLook)
  | { readonly type: "unread"; readonly count: number }
  /** An answer is complete; a `client_effect` of the protocol: both are handed to the page's `on` handlers. */
  | { readonly type: "message"; readonly detail?: undefined }
  | { readonly type: "effect"; readonly detail: { readonly name: string; readonly data: Json } }
  /** A widget's action that is for the page. */
  | { readonly type: "action"; readonly detail: { readonly name: string; readonly payload: unknown; readonly item: string } }
  /** A client tool to be run; answered with `tool` and the same id. */
  | { readonly type: "tool"; readonly id: number; readonly detail: { readonly name: string; readonly arguments: Json } };

export const hello = (layout: Layout, locale: string | null, userToken: string | null): Hello => ({
  type: HELLO,
  version: VERSION,
  layout,
  locale,
  userToken,
});

const isToken = (value: unknown): value is string | null =>
  value === null || (isString(value) && value.length > 0 && value.length <= MAX_TOKEN);

export function parseHello(value: unknown): Hello | null {
  if (!isRecord(value) || value.type !== HELLO || value.version !== VERSION) return null;
  const { layout, locale, userToken } = value;
  if (layout !== "panel" && layout !== "inline") return null;
  if (!isToken(userToken) || !(locale === null || (isString(locale) && locale.length <= 35))) return null;
  return hello(layout, locale, userToken);
}

export function parseToFrame(value: unknown): ToFrame | null {
  if (!isRecord(value)) return null;
  const { type, focus, userToken, id, result, error } = value;
  if (type === "open" && typeof focus === "boolean") return { type, focus };
  if (type === "closed") return { type };
  if (type === "tool" && Number.isInteger(id)) {
    return { type, id: id as number, result: text(result), error: text(error)?.slice(0, MAX_ERROR) ?? null };
  }
  if (type === "identify" && isToken(userToken)) return { type, userToken };
  return null;
}

/**
 * A predicate, not a parser: the loader must stay tiny, what comes over this port was written by the platform's own
 * document, and a message is already this side's own copy. What goes into a style sheet is looked at.
 */
export const isToHost = (value: unknown): value is ToHost =>
  isString((value as Json | null)?.type) && ((value as Json).type !== "launcher" || isColour((value as Json).accent));
