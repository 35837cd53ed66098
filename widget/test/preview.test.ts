import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { parseConfig } from "../src/frame/config.ts";
import { DRAFT, DRAWN, runPreview, sampleConversation } from "../src/frame/preview.ts";

const agent = (more: object = {}) => ({
  name: "Robin",
  greeting: "Hello there",
  prompts: [{ label: "Delivery", prompt: "When?" }],
  theme: { accent: "#ffee00", scheme: "auto", radius: "large", density: "normal" },
  ...more,
});
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
const text = () => document.body.textContent ?? "";

describe("the preview", () => {
  let heard: EventListener;
  let said: { type: string; scheme: string; contrast: number }[];
  const tell = (data: unknown, origin = window.location.origin, source: unknown = window.parent) =>
    window.dispatchEvent(new MessageEvent("message", { data, origin, source: source as Window }));

  beforeEach(() => {
    said = [];
    document.body.replaceChildren();
    vi.spyOn(window.parent, "postMessage").mockImplementation(((message: never) => said.push(message)) as never);
    const listens = vi.spyOn(window, "addEventListener");
    runPreview(window, parseConfig({ agent: agent(), preview: "dark" }), "dark");
    heard = listens.mock.calls.find(([type]) => type === "message")![1] as EventListener;
  });
  afterEach(() => window.removeEventListener("message", heard));

  it("shows the start screen in its scheme, whatever the theme says", async () => {
    await drawn();
    expect(text()).toContain("Hello there");
    expect(document.documentElement.dataset.scheme).toBe("dark");
    expect(document.documentElement.style.getPropertyValue("--accent")).toBe("#ffee00");
  });

  it("draws what the page around it posts, and says how well the accent stands out", async () => {
    tell({ type: DRAFT, agent: agent({ greeting: "Good morning", theme: { accent: "#16181b" } }) });
    await drawn();
    expect(text()).toContain("Good morning");
    expect(text()).not.toContain("Hello there");
    expect(said.map(({ type, scheme }) => [type, scheme])).toEqual([[DRAWN, "dark"], [DRAWN, "dark"]]);
    expect(said[0]!.contrast).toBeGreaterThan(10);
    expect(said[1]!.contrast).toBeCloseTo(1);
    expect(said[1]).toMatchObject({ adjusted: true });
  });

  it("listens to the console's page alone", async () => {
    tell({ type: DRAFT, agent: agent({ greeting: "Evil" }) }, "https://evil.example");
    tell({ type: DRAFT, agent: agent({ greeting: "Evil" }) }, window.location.origin, null);
    tell({ type: "stonechat:hello", agent: agent({ greeting: "Evil" }) });
    await drawn();
    expect(text()).toContain("Hello there");
  });

  it("answers a question with a sample, and asks nobody", async () => {
    const fetch = vi.fn();
    vi.stubGlobal("fetch", fetch);
    document.querySelector<HTMLButtonElement>(".chip")!.click();
    await drawn();
    expect(text()).toContain("When?");
    expect(text()).toContain("This is how an answer looks");
    expect(fetch).not.toHaveBeenCalled();
    tell({ type: DRAFT, agent: agent(), sample: false });
    await drawn();
    expect(text()).not.toContain("This is how an answer looks");
  });

  it("the sample has a question and an answer", () => {
    expect(sampleConversation("Why?").entries.map(({ item }) => item.type)).toEqual(["user_message", "assistant_message"]);
  });
});
