/** Questions that the assistant asks: choices, words of one's own, and the approval of something it wants to do. */
import type { Question, StructuredInputItem, Submission } from "../chat/protocol.ts";
import type { Kit, View } from "./kit.ts";

/** The words of the server's approvals; they are shown in the visitor's language and sent as they are. */
const YES = "Yes, do it";
const NO = "No";
const MAX_ANSWER = 4_000;
let made = 0;

interface Field {
  readonly element: HTMLElement;
  values(): string[];
}

const isApproval = ({ inputs: [first, ...others] }: StructuredInputItem): boolean =>
  !others.length && first?.options?.length === 2 && first.options[0] === YES && first.options[1] === NO;

export function formView(kit: Kit): View<StructuredInputItem> {
  const { h, locale, deeds } = kit;
  const element = h("div", { class: "s-form" });
  const prefix = `f${++made}`;
  let drawn = "";
  let item: StructuredInputItem;

  const shown = (value: string) => (!isApproval(item) ? value : value === YES ? locale.t("yes_do_it") : value === NO ? locale.t("no") : value);

  /** The first line asks, the others say what exactly. */
  const asks = (question: Question, id: string) => {
    const [first = "", ...rest] = question.question.split("\n");
    return [
      h("p", { class: "s-question", id, dir: "auto" }, first),
      rest.length > 0 && h("p", { class: "s-details", dir: "auto" }, rest.join("\n")),
      question.description && h("p", { class: "s-details", dir: "auto" }, question.description),
    ];
  };

  const send = async (submission: Submission, form: HTMLElement, wrong: HTMLElement) => {
    if (form.getAttribute("aria-busy") === "true") return;
    form.setAttribute("aria-busy", "true");
    wrong.textContent = "";
    try {
      await deeds.answerForm(item.id, submission);
    } catch (error) {
      wrong.textContent = deeds.sentence(error);
    }
    form.removeAttribute("aria-busy");
  };

  const choice = (question: Question, id: string): Field => {
    const type = question.multiple ? "checkbox" : "radio";
    const boxes = (question.options ?? []).map((value) => {
      const box = h("input", { type, name: id, value });
      return { box, row: h("label", { class: "w-check s-option" }, box, h("span", { dir: "auto" }, shown(value))) };
    });
    const own = h("input", { type: "text", class: "w-field", "aria-label": locale.t("form_own"), placeholder: locale.t("form_own"), maxlength: MAX_ANSWER, autocomplete: "off" });
    // One's own words stand in place of a choice, or beside several.
    own.oninput = () => {
      if (!question.multiple && own.value.trim()) for (const { box } of boxes) box.checked = false;
    };
    for (const { box } of boxes) box.onchange = () => !question.multiple && (own.value = "");
    return {
      element: h(
        "fieldset",
        { class: "s-field", role: question.multiple ? "group" : "radiogroup", "aria-labelledby": id },
        ...asks(question, id),
        question.multiple && h("p", { class: "s-hint" }, locale.t("form_many")),
        ...boxes.map(({ row }) => row),
        own,
      ),
      values: () => [...boxes.filter(({ box }) => box.checked).map(({ box }) => box.value), ...(own.value.trim() ? [own.value.trim()] : [])],
    };
  };

  const freeform = (question: Question, id: string): Field => {
    const field = h("textarea", { class: "w-field", rows: 3, "aria-labelledby": id, maxlength: MAX_ANSWER });
    field.onkeydown = (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) field.form?.requestSubmit();
    };
    return { element: h("div", { class: "s-field" }, ...asks(question, id), field), values: () => (field.value.trim() ? [field.value.trim()] : []) };
  };

  const pending = () => {
    const wrong = h("p", { class: "w-wrong", role: "alert" });
    const form = h("form", { class: "s-pending" });
    if (isApproval(item)) {
      const [question] = item.inputs as [Question];
      const id = `${prefix}-0`;
      const answers = [NO, YES].map((value) => {
        const button = h("button", { type: "button", class: "w-button", "data-variant": value === YES ? "solid" : "outline", "data-color": value === YES ? "primary" : "secondary" }, shown(value));
        button.onclick = () => void send({ status: "answered", answers: { [question.id]: { values: [value], skipped: false } } }, form, wrong);
        return button;
      });
      form.append(h("div", { class: "s-field", role: "group", "aria-labelledby": id }, ...asks(question, id).filter(Boolean), h("div", { class: "w-foot" }, ...answers)), wrong);
      return form;
    }
    const fields = item.inputs.map((question, at) => ({ question, field: (question.options ? choice : freeform)(question, `${prefix}-${at}`) }));
    const skip = h("button", { type: "button", class: "w-button", "data-variant": "outline", "data-color": "secondary" }, locale.t("form_skip"));
    const submit = h("button", { type: "submit", class: "w-button", "data-variant": "solid", "data-color": "primary" }, locale.t("form_submit"));
    const answers = (isSkipped: boolean) =>
      Object.fromEntries(fields.map(({ question, field }) => {
        const values = isSkipped ? [] : field.values();
        return [question.id, { values, skipped: values.length === 0 }];
      }));
    skip.onclick = () => void send({ status: "skipped", answers: answers(true) }, form, wrong);
    form.onsubmit = (event) => {
      event.preventDefault();
      const given = answers(false);
      if (Object.values(given).some(({ skipped }) => !skipped)) return void send({ status: "answered", answers: given }, form, wrong);
      wrong.textContent = locale.t("form_required");
      form.querySelector<HTMLElement>("input, textarea")?.focus();
    };
    form.append(...fields.map(({ field }) => field.element), wrong, h("div", { class: "w-foot" }, skip, submit));
    return form;
  };

  const settled = () =>
    h(
      "dl",
      { class: "s-settled" },
      ...item.inputs.flatMap(({ question, answer }) => {
        const values = answer && !answer.skipped ? answer.values.map(shown) : [];
        return [h("dt", { dir: "auto" }, question), h("dd", { dir: "auto", class: values.length ? "" : "s-skipped" }, values.join(", ") || locale.t("form_skipped"))];
      }),
    );

  return {
    element,
    draw(next) {
      item = next;
      const wanted = JSON.stringify([next.status, next.inputs]);
      if (wanted === drawn) return;
      drawn = wanted;
      const hadFocus = element.contains(document.activeElement);
      const content = next.status === "pending" ? pending() : settled();
      element.replaceChildren(content);
      // What was pressed is gone: the keyboard goes on from the place where it was.
      if (hadFocus) {
        content.tabIndex = -1;
        content.focus();
      }
      kit.grew();
    },
  };
}
