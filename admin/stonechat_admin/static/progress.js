/* While documents wait to be read, ask how far they are; not while nothing waits, nor while nobody looks. */

const EVERY_MS = 2000;
const MOST = 100;
let timer = 0;
let failures = 0;

/* The list anew, as it is narrowed now. */
export function refresh() {
  const list = document.getElementById("document-list");
  if (!list) return Promise.resolve();
  const query = new URLSearchParams({ part: "list", show: list.dataset.show });
  return htmx.ajax("GET", `/console/knowledge?${query}`, { source: list, target: list, swap: "outerHTML" });
}

/* Start asking, if something waits and nobody asks yet. */
export function watch() {
  if (!timer && (waitingRows().length || waitingPage())) timer = setTimeout(ask, EVERY_MS * Math.min(2 ** failures, 30));
}

const waitingRows = () => [...document.querySelectorAll("#document-list tr[data-waiting]")].slice(0, MOST);
const waitingPage = () => document.querySelector("[data-reload-while-waiting]");

async function ask() {
  timer = 0;
  if (!document.hidden && !document.querySelector("dialog[open]")) {
    const page = waitingPage();
    if (page) await look(page);
    else await askForRows();
  }
  watch();
}

/* A question that nobody asked by hand fails quietly, and is asked less and less often. */
function quietly(event) {
  if (event.target !== event.currentTarget) return;
  const failed = event.type === "htmx:error" || event.detail.ctx?.response?.status >= 400;
  failures = failed ? failures + 1 : 0;
  if (failed && event.detail.ctx?.response?.status !== 401) event.stopPropagation();
}

function askForRows() {
  const rows = waitingRows();
  if (!rows.length) return undefined;
  const list = document.getElementById("document-list");
  const query = new URLSearchParams({ show: list.dataset.show });
  for (const type of ["htmx:error", "htmx:after:request"]) list.addEventListener(type, quietly);
  for (const row of rows) query.append("document", `${row.id}.${row.dataset.waiting}`);
  return htmx.ajax("GET", `/console/knowledge/progress?${query}`, { source: list, target: list, swap: "none" });
}

async function look(page) {
  const asked = page.dataset.reloadWhileWaiting;
  const query = new URLSearchParams({ document: asked });
  const answer = await fetch(`/console/knowledge/progress?${query}`, { headers: { "HX-Request-Type": "partial" } }).catch(() => null);
  failures = answer?.ok ? 0 : failures + 1;
  if (answer?.ok && (await answer.text()).trim()) location.reload();
}

document.addEventListener("visibilitychange", watch);
document.addEventListener("htmx:after:swap", watch);
watch();
