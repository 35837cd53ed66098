/**
 * What strangers, models and services may try, through every channel to the screen. The vectors are data
 * (`fixtures/hostile.json`); what is drawn must consist of known elements and attributes, and lead nowhere by itself.
 * `tests/e2e/test_widget_hostile.py` gives the same vectors to a real browser.
 */
import { beforeEach, describe, expect, it, vi } from "vitest";
import hostile from "./fixtures/hostile.json";
import { parseEvent, parseItem } from "../src/chat/parse.ts";
import { reduce } from "../src/chat/reducer.ts";
import { emptyState, type ChatState } from "../src/chat/state.ts";
import { extras } from "../src/extras.ts";
import { parseConfig } from "../src/frame/config.ts";
import { awaitParent } from "../src/frame/parent.ts";
import { createApp } from "../src/frame/view/app.ts";
import { h, icon, setAttribute, setText, svg } from "../src/frame/view/dom.ts";
import { itemView } from "../src/frame/view/items.ts";
import { MarkdownView } from "../src/frame/view/markdown.ts";
import { safeAddress } from "../src/frame/view/prose.ts";
import type { Deeds, Kit } from "../src/items/kit.ts";
import { pictureAddress } from "../src/items/pictures.ts";
import { ENGLISH } from "../src/locale/index.ts";
import { conversations } from "../src/panel/conversations.ts";
import { hello } from "../src/shared/messages.ts";

const { addresses, styles } = hostile;
// Half a character cannot be kept in the file.
const texts = [...hostile.texts, "\ud800<img src=x onerror=pwned()>"];
const markdown = [...hostile.markdown, "\ud800[x](javascript:\udfffpwned())"];

// Thousands of elements, in a DOM that is slow.
vi.setConfig({ testTimeout: 60_000 });

const HERE = new URL("https://chat.example/embed/frame");
const HOSTS = ["img.example.com", "*.cdn.example"];
const deeds = new Proxy({}, { get: (_, name) => (name === "sentence" ? () => "No." : async () => undefined) }) as Deeds;
const kit: Kit = {
  h, svg, icon, setAttribute, setText, Markdown: MarkdownView, safeAddress, deeds, locale: ENGLISH,
  pictureAddress: (src) => pictureAddress(src, HOSTS, HERE),
  grew: () => undefined,
  announce: () => undefined,
};
const context = { agentName: "A", kit, extras: async () => extras, judged: true };

// ── what may be on the screen ──

const ELEMENTS = new Set(
  ("a p br hr strong em del code pre ul ol li blockquote h1 h2 h3 h4 h5 h6 table caption thead tbody tr th td div sup span q mark img button" +
    " input textarea select option label form fieldset details summary dl dt dd i progress header footer main section canvas" +
    " svg path rect circle line text title").split(" "),
);
const ATTRIBUTES =
  /^(class|dir|role|hidden|tabindex|title|alt|lang|id|for|name|type|value|checked|disabled|required|placeholder|maxlength|pattern|min|max|rows|autocomplete|loading|referrerpolicy|align|start|scope|open|selected|accept|multiple|enterkeyhint|href|src|target|rel|style|width|height|d|viewBox|x|y|x1|x2|y1|y2|cx|cy|r|rx|fill|fill-opacity|stroke|stroke-width|stroke-linejoin|text-anchor|aria-[a-z]+|data-[a-z-]+)$/;
const FILES = /^(data:image\/(png|jpeg|webp|gif);base64,[\w+/=]*|\/v1\/uploads\/[^\\]*|https:\/\/(img\.example\.com|[\w.-]+\.cdn\.example)\/.*)$/;
const LOOKS = /^(#[0-9a-f]{6}|var\(--[a-z-]+\)|-?[\d.]+(px|rem|em|%|lh)?|[a-z -]+|[\d.]+px (solid|dashed|dotted|double) (#[0-9a-f]{6}|var\(--line\))|\d{1,2} 1 0(px|%)?|[\d.]+( ?\/ ?[\d.]+)?)$/;

/** What of the tree is not known to be harmless. */
function suspicious(root: Element): string[] {
  const found: string[] = [];
  for (const element of root.querySelectorAll("*")) {
    if (!ELEMENTS.has(element.localName)) found.push(`<${element.localName}>`);
    for (const { name, value } of element.attributes) {
      const isKnown = ATTRIBUTES.test(name) && !name.startsWith("on");
      const isWell =
        name === "href" ? /^(https?:\/\/|mailto:)/.test(value) || (element.querySelector("img") && FILES.test(value))
        : name === "src" ? FILES.test(value)
        : name === "id" || (name === "name" && element.localName !== "a") ? /^(w\d+-|f\d+-|composer-|panel-|language$)/.test(value)
        : name === "style" ? value.split(";").every((one) => !one.trim() || LOOKS.test(one.slice(one.indexOf(":") + 1).trim()))
        : name === "fill" || name === "stroke" ? /^(none|#[0-9a-f]{6})$/.test(value)
        : name === "d" ? /^[MmLlHhVvAaCcSsQqZz\d\s.,e-]*$/.test(value)
        : true;
      if (!isKnown || !isWell) found.push(`${element.localName}[${name}=${value}]`);
    }
  }
  return found;
}

let place: HTMLElement;
let errors: unknown[];
beforeEach(() => {
  errors = [];
  vi.stubGlobal("pwned", () => errors.push("something ran"));
  vi.stubGlobal("reportError", (error: unknown) => errors.push(error));
  document.body.replaceChildren((place = document.createElement("div")));
});

/** Tries each vector on an empty screen, and names those that left something suspicious. */
async function all(vectors: readonly string[], draw: (vector: string) => void | Promise<void>): Promise<void> {
  const bad: unknown[] = [];
  for (const vector of vectors) {
    place.replaceChildren();
    await draw(vector);
    await later();
    const found = suspicious(place);
    if (found.length || errors.length) bad.push([vector, ...found, ...errors.splice(0)]);
  }
  expect(bad).toEqual([]);
}

const base = { thread_id: "t", created_at: "2026-01-01T00:00:00Z" };
function draw(item: object, status: "done" | "streaming" = "done"): HTMLElement {
  const parsed = parseItem({ id: "i", ...base, ...item });
  if (!parsed) throw new Error("the test's item is no item");
  const view = itemView({ key: "i", item: parsed, status, local: false }, context);
  if (!view) throw new Error("nothing draws this item");
  place.append(view.element);
  return view.element;
}
const answer = (text: string, annotations: object[] = []) => ({ type: "assistant_message", content: [{ type: "output_text", text, annotations }] });
const later = async () => {
  for (let turn = 0; turn < 6; turn++) await Promise.resolve();
};

it("there are hundreds of vectors, all different", () => {
  expect(new Set([...addresses, ...texts, ...markdown, ...styles]).size).toBeGreaterThan(550);
});

const prose = (source: string) => {
  const root = document.createElement("div");
  place.append(root);
  new MarkdownView(root).update(source, [], false);
};

describe("Markdown", () => {
  it("is drawn of known parts", () =>
    all([...markdown, ...texts], (vector) => {
      prose(vector);
      if (vector.length < 400) for (const around of ["text $ text", "**$**", "- $", "> $", "| $ |\n|---|\n| $ |"]) prose(around.replaceAll("$", () => vector));
    }));

  it("and so is what of it has arrived", () =>
    all(markdown, (vector) => {
      const view = new MarkdownView(place);
      const step = Math.ceil(vector.length / (vector.length < 400 ? 12 : 2));
      for (let end = 1; end < vector.length; end += step) {
        view.update(vector.slice(0, end), [], true);
        expect(suspicious(place)).toEqual([]);
      }
      view.update(vector, [], false);
    }));

  it("follows no address but those of the web and of mail", () =>
    all(addresses, (vector) => {
      for (const around of ["[x]($)", "[x](<$>)", "<$>", "![x]($)", "![x](<$>)", "[x][a]\n\n[a]: $", "[![x]($)]($)", "$", "[$](https://x.example)"]) prose(around.replaceAll("$", () => vector));
      expect(place.querySelector("img")).toBeNull();
    }));
});

it("sources, files and pictures lead only to the web, and load only what may be loaded", () =>
  all(addresses, async (vector) => {
    const source = { type: "url", url: vector, title: "T", attribution: vector, description: vector };
    draw(answer("One.", [{ source, index: 4 }]));
    draw({ type: "task", task: { type: "web_search", sources: [source], title: "T" } });
    draw({ type: "workflow", workflow: { type: "custom", expanded: true, tasks: [{ type: "file", sources: [source] }] } });
    draw({ type: "user_message", content: [], attachments: [{ id: "a", type: "image", name: vector, mime_type: "image/png", preview_url: vector }] });
    draw({ type: "generated_image", image: { id: "g", url: vector } });
    draw({ type: "widget", widget: { type: "Card", status: { text: "s", favicon: vector, icon: vector }, children: [{ type: "Image", src: vector, alt: vector }, { type: "Icon", name: vector }] } });
  }));

const named = (value: string) => Object.fromEntries(
  ["value", "label", "name", "title", "text", "description", "alt", "placeholder", "defaultValue", "caption", "fieldName", "ariaLabel", "pattern", "inputType", "min", "max", "key", "dataKey",
    "iconStart", "iconEnd", "color", "variant", "size", "align", "id", "direction", "stack", "curveType", "href", "url", "src", "html", "innerHTML", "srcdoc", "onclick", "style", "class", "className"].map((name) => [name, value]),
);
const NODES = ["Text", "Title", "Caption", "Markdown", "Badge", "Icon", "Image", "Button", "Divider", "Spacer", "Label", "Input", "Textarea", "Select", "DatePicker", "Checkbox", "RadioGroup", "Table", "Chart", "Form", "Row", "Box", "ListViewItem", "Transition", "iframe", "script", "Link"];
const everyNode = (value: string): object[] => NODES.map((type) => ({
  ...named(value), type,
  ...(type === "RadioGroup" && { name: value.replaceAll('"', "'") }), // happy-dom looks for radio buttons by a selector that it does not quote
  options: [{ value, label: value, description: value }], columns: [{ key: value, label: value, align: value }], rows: [{ [value]: value }, [value]],
  data: [{ x: 1, [value]: value }], series: [{ type: "bar", dataKey: value, label: value, color: value }, { type: "area", dataKey: "x", stack: value }], xAxis: { dataKey: value, labels: { [value]: value } },
  onClickAction: { type: value, payload: { [value]: value }, handler: value, loadingBehavior: value }, editable: type === "Title" ? { name: value, required: true } : undefined,
  children: [{ type: "Text", value }, { ...named(value), type: value }],
}));

describe("widgets", () => {
  it("every property of every component stays what it is", () =>
    all([...texts, ...addresses.slice(0, 30)], (vector) => {
      const type = ["Card", "ListView", "Basic", vector][vector.length % 4] as string;
      draw({
        type: "widget", copy_text: vector,
        widget: { ...named(vector), type, id: vector, size: vector, status: { text: vector, icon: vector, favicon: vector }, asForm: true, confirm: { label: vector, action: { type: vector } }, cancel: { label: vector, action: { type: vector } }, collapsed: type === "Card", children: everyNode(vector) },
      });
    }));

  it("no look becomes more than a look", () => all(styles, async (value) => {
    const all = Object.fromEntries(
      ["background", "color", "width", "height", "size", "minWidth", "maxWidth", "minHeight", "maxHeight", "minSize", "maxSize", "padding", "margin", "gap", "radius", "aspectRatio", "flex", "align", "justify", "wrap", "textAlign", "weight", "spacing", "fit", "position", "border", "maxLines", "minLines", "truncate", "variant"].map((name) => [name, value]),
    );
    const sides = { ...all, background: { light: value, dark: value }, padding: { x: value, top: value }, margin: { y: value }, border: { top: { size: 2, color: value, style: value } } };
    draw({ type: "widget", widget: { type: "Card", ...all, children: NODES.flatMap((type) => [{ type, ...all, src: "/v1/uploads/a", children: [] }, { type, ...sides, children: [] }]) } });
    draw({ type: "widget", widget: { type: "Card", children: [{ type: "Chart", height: value, data: [{ x: 1 }], series: [{ dataKey: "x", color: value }] }] } });
    await later();
    for (const element of place.querySelectorAll("[style]")) {
      for (const [, size] of (element.getAttribute("style") as string).matchAll(/(-?[\d.]+)px/g)) expect(Math.abs(Number(size))).toBeLessThanOrEqual(1_200);
    }
  }));

  it.each(["append", "addEventListener", "reportValidity", "submit", "children", "style", "parentNode", "__proto__", "closest", "querySelector"])("a field called %s hides nothing of its form", async (name) => {
    const act = vi.fn(async () => undefined);
    const view = extras.widget({ ...kit, deeds: { ...deeds, act, sentence: () => "No." } as Deeds });
    place.append(view.element);
    const item = parseItem({ id: "w", ...base, type: "widget", widget: { type: "Card", children: [{ type: "Form", onSubmitAction: { type: "go" }, children: [{ type: "Input", name, id: name, defaultValue: "1" }, { type: "Button", label: "Go", submit: true }] }] } });
    view.draw(item as never, "done");
    expect(place.querySelector("input")?.getAttribute("name")).toMatch(/^w\d+-/);
    place.querySelector("form")?.dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
    await later();
    expect(act).toHaveBeenCalledOnce();
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe("everything else that is said", () => {
  it("messages, names, tags, questions and steps", () => all([...texts, ...addresses.slice(0, 60)], (vector) => {
    const sources = ["url", "file", "entity"].map((type) => ({ type, id: vector, url: "https://x.example", filename: vector, title: vector, description: vector, attribution: vector }));
    draw({ type: "user_message", quoted_text: vector, content: [{ type: "input_text", text: vector }, { type: "input_tag", id: vector, text: vector, data: { [vector]: vector } }], attachments: [{ id: vector, type: "file", name: vector, mime_type: vector }] });
    draw(answer("One.", sources.map((source) => ({ source, index: 4 }))));
    draw({ type: "task", task: { type: "custom", title: vector, content: vector, icon: vector, queries: [vector], sources } });
    draw({ type: "workflow", workflow: { type: "custom", expanded: true, summary: { title: vector, icon: vector }, tasks: [{ type: "thought", title: vector, content: vector }] } });
    draw({ type: "structured_input", status: "pending", inputs: [{ type: "multiple_choice", id: vector, question: `${vector}\n${vector}`, description: vector, options: [{ value: vector }] }, { type: "freeform", id: "b", question: vector }] });
    draw({ type: "structured_input", status: "answered", inputs: [{ type: "freeform", id: "a", question: vector, answer: { values: [vector], skipped: false } }] });
    draw({ type: "client_tool_call", status: "pending", name: vector, call_id: vector, arguments: { [vector]: vector } }, "done");
    draw({ type: "generated_image", image: { id: vector, url: vector } });
  }));

  const nothing = () => undefined;
  const events = { send: nothing, stop: nothing, retry: nothing, earlier: nothing, restart: nothing, close: nothing, draft: nothing, menu: nothing };
  const frame = () => new Promise(requestAnimationFrame);
  it("what is published, errors, notices, progress and why a conversation is closed", () => all([...texts, ...styles], async (vector) => {
    const agent = {
      name: vector, greeting: vector, placeholder: vector, disclaimer: vector, locale: vector, prompts: [{ label: vector, prompt: vector }], launcher: { label: vector, position: vector, icon: vector },
      theme: { accent: vector, scheme: vector, radius: vector, density: vector }, models: [{ id: vector, label: vector }], tools: [{ id: vector, label: vector }], image_hosts: [vector], attachments: { enabled: true }, feedback: true,
    };
    const config = parseConfig({ domain_key: vector, ticket: vector, parents: [vector], agent, extras: vector, error: { code: vector, message: vector }, preview: vector });
    expect(config.theme).toEqual({ accent: "#1f6f5c", scheme: "auto", radius: "medium", density: "normal" });
    const app = createApp({ config, locale: ENGLISH, closable: true, deeds, extras: async () => extras }, events);
    place.append(app.element);
    let state: ChatState = emptyState;
    for (const event of [
      { type: "thread.created", thread: { id: vector, title: vector, status: { type: "closed", reason: vector } } },
      { type: "progress_update", text: vector, icon: vector },
      { type: "notice", level: vector, title: vector, message: vector },
      { type: "error", code: vector, message: vector, allow_retry: true },
    ]) {
      const parsed = parseEvent(event);
      if (parsed) state = reduce(state, { type: "stream", event: parsed });
    }
    app.render(state);
    app.hint(vector);
    app.announce(vector);
    await frame();
    const broken = createApp({ config: { ...config, agent: null }, locale: ENGLISH, closable: true, deeds, extras: async () => extras }, events);
    place.append(broken.element);
  }));

  it("titles of conversations", async () => {
    const data = [...texts, ...addresses].map((title, at) => ({ id: `t${at}`, title, created_at: "2026-01-01T00:00:00Z" }));
    const api = { plain: async () => ({ data, has_more: false, after: null }), request: async () => new Response() };
    place.append(conversations({ h, svg, setText, locale: ENGLISH, api, languages: {}, current: () => "t0", open: nothing, restart: nothing, speak: nothing, sentence: () => "No.", announce: nothing, closed: nothing }, nothing));
    await new Promise((done) => setTimeout(done, 0));
    expect(place.querySelectorAll(".thread")).toHaveLength(data.length);
    for (const button of place.querySelectorAll<HTMLElement>(".thread .tool")) button.click();
    expect(suspicious(place)).toEqual([]);
  });
});

describe("messages from windows", () => {
  const PARENT = "https://shop.example";
  const port = () => new MessageChannel().port1;
  const heard = async (data: unknown, { origin = PARENT, source = window.parent as unknown, ports = [port()] as unknown[] } = {}) => {
    let parent: unknown = null;
    void awaitParent(window, [PARENT, "https://*.cafe.example"]).then((found) => (parent = found));
    window.dispatchEvent(Object.assign(new Event("message"), { data, origin, source, ports }));
    await later();
    return parent;
  };
  const good = hello("panel", "de", null);

  it("are believed when they come from the page, of an origin on the list, in order, and with a port", async () => {
    expect(await heard(good)).toMatchObject({ hello: good });
    expect(await heard(good, { origin: "https://a.cafe.example" })).not.toBeNull();
  });

  it.each(["https://evil.example", "null", "", "http://shop.example", "https://shop.example:8443", "https://shop.example.evil.example", "https://evilshop.example", "https://cafe.example", "https://a.cafe.example.evil.example", "https://evil.example/.cafe.example", "https://evil.example@a.cafe.example", "https://x:1.cafe.example", "file://", "chrome-extension://abc", "HTTPS://SHOP.EXAMPLE", " https://shop.example", "https://shop.example/"])(
    "not from %j",
    async (origin) => expect(await heard(good, { origin })).toBeNull(),
  );

  it.each([null, {}, { postMessage: nothing }])("not from another window: %j", async (source) => expect(await heard(good, { source })).toBeNull());
  it("not without a port", async () => expect(await heard(good, { ports: [] })).toBeNull());

  it("not out of order", () => all(texts, async (vector) => {
    for (const data of [vector, [good], { ...good, type: vector }, { ...good, version: vector }, { ...good, layout: vector }, { ...good, locale: { [vector]: vector } }, { ...good, locale: vector.padEnd(36) }, { ...good, userToken: [vector] }, JSON.stringify(good)]) {
      expect(await heard(data)).toBeNull();
    }
  }));

  function nothing() {}
});
