"""What a marker's number points at: the page, and the place on it."""

import pytest

from stonechat.assistant.passages import Passages
from stonechat.knowledge.search import Passage


def source_of(url: str | None, *, anchor: str | None = None, page: int | None = None):
    passages = Passages()
    passages.add([Passage("doc_1", "chk_1", "Handbook", url, "Text.", 1.0, ("Care",), page=page, anchor=anchor)])
    return passages.source(1)


@pytest.mark.parametrize(
    ("url", "anchor", "page", "expected"),
    [
        ("https://shop.example/help", None, None, "https://shop.example/help"),
        ("https://shop.example/help", "care", None, "https://shop.example/help#care"),
        ("https://shop.example/help?lang=de", "größe 2", None, "https://shop.example/help?lang=de#gr%C3%B6%C3%9Fe%202"),
        ("https://shop.example/help#top", "care", None, "https://shop.example/help#top"),
        ("https://shop.example/manual.PDF?v=2", None, 3, "https://shop.example/manual.PDF?v=2#page=3"),
        ("https://shop.example/slides.pptx", None, 3, "https://shop.example/slides.pptx"),
    ],
)
def test_an_address_leads_to_the_place(url: str, anchor: str | None, page: int | None, expected: str) -> None:
    assert source_of(url, anchor=anchor, page=page).url == expected


def test_a_file_names_heading_and_page() -> None:
    source = source_of(None, page=3)
    assert (source.filename, source.group) == ("Handbook", "Care › p. 3")


def test_other_numbers_point_at_nothing() -> None:
    assert Passages().source(1) is None
