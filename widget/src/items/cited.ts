/** A cited passage, read where it stands, in a dialog over the conversation: for sources without an address of their own. */
import { isRecord, text } from "../shared/guards.ts";
import type { Kit } from "./kit.ts";

type Reads = Pick<Kit, "h" | "icon" | "locale" | "deeds">;

/** Pieces of a text, every other one marked, the first not. Offsets count code points, as the server does. */
export function pieces(whole: string, spans: readonly unknown[]): string[] {
  const characters = [...whole];
  const cuts = spans.flatMap((span) =>
    Array.isArray(span) && Number.isInteger(span[0]) && Number.isInteger(span[1]) && span[0] < span[1] ? [span[0] as number, span[1] as number] : [],
  );
  const edges = [0, ...cuts, characters.length];
  return edges.slice(1).map((end, at) => characters.slice(edges[at], end).join(""));
}

export function openCited(kit: Reads, item: string, index: number, title: string): void {
  const { h, icon, locale, deeds } = kit;
  const shut = h("button", { type: "button", class: "tool", "aria-label": locale.t("back"), title: locale.t("back") }, icon("close"));
  const body = h("div", { class: "cited-body", tabindex: "0", role: "region", "aria-labelledby": "cited-title", "aria-busy": "true" }, h("p", {}, locale.t("working")));
  const dialog = h(
    "dialog",
    { class: "cited", "aria-labelledby": "cited-title" },
    h("header", { class: "header" }, h("h2", { id: "cited-title", dir: "auto" }, title), shut),
    body,
  );
  shut.onclick = () => dialog.close();
  dialog.onkeydown = (event) => event.stopPropagation(); // Escape closes this, not the chat
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal(); // and whoever opened it has the focus again once it is closed
  const show = (...nodes: Node[]) => {
    body.replaceChildren(...nodes);
    body.setAttribute("aria-busy", "false");
  };
  deeds
    .cited(item, index)
    .then((found) => show(...drawn(kit, found)))
    .catch((error: unknown) => show(h("p", { role: "alert" }, deeds.sentence(error))));
}

function drawn({ h }: Reads, found: unknown): Node[] {
  if (!isRecord(found)) return [];
  const said = (name: string) => text(found[name]) ?? "";
  const headings = Array.isArray(found.headings) ? found.headings.filter((each) => typeof each === "string") : [];
  const place = [...headings, ...(typeof found.page === "number" ? [`p. ${found.page}`] : [])].join(" › ");
  const spans = Array.isArray(found.highlights) ? found.highlights : [];
  const quoted = pieces(said("text"), spans).map((piece, at) => (at % 2 ? h("mark", {}, piece) : piece));
  return [
    said("message") && h("p", { class: "cited-note" }, said("message")),
    place && h("p", { class: "cited-place", dir: "auto" }, place),
    said("before") && h("p", { class: "cited-around", dir: "auto" }, said("before")),
    h("blockquote", { class: "cited-text", dir: "auto" }, ...quoted),
    said("after") && h("p", { class: "cited-around", dir: "auto" }, said("after")),
  ].filter((node) => node !== "");
}
