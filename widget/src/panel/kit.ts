/** What the panel of conversations is handed by the frame: its script holds nothing that the frame's has already. */
import type { Api } from "../net/api.ts";
import type { Locale } from "../locale/index.ts";
import type { h, setText, svg } from "../frame/view/dom.ts";

export interface PanelKit {
  readonly h: typeof h;
  readonly svg: typeof svg;
  readonly setText: typeof setText;
  readonly locale: Locale;
  /** Every language by its own name. */
  readonly languages: Readonly<Record<string, string>>;
  readonly api: Pick<Api, "plain" | "request">;
  /** The conversation on the screen. */
  current(): string | null;
  open(thread: string): void;
  /** The conversation on the screen is no more. */
  restart(): void;
  /** The language is chosen: everything is drawn anew. */
  speak(tag: string): void;
  sentence(error: unknown): string;
  /** Said to screen readers. */
  announce(text: string): void;
  /** Gone from the screen; the focus goes back to where it was. */
  closed(): void;
}

export interface PanelScript {
  readonly css: string;
  /** Puts the panel into `place` and the focus into the panel. */
  openPanel(kit: PanelKit, place: HTMLElement): void;
}
