"""Passages as people read them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stonechat_admin.passages import above, pieces_of, without_signs


def test_headings_lose_their_signs_and_nothing_else_is_lost() -> None:
    pieces = pieces_of("# Returns\n\nItem #3 costs 5.\n## Far away\nText", words=[(2, 9)], quotes=[(11, 27)])
    assert "".join(piece.text for piece in pieces) == "Returns\n\nItem #3 costs 5.\nFar away\nText"
    assert [piece.text for piece in pieces if piece.heading] == ["Returns", "Far away"]
    assert [piece.text for piece in pieces if piece.matched] == ["Returns"]
    assert "".join(piece.text for piece in pieces if piece.quoted) == "Item #3 costs 5."


@given(st.text(alphabet="ab# \n", max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=4))
def test_text_without_headings_is_cut_and_not_changed(text: str, spans: list[tuple[int, int]]) -> None:
    text = text.replace("#", "x")
    inside = [(min(one, other, len(text)), min(max(one, other), len(text))) for one, other in spans]
    pieces = pieces_of(text, words=inside)
    assert "".join(piece.text for piece in pieces) == text
    marked = sum(len(piece.text) for piece in pieces if piece.matched)
    assert marked == len({at for start, end in inside for at in range(start, end)})


def test_a_title_is_not_said_twice() -> None:
    assert above(["Returns", "Refunds"], title="Returns") == ("Refunds",)
    assert above(["Returns policy"], title="Returns") == ("Returns policy",)
    assert above([], title="Returns") == ()


def test_snippets_are_plain() -> None:
    assert without_signs("# Returns We like #3 ## How long") == "Returns We like #3 How long"
