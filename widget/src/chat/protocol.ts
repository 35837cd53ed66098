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

export interface UserMessageItem extends ItemBase {
  readonly type: "user_message";
  readonly content: readonly UserMessageContent[];
  readonly quoted_text: string | null;
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
  readonly title: string | null;
  readonly content: string | null;
  readonly queries: readonly string[];
  readonly sources: readonly Source[];
}

export interface Workflow {
  readonly type: "custom" | "reasoning";
  readonly tasks: readonly Task[];
  /** A title, or how long it took in seconds. */
  readonly summary: { readonly title: string } | { readonly duration: number } | null;
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
  readonly copy_text: string | null;
}
export interface GeneratedImageItem extends ItemBase {
  readonly type: "generated_image";
  readonly url: string | null;
}
/** Items that this build does not draw: client tool calls, structured input, markers, and types yet to be invented. */
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
  | { readonly type: "generated_image.updated"; readonly url: string }
  /** `widget.*`, and updates yet to be invented. */
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

export interface UserMessageInput {
  readonly content: readonly { readonly type: "input_text"; readonly text: string }[];
  readonly attachments: readonly string[];
  readonly quoted_text: string | null;
  readonly inference_options: Json;
}

export type StreamingRequest =
  | { readonly type: "threads.create"; readonly params: { readonly input: UserMessageInput } }
  | { readonly type: "threads.add_user_message"; readonly params: { readonly thread_id: string; readonly input: UserMessageInput } }
  | { readonly type: "threads.retry_after_item"; readonly params: { readonly thread_id: string; readonly item_id: string } };

export type PlainRequest =
  | { readonly type: "threads.get_by_id"; readonly params: { readonly thread_id: string } }
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

export const userMessage = (text: string): UserMessageInput => ({
  content: [{ type: "input_text", text }],
  attachments: [],
  quoted_text: null,
  inference_options: {},
});
