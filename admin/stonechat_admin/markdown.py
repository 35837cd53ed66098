"""What visitors and assistants wrote, as markup that is safe to show: no HTML of theirs, no images, no odd addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

MAX_MARKDOWN = 12_000
"""Characters of one text that are read as Markdown; a longer one, whose reading could take long, is shown as it is."""
MAX_PAGE_MARKDOWN = 80_000
"""The same for all texts of one page together."""
_SCHEMES = {"http", "https", "mailto", "tel"}
# Private-use characters stand for marks while Markdown is read; the text's own are replaced, one for one.
_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}([0-9]{{1,6}}){_CLOSE}")
_LEFT = re.compile(f"{_OPEN}[0-9]{{1,6}}{_CLOSE}|%EE%80%80[0-9]{{1,6}}%EE%80%81")
"""Marks that fell where no link can stand: in code, in an address, in a title."""


def render_markdown(
    text: str,
    *,
    marks: Sequence[tuple[int, int]] = (),
    link: Callable[[int], str] | None = None,
    limit: int = MAX_MARKDOWN,
) -> Markup:
    """Markup of a text. `marks` are (characters before it, number), in order: each becomes a small link to `link(number)`."""
    text = text.replace(_OPEN, "\ufffd").replace(_CLOSE, "\ufffd")
    if len(text) > min(limit, MAX_MARKDOWN):
        return Markup('<p class="whitespace-pre-wrap">{}</p>').format(text)
    if link is not None:
        for at, number in reversed(marks):
            text = f"{text[:at]}{_OPEN}{number}{_CLOSE}{text[at:]}"
    html = _LEFT.sub("", _markdown.render(text, {"link": link}))
    return Markup(html)  # noqa: S704  made by a renderer that escapes all it did not make itself


def _text(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:  # noqa: ARG001
    written = str(escape(tokens[at].content))
    link = env.get("link")
    return written if link is None else _MARK.sub(lambda found: _marker(int(found[1]), link), written)


def _marker(number: int, link: Callable[[int], str]) -> str:
    return f'<sup><a class="cite" href="{escape(link(number))}" aria-label="Source {number}">{number}</a></sup>'


def _allowed(url: str) -> bool:
    try:
        return urlsplit(url).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _link_open(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    tokens[at].attrSet("rel", "noopener noreferrer nofollow")
    tokens[at].attrSet("target", "_blank")
    return self.renderToken(tokens, at, options, env)


def _heading(level: int) -> str:
    """Headings of an answer stand below those of the page."""
    return f"h{min(level + 3, 6)}"


def _heading_open(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:  # noqa: ARG001
    return f"<{_heading(int(tokens[at].tag[1]))}>"


def _heading_close(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:  # noqa: ARG001
    return f"</{_heading(int(tokens[at].tag[1]))}>\n"


def _cell(self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:  # noqa: ARG001
    """Without the alignment, which would be an inline style."""
    return f"<{tokens[at].tag}>"


def _table_open(*_: Any) -> str:
    return '<div class="overflow-x-auto" tabindex="0" role="region" aria-label="Table"><table>\n'


def _table_close(*_: Any) -> str:
    return "</table></div>\n"


def _make() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": 20})
    made.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    made.validateLink = _allowed  # type: ignore[method-assign]
    for name, rule in (
        ("text", _text),
        ("link_open", _link_open),
        ("heading_open", _heading_open),
        ("heading_close", _heading_close),
        ("th_open", _cell),
        ("td_open", _cell),
        ("table_open", _table_open),
        ("table_close", _table_close),
    ):
        made.add_render_rule(name, rule)
    return made


_markdown = _make()
