import { beforeEach, describe, expect, it, vi } from "vitest";
import recorded from "./fixtures/every-item.json";
import { parseEvent, parseItem } from "../src/chat/parse.ts";
import type { StructuredInputItem, WidgetItem } from "../src/chat/protocol.ts";
import { reduce } from "../src/chat/reducer.ts";
import { emptyState, type ChatState } from "../src/chat/state.ts";
import { h, icon, setAttribute, setText, svg } from "../src/frame/view/dom.ts";
import { MarkdownView } from "../src/frame/view/markdown.ts";
import { safeAddress } from "../src/frame/view/prose.ts";
import { formView } from "../src/items/form.ts";
import type { Deeds, Kit } from "../src/items/kit.ts";
import { pictureAddress } from "../src/items/pictures.ts";
import { ENGLISH } from "../src/locale/index.ts";
import { widgetView } from "../src/widgets/widget.ts";

const deeds = {
  act: vi.fn<Deeds["act"]>(),
  tellPage: vi.fn<Deeds["tellPage"]>(),
  answerForm: vi.fn<Deeds["answerForm"]>(),
  judge: vi.fn<Deeds["judge"]>(),
  announce: vi.fn<Deeds["announce"]>(),
  discard: vi.fn<Deeds["discard"]>(),
  transcribe: vi.fn<Deeds["transcribe"]>(),
  cited: vi.fn<Deeds["cited"]>(),
  sentence: () => "That did not work.",
};
const HERE = new URL("https://chat.example/embed/frame");
const kit: Kit = {
  h, svg, icon, setAttribute, setText, Markdown: MarkdownView, safeAddress, deeds, locale: ENGLISH,
  pictureAddress: (src) => pictureAddress(src, ["img.example.com", "*.cdn.example"], HERE),
  grew: () => undefined,
  announce: () => undefined,
};

const replay = (events: readonly unknown[]): ChatState =>
  events.reduce<ChatState>((state, json) => {
    const event = parseEvent(json);
    return event ? reduce(state, { type: "stream", event }) : state;
  }, emptyState);
const find = (state: ChatState, id: string) => state.entries.find(({ item }) => item.id === id)?.item;

const widgetItem = (widget: object): WidgetItem =>
  parseItem({ id: "w", thread_id: "t", type: "widget", created_at: "", widget, copy_text: null }) as WidgetItem;
function draw(widget: object) {
  const view = widgetView(kit);
  document.body.replaceChildren(view.element);
  view.draw(widgetItem(widget), "done");
  return { view, root: view.element, again: (next: object) => view.draw(widgetItem(next), "done") };
}
const card = (...children: object[]) => ({ type: "Card", children });
const press = async (element: Element | null) => {
  (element as HTMLElement).click();
  await Promise.resolve();
};

beforeEach(() => {
  vi.resetAllMocks();
  document.body.replaceChildren();
});

describe("the recorded events", () => {
  it("are all known, and come to the state that the server stored", () => {
    expect(recorded.filter((event) => !parseEvent(event))).toEqual([]);
    const state = replay(recorded);
    expect(state.thread?.title).toBe("Order 7");
    expect(state.entries.map(({ item }) => item.id)).not.toContain("msg_y");
    expect(state.entries.filter(({ item }) => item.type === "other")).toEqual([]);
    expect(state.notices.map(({ level }) => level)).toEqual(["info", "warning"]);
    expect(state.failure).toMatchObject({ allowRetry: true, detail: "The warehouse does not answer." });
    expect(find(state, "wfl_1")).toMatchObject({ workflow: { summary: { duration: 12 }, tasks: { length: 5 } } });
    expect(find(state, "img_1")).toMatchObject({ url: expect.stringContaining("data:image/png") });
    expect(find(state, "msg_u")).toMatchObject({ tool: "lookup", model: "fast", attachments: [{ type: "image" }, { type: "file" }] });
    expect(find(state, "sti_0")).toMatchObject({ status: "answered", inputs: [{ answer: { values: ["Blue"] } }, { options: null }] });
  });

  it("change nothing that they do not name: a delta keeps the other components as they are", () => {
    const at = recorded.findIndex((event) => event.update?.type === "widget.streaming_text.value_delta");
    const before = find(replay(recorded.slice(0, at)), "wdg_1") as WidgetItem;
    const after = find(replay(recorded.slice(0, at + 1)), "wdg_1") as WidgetItem;
    expect(after.widget).toMatchObject({ children: [{}, { value: "Your parcel left ", streaming: true }, {}, {}] });
    expect(before.widget).toMatchObject({ children: [{}, { value: "" }, {}, {}] });
  });

  it("an unknown component id changes nothing at all", () => {
    const state = replay(recorded);
    const event = parseEvent({ type: "thread.item.updated", item_id: "wdg_1", update: { type: "widget.component.updated", component_id: "nobody", component: {} } });
    const next = reduce(state, { type: "stream", event: event as never });
    expect((find(next, "wdg_1") as WidgetItem).widget).toBe((find(state, "wdg_1") as WidgetItem).widget);
  });

  it("an error leaves no call of the page's open", () => {
    expect(replay(recorded).entries.find(({ item }) => item.id === "ctc_1")?.status).toBe("failed");
  });
});

describe("widgets", () => {
  it("a text that streams in keeps the elements around it, and what was typed", () => {
    const form = (value: string) => card({ type: "Input", name: "a", id: "i" }, { type: "Text", id: "t", value, streaming: true });
    const { root, again } = draw(form("One"));
    const input = root.querySelector("input") as HTMLInputElement;
    input.value = "typed";
    again(form("One two"));
    expect(root.querySelector(".w-text")?.textContent).toBe("One two");
    expect(root.querySelector("input")).toBe(input);
    expect(input.value).toBe("typed");
  });

  it("what was typed survives a component that is exchanged", () => {
    const { root, again } = draw(card({ type: "Input", name: "a" }, { type: "Badge", label: "old" }));
    const input = root.querySelector("input") as HTMLInputElement;
    input.value = "typed";
    input.dispatchEvent(new Event("input"));
    again(card({ type: "Input", name: "a" }, { type: "Badge", label: "new" }));
    expect(root.textContent).toContain("new");
    expect(root.querySelector("input")?.value).toBe("typed");
  });

  it("a form sends its payload with what was entered laid over it, nested by dots", async () => {
    const { root } = draw(
      card({
        type: "Form",
        onSubmitAction: { type: "send", payload: { order: 7 } },
        children: [
          { type: "Input", name: "person.name", defaultValue: "Ada" },
          { type: "Checkbox", name: "keep", defaultChecked: true },
          { type: "RadioGroup", name: "how", options: [{ value: "a", label: "A" }, { value: "b", label: "B" }], defaultValue: "b" },
          { type: "Select", name: "size", options: [{ value: "m", label: "M" }], defaultValue: "m" },
          { type: "DatePicker", name: "day", defaultValue: "2026-11-25T10:00:00" },
          { type: "Input", name: "__proto__.polluted", defaultValue: "x" },
          { type: "Button", label: "Send", submit: true },
        ],
      }),
    );
    root.querySelector("form")?.dispatchEvent(new SubmitEvent("submit", { cancelable: true, bubbles: true }));
    await Promise.resolve();
    const [item, action, streaming] = deeds.act.mock.calls[0] as Parameters<Deeds["act"]>;
    expect([item, streaming, action.type]).toEqual(["w", true, "send"]);
    expect(action.payload).toMatchObject({ order: 7, person: { name: "Ada" }, keep: true, how: "b", size: "m", day: "2026-11-25" });
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("buttons, rows and cards run their actions: here, at the page's, or without a stream", async () => {
    const { root } = draw({
      ...card(
        { type: "Button", label: "Server", onClickAction: { type: "a", payload: { n: 1 } } },
        { type: "Button", label: "Page", onClickAction: { type: "b", payload: 2, handler: "client" } },
        { type: "Button", label: "Quiet", onClickAction: { type: "c", streaming: false } },
      ),
      confirm: { label: "Fine", action: { type: "d" } },
    });
    for (const button of root.querySelectorAll("button")) {
      await press(button);
      await new Promise((resolve) => setTimeout(resolve));
    }
    expect(deeds.act.mock.calls).toEqual([
      ["w", { type: "a", payload: { n: 1 } }, true],
      ["w", { type: "c", payload: null }, false],
      ["w", { type: "d", payload: null }, true],
    ]);
    expect(deeds.tellPage.mock.calls).toEqual([["w", { type: "b", payload: 2 }]]);
  });

  it("an action under way is not started twice; one that fails says so", async () => {
    let fail: (error: Error) => void = () => undefined;
    deeds.act.mockReturnValue(new Promise((_, reject) => (fail = reject)));
    const { root } = draw(card({ type: "Button", label: "Go", onClickAction: { type: "a" } }));
    await press(root.querySelector("button"));
    await press(root.querySelector("button"));
    expect(deeds.act).toHaveBeenCalledTimes(1);
    expect(root.querySelector("button")?.getAttribute("aria-busy")).toBe("true");
    fail(new Error());
    await new Promise((resolve) => setTimeout(resolve));
    expect(root.querySelector("[role=alert]")?.textContent).toBe("That did not work.");
    expect(root.querySelector("button")?.hasAttribute("aria-busy")).toBe(false);
  });

  it("a list shows as many rows as it is told to, and the rest when asked", async () => {
    const { root } = draw({ type: "ListView", limit: 2, children: [1, 2, 3].map((n) => ({ type: "ListViewItem", children: [{ type: "Text", value: `Row ${n}` }] })) });
    const shown = () => [...root.querySelectorAll<HTMLElement>("li")].filter((row) => !row.hidden).length;
    expect(shown()).toBe(2);
    expect([...root.querySelectorAll("li")].map((row) => row.hasAttribute("hidden"))).toEqual([false, false, true]);
    await press(root.querySelector(".w-more"));
    expect(shown()).toBe(3);
    expect(document.activeElement, "the keyboard goes on with what was shown").toBe(root.querySelectorAll("li")[2]);
  });

  it("a row that can be pressed is read once: by its button, unless it holds more than the button says", () => {
    const row = (...children: object[]) => ({ type: "ListViewItem", onClickAction: { type: "a" }, children });
    const { root } = draw({
      type: "ListView",
      children: [
        row({ type: "Image", src: "https://img.example.com/a.png", alt: "A lamp" }, { type: "Text", value: "Order 1" }),
        row({ type: "Text", value: "Order 2" }, { type: "Button", label: "Track", onClickAction: { type: "b" } }),
        row({ type: "Markdown", value: "See [it](https://shop.example/)" }),
        row({ type: "Text", value: "x".repeat(300) }),
      ],
    });
    const rows = [...root.querySelectorAll("li")];
    expect(rows[0]?.querySelector(".w-press")?.getAttribute("aria-label")).toBe("A lamp, Order 1");
    expect(rows.map((each) => each.querySelector(".w-item")?.getAttribute("aria-hidden"))).toEqual(["true", null, null, null]);
  });

  it("a chart has its figures beside it, and stays finite with nonsense", () => {
    const chart = { type: "Chart", xAxis: "k", data: [{ k: "a", v: 1e308 }, { k: "b", v: "x" }, { k: "c", v: -3 }], series: [{ type: "bar", dataKey: "v", label: "V" }, { type: "line", dataKey: "none" }] };
    const { root } = draw(card(chart));
    expect(root.querySelector("svg")?.outerHTML).not.toMatch(/NaN|Infinity/);
    expect([...root.querySelectorAll("tbody tr")].map((row) => row.textContent)).toHaveLength(3);
  });

  it("what is not known is left out, but for its text", () => {
    const { root } = draw(card({ type: "Hologram", label: "From the future", children: [{ type: "Text", value: "inside" }] }, { type: "Nothing" }, { type: "constructor", value: "odd" }));
    expect(root.textContent).toBe("From the futureinsideodd");
  });
});

describe("hostile widgets", () => {
  const ADDRESSES = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>alert(1)</script>", "data:image/svg+xml,<svg onload=alert(1)>",
    "data:image/svg+xml;base64,PHN2Zz4=", "http://img.example.com/x.png", "https://evil.example/x.png", "https://img.example.com.evil.example/x",
    "https://img.example.com@evil.example/x", "https://img.example.com:8443/x", "//evil.example/x", "\\\\evil.example\\x", "blob:https://chat.example/1",
    "https://cdn.example/x", "https://xcdn.example/x", "file:///etc/passwd", "", "https://", "vbscript:x", "ftp://img.example.com/x",
  ];
  it.each(ADDRESSES)("no picture is loaded from %j", (src) => {
    const { root } = draw({ ...card({ type: "Image", src, alt: "A picture" }), status: { text: "s", favicon: src } });
    expect(root.querySelector("img")).toBeNull();
    expect(root.textContent).toContain("A picture");
  });

  it.each(["https://img.example.com/a.png", "https://a.cdn.example/b", "/v1/uploads/atc_1?token=x", "data:image/png;base64,AAAA"])(
    "a listed host's picture is shown: %j",
    (src) => {
      const { root } = draw(card({ type: "Image", src, alt: "A picture" }));
      expect(root.querySelector("img")?.getAttribute("referrerpolicy")).toBe("no-referrer");
    },
  );

  it("a file's link leads to this origin, whatever host it names", () => {
    expect(pictureAddress("https://evil.example/v1/uploads/x?token=y", [], HERE)).toBe("/v1/uploads/x?token=y");
  });

  const STYLES = [
    "red;background:url(https://evil.example)", "url(https://evil.example)", "expression(alert(1))", "var(--x)", "1px;position:fixed", "calc(100vw * 99)",
    "99999999px", "-500px", "1e9", "fixed", "</style><script>", "image-set(url(//evil.example))", "attr(x)", "env(x)", "}body{display:none",
  ];
  it.each(STYLES)("no style gets in with %j", (value) => {
    const all = Object.fromEntries(
      ["background", "color", "width", "height", "size", "minWidth", "maxHeight", "padding", "margin", "gap", "radius", "aspectRatio", "flex", "align", "justify", "wrap", "textAlign", "weight", "spacing", "fit", "position", "border"].map((name) => [name, value]),
    );
    const sides = { ...all, padding: { x: value, top: value }, border: { size: 2, color: value, style: value } };
    const { root } = draw(card({ type: "Box", ...all, children: [{ type: "Text", value: "x", ...all }] }, { type: "Row", ...sides, children: [] }, { type: "Divider", ...all }, { type: "Icon", name: value, ...all }, { type: "Spacer", minSize: value }));
    const styles = [...root.querySelectorAll<HTMLElement>("*")].map((element) => element.getAttribute("style") ?? "").join(";");
    expect(styles).not.toMatch(/url|expression|evil|fixed|calc|attr|env|image-set|script|display/i);
    for (const [, size] of styles.matchAll(/(-?[\d.]+)px/g)) expect(Math.abs(Number(size))).toBeLessThanOrEqual(1_200);
    expect(styles).not.toMatch(/-\d+px/);
  });

  it("markup is text, handlers are nothing, and links go nowhere bad", () => {
    const bad = `"><img src=x onerror=alert(1)><script>alert(1)</script>`;
    const { root } = draw({
      ...card(
        ...["Text", "Title", "Caption", "Label", "Markdown"].map((type) => ({ type, value: bad, fieldName: bad, onclick: bad, onload: bad, srcdoc: bad, id: bad })),
        { type: "Button", label: bad, onClickAction: { type: bad } },
        { type: "Input", name: bad, placeholder: bad, pattern: bad, inputType: "file" },
        { type: "Select", name: bad, options: [{ value: bad, label: bad }] },
        { type: "Markdown", value: "[x](javascript:alert(1)) ![y](https://evil.example/p.png)" },
        { type: "Chart", xAxis: "k", data: [{ k: bad, v: 1 }], series: [{ type: "bar", dataKey: "v", label: bad, color: "url(#x)" }] },
        { type: "Table", columns: [{ key: "k", label: bad }], rows: [{ k: bad }] },
      ),
      status: { text: bad },
      confirm: { label: bad, action: { type: bad } },
    });
    expect(root.querySelectorAll("img, script, iframe, object, embed, style, link, base, input[type=file]")).toHaveLength(0);
    for (const element of root.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        expect(name).not.toMatch(/^on|srcdoc|formaction/i);
        if (/^(href|src|action)$/.test(name)) expect(value).toMatch(/^https:/);
      }
    }
  });

  it("depth and number are bounded", () => {
    let deep: object = { type: "Text", value: "core" };
    for (let at = 0; at < 3_000; at++) deep = { type: "Box", children: [deep] };
    expect(draw(card(deep)).root.querySelectorAll("*").length).toBeLessThan(100);
    const wide = card(...Array.from({ length: 5_000 }, (_, at) => ({ type: "Text", value: String(at) })));
    expect(draw(wide).root.querySelectorAll("p.w-text").length).toBeLessThanOrEqual(2_000);
  });

  it.each([null, 5, "x", [], { type: 7 }, { type: "Card", children: 5 }, { type: "Card", children: [null, 5, "x", [[]]] }, { type: "Select", options: { length: 9 } }])(
    "nonsense draws nothing and throws nothing: %j",
    (widget) => {
      expect(() => draw(widget as object)).not.toThrow();
    },
  );
});

describe("forms of the assistant's", () => {
  const item = (status: string, inputs: object[]): StructuredInputItem =>
    parseItem({ id: "f", thread_id: "t", type: "structured_input", created_at: "", status, inputs }) as StructuredInputItem;
  const choices = (multiple: boolean) => ({ type: "multiple_choice", id: "q", question: "Which?", multiple, options: [{ value: "A" }, { value: "B" }] });
  const show = (...inputs: object[]) => {
    const view = formView(kit);
    document.body.replaceChildren(view.element);
    view.draw(item("pending", inputs), "done");
    const submit = () => view.element.querySelector("form")?.dispatchEvent(new Event("submit", { cancelable: true }));
    return { view, root: view.element, submit };
  };
  const sent = () => deeds.answerForm.mock.calls[0]?.[1];

  it("one choice, several, one's own words, free text: each is sent as text, what is empty as skipped", () => {
    const { root, submit } = show(choices(true), { ...choices(false), id: "r" }, { type: "freeform", id: "s", question: "Why?" });
    const [a, b] = root.querySelectorAll<HTMLInputElement>("[type=checkbox]");
    (a as HTMLInputElement).checked = (b as HTMLInputElement).checked = true;
    const own = root.querySelectorAll<HTMLInputElement>("[type=text]");
    (own[0] as HTMLInputElement).value = " C ";
    (own[1] as HTMLInputElement).value = "mine";
    submit();
    expect(sent()).toEqual({
      status: "answered",
      answers: { q: { values: ["A", "B", "C"], skipped: false }, r: { values: ["mine"], skipped: false }, s: { values: [], skipped: true } },
    });
  });

  it("nothing chosen is not sent, but said", () => {
    const { root, submit } = show(choices(false));
    submit();
    expect(deeds.answerForm).not.toHaveBeenCalled();
    expect(root.querySelector("[role=alert]")?.textContent).toContain("Choose or write");
  });

  it("skipping skips every question", async () => {
    const { root } = show(choices(false));
    await press(root.querySelector("button"));
    expect(sent()).toEqual({ status: "skipped", answers: { q: { values: [], skipped: true } } });
  });

  it("an approval is two buttons, and sends the server's own words", async () => {
    const question = { type: "multiple_choice", id: "approval", question: "May I do this? Cancel\norder: 7", options: [{ value: "Yes, do it" }, { value: "No" }] };
    const { root } = show(question);
    expect(root.querySelector("input")).toBeNull();
    expect(root.textContent).toContain("order: 7");
    await press([...root.querySelectorAll("button")].at(-1) as Element);
    expect(sent()).toEqual({ status: "answered", answers: { approval: { values: ["Yes, do it"], skipped: false } } });
  });

  it("a refused answer says so and can be given again; a settled form shows what was said", async () => {
    deeds.answerForm.mockRejectedValue(new Error());
    const { view, root } = show(choices(false));
    await press(root.querySelector("button"));
    await new Promise((resolve) => setTimeout(resolve));
    expect(root.querySelector("[role=alert]")?.textContent).toBe("That did not work.");
    view.draw(item("answered", [{ ...choices(false), answer: { values: ["B"], skipped: false } }]), "done");
    expect(root.querySelector("form")).toBeNull();
    expect(root.textContent).toBe("Which?B");
  });
});

it("a value that has no value of its own keeps no widget from being drawn", () => {
  const odd = { toString: 1, valueOf: 1 };
  const { root } = draw(card({ type: "Textarea", name: "a", rows: odd }, { type: "Text", value: "Here", maxLines: odd, minLines: [odd] }, { type: "Chart", data: [{ x: odd }], series: [{ dataKey: "x" }] }));
  expect(root.textContent).toContain("Here");
});
