/** What visitors fill in: native controls, so that every keyboard, phone and screen reader knows them. */
import { numeric, records, text, type Json } from "../shared/guards.ts";
import { words, type Draw, type FieldValue } from "./context.ts";

const MAX_OPTIONS = 300;
const MAX_VALUE = 4_000;
const MAX_PATTERN = 200;
const INPUT_TYPES = ["number", "email", "text", "password", "tel", "url"];

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;
type Maker = (node: Json, draw: Draw) => HTMLElement;

const nameOf = (node: Json): string => words(node.name).slice(0, 100);

/** Makes the control known to its form, gives it back what was entered before, and runs its action on a change. */
function bind<C extends Control>(control: C, node: Json, draw: Draw): C {
  const { kit, scope } = draw;
  const name = nameOf(node);
  const isCheckbox = control instanceof HTMLInputElement && control.type === "checkbox";
  kit.setAttribute(control, "id", draw.id(name));
  kit.setAttribute(control, "name", draw.id(name)); // a form's fields hide its own members: none may be called `append`
  kit.setAttribute(control, "required", node.required === true);
  control.disabled = node.disabled === true;
  const before = draw.entered(name);
  if (isCheckbox) control.checked = typeof before === "boolean" ? before : node.defaultChecked === true;
  else control.value = typeof before === "string" ? before : words(node.defaultValue);
  control.addEventListener("input", () => kit.setAttribute(control, "data-touched", true));
  if (name) scope.fields.set(name, () => (isCheckbox ? control.checked : control.value));
  if (node.onChangeAction) control.addEventListener("change", () => draw.run(node.onChangeAction, scope, control));
  return control;
}

const common = (node: Json) => ({
  class: "w-field",
  placeholder: text(node.placeholder),
  maxlength: MAX_VALUE,
  dir: "auto",
});

function input(node: Json, draw: Draw): HTMLElement {
  const wanted = words(node.inputType);
  const type = INPUT_TYPES.includes(wanted) ? wanted : "text";
  const pattern = words(node.pattern);
  return bind(
    draw.kit.h("input", {
      ...common(node),
      type,
      // Nothing that a browser knows of the visitor is put into a stranger's form by itself.
      autocomplete: node.allowAutofillExtensions === true ? null : "off",
      pattern: pattern && pattern.length <= MAX_PATTERN ? pattern : null,
    }),
    node,
    draw,
  );
}

function textarea(node: Json, draw: Draw): HTMLElement {
  const rows = numeric(node.rows);
  return bind(draw.kit.h("textarea", { ...common(node), rows: rows >= 1 && rows <= 20 ? Math.floor(rows) : 3 }), node, draw);
}

function select(node: Json, draw: Draw): HTMLElement {
  const { h, locale } = draw.kit;
  const options = records(node.options).slice(0, MAX_OPTIONS);
  const prompt = text(node.placeholder) ?? locale.t("select");
  const isEmptyFirst = !text(node.defaultValue) || node.clearable === true;
  return bind(
    h(
      "select",
      { class: "w-field" },
      isEmptyFirst && h("option", { value: "" }, prompt),
      ...options.map((option) =>
        h("option", { value: words(option.value), disabled: option.disabled === true, title: text(option.description) }, words(option.label) || words(option.value)),
      ),
    ),
    node,
    draw,
  );
}

const day = (value: unknown): string | null => /^\d{4}-\d{2}-\d{2}/.exec(words(value))?.[0] ?? null;

const datePicker = (node: Json, draw: Draw): HTMLElement =>
  bind(
    draw.kit.h("input", { class: "w-field", type: "date", min: day(node.min), max: day(node.max) }),
    { ...node, defaultValue: day(node.defaultValue) },
    draw,
  );

function checkbox(node: Json, draw: Draw): HTMLElement {
  const { h } = draw.kit;
  const box = bind(h("input", { type: "checkbox" }), node, draw);
  const label = words(node.label);
  return label ? h("label", { class: "w-check" }, box, h("span", {}, label)) : box;
}

function radioGroup(node: Json, draw: Draw): HTMLElement {
  const { kit, scope } = draw;
  const name = nameOf(node);
  const before = draw.entered(name);
  const chosen = typeof before === "string" ? before : words(node.defaultValue);
  const radios = records(node.options).slice(0, MAX_OPTIONS).map((option) => {
    const value = words(option.value);
    const radio = kit.h("input", {
      type: "radio",
      name: draw.id(name),
      value,
      required: node.required === true,
      disabled: node.disabled === true || option.disabled === true,
    });
    radio.checked = value === chosen;
    if (node.onChangeAction) radio.addEventListener("change", () => draw.run(node.onChangeAction, scope, radio));
    return { radio, label: kit.h("label", { class: "w-check" }, radio, kit.h("span", {}, words(option.label) || value)) };
  });
  const read = (): FieldValue => radios.find(({ radio }) => radio.checked)?.radio.value ?? "";
  if (name) scope.fields.set(name, read);
  return kit.h(
    "div",
    {
      class: node.direction === "row" ? "w-radios w-across" : "w-radios",
      role: "radiogroup",
      id: draw.id(name),
      "aria-label": text(node.ariaLabel) ?? name,
    },
    ...radios.map(({ label }) => label),
  );
}

/** A field without a label of its own is called by its placeholder, else by its name. */
export function nameFields(root: HTMLElement, kit: Draw["kit"]): void {
  // Not by `labels`, which knows of none while the widget is not yet in the document.
  const labelled = new Set([...root.querySelectorAll("label")].map(({ htmlFor }) => htmlFor));
  for (const field of root.querySelectorAll<HTMLElement>(".w-field, input[type=checkbox]")) {
    if (!field.closest("label") && !labelled.has(field.id)) kit.setAttribute(field, "aria-label", field.getAttribute("placeholder") || (field.getAttribute("name") ?? "").replace(/^w\d+-/, "") || kit.locale.t("your_message"));
    else kit.setAttribute(field, "aria-label", null);
  }
}

export const FIELDS: Readonly<Record<string, Maker>> = {
  Input: input, Textarea: textarea, Select: select, DatePicker: datePicker, Checkbox: checkbox, RadioGroup: radioGroup,
};

