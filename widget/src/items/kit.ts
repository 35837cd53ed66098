/**
 * What the frame's second script gets from the first, and what it gives. The second is loaded when the first item
 * appears that needs it, or for a composer with more than a field; of the first it imports types only.
 */
import type { Attachment, Said, StructuredInputItem, Submission, ThreadItem, WidgetAction, WidgetItem } from "../chat/protocol.ts";
import type { ItemStatus } from "../chat/state.ts";
import type { h, icon, setAttribute, setText, svg } from "../frame/view/dom.ts";
import type { MarkdownView } from "../frame/view/markdown.ts";
import type { Locale } from "../locale/index.ts";

/** What can be done beside writing. Each raises when it could not be done. */
export interface Deeds {
  act(itemId: string, action: WidgetAction, streaming: boolean): Promise<void>;
  /** An action that is for the page around the chat. */
  tellPage(itemId: string, action: WidgetAction): void;
  answerForm(itemId: string, submission: Submission): Promise<void>;
  /** The visitor's judgement of an answer, and why. */
  judge(itemId: string, kind: "positive" | "negative", reason?: string): Promise<void>;
  announce(file: { name: string; size: number; mime_type: string }): Promise<{ attachment: Attachment; put: string }>;
  discard(attachment: string): Promise<void>;
  transcribe(audio: string, mimeType: string): Promise<string>;
  /** What the `index`th citation of an answer leads to, as the server tells it. */
  cited(itemId: string, index: number): Promise<unknown>;
  /** The sentence for what was raised. */
  sentence(error: unknown): string;
}

export interface Kit {
  readonly h: typeof h;
  readonly svg: typeof svg;
  readonly icon: typeof icon;
  readonly setAttribute: typeof setAttribute;
  readonly setText: typeof setText;
  readonly Markdown: typeof MarkdownView;
  /** The address to follow, or null. */
  readonly safeAddress: (href: string) => string | null;
  /** The address of a picture that may be loaded, or null. */
  readonly pictureAddress: (src: string) => string | null;
  readonly locale: Locale;
  readonly deeds: Deeds;
  /** Told after something grew by itself: who reads the end goes on reading it. */
  readonly grew: () => void;
  readonly announce: (text: string) => void;
}

export interface View<T extends ThreadItem> {
  readonly element: HTMLElement;
  draw(item: T, status: ItemStatus): void;
}

/** What an agent offers in the composer. */
export interface Offers {
  readonly attachments: {
    readonly images: boolean;
    readonly documents: boolean;
    /** Of one file. */
    readonly maxBytes: number;
    /** Of one message. */
    readonly maxFiles: number;
  } | null;
  readonly dictation: boolean;
  readonly tools: readonly Offer[];
  readonly models: readonly Offer[];
}
export interface Offer {
  readonly id: string;
  readonly label: string;
}

/** The parts of the composer that the second script fills. */
export interface Slots {
  readonly form: HTMLElement;
  readonly input: HTMLTextAreaElement;
  /** Above the field: files, a quotation. */
  readonly tray: HTMLElement;
  /** Beside Send. */
  readonly tools: HTMLElement;
  /** The conversation, of which parts can be quoted. */
  readonly log: HTMLElement;
  /** Says what is wrong, or nothing. */
  complain(text: string): void;
  changed(): void;
  /** Puts text where the cursor is. */
  insert(text: string): void;
}

export interface ComposerExtra {
  /** What goes with the text. */
  said(): Omit<Said, "text">;
  /** Something is still under way that belongs to the message. */
  readonly isBusy: boolean;
  /** There is something to send even without a text. */
  readonly hasContent: boolean;
  /** The message went out: what belonged to it is gone from here. */
  sent(): void;
}

export interface Extras {
  widget(kit: Kit): View<WidgetItem>;
  form(kit: Kit): View<StructuredInputItem>;
  composer(kit: Kit, slots: Slots, offers: Offers): ComposerExtra;
  /** Shows the passage of a source in a dialog. */
  cited(kit: Kit, item: string, index: number, title: string): void;
  /** A form that asks why an answer was disliked. */
  why(kit: Kit, send: (reason: string) => Promise<boolean>, leave: () => void): HTMLElement;
}

export type LoadExtras = () => Promise<Extras>;
