/**
 * A widget, drawn from its JSON. The JSON is a tenant's or a model's: it decides what stands where, and nothing else.
 * Parts that did not change keep their elements, so that a text can stream into a form that is being filled in.
 */
import { childrenOf } from "../chat/widget.ts";
import type { WidgetItem } from "../chat/protocol.ts";
import type { ItemStatus } from "../chat/state.ts";
import type { Kit, View } from "../items/kit.ts";
import { isRecord, isString, type Json } from "../shared/guards.ts";
import { valuesOf, words, type Draw, type FieldValue, type Scope } from "./context.ts";
import { nameFields } from "./fields.ts";
import { formOf, make, status } from "./nodes.ts";
import { dressBox, fill, SURFACE } from "./style.ts";

const MAX_NODES = 2_000;
const MAX_DEPTH = 24;
const SHOWN_ROWS = 5;
let made = 0;

export function widgetView(kit: Kit): View<WidgetItem> {
  const { h } = kit;
  const root = h("div", { class: "w-root" });
  const wrong = h("p", { class: "w-wrong", role: "alert" });
  const element = h("div", { class: "w-widget" }, root, wrong);
  const prefix = `w${++made}-`;
  let item: WidgetItem | null = null;
  let drawn: string | null = null;
  let pending = false;
  let entered = new Map<string, FieldValue>();
  let isExpanded = false;
  let outermost: Scope = { fields: new Map(), submit: null };
  let nodes = 0;

  const run = async (given: unknown, scope: Scope, source: HTMLElement) => {
    if (!isRecord(given) || !isString(given.type) || !item || pending) return;
    const values = valuesOf(scope);
    const { payload } = given;
    const isEmpty = !Object.keys(values).length;
    const filled = isRecord(payload) ? { ...payload, ...values } : payload === undefined || payload === null ? (isEmpty ? null : values) : payload;
    const action = { type: given.type, payload: filled };
    wrong.textContent = "";
    if (given.handler === "client") return kit.deeds.tellPage(item.id, action);
    const how = given.loadingBehavior;
    const whole = how === "container" || ((how === undefined || how === "auto") && source.matches("form, [type=submit], .w-press"));
    const busy = how === "none" ? null : whole ? element : source;
    pending = true;
    busy?.setAttribute("aria-busy", "true");
    element.toggleAttribute("data-pending", true);
    try {
      await kit.deeds.act(item.id, action, given.streaming !== false);
    } catch (error) {
      wrong.textContent = kit.deeds.sentence(error) || kit.locale.t("action_failed");
    } finally {
      pending = false;
      busy?.removeAttribute("aria-busy");
      element.toggleAttribute("data-pending", false);
    }
  };

  const children = (node: Json, draw: Draw): HTMLElement[] => {
    if (draw.depth >= MAX_DEPTH) return [];
    return childrenOf(node).flatMap((child) => {
      if (++nodes > MAX_NODES) return [];
      const one = make(child, deeper(draw));
      if (!one) return [];
      if (isString(child.id)) one.setAttribute("data-id", child.id.slice(0, 100));
      return [one];
    });
  };
  const deeper = (draw: Draw, inside: Partial<Draw> = {}): Draw => {
    const next: Draw = {
      ...draw,
      ...inside,
      depth: draw.depth + 1,
      children: (node, more) => children(node, more ? deeper(next, more) : next),
    };
    return next;
  };

  const card = (node: Json, draw: Draw): HTMLElement => {
    const { confirm, cancel } = node;
    const isForm = node.asForm === true;
    const body = h(isForm ? "form" : "div", { class: "w-card-body w-col" });
    const frame = h("div", { class: "w-card", "data-size": /^(sm|md|lg|full)$/.test(words(node.size)) ? words(node.size) : "md" });
    const surface = fill(frame, node.background, draw.surface, draw.scheme);
    dressBox(body, { padding: node.padding }, surface, draw.scheme);
    const confirming = isRecord(confirm) ? confirm : null;
    let scope = draw.scope;
    if (body instanceof HTMLFormElement) scope = formOf(node, draw, confirming?.action, body, surface);
    else body.append(...draw.children(node, { surface }));
    const act = (given: unknown, kind: string) => {
      if (!isRecord(given) || !words(given.label)) return null;
      const button = h("button", { type: "button", class: "w-button", "data-variant": kind === "confirm" ? "solid" : "outline", "data-color": kind === "confirm" ? "primary" : "secondary" }, words(given.label));
      button.onclick = () => (kind === "confirm" && scope.submit ? scope.submit(button) : draw.run(given.action, kind === "cancel" ? { fields: new Map(), submit: null } : scope, button));
      return button;
    };
    const buttons = [act(cancel, "cancel"), act(confirm, "confirm")];
    const foot = buttons.some(Boolean) && h("div", { class: "w-foot" }, ...buttons);
    const head = status(node.status, draw);
    if (node.collapsed === true) {
      const summary = h("summary", {}, head ?? kit.locale.t("widget"), kit.icon("down"));
      frame.append(h("details", {}, summary, body, foot));
    } else frame.append(...[head, body, foot].filter((part) => part instanceof HTMLElement));
    return frame;
  };

  const listView = (node: Json, draw: Draw): HTMLElement => {
    const rows = draw.children(node);
    const limit = typeof node.limit === "number" && node.limit >= 1 ? Math.floor(node.limit) : node.limit === "auto" ? SHOWN_ROWS : rows.length;
    const list = h("ul", { class: "w-list", role: "list" }, ...rows.map((row) => (row.localName === "li" ? row : h("li", {}, row))));
    const rest = [...list.children].slice(isExpanded ? rows.length : limit) as HTMLElement[];
    for (const row of rest) row.hidden = true;
    const more = h("button", { type: "button", class: "link w-more" }, kit.locale.t("show_more"));
    more.onclick = () => {
      isExpanded = true;
      for (const row of rest) row.hidden = false;
      more.remove();
      const [first] = rest;
      const next = first?.querySelector<HTMLElement>("button, a, input") ?? first;
      // What was pressed is gone: the keyboard and the ear go on with the first row that it showed.
      if (next === first) first?.setAttribute("tabindex", "-1");
      next?.focus();
    };
    return h("div", { class: "w-card w-listing" }, status(node.status, draw), list, rest.length > 0 && more);
  };

  const redraw = (widget: Json) => {
    remember();
    nodes = 0;
    outermost = { fields: new Map(), submit: null };
    const scheme = document.documentElement.dataset.scheme === "dark" ? "dark" : "light";
    const first: Draw = {
      kit, scheme, surface: SURFACE[scheme], scope: outermost, depth: 0, run: (action, scope, source) => void run(action, scope, source),
      children: () => [],
      id: (name) => prefix + name,
      entered: (name) => entered.get(name),
    };
    const draw = deeper(first);
    const whole =
      widget.type === "Card" ? card(widget, draw) : widget.type === "ListView" ? listView(widget, draw)
      : widget.type === "Basic" ? h("div", { class: "w-basic w-col" }, ...draw.children(widget)) : make(widget, draw);
    const focused = root.contains(document.activeElement) ? (document.activeElement as HTMLElement).id : "";
    root.replaceChildren(...(whole ? [whole] : []));
    nameFields(root, kit);
    if (focused) document.getElementById(focused)?.focus();
  };

  /** What was typed and not yet sent survives being drawn anew. */
  const remember = () => {
    const next = new Map<string, FieldValue>();
    for (const field of root.querySelectorAll<HTMLInputElement>("[data-touched]")) next.set(field.name.slice(prefix.length), field.type === "checkbox" ? field.checked : field.value);
    for (const radio of root.querySelectorAll<HTMLInputElement>("input[type=radio]:checked")) next.set(radio.name.slice(prefix.length), radio.value);
    entered = next;
  };

  return {
    element,
    draw(next: WidgetItem, _standing: ItemStatus) {
      const before = item;
      item = next;
      if (before?.widget === next.widget) return;
      const json = textOf(next.widget);
      if (json && json === drawn) return;
      if (!(before && root.firstElementChild && stream(before.widget, next.widget))) redraw(next.widget);
      drawn = json;
    },
  };

  /** Only texts grew: put them where they are, and leave the rest alone. Tells whether that was all. */
  function stream(before: Json, now: Json, depth = 0): boolean {
    if (before === now) return true;
    if (depth > MAX_DEPTH || before.type !== now.type || before.id !== now.id) return false;
    const names = new Set([...Object.keys(before), ...Object.keys(now)]);
    const changed = [...names].filter((name) => before[name] !== now[name]);
    if (changed.every((name) => name === "children")) {
      const [old, next] = [childrenOf(before), childrenOf(now)];
      return old.length === next.length && next.every((child, at) => stream(old[at] as Json, child, depth + 1));
    }
    if (!isString(now.id) || !changed.every((name) => name === "value" || name === "streaming")) return false;
    const place = root.querySelector<HTMLElement>(`[data-id="${CSS.escape(now.id.slice(0, 100))}"]`);
    if (!place) return false;
    if (now.type === "Markdown") {
      const view = growing.get(place) ?? new kit.Markdown((place.replaceChildren(), place));
      growing.set(place, view);
      view.update(words(now.value), [], now.streaming === true);
    } else if (now.type === "Text" || now.type === "Title" || now.type === "Caption") kit.setText(place, words(now.value));
    else return false;
    return true;
  }
}

/** For comparing; null for what is nested too deeply to be written. */
function textOf(widget: Json): string | null {
  try {
    return JSON.stringify(widget);
  } catch {
    return null;
  }
}

const growing = new WeakMap<HTMLElement, InstanceType<Kit["Markdown"]>>();
