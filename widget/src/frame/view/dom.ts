/** Elements without markup: nothing here parses HTML. */

type Child = Node | string | null | undefined | false;
type Attributes = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** `h("button", { type: "button", class: "x" }, "Text")`. False, null and undefined attributes are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

export function setAttribute(element: Element, name: string, value: Attributes[string]): void {
  if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value === true ? "" : value)) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Constructable, which a policy without inline styles takes. */
export function sheetOf(css: string): CSSStyleSheet {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  return sheet;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

const PATHS = {
  send: "M12 19V5m-6 6 6-6 6 6",
  stop: "M7 7h10v10H7z",
  menu: "M5 7h14M5 12h14M5 17h14",
  close: "m6 6 12 12M18 6 6 18",
  compose: "M12 5H7a2 2 0 0 0-2 2v10a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2v-5M9.5 14.5l.5-3L17.5 4a1.4 1.4 0 0 1 2 2L12 13.5z",
  down: "m6 9 6 6 6-6",
  right: "m9 6 6 6-6 6",
  external: "M8 16 16 8m-6 0h6v6",
  document: "M14 4H8a2 2 0 0 0-2 2v12a2 2 0 0 0 2 2h8a2 2 0 0 0 2-2V8zm0 0v4h4",
  search: "M10.5 16a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11Zm4-1.5L19 19",
  check: "m6 12.5 4 4 8-9",
  alert: "M12 8v5m0 3v.01M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16Z",
  retry: "M5 12a7 7 0 0 1 12-5l2 2m0-5v5h-5m5 3a7 7 0 0 1-12 5l-2-2m0 5v-5h5",
  image: "M6 5h12a1.5 1.5 0 0 1 1.5 1.5v11A1.5 1.5 0 0 1 18 19H6a1.5 1.5 0 0 1-1.5-1.5v-11A1.5 1.5 0 0 1 6 5Zm-1.5 11 4-4 3 3 3-3 5 5M9 8.5v.01",
  copy: "M9 9h9v11H9zM6 15V4h9",
  good: "M7.5 11v8.5m0-8.5L11 4c1.5 0 2.3 1 2 2.6L12.5 10H18a1.7 1.7 0 0 1 1.6 2.1l-1.4 6A1.8 1.8 0 0 1 16.4 19.5H4.5V11z",
  bad: "M7.5 13V4.5m0 8.5L11 20c1.5 0 2.3-1 2-2.6L12.5 14H18a1.7 1.7 0 0 0 1.6-2.1l-1.4-6A1.8 1.8 0 0 0 16.4 4.5H4.5V13z",
  spark: "M12 4c.6 4.6 3.4 7.4 8 8-4.6.6-7.4 3.4-8 8-.6-4.6-3.4-7.4-8-8 4.6-.6 7.4-3.4 8-8Z",
} as const;
export type IconName = keyof typeof PATHS;

/** One of ours by name, or a path drawn on 24 by 24. */
export const icon = (name: IconName | null, path = name ? PATHS[name] : ""): SVGElement =>
  svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: `icon icon-${name}` }, svg("path", { d: path }));
