"""Passages are exact stretches of the text, of a bounded size, and nothing is lost between them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stonechat.errors import DocumentWithoutText
from stonechat.knowledge.chunk import TARGET, cut, index_text
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.markdown import extract_markdown
from stonechat.knowledge.extractors.plain import extract_text

WORDS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from(["heading", "paragraph", "list", "table", "code"]),
        WORDS | st.builds(lambda word, times: word * times, WORDS, st.integers(1, 40)),
        st.integers(1, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@given(BLOCKS, st.sampled_from([0, 500]))
@settings(max_examples=150, deadline=None)
def test_pieces_are_exact_bounded_and_complete(blocks: list[tuple[str, str, int, bool]], minimum: int) -> None:
    out = TextBuilder()
    for kind, text, level, verbatim in blocks:
        out.add(kind, text, level=level if kind == "heading" else 0, verbatim=verbatim)  # type: ignore[arg-type]
    try:
        document = out.build()
    except DocumentWithoutText:
        return
    pieces = cut(document, minimum=minimum)
    end = 0
    for piece in pieces:
        assert piece.text == document.text[piece.start : piece.end]
        assert piece.text.strip() == piece.text != ""
        assert document.text[end : piece.start].strip() == ""  # nothing but white space between
        assert len(piece.text) <= 2 * TARGET
        end = piece.end
    assert document.text[end:].strip() == ""


def test_headings_pages_and_columns_go_along() -> None:
    rows = "\n".join(f"| Part {n} | {n} EUR |" for n in range(200))
    document = extract_markdown(f"# Manual\n\n## Parts\n\n| Name | Price |\n|---|---|\n{rows}\n".encode())
    pieces = cut(document)
    assert len(pieces) > 1
    assert all(piece.headings == ("Manual", "Parts") for piece in pieces)
    assert pieces[0].columns is None
    assert pieces[1].columns == "Name | Price"
    assert index_text(pieces[1], title="Manual").startswith("Manual\nParts\nName | Price\nPart ")
    assert all(len(piece.text) <= TARGET for piece in pieces)
    assert all(row.startswith("Part") for piece in pieces[1:] for row in piece.text.split("\n"))


def test_short_sections_stay_together_and_long_ones_do_not() -> None:
    short = "\n\n".join(f"# S{n}\n\nOne line." for n in range(4))
    [together] = cut(extract_markdown(short.encode()))
    assert together.headings == ()
    assert "# S3" in together.text
    alone = cut(extract_markdown(short.encode()), minimum=0)
    assert [piece.headings for piece in alone] == [("S0",), ("S1",), ("S2",), ("S3",)]
    long = "\n\n".join(f"# L{n}\n\n" + "A sentence of some length. " * 30 for n in range(3))
    assert [piece.headings for piece in cut(extract_markdown(long.encode()))] == [("L0",), ("L1",), ("L2",)]


def test_long_paragraphs_are_cut_between_sentences() -> None:
    text = " ".join(f"Sentence number {n} says something." for n in range(200))
    pieces = cut(extract_text(text.encode()))
    assert len(pieces) > 3
    assert all(piece.text.startswith("Sentence") and piece.text.endswith(".") for piece in pieces)


def test_a_thousand_headings_without_text_are_bounded() -> None:
    text = "\n\n".join(f"# Heading number {n}" for n in range(1000)) + "\n\nAt last some text."
    pieces = cut(extract_markdown(text.encode()))
    assert max(len(piece.text) for piece in pieces) <= 2 * TARGET
    assert pieces[-1].text.endswith("At last some text.")
