"""Questions that ask the same are one, in any language; others are not."""

from __future__ import annotations

import pytest

from stonechat.assistant.unanswered import says_unknown
from stonechat.knowledge.grouping import ALIKE, likeness, most_alike, stems


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Do you deliver to Norway?", "do you DELIVER to norway"),
        ("Do you deliver to Norway?", "Can you deliver to Norway please?"),
        ("How much is shipping to Norway?", "What is the postage to Norway?"),
        ("Kann ich die Lampe zurückgeben?", "Wie kann ich die Lampen zurückgeben?"),
        ("你们可以送货到挪威吗", "你们可以送货到挪威吗?"),
        ("これはなんですか", "これはなんですか?"),
        ("노르웨이로 배송하나요", "노르웨이로 배송 하나요?"),
        ("คุณส่งของไปนอร์เวย์ไหม", "ส่งของไปนอร์เวย์ได้ไหมครับ"),
        ("Quels sont les horaires du musée ?", "les horaires du musée"),
    ],
)
def test_the_same_question_in_other_words_is_alike(one: str, other: str) -> None:
    assert likeness(stems(one), stems(other)) >= ALIKE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Do you deliver to Norway?", "Do you deliver pizza?"),
        ("Can I return a lamp?", "Can I repair a lamp myself?"),
        ("What is your phone number?", "Where is your shop?"),
        ("你们可以送货到挪威吗", "保修期是多久"),
        ("คุณส่งของไปนอร์เวย์ไหม", "ประกันนานเท่าไหร่"),
    ],
)
def test_another_question_is_not(one: str, other: str) -> None:
    assert likeness(stems(one), stems(other)) < ALIKE


@pytest.mark.parametrize("said", ["Hello!", "thanks", "Danke", "你好", "안녕하세요", "…", "ok", ""])
def test_greetings_ask_nothing(said: str) -> None:
    assert stems(said) == []


def test_the_most_alike_group_wins_and_none_if_none_is() -> None:
    groups = [("a", stems("Do you deliver pizza?")), ("b", stems("Do you deliver to Norway?"))]
    assert most_alike(stems("deliver to Norway"), groups) == "b"
    assert most_alike(stems("Who repairs kettles?"), groups) is None


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know, sorry.",
        "I couldn’t find any information about that.",
        "The documents do not mention a deadline.",
        "Das weiß ich leider nicht.",
        "Dazu liegen mir leider keine Informationen vor.",
        "Je ne trouve aucune information à ce sujet.",
        "Lo siento, no encuentro nada. No tengo información sobre eso.",
        "Mi dispiace, non ho informazioni su questo.",
        "Não encontrei nada sobre isso.",
        "Sorry, ik kan dat niet vinden.",
        "К сожалению, я не знаю.",
        "抱歉,我找不到相关信息。",
        "申し訳ありませんが、わかりません。",
        "죄송하지만 모르겠습니다.",
    ],
)
def test_a_model_that_says_it_does_not_know_is_understood(answer: str) -> None:
    assert says_unknown(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The warranty lasts 24 months.",
        "Die Garantie gilt 24 Monate.",
        "保修期为24个月。",
        "You know best what you need.",
    ],
)
def test_an_answer_is_not_taken_for_ignorance(answer: str) -> None:
    assert not says_unknown(answer)
