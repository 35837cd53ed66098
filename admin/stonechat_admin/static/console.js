/* What pages of the console do beyond links, forms and htmx. One file, no inline scripts: the policy forbids them. */

const CSRF = document.querySelector('meta[name="csrf-token"]')?.content ?? "";
const KEPT = "stonechat:kept";
const TOAST_MS = 6000;

/* --- Requests of htmx: the token on the way out; on the way back, what the server wants told. */

document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-CSRF-Token"] = CSRF;
});

document.addEventListener("htmx:after:request", (event) => {
  const told = event.detail.ctx.response?.headers.get("Console");
  if (!told) return;
  const { toast: note, close, show, keep } = JSON.parse(told);
  if (close) for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  if (keep) keepForms();
  if (note) toast(note.text, note.kind);
  if (show) queueMicrotask(() => showWhenThere(show));
});

document.addEventListener("htmx:error", () => {
  toast("The server could not be reached. Check your connection and try again.", "error");
});

// A field that was refused is where the person goes on; one that asks for it gets the focus in a dialog.
document.addEventListener("htmx:after:swap", (event) => {
  const root = event.target instanceof Element ? event.target : document;
  const invalid = root.querySelector('[aria-invalid="true"]') ?? document.querySelector('form [aria-invalid="true"]');
  invalid?.focus();
});

function showWhenThere(id, tries = 20) {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
  else if (!dialog && tries) setTimeout(() => showWhenThere(id, tries - 1), 25);
}

/* --- Toasts */

export function toast(text, kind = "success") {
  const place = document.getElementById("toasts");
  const pattern = document.getElementById(kind === "error" ? "toast-error" : "toast-success");
  if (!place || !pattern) return;
  const note = pattern.content.firstElementChild.cloneNode(true);
  note.querySelector("[data-text]").textContent = text;
  place.append(note);
  // A dialog shown modally lies above everything else: a popover lies above the dialog.
  if (place.showPopover) {
    if (place.matches(":popover-open")) place.hidePopover();
    place.showPopover();
  }
  armToast(note, kind);
}

function armToast(note, kind) {
  const leave = () => {
    note.dataset.leaving = "";
    setTimeout(() => note.remove(), 200);
  };
  note.querySelector("button")?.addEventListener("click", leave);
  let timer = kind === "error" ? 0 : setTimeout(leave, TOAST_MS);
  note.addEventListener("pointerenter", () => clearTimeout(timer));
  note.addEventListener("pointerleave", () => {
    if (kind !== "error") timer = setTimeout(leave, TOAST_MS / 2);
  });
}

const flash = document.querySelector("[data-flash]");
if (flash) toast(flash.textContent.trim());

/* --- Before something is destroyed: data-confirm (title), data-confirm-detail, data-confirm-action */

const confirmBox = document.getElementById("confirm");

function ask(source) {
  return new Promise((resolve) => {
    if (!confirmBox) return resolve(window.confirm(source.dataset.confirm));
    confirmBox.querySelector("[data-title]").textContent = source.dataset.confirm;
    confirmBox.querySelector("[data-detail]").textContent = source.dataset.confirmDetail ?? "";
    confirmBox.querySelector("[value=yes]").textContent = source.dataset.confirmAction ?? "Continue";
    confirmBox.returnValue = "";
    confirmBox.addEventListener("close", () => resolve(confirmBox.returnValue === "yes"), { once: true });
    confirmBox.showModal();
  });
}

document.addEventListener("htmx:confirm", (event) => {
  const source = event.target.closest("[data-confirm]");
  if (!source) return;
  event.preventDefault();
  ask(source).then((yes) => (yes ? event.detail.issueRequest() : event.detail.dropRequest()));
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const source = event.submitter?.closest("[data-confirm]") ?? form.closest("form[data-confirm]");
  const ours = [...form.attributes].some((attribute) => /^hx-(get|post|put|patch|delete)$/.test(attribute.name));
  if (!source || ours || form.method === "dialog") return;
  event.preventDefault();
  if (await ask(source)) form.submit();
});

/* --- Small things a page asks for by attribute */

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const from = document.querySelector(copy.dataset.copy);
    try {
      await navigator.clipboard.writeText(from?.value ?? from?.textContent.trim() ?? "");
    } catch {
      // Browsers lend the clipboard to secure pages only: what is wanted is marked, one key away.
      if (from instanceof HTMLInputElement) from.select();
      else if (from) getSelection().selectAllChildren(from);
      toast("Your browser does not let this page copy. It is marked: press Ctrl+C, or ⌘C.", "error");
      return;
    }
    copy.dataset.copied = "";
    const label = copy.querySelector("[data-label]");
    const before = label?.textContent;
    if (label && before !== "Copied") {
      label.textContent = "Copied";
      setTimeout(() => {
        label.textContent = before;
        delete copy.dataset.copied;
      }, 1600);
    }
  }
  // Browsers that do not know `command` yet.
  const invoker = event.target.closest("button[commandfor]");
  if (invoker && !("commandForElement" in HTMLButtonElement.prototype)) {
    const dialog = document.getElementById(invoker.getAttribute("commandfor"));
    if (invoker.getAttribute("command") === "show-modal") dialog?.showModal();
    if (invoker.getAttribute("command") === "close") dialog?.close();
  }
  for (const drop of document.querySelectorAll("details.drop[open]")) {
    if (!drop.contains(event.target)) drop.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const drop = document.querySelector("details.drop[open]");
  if (!drop) return;
  drop.open = false;
  drop.querySelector("summary").focus();
});

// A dialog that starts afresh each time: its forms are as the server drew them.
document.addEventListener(
  "close",
  (event) => {
    if (!(event.target instanceof HTMLDialogElement)) return;
    if ("reset" in event.target.dataset) for (const form of event.target.querySelectorAll("form")) form.reset();
    if ("remove" in event.target.dataset) event.target.remove();
  },
  true,
);

/* --- Light or dark: the server reads the cookie, so that the next page comes in the right colour at once. */

const themes = document.querySelectorAll("input[data-theme-choice]");
for (const choice of themes) {
  choice.addEventListener("change", () => {
    const chosen = choice.value;
    for (const other of themes) other.checked = other.value === chosen;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = chosen === "system" ? 0 : 31536000;
    document.cookie = `stonechat_theme=${chosen}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
  });
}

/* --- A session that ended while somebody wrote: what was typed waits in this tab until they are back. */

function fieldsOf(form) {
  return [...form.elements].filter(
    (field) => field.name && !["password", "hidden", "file", "submit", "button"].includes(field.type),
  );
}

function keepForms() {
  const forms = [...document.forms].map((form) =>
    fieldsOf(form).map((field) => [field.name, field.value, field.checked === true]),
  );
  const open = [...document.querySelectorAll("dialog[open][id]")].map((dialog) => dialog.id);
  sessionStorage.setItem(KEPT, JSON.stringify({ page: location.pathname + location.search, forms, open }));
}

function restoreForms() {
  const raw = sessionStorage.getItem(KEPT);
  if (!raw) return;
  const kept = JSON.parse(raw);
  if (kept.page !== location.pathname + location.search) return;
  sessionStorage.removeItem(KEPT);
  [...document.forms].forEach((form, at) => {
    const fields = fieldsOf(form);
    (kept.forms[at] ?? []).forEach(([name, value, checked], place) => {
      const field = fields[place];
      if (field?.name !== name) return;
      if (["checkbox", "radio"].includes(field.type)) {
        if (field.value === value) field.checked = checked;
      } else field.value = value;
    });
  });
  for (const id of kept.open) document.getElementById(id)?.showModal?.();
  toast("You are back. What you had typed is still here.");
}

restoreForms();
