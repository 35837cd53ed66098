/** The ChatKit protocol, as the server's `chatkit/types.py` has it. */
import type { Json } from "../shared/guards.ts";

// ── threads and items ──

export type ThreadStatus =
  | { readonly type: "active" }
  | { readonly type: "locked"; readonly reason: string | null }
  | { readonly type: "closed"; readonly reason: string | null };

export interface Thread {
  readonly id: string;
  readonly title: string | null;
  readonly status: ThreadStatus;
}

export interface Page<T> {
  readonly data: readonly T[];
  readonly has_more: boolean;
  readonly after: string | null;
}

interface ItemBase {
  readonly id: string;
  readonly thread_id: string;
}

export interface UserMessageContent {
  readonly type: "input_text" | "input_tag";
  readonly text: string;
}

export interface Attachment {
  readonly id: string;
  readonly type: "image" | "file";
  readonly name: string;
  readonly mime_type: string;
  readonly preview_url: string | null;
}

export interface UserMessageItem extends ItemBase {
  readonly type: "user_message";
  readonly content: readonly UserMessageContent[];
  readonly attachments: readonly Attachment[];
  readonly quoted_text: string | null;
  /** What was chosen in the composer. */
  readonly tool: string | null;
  readonly model: string | null;
}

interface SourceBase {
  readonly title: string;
  readonly description: string | null;
}
export interface UrlSource extends SourceBase {
  readonly type: "url";
  readonly url: string;
  readonly attribution: string | null;
}
export interface FileSource extends SourceBase {
  readonly type: "file";
  readonly filename: string;
}
export interface EntitySource extends SourceBase {
  readonly type: "entity";
  readonly id: string;
}
export type Source = UrlSource | FileSource | EntitySource;

export interface Annotation {
  readonly source: Source;
  /** Where in the text it belongs, in code points (the server is Python), or null for the whole part. */
  readonly index: number | null;
}

export interface AssistantContent {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly Annotation[];
}

export interface AssistantMessageItem extends ItemBase {
  readonly type: "assistant_message";
  readonly content: readonly AssistantContent[];
}

export interface Task {
  readonly type: "custom" | "web_search" | "thought" | "file" | "image";
  readonly status_indicator: "none" | "loading" | "complete";
  readonly icon: string | null;
  readonly title: string | null;
  readonly content: string | null;
  readonly queries: readonly string[];
  readonly sources: readonly Source[];
}

export interface Workflow {
  readonly type: "custom" | "reasoning";
  readonly tasks: readonly Task[];
  /** A title, or how long it took in seconds. */
  readonly summary: { readonly title: string; readonly icon: string | null } | { readonly duration: number } | null;
  readonly expanded: boolean;
}

export interface WorkflowItem extends ItemBase {
  readonly type: "workflow";
  readonly workflow: Workflow;
}
export interface TaskItem extends ItemBase {
  readonly type: "task";
  readonly task: Task;
}
export interface WidgetItem extends ItemBase {
  readonly type: "widget";
  /** The root component as it came: a tenant's or a model's, so nothing about it is certain. */
  readonly widget: Json;
  readonly copy_text: string | null;
}
export interface GeneratedImageItem extends ItemBase {
  readonly type: "generated_image";
  readonly url: string | null;
  /** 0 to 1 while it is drawn, if the server says. */
  readonly progress: number | null;
}
export interface ClientToolCallItem extends ItemBase {
  readonly type: "client_tool_call";
  readonly status: "pending" | "completed";
  readonly name: string;
  readonly arguments: Json;
}

export interface Question {
  readonly id: string;
  readonly question: string;
  readonly description: string | null;
  /** Null for free text. */
  readonly options: readonly string[] | null;
  readonly multiple: boolean;
  readonly answer: { readonly values: readonly string[]; readonly skipped: boolean } | null;
}
export interface StructuredInputItem extends ItemBase {
  readonly type: "structured_input";
  readonly status: "pending" | "answered" | "skipped";
  readonly inputs: readonly Question[];
}
export interface EndOfTurnItem extends ItemBase {
  readonly type: "end_of_turn";
}
/** Types yet to be invented. */
export interface OtherItem extends ItemBase {
  readonly type: "other";
  readonly original: string;
}

export type ThreadItem =
  | UserMessageItem
  | AssistantMessageItem
  | WorkflowItem
  | TaskItem
  | WidgetItem
  | GeneratedImageItem
  | ClientToolCallItem
  | StructuredInputItem
  | EndOfTurnItem
  | OtherItem;

// ── updates and events ──

export type ItemUpdate =
  | { readonly type: "assistant_message.content_part.added"; readonly content_index: number; readonly content: AssistantContent }
  | { readonly type: "assistant_message.content_part.text_delta"; readonly content_index: number; readonly delta: string }
  | {
      readonly type: "assistant_message.content_part.annotation_added";
      readonly content_index: number;
      readonly annotation_index: number;
      readonly annotation: Annotation;
    }
  | { readonly type: "assistant_message.content_part.done"; readonly content_index: number; readonly content: AssistantContent }
  | { readonly type: "workflow.task.added"; readonly task_index: number; readonly task: Task }
  | { readonly type: "workflow.task.updated"; readonly task_index: number; readonly task: Task }
  | { readonly type: "generated_image.updated"; readonly url: string | null; readonly progress: number | null }
  | { readonly type: "widget.streaming_text.value_delta"; readonly component_id: string; readonly delta: string; readonly done: boolean }
  | { readonly type: "widget.root.updated"; readonly widget: Json }
  | { readonly type: "widget.component.updated"; readonly component_id: string; readonly component: Json }
  /** Updates yet to be invented. */
  | { readonly type: "other"; readonly original: string };

export type NoticeLevel = "info" | "warning" | "danger";

export type StreamEvent =
  | { readonly type: "thread.created"; readonly thread: Thread }
  | { readonly type: "thread.updated"; readonly thread: Thread }
  | { readonly type: "thread.item.added"; readonly item: ThreadItem }
  | { readonly type: "thread.item.updated"; readonly item_id: string; readonly update: ItemUpdate }
  | { readonly type: "thread.item.done"; readonly item: ThreadItem }
  | { readonly type: "thread.item.removed"; readonly item_id: string }
  | { readonly type: "thread.item.replaced"; readonly item: ThreadItem }
  | { readonly type: "stream_options"; readonly allow_cancel: boolean }
  | { readonly type: "progress_update"; readonly icon: string | null; readonly text: string }
  | { readonly type: "client_effect"; readonly name: string; readonly data: Json }
  | { readonly type: "error"; readonly code: string; readonly message: string | null; readonly allow_retry: boolean }
  | { readonly type: "notice"; readonly level: NoticeLevel; readonly message: string; readonly title: string | null };

// ── requests ──

/** What the composer hands over. */
export interface Said {
  readonly text: string;
  readonly attachments: readonly Attachment[];
  readonly quote: string | null;
  readonly tool: string | null;
  readonly model: string | null;
}

export interface UserMessageInput {
  readonly content: readonly { readonly type: "input_text"; readonly text: string }[];
  readonly attachments: readonly string[];
  readonly quoted_text: string | null;
  readonly inference_options: { readonly tool_choice?: { readonly id: string }; readonly model?: string };
}

export interface Submission {
  readonly status: "answered" | "skipped";
  readonly answers: Readonly<Record<string, { readonly values: readonly string[]; readonly skipped: boolean }>>;
}

/** What was pressed in a widget: the action as it stands there, with what was entered laid over its payload. */
export interface WidgetAction {
  readonly type: string;
  readonly payload: unknown;
}

interface ActionParams {
  readonly thread_id: string;
  readonly item_id: string;
  readonly action: WidgetAction;
}

export type StreamingRequest =
  | { readonly type: "threads.create"; readonly params: { readonly input: UserMessageInput } }
  | { readonly type: "threads.add_user_message"; readonly params: { readonly thread_id: string; readonly input: UserMessageInput } }
  | { readonly type: "threads.retry_after_item"; readonly params: { readonly thread_id: string; readonly item_id: string } }
  | { readonly type: "threads.add_client_tool_output"; readonly params: { readonly thread_id: string; readonly result: unknown } }
  | {
      readonly type: "threads.add_structured_input";
      readonly params: { readonly thread_id: string; readonly item_id: string; readonly input: Submission };
    }
  | { readonly type: "threads.custom_action"; readonly params: ActionParams };

export type PlainRequest =
  | { readonly type: "threads.sync_custom_action"; readonly params: ActionParams }
  | { readonly type: "attachments.create"; readonly params: { readonly name: string; readonly size: number; readonly mime_type: string } }
  | { readonly type: "attachments.delete"; readonly params: { readonly attachment_id: string } }
  | { readonly type: "input.transcribe"; readonly params: { readonly audio_base64: string; readonly mime_type: string } }
  | { readonly type: "threads.get_by_id" | "threads.delete"; readonly params: { readonly thread_id: string } }
  | {
      readonly type: "items.feedback";
      readonly params: { readonly thread_id: string; readonly item_ids: readonly string[]; readonly kind: "positive" | "negative" };
      readonly metadata: { readonly reason?: string | undefined };
    }
  | { readonly type: "threads.update"; readonly params: { readonly thread_id: string; readonly title: string } }
  | {
      readonly type: "threads.list";
      readonly params: { readonly limit: number; readonly order: "asc" | "desc"; readonly after: string | null };
    }
  | {
      readonly type: "items.list";
      readonly params: {
        readonly thread_id: string;
        readonly limit: number;
        readonly order: "asc" | "desc";
        readonly after: string | null;
      };
    };

export const plainly = (text: string): Said => ({ text, attachments: [], quote: null, tool: null, model: null });

export const userMessage = ({ text, attachments, quote, tool, model }: Said): UserMessageInput => ({
  content: text ? [{ type: "input_text", text }] : [],
  attachments: attachments.map(({ id }) => id),
  quoted_text: quote,
  inference_options: { ...(tool && { tool_choice: { id: tool } }), ...(model && { model }) },
});

/** What was handed over when this message was written. */
export function saidIn(item: ThreadItem): Said {
  if (item.type !== "user_message") return plainly("");
  const { content, attachments, quoted_text: quote, tool, model } = item;
  return { text: content.map(({ text }) => text).join(""), attachments, quote, tool, model };
}

/** Items that come before an answer, and are none. */
const PRELUDE = new Set(["user_message", "workflow", "task"]);

/** Whether an answer, or what stands for one, is whole with this event. */
export function isAnswer(event: StreamEvent): boolean {
  if (event.type !== "thread.item.done" && event.type !== "thread.item.replaced") return event.type === "error";
  const { item } = event;
  return !PRELUDE.has(item.type) && !(item.type === "structured_input" && item.status !== "pending");
}
