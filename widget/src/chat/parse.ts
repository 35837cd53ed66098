/** From JSON to the protocol's types. What does not fit is null (dropped) or "other" (kept, not drawn); nothing throws. */
import { isRecord, isString, list, records, text, type Json } from "../shared/guards.ts";
import type {
  Annotation,
  AssistantContent,
  Attachment,
  ItemUpdate,
  NoticeLevel,
  Page,
  Question,
  Source,
  StreamEvent,
  Task,
  Thread,
  ThreadItem,
  ThreadStatus,
  Workflow,
} from "./protocol.ts";

const present = <T>(value: T | null): value is T => value !== null;
const index = (value: unknown): number | null => (Number.isInteger(value) && (value as number) >= 0 ? (value as number) : null);
const oneOf = <T extends string>(value: unknown, options: readonly T[], otherwise: T): T =>
  options.includes(value as T) ? (value as T) : otherwise;

function parseSource(value: unknown): Source | null {
  if (!isRecord(value)) return null;
  const base = { title: text(value.title) ?? "", description: text(value.description) };
  if (value.type === "url" && isString(value.url)) {
    return { ...base, type: "url", url: value.url, attribution: text(value.attribution) };
  }
  if (value.type === "file" && isString(value.filename)) return { ...base, type: "file", filename: value.filename };
  if (value.type === "entity" && isString(value.id)) return { ...base, type: "entity", id: value.id };
  return null;
}

function parseAnnotation(value: unknown): Annotation | null {
  const source = isRecord(value) ? parseSource(value.source) : null;
  return source && { source, index: index((value as Json).index) };
}

function parseContent(value: unknown): AssistantContent | null {
  if (!isRecord(value) || !isString(value.text)) return null;
  return {
    type: "output_text",
    text: value.text,
    annotations: list(value.annotations).map(parseAnnotation).filter(present),
  };
}

function parseTask(value: unknown): Task | null {
  if (!isRecord(value)) return null;
  return {
    type: oneOf(value.type, ["custom", "web_search", "thought", "file", "image"], "custom"),
    status_indicator: oneOf(value.status_indicator, ["none", "loading", "complete"], "none"),
    icon: text(value.icon),
    title: text(value.title) ?? text(value.title_query),
    content: text(value.content),
    queries: list(value.queries).filter(isString),
    sources: list(value.sources).map(parseSource).filter(present),
  };
}

function parseWorkflow(value: Json): Workflow {
  const summary = isRecord(value.summary) ? value.summary : {};
  return {
    type: oneOf(value.type, ["custom", "reasoning"], "custom"),
    tasks: list(value.tasks).map(parseTask).filter(present),
    summary: isString(summary.title)
      ? { title: summary.title, icon: text(summary.icon) }
      : typeof summary.duration === "number"
        ? { duration: summary.duration }
        : null,
    expanded: value.expanded === true,
  };
}

const imageUrl = (value: unknown): string | null => (isRecord(value) ? text(value.url) : null);

const progress = (value: unknown): number | null =>
  typeof value === "number" && value >= 0 ? Math.min(value, 1) : null;

export function parseAttachment(value: unknown): Attachment | null {
  if (!isRecord(value) || !isString(value.id)) return null;
  return {
    id: value.id,
    type: oneOf(value.type, ["image", "file"], "file"),
    name: text(value.name) || value.id,
    mime_type: text(value.mime_type) ?? "",
    preview_url: text(value.preview_url),
  };
}

function parseQuestion(value: unknown): Question | null {
  if (!isRecord(value) || !isString(value.id) || !isString(value.question)) return null;
  const answer = isRecord(value.answer) ? value.answer : null;
  const options = records(value.options).flatMap((option) => (isString(option.value) ? [option.value] : []));
  return {
    id: value.id,
    question: value.question,
    description: text(value.description),
    options: value.type === "multiple_choice" ? options : null,
    multiple: value.multiple === true,
    answer: answer && { values: list(answer.values).filter(isString), skipped: answer.skipped === true },
  };
}

export function parseItem(value: unknown): ThreadItem | null {
  if (!isRecord(value) || !isString(value.id) || !isString(value.type)) return null;
  const base = { id: value.id, thread_id: text(value.thread_id) ?? "" };
  switch (value.type) {
    case "user_message": {
      const options = isRecord(value.inference_options) ? value.inference_options : {};
      return {
        ...base,
        type: "user_message",
        content: records(value.content).flatMap(({ type, text: said }) =>
          isString(said) ? [{ type: oneOf(type, ["input_text", "input_tag"], "input_text"), text: said }] : [],
        ),
        attachments: list(value.attachments).map(parseAttachment).filter(present),
        quoted_text: text(value.quoted_text),
        tool: isRecord(options.tool_choice) ? text(options.tool_choice.id) : null,
        model: text(options.model),
      };
    }
    case "assistant_message":
      return { ...base, type: "assistant_message", content: list(value.content).map(parseContent).filter(present) };
    case "workflow":
      return { ...base, type: "workflow", workflow: parseWorkflow(isRecord(value.workflow) ? value.workflow : {}) };
    case "task": {
      const task = parseTask(value.task);
      return task && { ...base, type: "task", task };
    }
    case "widget":
      return { ...base, type: "widget", widget: isRecord(value.widget) ? value.widget : {}, copy_text: text(value.copy_text) };
    case "generated_image":
      return { ...base, type: "generated_image", url: imageUrl(value.image), progress: null };
    case "client_tool_call":
      return {
        ...base,
        type: "client_tool_call",
        status: oneOf(value.status, ["pending", "completed"], "completed"),
        name: text(value.name) ?? "",
        arguments: isRecord(value.arguments) ? value.arguments : {},
      };
    case "structured_input":
      return {
        ...base,
        type: "structured_input",
        status: oneOf(value.status, ["pending", "answered", "skipped"], "pending"),
        inputs: list(value.inputs).map(parseQuestion).filter(present),
      };
    case "end_of_turn":
      return { ...base, type: "end_of_turn" };
    default:
      return { ...base, type: "other", original: value.type };
  }
}

function parseUpdate(value: Json): ItemUpdate | null {
  const { type } = value;
  const content_index = index(value.content_index);
  const task_index = index(value.task_index);
  switch (type) {
    case "assistant_message.content_part.added":
    case "assistant_message.content_part.done": {
      const content = parseContent(value.content);
      return content && content_index !== null ? { type, content_index, content } : null;
    }
    case "assistant_message.content_part.text_delta":
      return content_index !== null && isString(value.delta) ? { type, content_index, delta: value.delta } : null;
    case "assistant_message.content_part.annotation_added": {
      const annotation = parseAnnotation(value.annotation);
      const annotation_index = index(value.annotation_index);
      return annotation && content_index !== null && annotation_index !== null
        ? { type, content_index, annotation_index, annotation }
        : null;
    }
    case "workflow.task.added":
    case "workflow.task.updated": {
      const task = parseTask(value.task);
      return task && task_index !== null ? { type, task_index, task } : null;
    }
    case "generated_image.updated":
      return { type, url: imageUrl(value.image), progress: progress(value.progress) };
    case "widget.streaming_text.value_delta": {
      const { component_id, delta } = value;
      return isString(component_id) && isString(delta) ? { type, component_id, delta, done: value.done === true } : null;
    }
    case "widget.root.updated":
      return isRecord(value.widget) ? { type, widget: value.widget } : null;
    case "widget.component.updated": {
      const { component_id, component } = value;
      return isString(component_id) && isRecord(component) ? { type, component_id, component } : null;
    }
    default:
      return isString(type) ? { type: "other", original: type } : null;
  }
}

function parseStatus(value: unknown): ThreadStatus {
  if (isRecord(value) && (value.type === "locked" || value.type === "closed")) {
    return { type: value.type, reason: text(value.reason) };
  }
  return { type: "active" };
}

export function parseThread(value: unknown): Thread | null {
  if (!isRecord(value) || !isString(value.id)) return null;
  return { id: value.id, title: text(value.title), status: parseStatus(value.status) };
}

/** A page of items, in the order the server gave. */
export function parseItems(value: unknown): Page<ThreadItem> | null {
  if (!isRecord(value) || !Array.isArray(value.data)) return null;
  return { data: value.data.map(parseItem).filter(present), has_more: value.has_more === true, after: text(value.after) };
}

export function parseEvent(value: unknown): StreamEvent | null {
  if (!isRecord(value)) return null;
  const { type } = value;
  switch (type) {
    case "thread.created":
    case "thread.updated": {
      const thread = parseThread(value.thread);
      return thread && { type, thread };
    }
    case "thread.item.added":
    case "thread.item.done":
    case "thread.item.replaced": {
      const item = parseItem(value.item);
      return item && { type, item };
    }
    case "thread.item.updated": {
      const update = isRecord(value.update) ? parseUpdate(value.update) : null;
      return update && isString(value.item_id) ? { type, item_id: value.item_id, update } : null;
    }
    case "thread.item.removed":
      return isString(value.item_id) ? { type, item_id: value.item_id } : null;
    case "stream_options":
      return { type, allow_cancel: isRecord(value.stream_options) && value.stream_options.allow_cancel === true };
    case "progress_update":
      return isString(value.text) ? { type, icon: text(value.icon), text: value.text } : null;
    case "client_effect":
      return isString(value.name) ? { type, name: value.name, data: isRecord(value.data) ? value.data : {} } : null;
    case "error":
      return {
        type,
        code: text(value.code) ?? "custom",
        message: text(value.message),
        allow_retry: value.allow_retry === true,
      };
    case "notice":
      return isString(value.message)
        ? {
            type,
            level: oneOf<NoticeLevel>(value.level, ["info", "warning", "danger"], "info"),
            message: value.message,
            title: text(value.title),
          }
        : null;
    default:
      return null;
  }
}
