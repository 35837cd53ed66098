"""`[n]` becomes a citation, wherever the stream happens to be cut."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stonechat.assistant.citations import MAX_CITATIONS, Citation, CitationParser

KNOWN = 5


def parse(*deltas: str) -> tuple[str, list[tuple[int, int]]]:
    """The text, and each citation as (number, index)."""
    parser: CitationParser[int] = CitationParser(lambda number: number if 1 <= number <= KNOWN else None)
    pieces = [piece for delta in deltas for piece in parser.feed(delta)] + parser.finish()
    text, citations = "", []
    for piece in pieces:
        if isinstance(piece, Citation):
            assert piece.index == len(text), "a citation stands where the text has got to"
            citations.append((piece.source, piece.index))
        else:
            assert piece, "no empty deltas"
            text += piece
    return text, citations


@pytest.mark.parametrize(
    ("written", "text", "citations"),
    [
        ("Within 14 days [1].", "Within 14 days.", [(1, 14)]),
        ("Within 14 days[1].", "Within 14 days.", [(1, 14)]),
        ("a [1][2] b", "a b", [(1, 1), (2, 1)]),
        ("a [1] [2], b", "a, b", [(1, 1), (2, 1)]),
        ("a [1, 3] b", "a b", [(1, 1), (3, 1)]),
        ("a [1][1] b", "a b", [(1, 1)]),
        ("a [1-3] b", "a b", [(1, 1), (2, 1), (3, 1)]),
        ("a [2–3, 1].", "a.", [(2, 1), (3, 1), (1, 1)]),
        ("a [3-1] b [4-99]", "a b", [(4, 3), (5, 3)]),
        ("[1-3](https://x.example) [1-] [-1]", "[1-3](https://x.example) [1-] [-1]", []),
        ("one [1] two [1]", "one two", [(1, 3), (1, 7)]),
        ("see [1]and", "see and", [(1, 3)]),
        ("它说【2】。", "它说。", [(2, 2)]),
        ("so【1†source】.", "so.", [(1, 2)]),
        ("note[^2].", "note.", [(2, 4)]),
        ("[1] first", "first", [(1, 0)]),
        ("- [1] item", "- item", [(1, 1)]),
        ("> quote [1]\n\n> more [2]\n", "> quote\n\n> more\n", [(1, 7), (2, 15)]),
        # Markers that mean nothing leave without a trace.
        ("so [9].", "so.", []),
        ("so [0] it is", "so it is", []),
        ("so [1, 9].", "so.", [(1, 2)]),
        # What is no marker stays.
        ("in [2024] it", "in [2024] it", []),
        ("[a] [ 1] [] [1 2] [1", "[a] [ 1] [] [1 2] [1", []),
        ("see [1](https://x.example) b", "see [1](https://x.example) b", []),
        ("[1]: https://x.example", "[1]: https://x.example", []),
        ("the rule [1]: pay", "the rule: pay", [(1, 8)]),
        ("![1](x.png)", "![1](x.png)", []),
        ("Great! [1]", "Great!", [(1, 6)]),
        ("\\[1] stays", "\\[1] stays", []),
        # Code stays.
        ("`a[1]` x [1]", "`a[1]` x", [(1, 8)]),
        ("``a ` [1]`` x [2]", "``a ` [1]`` x", [(2, 13)]),
        ("`open [1]\n\nnext [2]", "`open [1]\n\nnext", [(2, 15)]),
        ("```\nx[1]\n```\ny [2]", "```\nx[1]\n```\ny", [(2, 14)]),
        ("```py\nx[1] ``` [1]\n```\n[2]", "```py\nx[1] ``` [1]\n```\n", [(2, 23)]),
        ("~~~\n[1]\n```\n[1]\n~~~\n[2] z", "~~~\n[1]\n```\n[1]\n~~~\nz", [(2, 20)]),
        ("- ```\n  [1]\n  ```\n [2]", "- ```\n  [1]\n  ```\n", [(2, 18)]),
        ("```a``` [1]", "```a```", [(1, 7)]),
        ("~~gone~~ [1]", "~~gone~~", [(1, 8)]),
        ("trailing  ", "trailing  ", []),
        ("", "", []),
    ],
)
def test_what_is_a_marker_and_what_is_not(written: str, text: str, citations: list[tuple[int, int]]) -> None:
    assert parse(written) == (text, citations)


PIECES = st.sampled_from(
    [
        "[1]",
        "[2]",
        "[9]",
        "[1, 3]",
        "【4】",
        "【2†s】",
        "[",
        "]",
        "1",
        "(",
        ")",
        ":",
        "`",
        "``",
        "```",
        "~~~",
        "\n",
        "\n\n",
        " ",
        "  ",
        "\\",
        "word",
        "a b",
        "é",
        "🙂",
        ".",
        "- ",
        "> ",
        "^",
        ",",
        "†",
        "【",
        "】",
        "!",
        "\t",
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS, st.data())
@example("``` `` [1]\n```\n[1]", None)
def test_the_result_does_not_depend_on_how_the_text_was_cut(text: str, data: st.DataObject | None) -> None:
    whole = parse(text)
    assert parse(*text) == whole
    if data is not None and text:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=10)) | {0, len(text)})
        assert parse(*(text[start:end] for start, end in itertools.pairwise(cuts))) == whole


@given(st.text(alphabet=st.characters(exclude_characters="[【", exclude_categories=["Cs"]), max_size=200))
def test_text_without_brackets_passes_unchanged(text: str) -> None:
    assert parse(text) == (text, [])


@given(TEXTS)
def test_nothing_but_markers_and_spaces_is_lost(text: str) -> None:
    shown, _ = parse(text)
    letters = [character for character in text if character not in "[]【】†^0123456789, s"]
    assert [character for character in shown if character not in "[]【】†^0123456789, s"] == letters


def test_little_is_held_back() -> None:
    parser: CitationParser[int] = CitationParser(lambda number: number)
    assert parser.feed("Hello there") == ["Hello there"]
    assert parser.feed(" ") == []
    assert parser.feed("you") == [" you"]
    assert parser.feed(" [1") == []
    assert parser.feed("000] and") == [" [1000] and"]


def test_citations_are_bounded() -> None:
    text, citations = parse("x[1]" * (MAX_CITATIONS + 20))
    assert text == "x" * (MAX_CITATIONS + 20)
    assert len(citations) == MAX_CITATIONS
