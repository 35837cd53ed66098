"""HTML: the page's own text, without scripts, menus, banners and forms."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder, decoded

_FURNITURE = (
    "script,style,noscript,template,nav,footer,aside,iframe,object,embed,svg,canvas,form,button,select,dialog,"
    "[hidden],[aria-hidden=true],[role=navigation],[role=banner],[role=contentinfo],[role=search],[role=dialog],"
    ".cookie-banner,.breadcrumb,.breadcrumbs,.skip-link,.sr-only"
)
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "header",
        "hgroup",
        "hr",
        "html",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
        "caption",
    ]
)
_DROPPED = frozenset(["script", "style", "noscript", "template", "head", "title"])
_ENOUGH = 200
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([a-zA-Z0-9_-]{3,40})", re.IGNORECASE)


def extract_html(data: bytes) -> Extracted:
    """A web page: its `main` or `article` if that holds the text, else its body."""
    tree = LexborHTMLParser(_text(data))
    out = TextBuilder()
    heading = tree.css_first("main h1, article h1, h1")
    out.title = _title(tree, heading.text(strip=True) if heading else None)
    for node in tree.css(_FURNITURE):
        node.decompose()
    root = _content(tree)
    if root is not None:
        _Walk(out).run(root)
    return out.build()


def text_of(fragment: str) -> str:
    """The text of a piece of HTML inside another format."""
    tree = LexborHTMLParser(fragment)
    for node in tree.css("script,style,template"):
        node.decompose()
    return tree.body.text(separator="\n", strip=True) if tree.body else ""


def _text(data: bytes) -> str:
    if found := _META_CHARSET.search(data[:4096]):
        try:
            return data.decode(found.group(1).decode("ascii"))
        except (LookupError, UnicodeDecodeError):
            pass
    return decoded(data)


def _anchor(heading: LexborNode) -> str | None:
    """The name that an address can lead to: the heading's own, of a link in it, or of the section it opens."""
    if found := heading.attributes.get("id"):
        return found
    for link in heading.css("[id],a[name]"):
        if found := link.attributes.get("id") or link.attributes.get("name"):
            return found
    above = heading.parent
    if (
        above is not None
        and above.tag in ("section", "div", "header")
        and above.css_first("h1,h2,h3,h4,h5,h6") == heading
    ):
        return above.attributes.get("id")
    return None


def _title(tree: LexborHTMLParser, heading: str | None) -> str | None:
    social = tree.css_first('meta[property="og:title"]')
    named = (social.attributes.get("content") if social else None) or ""
    if not named and (node := tree.css_first("title")):
        named = node.text(strip=True)
    if heading and (not named or heading.lower() in named.lower()):
        return heading  # the title without the name of the site
    return named or heading


def _content(tree: LexborHTMLParser) -> LexborNode | None:
    body = tree.body
    if body is None:
        return None
    for node in body.css("body > header"):
        if node.css_first("h1") is None:
            node.decompose()
    whole = len(body.text(strip=True))
    for selector in ("main", "[role=main]", "article"):
        found = body.css(selector)
        if len(found) == 1 and len(found[0].text(strip=True)) >= min(_ENOUGH, whole // 3):
            return found[0]
    return body


class _Walk:
    """One pass over the tree, without recursion, so that depth costs nothing."""

    def __init__(self, out: TextBuilder) -> None:
        self._out = out
        self._text: list[str] = []
        self._lists: list[tuple[str, int]] = []
        self._in_item = False

    def run(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                self._leave(node.tag or "")
            elif self._enter(node):
                stack.append((node, True))
                children = list(node.iter(include_text=True))
                stack.extend((child, False) for child in reversed(children))
        self._flush()

    def _enter(self, node: LexborNode) -> bool:
        """Take a node in; whether its children are to be visited."""
        tag = node.tag or ""
        if tag == "-text":
            self._text.append(re.sub(r"\s+", " ", node.text(deep=False) or ""))
            return False
        if tag == "br":
            self._text.append("\n")
            return False
        if tag in _DROPPED or tag.startswith(("-", "!")):
            return False
        if tag in _HEADINGS or tag in ("pre", "tr"):
            self._flush()
            self._whole(node, tag)
            return False
        if tag in _BLOCKS:
            self._flush()
        if tag in ("ul", "ol"):
            self._lists.append((tag, 0))
        elif tag == "li":
            self._item()
        elif tag == "dd":
            self._in_item = True
        return True

    def _whole(self, node: LexborNode, tag: str) -> None:
        """Write an element that is one block, whatever stands in it."""
        if tag == "pre":
            self._out.add("code", node.text(), verbatim=True)
        elif tag == "tr":
            self._row(node)
        else:
            self._out.add("heading", node.text(separator=" ", strip=True), level=_HEADINGS[tag], anchor=_anchor(node))

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._flush()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        if tag in ("li", "dd"):
            self._in_item = False

    def _item(self) -> None:
        self._in_item = True
        if self._lists and self._lists[-1][0] == "ol":
            kind, number = self._lists[-1]
            self._lists[-1] = (kind, number + 1)
            self._text.append(f"{number + 1}. ")

    def _row(self, node: LexborNode) -> None:
        cells = [child for child in node.iter() if child.tag in ("td", "th")]
        texts = [" ".join(cell.text(separator=" ", strip=True).split()) for cell in cells]
        names = bool(cells) and all(cell.tag == "th" for cell in cells)
        if any(texts):
            self._out.add("table", " | ".join(texts), level=1 if names else 0)

    def _flush(self) -> None:
        text = "".join(self._text)
        if re.fullmatch(r"\d+\. ", text):
            return  # the number waits for its item's first paragraph
        self._text = []
        if text.strip():
            self._out.add("list" if self._in_item else "paragraph", text)
