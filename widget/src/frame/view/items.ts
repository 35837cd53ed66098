/** One view a kind of item. A view is made once and updated in place; kinds without a view draw nothing. */
import { cite, addressOf, type Citation, type Mark } from "../../chat/citations.ts";
import type { AssistantMessageItem, Attachment, Source, Task, ThreadItem, UserMessageItem, WorkflowItem } from "../../chat/protocol.ts";
import type { Entry, ItemStatus } from "../../chat/state.ts";
import type { Kit } from "../../items/kit.ts";
import { later } from "../../items/later.ts";
import type { Key } from "../../locale/index.ts";
import { deedsOf, type Judging } from "./deeds.ts";
import { h, icon, setAttribute, setText, type IconName } from "./dom.ts";
import { MarkdownView } from "./markdown.ts";
import { markNode, sourcesList, titleOf } from "./sources.ts";

export interface ItemView {
  readonly element: HTMLElement;
  update(entry: Entry): void;
}

export interface Context extends Judging {
  readonly agentName: string;
}

type Maker<T extends ThreadItem> = (context: Context) => { element: HTMLElement; draw(item: T, status: ItemStatus, local: boolean): void };

const userMessage: Maker<UserMessageItem> = ({ kit }) => {
  const { locale } = kit;
  const quote = h("blockquote", { class: "quoted", dir: "auto" });
  const files = h("ul", { class: "files", role: "list", "aria-label": locale.t("attached_files") });
  const text = h("div", { class: "bubble", dir: "auto" });
  const state = h("div", { class: "state" });
  const who = h("span", { class: "hidden" }, locale.t("you_said"));
  const element = h("div", { class: "message user", "data-role": "user" });
  let drawn: readonly Attachment[] = [];
  return {
    element,
    draw({ content, quoted_text, attachments }, status, local) {
      setText(quote, quoted_text ?? "");
      if (attachments.length !== drawn.length || attachments.some((file, at) => file.id !== drawn[at]?.id)) {
        files.replaceChildren(...attachments.map((file) => h("li", {}, attached(file, kit))));
        drawn = attachments;
      }
      const said = content.map((part) => part.text).join("");
      if (content.some(({ type }) => type === "input_tag")) {
        text.replaceChildren(...content.map((part) => (part.type === "input_tag" ? h("span", { class: "tag" }, part.text) : part.text)));
      } else setText(text, said);
      setText(state, local && status === "failed" ? locale.t("not_sent") : "");
      const parts = [who, quoted_text && quote, attachments.length > 0 && files, said && text, state].filter((part) => part instanceof HTMLElement);
      if (parts.some((part, at) => part !== element.children[at])) element.replaceChildren(...parts);
    },
  };
};

/** A file of a message: a picture if it can be shown, else its name. */
function attached({ type, name, preview_url }: Attachment, kit: Kit): HTMLElement {
  const chip = () => h("span", { class: "file" }, icon("document"), h("span", {}, name));
  const address = type === "image" && preview_url ? kit.pictureAddress(preview_url) : null;
  if (!address) return chip();
  const picture = h("img", { src: address, alt: name, class: "picture" });
  const link = h("a", { href: address, target: "_blank", rel: "noopener noreferrer", title: name }, picture);
  picture.onerror = () => link.replaceWith(chip()); // links to files lapse
  picture.onload = () => kit.grew();
  return link;
}

const STATES: Partial<Record<ItemStatus, Key>> = { stopped: "stopped", failed: "interrupted" };

const assistantMessage: Maker<AssistantMessageItem> = (context) => {
  const { kit, kit: { locale }, agentName, extras } = context;
  const body = h("div", { class: "prose", dir: "auto" });
  const foot = h("div", { class: "foot" });
  const state = h("div", { class: "state" });
  const tools = h("div");
  const parts: MarkdownView[] = [];
  let listed = "";
  let whole = "";
  const open = (id: string) => (citation: Citation) =>
    extras().then(({ cited }) => cited(kit, id, citation.annotation, titleOf(citation.source)), (error: unknown) => kit.announce(kit.deeds.sentence(error)));
  return {
    element: h(
      "div",
      { class: "message assistant", "data-role": "assistant" },
      h("span", { class: "hidden" }, locale.t("assistant_said", { name: agentName })),
      body,
      foot,
      state,
      tools,
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
        foot.replaceChildren(...(citations.list.length && wanted ? [sourcesList(citations.list, locale, open(item.id))] : []));
        listed = wanted;
      }
      const key = STATES[status];
      setText(state, key ? locale.t(key) : "");
      const text = status === "streaming" ? "" : item.content.map((part) => part.text).join("\n\n").trim();
      if (text !== whole) tools.replaceChildren(...(text ? deedsOf(context, { id: item.id, text, shown: body }) : []));
      whole = text;
    },
  };
};

function newPart(body: HTMLElement, draw: (mark: Mark) => Node): MarkdownView {
  const root = h("div");
  body.append(root);
  return new MarkdownView(root, draw);
}

const TASK_ICONS: Readonly<Record<Task["type"], IconName>> = {
  custom: "spark", web_search: "search", thought: "spark", file: "document", image: "image",
};

function taskRow(task: Task, { kit: { locale } }: Context): HTMLElement {
  const { type, status_indicator: standing, title, content, queries, sources } = task;
  const symbol =
    standing === "loading" ? h("span", { class: "spinner" }) : icon(standing === "complete" ? "check" : TASK_ICONS[type]);
  const name = title || queries.join(", ") || (sources.length || content ? "" : locale.t("working"));
  const body = h("div", { class: "task-body" }, name && h("span", {}, name));
  if (content) {
    const prose = h("div", { class: "prose task-content", dir: "auto" });
    new MarkdownView(prose).update(content, [], false);
    body.append(prose);
  }
  const searched = title ? queries : [];
  if (searched.length) body.append(h("span", { class: "queries" }, `${locale.t("searched")} `, ...searched.map((query) => h("q", {}, query))));
  if (sources.length) body.append(h("ul", { class: "task-sources", role: "list" }, ...sources.map((source) => h("li", {}, sourceLink(source)))));
  return h("li", { class: "task" }, symbol, body);
}

function sourceLink(source: Source): HTMLElement {
  const address = addressOf(source, document.baseURI);
  const title = source.title || (source.type === "url" ? source.url : source.type === "file" ? source.filename : source.id);
  return address ? h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, title) : h("span", {}, title);
}

const workflow: Maker<WorkflowItem> = (context) => {
  const summary = h("summary");
  const list = h("ul", { class: "tasks", role: "list" });
  const details = h("details", { class: "workflow" }, summary, list);
  let first = true;
  return {
    element: h("div", { class: "message aside", "data-role": "workflow" }, details),
    draw({ workflow: flow }, status) {
      const { locale } = context.kit;
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

const image: Maker<ThreadItem & { type: "generated_image" }> = ({ kit }) => {
  const { locale } = kit;
  const element = h("div", { class: "message assistant", "data-role": "image" });
  const bar = h("progress", { max: 1, "aria-label": locale.t("image_loading") });
  const waiting = h("div", { class: "drawing" }, icon("image"), h("span", {}, locale.t("image_loading")), bar);
  let shown = "";
  return {
    element,
    draw({ url, progress }, status) {
      const address = url ? kit.pictureAddress(url) : null;
      const isDrawing = status === "streaming" && !address;
      setAttribute(bar, "value", progress);
      const wanted = address ?? (isDrawing ? "drawing" : "gone");
      if (wanted === shown) return;
      shown = wanted;
      if (isDrawing) return element.replaceChildren(waiting);
      const gone = h("p", { class: "state" }, locale.t("image_gone"));
      if (!address) return element.replaceChildren(gone);
      const picture = h("img", { src: address, alt: locale.t("image_alt"), class: "generated" });
      picture.onerror = () => picture.replaceWith(gone);
      picture.onload = () => kit.grew();
      element.replaceChildren(picture);
    },
  };
};

/** While the page is asked, one line says so; afterwards there is nothing to see. */
const toolCall: Maker<ThreadItem & { type: "client_tool_call" }> = ({ kit: { locale } }) => {
  const line = h("div", { class: "activity" }, h("span", { class: "spinner" }), h("span", {}, locale.t("page_asked")));
  const element = h("div", { class: "message aside", "data-role": "tool" });
  return {
    element,
    draw(item, status) {
      element.hidden = item.status !== "pending" || status !== "done";
      element.replaceChildren(...(element.hidden ? [] : [line]));
    },
  };
};

const MAKERS: { readonly [T in ThreadItem["type"]]: Maker<Extract<ThreadItem, { type: T }>> | null } = {
  user_message: userMessage,
  assistant_message: assistantMessage,
  workflow,
  task,
  widget: ({ kit, extras }) => later("widget", kit, extras, (made) => made.widget, (item) => item.copy_text ?? ""),
  structured_input: ({ kit, extras }) =>
    later("form", kit, extras, (made) => made.form, (item) => item.inputs.map(({ question }) => question).join("\n\n")),
  client_tool_call: toolCall,
  generated_image: image,
  end_of_turn: null,
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
