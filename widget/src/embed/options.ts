/** What the pasted script tag asks for: its data attributes, as strings. */
export interface Options extends DOMStringMap {
  /** The platform: where the script came from. */
  origin: string;
  domainKey: string;
  userToken?: string;
  locale?: string;
  open?: string;
  /** Selector of the element to fill, instead of a launcher. */
  target?: string;
  /** The launcher's looks until the frame tells what was published: `#rrggbb`, `left` or `right`, its name. */
  accent?: string;
  position?: string;
  label?: string;
  /** What was published: the address of a key, `/e/pk_....js`, writes it into the tag. A clip path, `M14 3c6...`. */
  icon?: string;
  /** What the launcher says by itself, and after how many milliseconds. */
  teaser?: string;
  delay?: string;
  /** A regular expression of the paths on which there is no launcher. */
  hidden?: string;
}

export const optionsOf = (script: HTMLScriptElement): Options =>
  ({ ...script.dataset, origin: new URL(script.src).origin }) as Options;
