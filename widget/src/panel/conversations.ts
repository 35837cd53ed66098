/** The visitor's conversations: searched, opened, renamed, deleted. */
import { isRecord, isString, records, text } from "../shared/guards.ts";
import type { PanelKit } from "./kit.ts";

interface Conversation {
  readonly id: string;
  title: string;
  readonly at: Date;
}

const PAGE = 50;
/** As many as are looked through for a search. */
const MAX_SEARCHED = 1_000;
const MAX_TITLE = 200;

export function conversations(kit: PanelKit, leave: () => void): HTMLElement {
  const { h, locale } = kit;
  const { t } = locale;
  const search = h("input", { type: "search", class: "search", placeholder: t("history_search"), "aria-label": t("history_search"), autocomplete: "off" });
  const list = h("ul", { class: "threads", role: "list", "aria-label": t("history") });
  const state = h("p", { class: "panel-state", role: "status" });
  const more = h("button", { type: "button", class: "link", hidden: true }, t("show_more"));
  const known: Conversation[] = [];
  let after: string | null = null;
  let hasMore = true;
  let loading: Promise<void> | null = null;

  const date = new Intl.DateTimeFormat(locale.tag, { dateStyle: "medium" });
  const load = async () => {
    kit.setText(state, t("loading"));
    try {
      const answer = await kit.api.plain({ type: "threads.list", params: { limit: PAGE, order: "desc", after } });
      const page = isRecord(answer) ? answer : {};
      for (const { id, title, created_at } of records(page.data)) {
        if (!isString(id) || known.some((each) => each.id === id)) continue;
        known.push({ id, title: text(title) ?? "", at: new Date(text(created_at) ?? 0) });
      }
      after = text(page.after);
      hasMore = page.has_more === true && after !== null && known.length < MAX_SEARCHED;
      draw();
    } catch (error) {
      hasMore = false;
      kit.setText(state, kit.sentence(error));
      more.hidden = false; // asks again
    }
  };
  const next = () => (loading ??= load().finally(() => (loading = null)));

  const draw = () => {
    const wanted = search.value.trim().toLocaleLowerCase(locale.tag);
    const found = known.filter(({ title }) => title.toLocaleLowerCase(locale.tag).includes(wanted));
    list.replaceChildren(...found.map(row));
    more.hidden = !hasMore || wanted !== "";
    kit.setText(state, known.length === 0 ? t("history_empty") : found.length === 0 && !(hasMore || loading) ? t("history_none") : "");
  };
  search.oninput = async () => {
    draw();
    while (search.value.trim() && hasMore) await next();
  };
  more.onclick = () => void next();

  const focusAfter = (at: number) => {
    const rows = list.querySelectorAll<HTMLElement>(".thread-open");
    (rows[Math.min(at, rows.length - 1)] ?? search).focus();
  };

  function row(thread: Conversation): HTMLElement {
    const title = thread.title || t("untitled");
    const open = h(
      "button",
      { type: "button", class: "thread-open", "aria-current": thread.id === kit.current() ? "true" : null },
      h("span", { class: "thread-title", dir: "auto" }, title),
      h("span", { class: "thread-date" }, date.format(thread.at)),
    );
    open.onclick = () => {
      leave();
      kit.open(thread.id);
    };
    const tool = (name: "rename" | "delete", path: string, use: () => void) => {
      const label = `${t(name)}: ${title}`;
      const shape = kit.svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, kit.svg("path", { d: path }));
      const button = h("button", { type: "button", class: "tool", "aria-label": label, title: t(name) }, shape);
      button.onclick = use;
      return button;
    };
    const line = h(
      "li",
      { class: "thread" },
      open,
      tool("rename", "m5 19 .7-3.7L16 5a1.9 1.9 0 0 1 3 3L8.7 18.3z", () => line.replaceChildren(renaming())),
      tool("delete", "M5 7h14M10 7V4.5h4V7m-7 0 .8 12.5h8.4L17 7m-5 4v5", () => line.replaceChildren(deleting())),
    );
    const back = () => {
      line.replaceWith(row(thread));
      focusAfter(known.indexOf(thread));
    };
    const fail = (error: unknown) => kit.setText(state, kit.sentence(error));

    const renaming = () => {
      const input = h("input", { type: "text", value: title, maxlength: MAX_TITLE, "aria-label": t("rename_to"), class: "search", dir: "auto" });
      const save = h("button", { type: "submit", class: "plain-button strong" }, t("save"));
      const cancel = h("button", { type: "button", class: "plain-button" }, t("cancel"));
      const form = h("form", { class: "thread-form" }, input, h("span", { class: "thread-choices" }, cancel, save));
      cancel.onclick = back;
      form.onkeydown = (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        back();
      };
      form.onsubmit = async (event) => {
        event.preventDefault();
        const wanted = input.value.trim();
        if (!wanted) return input.focus();
        save.disabled = true;
        try {
          await kit.api.plain({ type: "threads.update", params: { thread_id: thread.id, title: wanted } });
          thread.title = wanted;
          back();
        } catch (error) {
          save.disabled = false;
          fail(error);
        }
      };
      queueMicrotask(() => input.select());
      return form;
    };

    const deleting = () => {
      const yes = h("button", { type: "button", class: "plain-button danger" }, t("delete"));
      const no = h("button", { type: "button", class: "plain-button" }, t("cancel"));
      const ask = h(
        "div",
        { class: "thread-form", role: "group", "aria-label": t("delete") },
        h("p", { dir: "auto" }, t("delete_ask", { title })),
        h("span", { class: "thread-choices" }, no, yes),
      );
      no.onclick = back;
      ask.onkeydown = (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        back();
      };
      yes.onclick = async () => {
        yes.disabled = true;
        try {
          await kit.api.plain({ type: "threads.delete", params: { thread_id: thread.id } });
          const at = known.indexOf(thread);
          known.splice(at, 1);
          if (kit.current() === thread.id) kit.restart();
          draw();
          focusAfter(at);
        } catch (error) {
          yes.disabled = false;
          fail(error);
        }
      };
      queueMicrotask(() => no.focus());
      return ask;
    };
    return line;
  }

  void next();
  return h("div", { class: "panel-list" }, search, state, list, more);
}
