/** What the script around OpenAI's front end is handed by the frame: it holds nothing that the frame's has already. */
import type { Api } from "../net/api.ts";
import type { Session } from "../net/session.ts";
import type { Locale } from "../locale/index.ts";
import type { PanelScript } from "../panel/kit.ts";
import type { Parent } from "../frame/parent.ts";
import type { Storage } from "../frame/storage.ts";
import type { h, setText, sheetOf, svg } from "../frame/view/dom.ts";

/** What happened while OpenAI's front end was waited for. */
export interface Before {
  readonly opened: boolean;
  /** Whether opening was to move the focus. */
  readonly focus: boolean;
}

export interface StockKit {
  readonly h: typeof h;
  readonly svg: typeof svg;
  readonly setText: typeof setText;
  readonly sheetOf: typeof sheetOf;
  readonly languages: Readonly<Record<string, string>>;
  readonly locale: Locale;
  /** BCP 47 tags, the most wanted first. */
  readonly wishes: readonly (string | null | undefined)[];
  readonly parent: Parent | null;
  readonly session: Session;
  readonly storage: Storage;
  readonly api: Api;
  sentence(error: unknown): string;
  /** The script of the visitor's conversations and data, which OpenAI's front end has not. */
  panel(): Promise<PanelScript>;
  /** The session lapsed: a new document is needed. */
  lapsed(): void;
  /** OpenAI's front end does not come, or gave up: ours takes its place. */
  instead(before: Before): void;
}

export interface StockScript {
  runStock(kit: StockKit): void;
}
