/** One function a component. What is not here is left out, but for its text. */
import { childrenOf } from "../chat/widget.ts";
import { isRecord, isString, text, type Json } from "../shared/guards.ts";
import { words, type Draw, type Scope } from "./context.ts";
import { chart, table } from "./data.ts";
import { FIELDS } from "./fields.ts";
import { iconPath } from "./icons.ts";
import { dressBox, dressText, fill, ink, length, spacing } from "./style.ts";

type Maker = (node: Json, draw: Draw) => HTMLElement | null;

const SIZE = /^(3xs|2xs|xs|sm|md|lg|xl|2xl|3xl)$/;
const sizeOf = (value: unknown): string | null => (isString(value) && SIZE.test(value) ? value : null);
const oneOf = (value: unknown, ...options: string[]): string | null => (isString(value) && options.includes(value) ? value : null);

export function iconOf(name: unknown, { kit }: Draw): SVGElement | null {
  return isString(name) && name ? kit.icon(null, iconPath(name)) : null;
}

const box = (direction: "row" | "col" | null): Maker => (node, draw) => {
  const element = draw.kit.h("div", { class: (direction ?? node.direction) === "row" ? "w-row" : "w-col" });
  const surface = dressBox(element, node, draw.surface, draw.scheme);
  element.append(...draw.children(node, { surface }));
  return element;
};

const line = (tag: "p" | "h3", kind: string): Maker => (node, draw) => {
  const value = words(node.value);
  if (isRecord(node.editable)) return FIELDS.Input?.({ defaultValue: value, ...node.editable, type: "Input" }, draw) ?? null;
  const element = draw.kit.h(tag, { class: kind, dir: "auto" }, value);
  dressText(element, node, draw.surface, draw.scheme);
  return element;
};

const markdown: Maker = (node, draw) => {
  const element = draw.kit.h("div", { class: "prose", dir: "auto" });
  new draw.kit.Markdown(element).update(words(node.value), [], node.streaming === true);
  return element;
};

const badge: Maker = (node, { kit }) =>
  kit.h("span", {
    class: "w-badge",
    "data-color": oneOf(node.color, "secondary", "success", "danger", "warning", "info", "discovery") ?? "secondary",
    "data-variant": oneOf(node.variant, "solid", "soft", "outline") ?? "soft",
    "data-size": sizeOf(node.size),
    "data-pill": node.pill === true,
  }, words(node.label));

const icon: Maker = (node, draw) => {
  const element = draw.kit.h("span", { class: "w-icon", "data-size": sizeOf(node.size) }, iconOf(node.name, draw));
  const colour = ink(node.color, draw.surface, draw.scheme);
  if (colour) element.style.color = colour;
  return element;
};

const image: Maker = (node, draw) => {
  const { kit } = draw;
  const alt = words(node.alt);
  const address = kit.pictureAddress(words(node.src));
  const instead = () => (alt ? kit.h("span", { class: "w-alt" }, kit.icon("image"), alt) : kit.h("span", { hidden: true }));
  if (!address) return instead();
  const element = kit.h("img", { src: address, alt, class: node.frame === true ? "w-image w-framed" : "w-image", loading: "lazy", referrerpolicy: "no-referrer" });
  dressBox(element, node, draw.surface, draw.scheme);
  element.style.objectFit = oneOf(node.fit, "cover", "contain", "fill", "scale-down", "none") ?? "cover";
  element.style.objectPosition = oneOf(node.position, "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right") ?? "center";
  element.onerror = () => element.replaceWith(instead());
  element.onload = () => kit.grew();
  return element;
};

const button: Maker = (node, draw) => {
  const { kit, scope } = draw;
  const label = words(node.label);
  const isSubmit = node.submit === true;
  const isPrimary = node.style === "primary" || (isSubmit && node.style !== "secondary");
  const element = kit.h(
    "button",
    {
      type: isSubmit ? "submit" : "button",
      class: "w-button",
      "data-variant": oneOf(node.variant, "solid", "soft", "outline", "ghost") ?? (isPrimary ? "solid" : "outline"),
      "data-color": oneOf(node.color, "primary", "secondary", "info", "discovery", "success", "caution", "warning", "danger") ?? (isPrimary ? "primary" : "secondary"),
      "data-size": sizeOf(node.size),
      "data-pill": node.pill === true,
      "data-block": node.block === true,
      "aria-label": label ? null : words(node.iconStart ?? node.iconEnd).replaceAll("-", " ") || kit.locale.t("select"),
    },
    iconOf(node.iconStart, draw),
    label && kit.h("span", {}, label),
    iconOf(node.iconEnd, draw),
  );
  element.disabled = node.disabled === true;
  element.onclick = (event) => {
    if (node.onClickAction) {
      event.preventDefault();
      draw.run(node.onClickAction, scope, element);
    } else if (isSubmit && !element.closest("form")) scope.submit?.(element);
  };
  return element;
};

const divider: Maker = (node, { kit, scheme, surface }) => {
  const element = kit.h("hr", { class: node.flush === true ? "w-divider w-flush" : "w-divider" });
  const gap = spacing(node.spacing);
  if (gap) element.style.marginBlock = gap;
  const thick = length(node.size);
  if (thick) element.style.borderTopWidth = thick;
  fill(element, null, surface, scheme);
  return element;
};

const spacer: Maker = (node, { kit }) => {
  const element = kit.h("div", { class: "w-spacer" });
  const least = spacing(node.minSize);
  if (least) element.style.minWidth = element.style.minHeight = least;
  return element;
};

const label: Maker = (node, draw) => {
  const element = draw.kit.h("label", { class: "w-label", for: draw.id(words(node.fieldName).slice(0, 100)) }, words(node.value));
  dressText(element, node, draw.surface, draw.scheme);
  return element;
};

/** A form of its own: what is entered goes with its actions, and is checked before it is sent. */
export function formOf(node: Json, draw: Draw, submitAction: unknown, element: HTMLFormElement, direct = draw.surface): Scope {
  const scope: Scope = { fields: new Map(), submit: null };
  const submit = (source: HTMLElement) => {
    if (!element.reportValidity()) return;
    if (submitAction) draw.run(submitAction, scope, source);
  };
  const inside: Scope = { fields: scope.fields, submit };
  element.append(...draw.children(node, { scope: inside, surface: direct }));
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    submit((event as SubmitEvent).submitter ?? element);
  });
  return inside;
}

const form: Maker = (node, draw) => {
  const element = draw.kit.h("form", { class: node.direction === "row" ? "w-form w-row" : "w-form w-col" });
  const surface = dressBox(element, node, draw.surface, draw.scheme);
  formOf(node, draw, node.onSubmitAction, element, surface);
  return element;
};

const transition: Maker = (node, draw) => draw.kit.h("div", { class: "w-transition" }, ...draw.children(node));

const INTERACTIVE = new Set(["Button", "Form", ...Object.keys(FIELDS)]);
const isInteractive = (node: Json, depth = 0): boolean =>
  depth < 24 && (INTERACTIVE.has(words(node.type)) || childrenOf(node).some((child) => isInteractive(child, depth + 1)));

const MAX_NAME = 200;

const listItem: Maker = (node, draw) => {
  const { h } = draw.kit;
  const row = h("div", { class: "w-item" });
  dressBox(row, { gap: node.gap, align: node.align }, draw.surface, draw.scheme);
  row.append(...draw.children(node));
  const element = h("li", {}, row);
  if (!isRecord(node.onClickAction)) return element;
  // A button over the row, not around it: what stands in the row stays what it is, and can be pressed itself.
  const leaves = [...row.querySelectorAll("*")].filter((each) => !each.childElementCount);
  const name = leaves.flatMap((each) => (each instanceof HTMLImageElement ? each.alt : each.textContent?.trim()) || []).join(", ");
  const press = h("button", { type: "button", class: "w-press", "aria-label": name.slice(0, MAX_NAME) || draw.kit.locale.t("select") });
  press.onclick = () => draw.run(node.onClickAction, draw.scope, press);
  if (!isInteractive({ children: node.children })) {
    row.setAttribute("data-flat", "");
    // The button says all of it: what stands behind it would be read a second time.
    const holdsFocus = row.querySelector("a, button, summary, [tabindex]");
    if (name && name.length <= MAX_NAME && !holdsFocus) row.setAttribute("aria-hidden", "true");
  }
  element.prepend(press);
  return element;
};

const MAX_TEXTS = 20;

/** Of what is not known, the text that a person would read. */
function unknown(node: Json, draw: Draw): HTMLElement | null {
  const said = ["title", "label", "value", "text", "description", "alt"].map((name) => words(node[name])).filter(Boolean).slice(0, MAX_TEXTS);
  const inside = draw.children(node);
  if (!said.length && !inside.length) return null;
  return draw.kit.h("div", { class: "w-col" }, ...said.map((value) => draw.kit.h("p", { class: "w-text", dir: "auto" }, value)), ...inside);
}

const MAKERS: Readonly<Record<string, Maker>> = {
  Box: box(null), Row: box("row"), Col: box("col"), Text: line("p", "w-text"), Title: line("h3", "w-title"), Caption: line("p", "w-caption"),
  Markdown: markdown, Badge: badge, Icon: icon, Image: image, Button: button, Divider: divider, Spacer: spacer, Label: label, Form: form,
  Transition: transition, ListViewItem: listItem, Table: table, Chart: chart, ...FIELDS,
};

export function make(node: Json, draw: Draw): HTMLElement | null {
  const type = words(node.type);
  const maker = Object.hasOwn(MAKERS, type) ? (MAKERS[type] as Maker) : unknown;
  return maker(node, draw);
}

/** What a card or a list says about itself on top. */
export function status(given: unknown, draw: Draw): HTMLElement | null {
  if (!isRecord(given) || !text(given.text)) return null;
  const favicon = draw.kit.pictureAddress(words(given.favicon));
  return draw.kit.h(
    "div",
    { class: "w-status" },
    favicon ? draw.kit.h("img", { src: favicon, alt: "", width: 16, height: 16 }) : iconOf(given.icon, draw),
    draw.kit.h("span", {}, words(given.text)),
  );
}

