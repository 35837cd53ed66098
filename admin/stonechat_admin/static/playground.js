/* The playground: asks the draft over /chatkit as a visitor would, and shows the passages behind each answer. */

const RENEW_BEFORE_MS = 60_000;
const MAX_BUFFER = 1 << 22;
const root = document.getElementById("playground");
const part = (name) => root.querySelector(`[data-${name}]`);
const log = part("log");
const composer = part("composer");
const field = composer.elements.question;
const csrf = document.querySelector('meta[name="csrf-token"]').content;

let session = null;
let thread = null;
let running = null;

class Refused extends Error {}

function pattern(name) {
  const made = root.querySelector(`template[data-pattern="${name}"]`).content.firstElementChild.cloneNode(true);
  log.append(made);
  return made;
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
}

/* --- Requests */

async function problemOf(response) {
  const said = await response.json().catch(() => null);
  if (said?.detail || said?.title) return said.detail ?? said.title;
  return response.status === 401 ? "You are signed out. Sign in again in another tab, then ask again." : `The server answered ${response.status}.`;
}

async function token() {
  if (session && session.until - Date.now() > RENEW_BEFORE_MS) return session.token;
  const headers = { "X-CSRF-Token": csrf, Accept: "application/json" };
  const response = await fetch(root.dataset.session, { method: "POST", headers, redirect: "manual" });
  if (response.type === "opaqueredirect") throw new Refused("You are signed out. Load the page again to sign in.");
  if (!response.ok) throw new Refused(await problemOf(response));
  const { token, seconds } = await response.json();
  session = { token, until: Date.now() + seconds * 1000 };
  return token;
}

async function ask(question, signal) {
  const input = { content: [{ type: "input_text", text: question }], attachments: [], quoted_text: null, inference_options: {} };
  const body = thread
    ? { type: "threads.add_user_message", params: { thread_id: thread, input } }
    : { type: "threads.create", params: { input } };
  for (let tries = 0; ; tries++) {
    const response = await fetch("/chatkit", {
      method: "POST",
      headers: { Authorization: `Bearer ${await token()}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    if (response.ok) return response.body;
    if (response.status === 401 && tries === 0) session = null;
    else throw new Refused(await problemOf(response));
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value.replaceAll("\r", "");
    if (buffer.length > MAX_BUFFER) throw new Refused("The answer became too long.");
    const frames = buffer.split("\n\n");
    buffer = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}

/* --- Drawing: the little Markdown that answers are made of, by createElement alone */

const MARK = /(\uE000\d+\uE001|\*\*[^*\n]+\*\*|`[^`\n]+`)/;

function inline(parent, text) {
  for (const piece of text.split(MARK)) {
    let made = piece;
    if (/^\uE000/.test(piece)) {
      made = document.createElement("sup");
      made.textContent = `[${piece.slice(1, -1)}]`;
    } else if (/^\*\*.+\*\*$/.test(piece)) {
      made = document.createElement("strong");
      made.textContent = piece.slice(2, -2);
    } else if (/^`.+`$/.test(piece)) {
      made = document.createElement("code");
      made.textContent = piece.slice(1, -1);
    }
    if (made) parent.append(made);
  }
}

function lines(parent, all) {
  all.forEach((line, at) => {
    if (at) parent.append(document.createElement("br"));
    inline(parent, line);
  });
}

function block(text) {
  const all = text.split("\n");
  if (all.every((line) => line.startsWith(">"))) {
    const quote = document.createElement("blockquote");
    lines(quote, all.map((line) => line.replace(/^> ?/, "")));
    return quote;
  }
  if (all.every((line) => /^\s*([-*]|\d+\.) /.test(line))) {
    const list = document.createElement("ul");
    for (const line of all) {
      const item = document.createElement("li");
      inline(item, line.replace(/^\s*([-*]|\d+\.) /, ""));
      list.append(item);
    }
    return list;
  }
  const paragraph = document.createElement("p");
  lines(paragraph, all.map((line) => line.replace(/^#{1,6} /, "")));
  return paragraph;
}

/* The sources, each once, and the text with a mark where each was cited; places count code points. */
function withSources(content) {
  const sources = [];
  const marked = [...content.text];
  const marks = (content.annotations ?? []).filter(({ source }) => source).map(({ source, index }) => {
    const name = source.title ?? source.filename ?? source.url ?? "";
    const key = `${name}\n${source.url ?? ""}`;
    if (!sources.some((each) => each.key === key)) sources.push({ key, name, url: source.url });
    return { at: index ?? marked.length, number: sources.findIndex((each) => each.key === key) + 1 };
  });
  for (const { at, number } of marks.sort((one, other) => other.at - one.at)) marked.splice(at, 0, `\uE000${number}\uE001`);
  return { text: marked.join(""), sources };
}

class Answer {
  constructor() {
    this.element = pattern("answer");
    this.parts = new Map();
    this.lastItem = null;
  }

  get #text() {
    return this.element.querySelector("[data-text]");
  }

  progress(text) {
    const line = this.element.querySelector("[data-progress]");
    line.textContent = text;
    line.hidden = !text;
  }

  hear(event) {
    if (event.type === "thread.created") thread = event.thread.id;
    else if (event.type === "progress_update") this.progress(event.text);
    else if (event.type === "thread.item.updated") this.#update(event.item_id, event.update);
    else if (event.type === "thread.item.done" && event.item.type === "assistant_message") {
      this.lastItem = event.item.id;
      this.parts.set(event.item.id, event.item.content);
      this.draw();
    } else if (event.type === "error") throw new Refused(event.message ?? "The answer failed. Ask again.");
  }

  #update(item, update) {
    const at = update.content_index;
    const content = this.parts.get(item) ?? [];
    this.parts.set(item, content);
    if (update.type === "assistant_message.content_part.added") content[at] = { ...update.content };
    else if (update.type === "assistant_message.content_part.text_delta") {
      content[at] ??= { text: "", annotations: [] };
      content[at].text += update.delta;
    } else return;
    this.draw();
  }

  draw() {
    const contents = [...this.parts.values()].flat().filter(Boolean);
    if (!contents.some(({ text }) => text)) return;
    this.progress("");
    const whole = withSources({
      text: contents.map(({ text }) => text).join("\n\n"),
      annotations: contents.length === 1 ? contents[0].annotations : [],
    });
    this.#text.replaceChildren(...whole.text.split(/\n{2,}/).filter((text) => text.trim()).map((text) => block(text.trim())));
    this.element.querySelector("[data-sources]").replaceChildren(
      ...whole.sources.map(({ name, url }, at) => {
        const line = document.createElement("li");
        const to = /^https?:/.test(url ?? "") ? document.createElement("a") : document.createElement("span");
        if (to instanceof HTMLAnchorElement) Object.assign(to, { href: url, target: "_blank", rel: "noopener", className: "link-quiet" });
        to.textContent = name;
        line.append(`[${at + 1}] `, to);
        return line;
      }),
    );
  }

  async showPassages() {
    if (!this.lastItem || !thread) return;
    const query = new URLSearchParams({ thread, item: this.lastItem });
    const headers = { "HX-Request": "true", "HX-Request-Type": "partial" };
    const response = await fetch(`${root.dataset.passages}?${query}`, { headers }).catch(() => null);
    if (!response?.ok) return;
    // Our own template's markup, every word of it escaped.
    const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
    this.element.querySelector("[data-passages]").replaceChildren(...parsed.body.childNodes);
  }

  get spoken() {
    return this.#text.textContent;
  }
}

/* --- A turn */

function busy(on) {
  part("send").hidden = on;
  part("stop").hidden = !on;
  log.ariaBusy = String(on);
  part("restart").hidden = on || !log.querySelector("article, [role=alert]");
}

async function turn(question) {
  if (running || !question.trim()) return;
  part("start").hidden = true;
  pattern("question").querySelector("[data-text]").textContent = question;
  const answer = new Answer();
  running = new AbortController();
  busy(true);
  toEnd();
  part("status").textContent = "The draft is answering.";
  try {
    for await (const event of eventsOf(await ask(question, running.signal))) {
      const near = log.scrollHeight - log.scrollTop - log.clientHeight < 96;
      answer.hear(event);
      if (near) toEnd();
    }
    part("status").textContent = `Answer: ${answer.spoken.slice(0, 1000)}`;
  } catch (error) {
    part("status").textContent = "";
    if (error.name !== "AbortError") {
      const text = error instanceof Refused ? error.message : "The connection was lost. Check it, and ask again.";
      pattern("failure").querySelector("[data-text]").textContent = text;
      if (!field.value) field.value = question;
    }
  }
  answer.progress("");
  if (running?.signal.aborted) answer.progress("Stopped.");
  running = null;
  busy(false);
  await answer.showPassages();
  toEnd();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) return;
  const question = field.value;
  field.value = "";
  void turn(question);
});
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  composer.requestSubmit();
});
root.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-ask]");
  if (chip) void turn(chip.dataset.ask);
});
part("stop").addEventListener("click", () => {
  running?.abort();
  field.focus();
});
part("restart").addEventListener("click", () => {
  thread = null;
  const start = part("start");
  start.hidden = false;
  log.replaceChildren(start);
  part("restart").hidden = true;
  part("status").textContent = "";
  field.focus();
});
