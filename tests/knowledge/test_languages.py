"""Questions in German and Chinese find the paragraph that answers them, by the same pipeline as English ones."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.search import search
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
