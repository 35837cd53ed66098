"""Golden questions are asked through the ordinary path, judged, and told in a table, in JSON and by the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from stonechat import golden as runner
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.assistant.golden import GoldenCase, GoldenReport, GoldenResult, judge, load_cases
from stonechat.cli import main
from stonechat.errors import InvalidInput
from support.knowledge import upload
from support.platform import Platform

CASES = [
    {"question": "How many days do I have to send a lamp back?", "must_contain": ["30 DAYS"], "source": "Returns"},
    {"question": "How many days do I have to send a lamp back?", "must_not_contain": ["30 days"], "source": "Prices"},
    {"question": "Who designed the moon?", "answered": False},
    {"question": "Who designed the sun?"},
]


async def test_an_agent_is_asked_over_the_api_and_judged(platform: Platform, tmp_path: Path) -> None:
    text = "# Returns\n\n## Deadline\n\nYou can send a lamp back within 30 days of delivery."
    await upload(platform.services.knowledge, platform.tenant_id, text, filename="returns.md")
    agent = await platform.agent(model="extractive", knowledge={"enabled": True})
    async with platform.services.database.tenant(platform.tenant_id) as session:
        _, secret = await create_api_key(session, system(platform.tenant_id), name="golden", scopes=["write"])
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(json.dumps(case) for case in CASES))
    options: dict[str, Any] = {
        "url": "http://127.0.0.1:8000",
        "api_key": secret,
        "version": "published",
        "parallel": 3,
        "transport": httpx.ASGITransport(app=platform.app, raise_app_exceptions=False, client=("127.0.0.1", 1)),
    }
    report = await runner.golden_over_api(path, agent=agent, **options)
    assert [result.passed for result in report.results] == [True, False, True, False]
    assert report.results[1].faults == ("contains “30 days”", "does not cite “Prices”, but Returns")
    assert report.results[3].faults == ("expected an answer",)
    assert report.lines()[-3:] == ["passed 2", "questions 4", "score 0.5000"]
    assert json.loads(report.as_json())["results"][0]["sources"] == ["Returns"]
    unknown = await runner.golden_over_api(path, agent="agt_none", **options)
    assert "not_found" not in unknown.results[0].faults[0]
    assert "(404)" in unknown.results[0].faults[0]
    with pytest.raises(InvalidInput, match="which agent"):
        runner._agent_of(GoldenCase(question="x"), None)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", '{"question": "x"}\n{"question"', "line 2"),
        ("a.jsonl", '{"question": ""}', "line 1: question"),
        ("a.jsonl", '{"question": "x", "must": []}', "must"),
        ("a.yaml", "question: x", "list"),
        ("a.yaml", "- [", "not valid YAML"),
        ("a.jsonl", "", "1 to"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidInput, match=complaint):
        load_cases(path)


def test_yaml_says_the_same_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "cases.yaml"
    path.write_text("- question: Who designed the moon?\n  answered: false\n")
    assert load_cases(path) == [GoldenCase(question="Who designed the moon?", answered=False)]


def test_an_address_stands_for_all_its_places() -> None:
    source = SimpleNamespace(title="Returns", url="https://shop.example/returns#deadline")
    answer: Any = SimpleNamespace(text="Within **30**\ndays.", sources=[source], answered=True, error=None)
    for wanted in ("returns", "https://shop.example/returns", "https://shop.example/returns#deadline"):
        assert list(judge(GoldenCase(question="x", source=wanted, must_contain=["within 30 days"]), answer)) == []
    assert list(judge(GoldenCase(question="x", source="https://shop.example"), answer))
    failed: Any = SimpleNamespace(text="", sources=[], answered=False, error="upstream_failed")
    assert list(judge(GoldenCase(question="x"), failed)) == ["the turn failed: upstream_failed"]


def test_the_exit_code_tells_whether_the_score_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = GoldenReport((GoldenResult("a", "b", (), ()), GoldenResult("c", "d", (), ("lacks “e”",))))

    async def made(*_: Any, **__: Any) -> GoldenReport:
        return report

    monkeypatch.setattr(runner, "golden_over_api", made)
    path = tmp_path / "cases.jsonl"
    path.write_text("{}")
    arguments = ["eval", "golden", str(path), "--api-key", "sk_x", "--url", "http://127.0.0.1:1"]
    enough = CliRunner().invoke(main, [*arguments, "--minimum", "0.5", "--json"])
    assert (enough.exit_code, json.loads(enough.stdout)["score"]) == (0, 0.5)
    short = CliRunner().invoke(main, [*arguments, "--minimum", "0.6"])
    assert short.exit_code == 1
    assert "score 0.5000" in short.stdout
    assert CliRunner().invoke(main, ["eval", "golden", str(path)], env={"STONECHAT_API_KEY": ""}).exit_code == 2
