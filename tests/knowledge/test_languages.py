"""Questions in German and Chinese find the paragraph that answers them, by the same pipeline as English ones."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.excerpt import best_excerpt
from stonechat.knowledge.search import Passage, search
from support.knowledge import upload

SAMPLES = Path(__file__).parent / "samples"


@pytest.mark.parametrize("language", ["de", "zh"])
async def test_the_right_paragraph_comes_first(knowledge: Knowledge, tenant_id: UUID, language: str) -> None:
    """Each entry of a sample is a question, then the heading and the paragraph that answer it; all go into one index."""
    entries = (SAMPLES / f"{language}.txt").read_text(encoding="utf-8").strip().split("\n\n")
    answers = dict(entry.split("\n", 1) for entry in entries)
    assert len(answers) == 20
    text = "\n\n".join(answers.values()).replace("\n", "\n\n")
    document = await upload(knowledge, tenant_id, text, filename=f"{language}.md")
    assert document.language == language
    right = 0
    for question, answer in answers.items():
        found = await search(knowledge, tenant_id, question, limit=1)
        right += bool(found) and answer.rsplit("\n", 1)[1] in found[0].text
    assert right >= 0.85 * len(answers)


async def test_a_chinese_question_finds_a_note_within_an_english_text(knowledge: Knowledge, tenant_id: UUID) -> None:
    note = "# Returns\n\nGoods may come back within thirty days. For visitors from China: 三十天内可以申请退货。\n"
    await upload(knowledge, tenant_id, note, filename="mixed.md")
    await upload(knowledge, tenant_id, "# Hours\n\nWe open at ten.", filename="hours.md")
    [best, *_] = await search(knowledge, tenant_id, "申请退货")
    assert "三十天" in best.text


def test_questions_in_chinese_and_japanese_are_answered_in_quotes_or_not_at_all() -> None:
    entries = (SAMPLES / "zh.txt").read_text(encoding="utf-8").strip().split("\n\n")
    asked = [entry.split("\n") for entry in entries]
    passages = [
        Passage(f"doc_{number}", f"chk_{number}", heading.lstrip("# "), None, text, 1.0, language="zh")
        for number, (_, heading, text) in enumerate(asked)
    ]
    answered = 0
    for number, (question, _, text) in enumerate(asked):
        found = best_excerpt(question, [passages[number], *passages[:number][:5]])
        answered += found is not None and found.quotes[0].text in text
    assert answered >= 0.85 * len(asked)
    for question in ("总部在哪个城市？", "可以带宠物进店吗？", "支持比特币吗？", "店は何時に開きますか"):
        assert best_excerpt(question, passages[:6]) is None
    japanese = Passage("doc_j", "chk_j", "手引き", None, "保証期間は購入日から二十四か月です。", 1.0, language="ja")
    assert best_excerpt("保証期間はどのくらいですか", [japanese]) is not None
