/** One view a kind of item. A view is made once and updated in place; kinds without a view draw nothing. */
import { cite, type Mark } from "../../chat/citations.ts";
import type { AssistantMessageItem, Task, ThreadItem, UserMessageItem, WorkflowItem } from "../../chat/protocol.ts";
import type { Entry, ItemStatus } from "../../chat/state.ts";
import type { Key, Locale } from "../../locale/index.ts";
import { h, icon, setAttribute, setText } from "./dom.ts";
import { MarkdownView } from "./markdown.ts";
import { markNode, sourcesList } from "./sources.ts";

export interface ItemView {
  readonly element: HTMLElement;
  update(entry: Entry): void;
}

export interface Context {
  readonly locale: Locale;
  readonly agentName: string;
}

type Maker<T extends ThreadItem> = (context: Context) => { element: HTMLElement; draw(item: T, status: ItemStatus, local: boolean): void };

const userMessage: Maker<UserMessageItem> = ({ locale }) => {
  const text = h("div", { class: "bubble", dir: "auto" });
  const state = h("div", { class: "state" });
  return {
    element: h("div", { class: "message user", "data-role": "user" }, h("span", { class: "hidden" }, locale.t("you_said")), text, state),
    draw(item, status, local) {
      setText(text, item.content.map((part) => part.text).join(""));
      setText(state, local && status === "failed" ? locale.t("not_sent") : "");
    },
  };
};

const STATES: Partial<Record<ItemStatus, Key>> = { stopped: "stopped", failed: "interrupted" };

const assistantMessage: Maker<AssistantMessageItem> = ({ locale, agentName }) => {
  const body = h("div", { class: "prose", dir: "auto" });
  const foot = h("div", { class: "foot" });
  const state = h("div", { class: "state" });
  const parts: MarkdownView[] = [];
  let listed = "";
  return {
    element: h(
      "div",
      { class: "message assistant", "data-role": "assistant" },
      h("span", { class: "hidden" }, locale.t("assistant_said", { name: agentName })),
      body,
      foot,
      state,
    ),
    draw(item, status) {
      const citations = cite(item);
      item.content.forEach((part, at) => {
        const view = (parts[at] ??= newPart(body, (mark) => markNode(mark, locale)));
        view.update(part.text, citations.marks[at] ?? [], status === "streaming");
      });
      for (const gone of parts.splice(item.content.length)) gone.root.remove();
      // The list would jump about under a growing text: it comes with the end.
      const wanted = status === "streaming" ? "" : JSON.stringify(citations.list);
      if (wanted !== listed) {
        foot.replaceChildren(...(citations.list.length && wanted ? [sourcesList(citations.list, locale)] : []));
        listed = wanted;
      }
      const key = STATES[status];
      setText(state, key ? locale.t(key) : "");
    },
  };
};

function newPart(body: HTMLElement, draw: (mark: Mark) => Node): MarkdownView {
  const root = h("div");
  body.append(root);
  return new MarkdownView(root, draw);
}

function taskRow(task: Task, context: Context): HTMLElement {
  const busy = task.status_indicator === "loading";
  const symbol = busy
    ? h("span", { class: "spinner" })
    : icon(task.status_indicator === "complete" ? "check" : task.type === "web_search" ? "search" : task.type === "file" ? "document" : "spark");
  const title = task.title || task.queries.join(", ") || task.sources.map((source) => source.title).join(", ");
  const row = h("li", { class: "task" }, symbol, h("span", {}, title || (task.content ? "" : context.locale.t("working"))));
  if (task.content) {
    const content = h("div", { class: "prose task-content" });
    new MarkdownView(content).update(task.content, [], false);
    (row.lastChild as HTMLElement).append(content);
  }
  return row;
}

const workflow: Maker<WorkflowItem> = (context) => {
  const summary = h("summary");
  const list = h("ul", { class: "tasks", role: "list" });
  const details = h("details", { class: "workflow" }, summary, list);
  let first = true;
  return {
    element: h("div", { class: "message aside", "data-role": "workflow" }, details),
    draw({ workflow: flow }, status) {
      const { locale } = context;
      const last = flow.tasks.at(-1);
      const running = status === "streaming" && !flow.summary;
      const title =
        flow.summary && "title" in flow.summary
          ? flow.summary.title
          : flow.summary
            ? locale.t("thought_for", { time: locale.duration(flow.summary.duration) })
            : running
              ? last?.title || locale.t("working")
              : locale.t("steps");
      summary.replaceChildren(running ? h("span", { class: "spinner" }) : icon("check"), h("span", {}, title), icon("right"));
      list.replaceChildren(...flow.tasks.map((task) => taskRow(task, context)));
      details.classList.toggle("empty", flow.tasks.length === 0);
      if (first) details.open = flow.expanded;
      first = false;
    },
  };
};

const task: Maker<ThreadItem & { type: "task" }> = (context) => {
  const list = h("ul", { class: "tasks", role: "list" });
  return {
    element: h("div", { class: "message aside", "data-role": "task" }, list),
    draw: (item) => list.replaceChildren(taskRow(item.task, context)),
  };
};

/** Widgets are not drawn yet; their plain text is better than a hole in the conversation. */
const widget: Maker<ThreadItem & { type: "widget" }> = () => {
  const body = h("div", { class: "prose" });
  const text = new MarkdownView(body);
  return {
    element: h("div", { class: "message assistant", "data-role": "widget" }, body),
    draw: (item) => text.update(item.copy_text ?? "", [], false),
  };
};

const image: Maker<ThreadItem & { type: "generated_image" }> = ({ locale }) => {
  const element = h("div", { class: "message assistant", "data-role": "image" });
  return {
    element,
    draw({ url }) {
      element.replaceChildren(...(url && isOwn(url) ? [h("img", { src: url, alt: locale.t("image_alt"), class: "generated" })] : []));
    },
  };
};

/** Only what the frame's policy loads: the platform's own pictures and inline data. */
function isOwn(url: string): boolean {
  try {
    return /^data:image\/(png|jpeg|webp|gif);/.test(url) || new URL(url, location.href).origin === location.origin;
  } catch {
    return false;
  }
}

const MAKERS: { readonly [T in ThreadItem["type"]]: Maker<Extract<ThreadItem, { type: T }>> | null } = {
  user_message: userMessage,
  assistant_message: assistantMessage,
  workflow,
  task,
  widget,
  generated_image: image,
  other: null,
};

export function itemView(entry: Entry, context: Context): ItemView | null {
  const maker = MAKERS[entry.item.type] as Maker<ThreadItem> | null;
  if (!maker) return null;
  const { element, draw } = maker(context);
  const view: ItemView = {
    element,
    update({ item, status, local }) {
      setAttribute(element, "data-item-id", item.id);
      setAttribute(element, "data-status", status);
      draw(item, status, local);
    },
  };
  view.update(entry);
  return view;
}
