"""What visitors and assistants wrote may look like anything, and do nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from stonechat_admin.markdown import MAX_MARKDOWN, render_markdown

TAGS = {
    "html", "head", "body", "p", "br", "strong", "em", "s", "a", "sup", "ul", "ol", "li", "blockquote", "pre", "code",
    "h4", "h5", "h6", "hr", "div", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](https://evil.example/?q=1)", "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))", "[x](data:text/html,<b>)", "[x](vbscript:x)", "<javascript:alert(1)>", '[x](https://a "onclick=")',
    "[x]: javascript:alert(1)\n[x]", "<a href='javascript:alert(1)'>x</a>", "|a|\n|:-:|\n|b|", "```x\" onclick=\"y\n```",
    "\ue0001\ue001", "\ue000<b>\ue001", "[x](//evil.example)", "[x](file:///etc/passwd)",
]  # fmt: skip


def check(html: str) -> None:
    tree = LexborHTMLParser(html)
    for node in tree.css("*"):
        assert node.tag in TAGS, node.tag
        for name, value in node.attributes.items():
            assert name in {"href", "rel", "target", "class", "title", "start", "tabindex", "role", "aria-label"}, name
            if name == "href":
                assert str(value).startswith(("https://", "http://", "mailto:", "tel:", "#m-")), value


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_survives(text: str) -> None:
    check(render_markdown(text, marks=[(1, 1)], link=lambda number: f"#m-{number}"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=20)), max_size=8), st.integers(0, 60))
def test_nor_any_mixture(parts: list[str], at: int) -> None:
    text = "".join(parts)
    check(render_markdown(text, marks=[(min(at, len(text)), 1)], link=lambda number: f"#m-{number}"))


def test_marks_stand_where_the_answer_cites() -> None:
    html = render_markdown("Thirty days. Free.", marks=[(12, 1), (18, 2)], link=lambda number: f"#m-{number}")
    assert LexborHTMLParser(html).css_first("p").text() == "Thirty days.1 Free.2"  # type: ignore[union-attr]
    assert [link.attributes["href"] for link in LexborHTMLParser(html).css("a.cite")] == ["#m-1", "#m-2"]


def test_a_text_cannot_make_marks_of_its_own() -> None:
    html = render_markdown("a \ue0007\ue001", link=lambda number: f"#m-{number}")
    assert "cite" not in html


def test_what_would_take_long_is_shown_as_it_is() -> None:
    html = render_markdown("**" + "[" * MAX_MARKDOWN)
    assert "<strong>" not in html
    check(html)
    assert "<strong>" not in render_markdown("**x**", limit=3)
