/** Files that go with a message: chosen, pasted or dropped; announced to the platform, then uploaded, with what is wrong said in words. */
import type { Attachment } from "../chat/protocol.ts";
import type { Kit, Offers, Slots } from "../items/kit.ts";
import { problemOf } from "../net/problem.ts";

const MAX_THUMBNAIL = 96;
const UPLOAD_SECONDS = 150;

interface Chosen {
  readonly row: HTMLElement;
  readonly abort: AbortController;
  attachment: Attachment | null;
  isDone: boolean;
}

export interface Files {
  readonly element: HTMLElement;
  readonly button: HTMLElement;
  readonly isBusy: boolean;
  done(): Attachment[];
  clear(): void;
}

export function filesOf(kit: Kit, slots: Slots, offered: NonNullable<Offers["attachments"]>): Files {
  const { h, icon, locale, deeds, announce } = kit;
  const chosen = new Set<Chosen>();
  const list = h("ul", { class: "c-files", role: "list", "aria-label": locale.t("attached_files"), hidden: true });
  const picker = h("input", { type: "file", multiple: true, hidden: true, tabindex: -1 });
  if (!offered.documents) picker.accept = "image/*";
  const label = locale.t("attach");
  const button = h("button", { type: "button", class: "tool", "aria-label": label, title: label }, icon(null, "M8 12.5 14 6.5a2.5 2.5 0 0 1 3.5 3.5l-7.5 7.5a4.2 4.2 0 0 1-6-6L11.5 4"));
  const drop = h("div", { class: "c-drop", hidden: true, "aria-hidden": "true" }, locale.t("drop_files"));
  const size = (bytes: number) =>
    new Intl.NumberFormat(locale.tag, { style: "unit", unit: bytes < 1_000_000 ? "kilobyte" : "megabyte", maximumFractionDigits: 1 }).format(bytes / (bytes < 1_000_000 ? 1024 : 1_048_576));

  const changed = () => {
    list.hidden = !chosen.size;
    slots.changed();
  };

  const refused = (file: File): string | null => {
    const { name } = file;
    if (chosen.size >= offered.maxFiles) return locale.t("file_too_many", { number: offered.maxFiles });
    if (file.size > offered.maxBytes) return locale.t("file_too_large", { name, size: size(offered.maxBytes) });
    if (!file.size) return locale.t("file_empty", { name });
    const isImage = file.type.startsWith("image/");
    return (isImage && !offered.images) || (!isImage && !offered.documents) ? locale.t("file_kind", { name }) : null;
  };

  const add = (files: Iterable<File>) => {
    slots.complain("");
    for (const file of files) {
      const complaint = refused(file);
      if (complaint) slots.complain(complaint);
      else void take(file);
    }
    slots.input.focus();
  };

  const take = async (file: File) => {
    const { name } = file;
    const bar = h("progress", { max: 100, value: 0, "aria-label": locale.t("uploading", { name, percent: 0 }) });
    const preview = h("span", { class: "c-preview" }, icon("document"));
    const remove = h("button", { type: "button", class: "c-remove", "aria-label": locale.t("remove_file", { name }), title: locale.t("remove_file", { name }) }, icon("close"));
    const row = h("li", { class: "c-file" }, preview, h("span", { class: "c-name", title: name }, name), bar, remove);
    const one: Chosen = { row, abort: new AbortController(), attachment: null, isDone: false };
    const leave = () => {
      chosen.delete(one);
      row.remove();
      changed();
    };
    remove.onclick = () => {
      one.abort.abort();
      if (one.attachment) deeds.discard(one.attachment.id).catch(() => undefined); // the platform sweeps what is left
      leave();
      slots.input.focus();
    };
    chosen.add(one);
    list.append(row);
    changed();
    void thumbnail(file, preview);
    try {
      const { attachment, put } = await deeds.announce({ name, size: file.size, mime_type: file.type || "application/octet-stream" });
      one.attachment = attachment;
      if (one.abort.signal.aborted) return void deeds.discard(attachment.id).catch(() => undefined);
      await upload(put, file, attachment.mime_type, one.abort.signal, (share) => {
        const percent = Math.round(share * 100);
        bar.value = percent;
        bar.ariaLabel = locale.t("uploading", { name, percent });
      });
      one.isDone = true;
      bar.remove();
      announce(locale.t("upload_done", { name }));
    } catch (error) {
      if (one.abort.signal.aborted) return;
      if (one.attachment) deeds.discard(one.attachment.id).catch(() => undefined);
      leave();
      slots.complain(error instanceof Lost ? locale.t("file_failed", { name }) : `${name}: ${deeds.sentence(error)}`);
    }
    changed();
  };

  /** A small picture of a picture, drawn on a canvas: the policy of the frame admits no other addresses. */
  const thumbnail = async (file: File, place: HTMLElement) => {
    if (!file.type.startsWith("image/")) return;
    const picture = await createImageBitmap(file, { resizeWidth: MAX_THUMBNAIL, resizeQuality: "medium" }).catch(() => null);
    if (!picture) return;
    const canvas = h("canvas", { width: picture.width, height: picture.height, role: "presentation" });
    canvas.getContext("2d")?.drawImage(picture, 0, 0);
    picture.close();
    place.replaceChildren(canvas);
  };

  button.onclick = () => picker.click();
  picker.onchange = () => {
    add(picker.files ?? []);
    picker.value = "";
  };
  slots.input.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });
  // Over the whole frame: a file that misses the field must not replace the document.
  let depth = 0;
  const brings = (event: DragEvent) => event.dataTransfer?.types.includes("Files") === true;
  document.addEventListener("dragenter", (event) => {
    if (brings(event) && ++depth) drop.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (brings(event) && --depth <= 0) drop.hidden = true;
  });
  document.addEventListener("dragover", (event) => brings(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    drop.hidden = true;
    if (!brings(event)) return;
    event.preventDefault();
    if (!slots.input.disabled) add(event.dataTransfer?.files ?? []);
  });

  return {
    element: h("div", {}, list, picker, drop),
    button,
    get isBusy() {
      return [...chosen].some(({ isDone }) => !isDone);
    },
    done: () => [...chosen].flatMap(({ attachment, isDone }) => (attachment && isDone ? [attachment] : [])),
    clear() {
      for (const { row } of chosen) row.remove();
      chosen.clear();
      changed();
    },
  };
}

/** The connection was lost, or took too long. */
class Lost extends Error {}

/** By XMLHttpRequest: fetch does not tell how far an upload got. */
function upload(path: string, file: File, type: string, signal: AbortSignal, progress: (share: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path);
    request.timeout = UPLOAD_SECONDS * 1_000;
    request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.onerror = request.ontimeout = () => reject(new Lost());
    request.onabort = () => reject(new Lost());
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) return resolve();
      const headers = new Headers({ "Retry-After": request.getResponseHeader("Retry-After") ?? "" });
      void problemOf(new Response(request.responseText, { status: request.status < 200 ? 502 : request.status, headers })).then(reject);
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
