"""What visitors see of links, pictures and tags, and that it does not matter how the text was cut."""

from __future__ import annotations

import random
from typing import Any

import pytest
from chatkit.types import FileSource
from hypothesis import given, settings
from hypothesis import strategies as st

from stonechat.assistant.answer import AnswerWriter
from stonechat.assistant.guardrails.output import MAX_HELD, REDACTED
from stonechat.assistant.reasoning import ThoughtWriter
from stonechat.errors import UpstreamFailed
from support.assistant import Answer
from support.guardrails import EVERYTHING, cleaned, filter_of, letter_by_letter, pieces

LISTED: dict[str, Any] = {"links": "listed", "link_hosts": ["shop.example", "*.cdn.example"]}
PICTURES: dict[str, Any] = LISTED | {"images": "listed"}
EVIL = "https://evil.example/c?d=secret"

LINKS = [
    (f"[click]({EVIL})", "click"),
    (f'[click]({EVIL} "title")', "click"),
    (f"[click](<{EVIL}>)", "click"),
    (f"[click]( {EVIL} )", "click"),
    ("[click](//evil.example/x)", "click"),
    ("[click](/\\evil.example/x)", "click"),
    ("[click](https&#58;//evil.example)", "click"),
    ("[click](https\\://evil.example)", "click"),
    ("[click](HTTPS://EVIL.example)", "click"),
    ("[click](javascript:alert(1))", "click"),
    ("[click](data:text/html,x)", "click"),
    ("[click](https://shop.example@evil.example/)", "click"),
    ("[click](https://shop.example\\@evil.example/)", "click"),
    ("[click](https://evil.example/?https://shop.example)", "click"),
    ("[click](https://shop.example.evil.example/)", "click"),
    ("[click](https://evilshop.example/)", "click"),
    ("[click](https://sub.shop.example/)", "click"),
    ("[click](mailto:a@evil.example?body=secret)", "click"),
    ("[click](relative/path)", "click"),
    ("[click](<https://shop.example/a b>)", "click"),
    ("[a [b] c](https://evil.example)", "a [b] c"),
    (f"[![alt](https://shop.example/x.png)]({EVIL})", "alt"),
    (f"See {EVIL}.", "See […]."),
    (f"See ({EVIL}), then", "See ([…]), then"),
    (f"<{EVIL}>", "[…]"),
    ("www.evil.example/x", "[…]"),
    ("ftp://evil.example/x", "[…]"),
    ("https://shop.example\\@evil.example/", "[…]"),
    ("https://shop.example:pw@evil.example/x", "[…]"),
    (f"a\n\n[ref]: {EVIL}\n\nb", "a\n\n[ref]\n\nb"),
    (f"[ref]: <{EVIL}>", "[ref]"),
    ("[ref]:\n  //evil.example/x", "[ref]"),
    (f'<a href="{EVIL}">text</a>', "text"),
    (f"<A HREF={EVIL}>text</A>", "text"),
    ("<a href='https&#x3a;//evil.example'>text</a>", "text"),
    (f'<a href="{EVIL}">one</a> <a href="https://shop.example">two</a>', 'one <a href="https://shop.example">two</a>'),
]
ALLOWED = [
    "[ok](https://shop.example/returns)",
    "[ok](https://img.cdn.example/x)",
    "https://shop.example/a?b=c#d, then",
    "<https://shop.example>",
    "[to the top](#top)",
    "[write](mailto:help@shop.example)",
    "[call](tel:+4930123456)",
    '<a href="https://shop.example">x</a>',
    "[ref]: https://shop.example",
    "[not a link] (really) and [x](see below for more)",
    "a < b, x <y, List<String> and 3 <4",
    "Ask a question! [really]",
    "http is a word, www too, and h t t p",
    "[Note]: see below",
]
PICTURE_CASES = [
    (f"![alt text]({EVIL})", "alt text"),
    (f"![]({EVIL})", ""),
    (f"![alt][ref] and\n\n[ref]: {EVIL}", f"alt and\n\n[ref]: {EVIL}"),
    ("![alt][]", "alt"),
    ("![alt]", "[alt]"),
    ("![alt](data:image/png;base64,AAAA)", "alt"),
    (f'<img src="{EVIL}" alt="a cat">', "a cat"),
    (f"<img src={EVIL}>", ""),
    (f"<IMG\nSRC='{EVIL}' ALT='a cat'/>", "a cat"),
    (f'x <img/src="{EVIL}" y', 'x img/src="https://evil.example/c?d=secret" y'),
    (f'<iframe src="{EVIL}"></iframe>y', "y"),
    (f'<script src="{EVIL}"></script>y', "y"),
    (f'<video poster="{EVIL}">y', "y"),
    (f'<div style="background:url({EVIL})">y</div>', "y</div>"),
    ('<p onclick="x()">y', "y"),
    (f"![{'long ' * 300}]({EVIL})", f"[{'long ' * 300}]({EVIL})"),
    (f"> ```\n> ![x]({EVIL})", "> ```\n> x"),
    (f"<pre>\n```\n</pre>\n![x]({EVIL})", "<pre>\n```\n</pre>\nx"),
    (f"[a]:\n```\n![x]({EVIL})", "[a]:\n```\nx"),
    (f"- ```\n  a\n  ```\n![x]({EVIL})", "- ```\n  a\n  ```\nx"),
]


@pytest.mark.parametrize(("text", "seen"), LINKS)
def test_a_link_that_is_not_allowed_becomes_its_text(text: str, seen: str) -> None:
    assert cleaned(text, **LISTED) == seen
    assert letter_by_letter(text, **LISTED) == seen
    assert letter_by_letter(f"So: {text}\n", **LISTED) == (f"So: {seen}\n")


@pytest.mark.parametrize("text", ALLOWED)
def test_what_is_allowed_or_no_link_stays_to_the_character(text: str) -> None:
    assert cleaned(text, **PICTURES) == text
    assert letter_by_letter(text, **PICTURES) == text


@pytest.mark.parametrize(("text", "seen"), PICTURE_CASES)
def test_a_picture_becomes_its_alternative_text(text: str, seen: str) -> None:
    assert cleaned(text, links="any") == seen
    assert letter_by_letter(text, links="any") == seen


def test_pictures_may_come_from_listed_hosts_only() -> None:
    text = f"![a](https://shop.example/a.png) ![b]({EVIL}) <img src='https://shop.example/c.png'>"
    expected = "![a](https://shop.example/a.png) b <img src='https://shop.example/c.png'>"
    assert letter_by_letter(text, **PICTURES) == expected
    assert letter_by_letter("<img src='https://shop.example/c.png' srcset='//evil.example/x'>", **PICTURES) == ""


def test_by_default_links_lead_where_the_passages_come_from() -> None:
    kept = filter_of(hosts=["docs.example"])
    text = "".join(map(str, [*kept.feed(f"[a](https://docs.example/x) [b]({EVIL})"), *kept.finish()]))
    assert text == "[a](https://docs.example/x) b"
    assert [(found.rule, found.count) for found in kept.findings] == [("links", 1)]


def test_code_is_shown_as_it_is() -> None:
    code = f'```html\n<script async src="https://x.example/embed.js"></script>\n![x]({EVIL})\n```\n'
    assert letter_by_letter(f"Paste this:\n\n{code}\nDone.") == f"Paste this:\n\n{code}\nDone."
    assert letter_by_letter(f"{code}![x]({EVIL})") == f"{code}x"
    assert letter_by_letter("```\nkey = sk-Ab3dEf6hIj9kLm2nOp5qRs8t\n```\n") == f"```\nkey = {REDACTED}\n```\n"


def test_a_secret_within_a_link_goes_too() -> None:
    assert letter_by_letter("[4111 1111 1111 1111](https://evil.example)", **LISTED) == REDACTED
    assert REDACTED in letter_by_letter("[x](https://shop.example/?k=sk-Ab3dEf6hIj9kLm2nOp5qRs8t)", **LISTED)


_FRAGMENTS = st.sampled_from(
    [
        *(text for text, _ in LINKS + PICTURE_CASES),
        *ALLOWED,
        "4111 1111 1111 1111",
        "4111 1111 1111 1112",
        "sk-Ab3dEf6hIj9kLm2nOp5qRs8tUv1w",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
        "DE89 3704 0044 0532 0130 00",
        "ann@shop.example",
        "+49 30 1234567",
        "```\n",
        "\n\n",
        "![",
        "](",
        "<a",
        "[",
        " and some words, 14 of them. ",
        "https://",
        "-----BEGIN",
    ]
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.one_of(_FRAGMENTS, st.text("ab 1![]()<>`-:/.@\\\n\"'=", max_size=8)), max_size=8), st.randoms())
def test_however_the_text_is_cut_the_same_comes_out(parts: list[str], chance: random.Random) -> None:
    text = "".join(parts)
    for output in ({}, LISTED, {"links": "any", "redact": EVERYTHING}):
        whole = cleaned(text, **output)
        assert letter_by_letter(text, **output) == whole
        cuts = sorted(chance.randrange(len(text) + 1) for _ in range(chance.randrange(12)))
        assert cleaned(text, cuts, **output) == whole


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.one_of(_FRAGMENTS, st.text("ab1![]()<>` ", max_size=6)), max_size=8))
def test_what_was_cleaned_once_holds_nothing_more_to_clean(parts: list[str]) -> None:
    once = cleaned("".join(parts), **LISTED)
    for forbidden in ("](https://evil", "<https://evil", 'src="https://evil', "![alt"):
        if "`" not in once:
            assert forbidden not in once


@pytest.mark.parametrize(
    "endless", ["[", "![", "](", "<a ", "https://", "1 ", "www.a", "```", "-----BEGIN ", "eyJ", "[a](", "<img "]
)
def test_what_is_kept_waiting_is_bounded(endless: str) -> None:
    kept = filter_of(redact=EVERYTHING, **LISTED)
    given_out = sum(len(piece) for _ in range(12_000 // len(endless)) for piece in kept.feed(endless))
    rest = sum(len(piece) for piece in kept.finish())
    assert rest <= MAX_HELD + 10
    assert given_out + rest > 0


def test_a_stream_without_anything_suspicious_is_not_held_back() -> None:
    kept = filter_of()
    for delta in ["Refunds", " are", " given", " within", " a", " few", " days."]:
        assert kept.feed(delta) == [delta]


def test_what_comes_as_one_delta_goes_out_as_one() -> None:
    kept = filter_of()
    assert kept.feed("Within 14 days, 3 a week <b>") == ["Within 14 days, 3 a week <b>"]


def test_marks_keep_their_places() -> None:
    kept = filter_of()
    out = [*kept.feed("One 4111 1111"), *kept.mark("A"), *kept.feed(" 1111 1111 two"), *kept.mark("B"), *kept.finish()]
    assert "".join(map(str, out)) == f"One {REDACTED}A twoB"


def test_citations_stand_where_the_visitor_reads_them() -> None:
    answer = Answer()
    writer = _writer(answer)
    for delta in ["Pay 4111 11", "11[1] 1111 1111", " now [1]. See ![x](https://e", "vil.example/) it [2]", "."]:
        writer.write("m", delta)
    writer.finish()
    answer.finished()
    [item] = answer.messages
    assert item.content[0].text == f"Pay {REDACTED} now. See x it."
    places = [annotation.index for annotation in item.content[0].annotations]
    text = item.content[0].text
    assert [text[: place or 0] for place in places] == [
        f"Pay {REDACTED}",
        f"Pay {REDACTED} now",
        f"Pay {REDACTED} now. See x it",
    ]


def test_an_answer_that_is_held_is_shown_whole_or_not_at_all() -> None:
    for shown in (True, False):
        answer = Answer()
        writer = _writer(answer, holds=True)
        writer.write("a", "First [1]. ")
        writer.write("b", "Second.")
        writer.finish()
        assert answer.events == []
        assert writer.held == "First [1]. \n\nSecond."
        if shown:
            writer.show_held()
        else:
            writer.discard_held()
            writer.say("No [1].")
        writer.finish()
        answer.finished()
        assert [item.content[0].text for item in answer.messages] == (["First. ", "Second."] if shown else ["No [1]."])


def test_a_held_answer_is_bounded_too() -> None:
    writer = _writer(Answer(), holds=True)
    with pytest.raises(UpstreamFailed):
        writer.write("a", "x" * 200_001)


def _writer(answer: Answer, *, holds: bool = False) -> AnswerWriter:
    sources = {1: FileSource(filename="a", title="a"), 2: FileSource(filename="b", title="b")}
    return AnswerWriter(
        "thr_1",
        generate_item_id=lambda _kind: "msg_1",
        emit=answer.take,
        resolve=sources.get,
        new_filter=filter_of,
        holds=holds,
    )


def test_pieces_are_never_empty() -> None:
    assert all(pieces("a ![](x) b 4111 1111 1111 1111", range(20)))


def test_thoughts_are_cleaned_like_answers() -> None:
    events: list[Any] = []
    thoughts = ThoughtWriter("thr_1", generate_item_id=lambda _kind: "wfl_1", emit=events.append, new_filter=filter_of)
    for delta in ["I see 4111 1111", " 1111 1111 and ![x](https://evil.exa", "mple/c) now", " so it is" * 20]:
        thoughts.write("a", delta)
    thoughts.finish()
    shown = " ".join(event.model_dump_json() for event in events)
    assert "4111" not in shown
    assert "evil" not in shown
    assert f"I see {REDACTED} and x now" in shown
