/** Where an answer comes from: numbers in the text, and the list under it. */
import { addressOf, type Citation, type Mark } from "../../chat/citations.ts";
import type { Source } from "../../chat/protocol.ts";
import type { Locale } from "../../locale/index.ts";
import { h, icon } from "./dom.ts";

const SHOWN = 3;

export const titleOf = (source: Source): string =>
  source.title || (source.type === "url" ? source.url : source.type === "file" ? source.filename : source.id);

function originOf(source: Source, address: string | null): string {
  if (source.type === "url") {
    const host = address ? new URL(address).hostname.replace(/^www\./, "") : "";
    return source.attribution || (host === location.hostname ? "" : host); // the platform's own name tells nobody anything
  }
  return source.type === "file" && source.filename !== source.title ? source.filename : "";
}

const linkTo = (address: string) => ({ href: address, target: "_blank", rel: "noopener noreferrer" });

export function markNode({ citation }: Mark, locale: Locale): HTMLElement {
  const { number, source } = citation;
  const address = addressOf(source, document.baseURI);
  const title = titleOf(source);
  const label = locale.t("source", { number, title });
  return h(
    "sup",
    { class: "mark" },
    address
      ? h("a", { ...linkTo(address), "aria-label": label, title }, String(number))
      : h("span", { role: "img", "aria-label": label, title }, String(number)),
  );
}

/** `open` shows the passage of a source that has no address. */
export function sourcesList(citations: readonly Citation[], locale: Locale, open?: (citation: Citation) => void): HTMLElement {
  const items = citations.map((citation, at) => {
    const { number, source } = citation;
    const address = addressOf(source, document.baseURI);
    const origin = originOf(source, address);
    const body = [
      h("span", { class: "source-number", "aria-hidden": "true" }, String(number)),
      h("span", { class: "source-title" }, titleOf(source)),
      origin && h("span", { class: "source-origin" }, origin),
      address ? icon("external") : icon("document"),
    ];
    const card = address
      ? h("a", { class: "source", ...linkTo(address), title: source.description }, ...body)
      : h(open ? "button" : "span", { class: "source", type: open && "button", "aria-haspopup": open && "dialog", title: source.description }, ...body);
    if (!address && open) card.onclick = () => open(citation);
    return h("li", { hidden: at >= SHOWN && citations.length > SHOWN + 1 }, card);
  });
  const list = h("ul", { class: "source-list", role: "list", "aria-label": locale.t("sources") }, ...items);
  const box = h("div", { class: "sources" }, h("div", { class: "sources-title", "aria-hidden": "true" }, locale.t("sources")), list);
  const hidden = items.filter((item) => item.hidden);
  if (hidden.length) {
    const more = h("button", { type: "button", class: "link" }, locale.t("more_sources", { number: hidden.length }));
    more.onclick = () => {
      for (const item of hidden) item.hidden = false;
      more.remove();
      hidden[0]?.querySelector<HTMLElement>("a, button")?.focus();
    };
    box.append(more);
  }
  return box;
}
