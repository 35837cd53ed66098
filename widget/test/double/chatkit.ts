/**
 * Stands in for the script on OpenAI's CDN: defines `<openai-chatkit>`, refuses options that are none, has a frame of its own
 * beside it as the original has, and truly talks the protocol, by the `fetch` that it is given. Of the screen it draws what tests look at.
 */
import type { ChatKitOptions, CustomApiConfig, OpenAIChatKit } from "@openai/chatkit";
import { isRecord, text as textOf } from "../../src/shared/guards.ts";
import { faultsOf } from "./shape.ts";

const SCRIPT = document.currentScript as HTMLScriptElement;
type Json = Record<string, unknown>;
interface Item extends Json { id: string; type: string; content?: { text: string }[]; attachments?: Json[]; name?: string; arguments?: Record<string, unknown>; status?: string }

class Double extends HTMLElement implements OpenAIChatKit {
  #options: ChatKitOptions | null = null;
  #thread: string | null = null;
  #items: Item[] = [];
  #attached: Json[] = [];
  readonly #root = this.attachShadow({ mode: "open" });

  setOptions(options: ChatKitOptions): void {
    const faults = faultsOf(options);
    this.dataset.faults = faults.join("; ");
    if (faults.length) throw new TypeError(faults.join("; "));
    const isFirst = this.#options === null;
    this.#options = options;
    this.dataset.options = JSON.stringify(options);
    if (isFirst && options.initialThread) void this.setThreadId(options.initialThread);
    if (this.isConnected) this.#begin();
  }

  connectedCallback(): void {
    if (this.#options) this.#begin();
  }

  #begin(): void {
    if (!this.#root.childElementCount) {
      const frame = document.createElement("iframe");
      frame.src = new URL("index.html", SCRIPT.src).href;
      frame.title = this.#options?.frameTitle ?? "Chat";
      window.addEventListener("message", ({ source }) => source === frame.contentWindow && this.#emit("chatkit.ready"));
      this.#root.append(frame, document.createElement("section"));
    }
    this.#draw();
  }

  #emit(name: string, detail?: unknown): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  get #api(): CustomApiConfig {
    return this.#options?.api as CustomApiConfig;
  }

  async #ask(type: string, params: Json): Promise<Response> {
    const { url, fetch = globalThis.fetch } = this.#api;
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/event-stream", "chatkit-frame-instance-id": "double" },
      body: JSON.stringify({ type, params }),
    });
    if (response.ok) return response;
    const error = Object.assign(new Error(await response.text()), { name: "HttpError" });
    this.#emit("chatkit.error", { error });
    throw error;
  }

  async #stream(type: string, params: Json): Promise<void> {
    this.#emit("chatkit.response.start");
    const response = await this.#ask(type, params);
    const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop() ?? "";
      for (const frame of frames) {
        const data = frame.split("\n").find((line) => line.startsWith("data: "));
        if (data) this.#take(JSON.parse(data.slice(6)) as Json);
      }
    }
    this.#emit("chatkit.response.end");
    const call = this.#items.find((item) => item.type === "client_tool_call" && item.status === "pending");
    if (!call) return;
    call.status = "completed";
    const result = await this.#options?.onClientTool?.({ name: call.name ?? "", params: call.arguments ?? {} });
    await this.#stream("threads.add_client_tool_output", { thread_id: this.#thread, result });
  }

  #take(event: Json): void {
    const { type } = event;
    if (type === "thread.created" || type === "thread.updated") {
      const thread = event.thread as Json;
      this.dataset.pictures = JSON.stringify(thread.allowed_image_domains ?? null);
      this.#move(thread.id as string);
    }
    else if (type === "client_effect") this.#emit("chatkit.effect", { name: event.name, data: event.data });
    else if (type === "error") this.#emit("chatkit.error", { error: Object.assign(new Error(String(event.message)), { name: "StreamError" }) });
    else if (type === "thread.item.added" || type === "thread.item.done" || type === "thread.item.replaced") {
      const item = event.item as Item;
      this.#items = [...this.#items.filter(({ id }) => id !== item.id), item];
    } else if (type === "thread.item.updated") {
      const update = event.update as Json;
      const item = this.#items.find(({ id }) => id === event.item_id);
      if (update.type === "assistant_message.content_part.text_delta") (item?.content?.[Number(update.content_index)] ?? { text: "" }).text += String(update.delta);
      else if (update.type === "assistant_message.content_part.added" && item) item.content = [...(item.content ?? []), { ...(update.content as { text: string }) }];
    }
    this.#draw();
  }

  #move(thread: string | null): void {
    if (thread === this.#thread) return;
    this.#thread = thread;
    this.#emit("chatkit.thread.change", { threadId: thread });
  }

  async sendUserMessage({ text, newThread }: { text?: string; newThread?: boolean }): Promise<void> {
    if (newThread) await this.setThreadId(null);
    const input = { content: [{ type: "input_text", text }], attachments: this.#attached.map(({ id }) => id), quoted_text: "", inference_options: {} };
    this.#attached = [];
    await (this.#thread ? this.#stream("threads.add_user_message", { thread_id: this.#thread, input }) : this.#stream("threads.create", { input }));
  }

  async setThreadId(thread: string | null): Promise<void> {
    this.#items = [];
    if (thread) {
      this.#emit("chatkit.thread.load.start", { threadId: thread });
      const answer = (await (await this.#ask("threads.get_by_id", { thread_id: thread })).json()) as { items: { data: Item[] }; allowed_image_domains?: string[] };
      this.#items = answer.items.data;
      this.dataset.pictures = JSON.stringify(answer.allowed_image_domains ?? null);
      this.#emit("chatkit.thread.load.end", { threadId: thread });
    }
    this.#move(thread);
    this.#draw();
  }

  async setComposerValue({ text = "", files = [] }: { text?: string; files?: File[] }): Promise<void> {
    this.#field.value = text;
    for (const file of files) await this.#attach(file);
    this.#draw();
  }

  /** Two phases: announced, then put where the platform says, by the same `fetch`. */
  async #attach(file: File): Promise<void> {
    const announced = (await (await this.#ask("attachments.create", { name: file.name, size: file.size, mime_type: file.type })).json()) as Json;
    const { url, method, headers } = announced.upload_descriptor as { url: string; method: string; headers?: Record<string, string> };
    const { fetch = globalThis.fetch } = this.#api;
    const response = await fetch(url, { method, headers: headers ?? {}, body: file });
    if (!response.ok) this.#emit("chatkit.error", { error: Object.assign(new Error(await response.text()), { name: "FileAttachmentError" }) });
    else this.#attached.push(announced);
  }

  async sendCustomAction(action: { type: string; payload?: Record<string, unknown> }, itemId?: string): Promise<void> {
    await this.#stream("threads.custom_action", { thread_id: this.#thread, item_id: itemId, action });
  }
  async focusComposer(): Promise<void> {
    this.#field.focus();
  }
  async showHistory(): Promise<void> {
    const page = (await (await this.#ask("threads.list", { limit: 20, order: "desc" })).json()) as { data: Json[] };
    this.#part("nav").replaceChildren(...page.data.map(({ id, title }) => this.#button(textOf(title) ?? "Untitled", () => this.setThreadId(id as string))));
    this.#emit("chatkit.history.open");
  }
  async hideHistory(): Promise<void> {
    this.#part("nav").replaceChildren();
    this.#emit("chatkit.history.close");
  }
  async fetchUpdates(): Promise<void> {
    await this.setThreadId(this.#thread);
  }

  // ── what tests look at ──

  #part(tag: string): HTMLElement {
    return this.#root.querySelector(tag) as HTMLElement;
  }
  get #field(): HTMLInputElement {
    return this.#part("input[type=text]") as HTMLInputElement;
  }

  #button(label: string, pressed: () => unknown): HTMLButtonElement {
    const button = document.createElement("button");
    button.textContent = label;
    button.onclick = () => void pressed();
    return button;
  }

  #draw(): void {
    const { header, startScreen, composer, disclaimer } = this.#options ?? {};
    const section = this.#root.querySelector("section");
    if (!section) return;
    if (!section.childElementCount) {
      const form = document.createElement("form");
      const field = Object.assign(document.createElement("input"), { type: "text", ariaLabel: "Message" });
      const files = Object.assign(document.createElement("input"), { type: "file", ariaLabel: "Files", onchange: () => void this.setComposerValue({ files: [...(files.files ?? [])] }) });
      form.append(field, files, Object.assign(document.createElement("button"), { textContent: "Send" }));
      form.onsubmit = (event) => {
        event.preventDefault();
        void this.sendUserMessage({ text: field.value });
        field.value = "";
      };
      section.append(document.createElement("header"), document.createElement("nav"), document.createElement("ol"), form, document.createElement("footer"));
    }
    this.#field.placeholder = composer?.placeholder ?? "";
    this.#part("input[type=file]").hidden = !composer?.attachments?.enabled;
    this.#part("header").replaceChildren(
      header?.title?.text ?? "",
      ...(header?.leftAction ? [this.#button(header.leftAction.icon, header.leftAction.onClick)] : []),
      ...(header?.rightAction ? [this.#button(header.rightAction.icon, header.rightAction.onClick)] : []),
      this.#button("history", () => this.showHistory()),
    );
    const start = [startScreen?.greeting ?? "", ...(startScreen?.prompts ?? []).map(({ label, prompt }) => this.#button(label, () => this.sendUserMessage({ text: String(prompt) })))];
    this.#part("ol").replaceChildren(
      ...(this.#items.length ? this.#items : start).map((each) => {
        if (!isRecord(each) || each instanceof Node) return each as Node | string;
        const row = document.createElement("li");
        row.className = each.type as string;
        row.textContent = [...((each as Item).content ?? []).map(({ text }) => text), ...((each as Item).attachments ?? []).map(({ name }) => `[${String(name)}]`)].join(" ");
        return row;
      }),
    );
    this.#part("footer").textContent = [disclaimer?.text, ...this.#attached.map(({ name }) => `attached ${String(name)}`)].filter(Boolean).join(" · ");
  }
}

customElements.define("openai-chatkit", Double);
