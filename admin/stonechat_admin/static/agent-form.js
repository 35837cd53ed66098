/* The forms of one agent: what is not saved is said and kept from being left by accident; rows and fields that come as needed. */

const GUARDED = "form[data-guard]";
const BUILT_IN = ["extractive", "scripted"];

function isChanged(field) {
  if (!field.name || field.type === "hidden") return false;
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field instanceof HTMLSelectElement) {
    const before = [...field.options].findIndex((option) => option.defaultSelected);
    return field.selectedIndex !== Math.max(before, 0);
  }
  return "defaultValue" in field && field.value !== field.defaultValue;
}

/* `data-dirty` is the server's: a form that it refused holds what nobody saved. */
function isDirty(form) {
  return "dirty" in form.dataset || [...form.elements].some(isChanged);
}

let leaving = false;

function tell() {
  const form = document.querySelector(GUARDED);
  const dirty = form !== null && isDirty(form);
  for (const note of document.querySelectorAll("[data-when-dirty], [data-unsaved]")) note.hidden = !dirty;
  for (const note of document.querySelectorAll("[data-when-clean]")) note.hidden = dirty;
}

function showFitting() {
  const source = document.querySelector('select[name="model_source"]');
  if (!source) return;
  const builtIn = BUILT_IN.includes(source.value);
  for (const part of document.querySelectorAll("[data-needs-model]")) part.hidden = builtIn;
  for (const part of document.querySelectorAll("[data-quotes]")) part.hidden = source.value !== "extractive";
}

function offerRows() {
  for (const group of document.querySelectorAll("[data-prompts]")) {
    const more = group.querySelector("[data-prompt-row][hidden]") !== null;
    group.querySelector("[data-add-prompt]").hidden = !more;
  }
}

function refresh() {
  tell();
  showFitting();
  offerRows();
}

document.addEventListener("input", (event) => event.target.closest(GUARDED) && tell());
document.addEventListener("change", (event) => {
  if (!event.target.closest(GUARDED)) return;
  showFitting();
  tell();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-leave]")) leaving = true;
  const add = event.target.closest("[data-add-prompt]");
  if (!add) return;
  const row = add.closest("[data-prompts]").querySelector("[data-prompt-row][hidden]");
  if (row) {
    row.hidden = false;
    row.querySelector("input").focus();
  }
  offerRows();
});
document.addEventListener("submit", (event) => {
  if (event.target.matches(GUARDED) && !event.target.hasAttribute("hx-post")) leaving = true;
});
// The way to sign in again: what was typed waits in this tab (see console.js).
document.addEventListener("htmx:after:request", (event) => {
  if (event.detail.ctx.response?.headers.get("HX-Redirect")) leaving = true;
});
document.addEventListener("htmx:after:swap", () => {
  refresh();
  const clash = document.querySelector('[role="alert"][aria-labelledby="clash-title"]');
  if (clash && !clash.dataset.seen) {
    clash.dataset.seen = "";
    clash.scrollIntoView({ block: "start" });
    clash.focus();
  }
});
addEventListener("beforeunload", (event) => {
  const form = document.querySelector(GUARDED);
  if (!leaving && form && isDirty(form)) event.preventDefault();
});
addEventListener("pageshow", refresh);
refresh();
