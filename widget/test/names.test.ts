/** What a screen reader lists by name can be told apart, though many buttons do the same. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { deedsOf, named } from "../src/frame/view/deeds.ts";
import { MarkdownView } from "../src/frame/view/markdown.ts";
import { proseWords } from "../src/frame/view/prose.ts";
import { ENGLISH } from "../src/locale/index.ts";

const kit = { locale: ENGLISH, deeds: {}, announce: () => undefined };
const buttons = (id: string, text: string) =>
  deedsOf({ kit, extras: () => Promise.reject(new Error()), judged: true } as never, { id, text, shown: document.createElement("div") })
    .flatMap((element) => [...element.querySelectorAll("button")]);
const names = (of: Iterable<Element>) => [...of].map((button) => button.getAttribute("aria-label"));

afterEach(() => void (proseWords.copy = ""));

describe("the names of buttons", () => {
  it("say which answer they are for, and begin with what is seen", () => {
    const first = buttons("a", "**Thirty** days.\n\nFree.");
    expect(names(first)).toEqual(["Copy: Thirty days. Free.", "Good answer: Thirty days. Free.", "Bad answer: Thirty days. Free."]);
    expect(first.map(({ title }) => title)).toEqual(["Copy", "Good answer", "Bad answer"]);
    const second = names(buttons("b", "See [the page](https://shop.example/) for all that there is to know about it"));
    expect(second[0]).toBe("Copy: See the page for all that there is to kn…");
    expect(new Set([...names(first), ...second]).size).toBe(6);
    expect(named("Copy", " ** ")).toBe("Copy");
    expect(named("Copy", "| Step | When |\n|---|---|\n| Sent | now |")).toBe("Copy: Step When Sent now");
  });

  it("say which block of code they copy", async () => {
    proseWords.copy = "Copy";
    const root = document.createElement("div");
    new MarkdownView(root).update("```js\nawait track(7);\n```\n\nor\n\n```sh\nmake run\n```", [], false);
    const copies = root.querySelectorAll<HTMLElement>(".copy");
    expect(names(copies)).toEqual(["Copy: await track(7);", "Copy: make run"]);
    proseWords.copied = "Copied";
    vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue(undefined);
    copies[0]?.click();
    await vi.waitFor(() => expect(names(copies)).toEqual(["Copied", "Copy: make run"]));
  });
});
