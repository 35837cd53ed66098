/** What a visitor may do with what is kept of them: take it away, or have it erased. And in which language. */
import type { PanelKit } from "./kit.ts";

const SAVED_FOR = 60_000;

export function mine(kit: PanelKit): HTMLElement {
  const { h } = kit;
  const { t, tag } = kit.locale;
  const state = h("p", { class: "panel-state", role: "status" });

  const take = h("button", { type: "button", class: "plain-button" }, t("export"));
  take.onclick = async () => {
    take.disabled = true;
    try {
      const response = await kit.api.request("/v1/me/export", {});
      const address = URL.createObjectURL(await response.blob());
      h("a", { href: address, download: "conversations.json" }).click();
      setTimeout(() => URL.revokeObjectURL(address), SAVED_FOR);
      kit.setText(state, t("export_done"));
    } catch (error) {
      kit.setText(state, kit.sentence(error));
    }
    take.disabled = false;
  };

  const erase = h("button", { type: "button", class: "plain-button danger" }, t("erase"));
  const yes = h("button", { type: "button", class: "plain-button danger" }, t("erase"));
  const no = h("button", { type: "button", class: "plain-button" }, t("cancel"));
  const ask = h("div", { class: "erase-ask", role: "group", "aria-label": t("erase"), hidden: true }, h("p", {}, t("erase_ask")), h("span", { class: "thread-choices" }, no, yes));
  const asking = (on: boolean) => {
    ask.hidden = !on;
    erase.hidden = on;
    (on ? no : erase).focus();
  };
  erase.onclick = () => asking(true);
  no.onclick = () => asking(false);
  ask.onkeydown = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    asking(false);
  };
  yes.onclick = async () => {
    yes.disabled = true;
    try {
      await kit.api.request("/v1/me", { method: "DELETE" });
      kit.restart();
      asking(false);
      kit.setText(state, t("erase_done"));
    } catch (error) {
      kit.setText(state, kit.sentence(error));
    }
    yes.disabled = false;
  };

  const select = h("select", { id: "language" }, ...Object.entries(kit.languages).map(([code, name]) => h("option", { value: code, selected: code === tag, lang: code }, name)));
  select.onchange = () => kit.speak(select.value);
  return h(
    "div",
    { class: "mine" },
    h("div", { class: "language" }, h("label", { for: "language" }, t("language")), select),
    h("div", { class: "mine-deeds" }, take, erase),
    ask,
    state,
  );
}
