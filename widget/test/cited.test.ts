import { afterEach, describe, expect, it } from "vitest";
import { cite } from "../src/chat/citations.ts";
import { openCited, pieces } from "../src/items/cited.ts";
import { h, icon } from "../src/frame/view/dom.ts";
import { sourcesList } from "../src/frame/view/sources.ts";
import { ENGLISH as locale } from "../src/locale/index.ts";

const file = (title: string, index: number) => ({ type: "annotation", index, source: { type: "file", filename: title, title } });
const settle = () => new Promise((done) => setTimeout(done, 0));

afterEach(() => document.body.replaceChildren());

describe("a cited passage", () => {
  it("is asked for by the place of its first annotation as stored", () => {
    const item = { content: [
      { type: "output_text", text: "One. Two.", annotations: [file("b", 9), file("a", 4)] },
      { type: "output_text", text: "Three.", annotations: [file("c", 6)] },
    ] };
    const { list } = cite(item as never);
    expect(list.map(({ number, annotation, source }) => [number, annotation, source.title])).toEqual([[1, 1, "a"], [2, 0, "b"], [3, 2, "c"]]);
  });

  it("opens from the list of sources where there is no page to open", () => {
    const { list } = cite({ content: [{ type: "output_text", text: "One.", annotations: [file("a", 4)] }] } as never);
    const opened: number[] = [];
    const box = sourcesList(list, locale, ({ annotation }) => opened.push(annotation));
    box.querySelector("button")?.click();
    expect(opened).toEqual([0]);
    expect(sourcesList(list, locale).querySelector("button")).toBeNull();
  });

  it("marks what the answer took word for word, counting code points", () => {
    expect(pieces("🌱 ok then", [[2, 4]])).toEqual(["🌱 ", "ok", " then"]);
    expect(pieces("plain", [])).toEqual(["plain"]);
    expect(pieces("plain", [["x", 1]])).toEqual(["plain"]);
  });

  it("shows the passage as text, and closes without closing the chat", async () => {
    const found = { state: "available", headings: ["Help", "Warranty"], page: 3, text: "<b>24</b> months", before: "Before.", after: "", highlights: [[0, 9]], message: null };
    let heard = 0;
    const listen = () => heard++;
    document.addEventListener("keydown", listen);
    openCited({ h, icon, locale, deeds: { cited: async () => found } } as never, "msg_1", 0, "Handbook");
    await settle();
    const dialog = document.querySelector("dialog") as HTMLDialogElement;
    expect(dialog.textContent).toContain("Help › Warranty › p. 3");
    expect(dialog.querySelector("mark")?.textContent).toBe("<b>24</b>");
    dialog.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    document.removeEventListener("keydown", listen);
    expect(heard).toBe(0);
    (dialog.querySelector("button") as HTMLButtonElement).click();
    await settle();
    expect(document.querySelector("dialog")).toBeNull();
  });

  it("says what went wrong", async () => {
    const deeds = { cited: () => Promise.reject(new Error()), sentence: () => "That did not work." };
    openCited({ h, icon, locale, deeds } as never, "msg_1", 0, "Handbook");
    await settle();
    expect(document.querySelector("[role=alert]")?.textContent).toBe("That did not work.");
  });
});
