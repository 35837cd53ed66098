/** What went wrong, in a sentence, and when or whether to try again. */
import type { Failure } from "../../chat/state.ts";
import type { Locale } from "../../locale/index.ts";
import { h, icon } from "./dom.ts";

/** Codes that have no sentence of their own fall back by status; the server's own words win where they fit. */
export function sentence(failure: Failure, locale: Locale, history = false): string {
  const { code, detail, status } = failure;
  if (history && code === "unreachable") return locale.error("history") as string;
  // Details are sentences for people, in English.
  if (detail && (locale.tag === "en" || !locale.error(code)) && (status === null || status < 500)) return detail;
  const byStatus = status === 429 ? "busy" : status !== null && status >= 502 ? "unavailable" : "unexpected";
  return locale.error(code) ?? (locale.error(byStatus) as string);
}

/** A card that counts down to `retryAt`, and offers to try again from then on. */
export function failureCard(failure: Failure, locale: Locale, history: boolean, retry: () => void): HTMLElement {
  const when = h("span", { class: "when" });
  const button = h("button", { type: "button", class: "retry" }, icon("retry"), locale.t("retry"));
  button.onclick = retry;
  const card = h(
    "div",
    { class: "failure", role: "alert" },
    icon("alert"),
    h("div", { class: "failure-text" }, h("p", {}, sentence(failure, locale, history), " ", when), failure.allowRetry && button),
  );
  let known = false;
  const tick = () => {
    const seconds = ((failure.retryAt ?? 0) - Date.now()) / 1000;
    button.disabled = seconds > 0;
    when.textContent = seconds > 0 ? locale.t("retry_in", { time: locale.duration(seconds) }) : "";
    if (seconds > 0 && (card.isConnected || !known)) setTimeout(tick, seconds > 90 ? 30_000 : 1_000);
    known = true;
    when.ariaHidden = "false";
  };
  tick();
  return card;
}
