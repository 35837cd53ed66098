/** The third script, loaded when a visitor opens the menu: their conversations, their data, their language. */
import { conversations } from "./panel/conversations.ts";
import type { PanelKit } from "./panel/kit.ts";
import { mine } from "./panel/mine.ts";
import sheet from "./panel/panel.css";

export const css = sheet;

export function openPanel(kit: PanelKit, place: HTMLElement): void {
  const { h } = kit;
  const { t } = kit.locale;
  const shape = kit.svg("svg", { viewBox: "0 0 24 24", class: "icon turns", "aria-hidden": "true" }, kit.svg("path", { d: "M19 12H5m6-6-6 6 6 6" }));
  const back = h("button", { type: "button", class: "tool", "aria-label": t("back"), title: t("back") }, shape);
  const leave = () => {
    panel.remove();
    kit.closed();
  };
  const title = h("h2", { id: "panel-title" }, t("history"));
  const panel = h(
    "section",
    { class: "panel", role: "dialog", "aria-modal": "true", "aria-labelledby": "panel-title" },
    h("header", { class: "header" }, back, title),
    h("div", { class: "panel-body" }, conversations(kit, leave), mine(kit)),
  );
  back.onclick = leave;
  panel.onkeydown = (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.stopPropagation();
    leave();
  };
  place.append(panel);
  back.focus();
}
