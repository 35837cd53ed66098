"""Settings that say how things begin."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stonechat.cli import serving
from stonechat.settings import Settings
from support.management import management
from support.postgres import TestDatabase


async def test_new_agents_begin_with_the_model_that_the_operator_chose(
    test_database: TestDatabase, tmp_path: Path
) -> None:
    async with management(test_database, tmp_path, default_model="openai/gpt-9") as house:
        shop = await house.tenant("Defaults")
        made = await shop.call("POST", "/agents", 201, json={"name": "New"})
        assert made["draft"]["model"] == "openai/gpt-9"
        chosen = await shop.call("POST", "/agents", 201, json={"name": "Chosen", "model": "extractive"})
        assert chosen["draft"]["model"] == "extractive"


def test_a_default_model_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STONECHAT_DEFAULT_MODEL", "gpt-9")
    with pytest.raises(ValidationError, match="STONECHAT_DEFAULT_MODEL"):
        Settings()


@pytest.mark.parametrize(("said", "holds"), [(None, "invite"), ("open", "open"), ("closed", "closed")])
def test_who_serves_by_hand_lets_nobody_in_unasked(
    monkeypatch: pytest.MonkeyPatch, said: str | None, holds: str
) -> None:
    monkeypatch.setattr(serving, "configure_logging", lambda **_: None)  # the log is the test run's
    for name, value in {
        "STONECHAT_ENV": "development",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1/x",
        "QDRANT_URL": "http://127.0.0.1:6333",
        "STONECHAT_SECRET_KEYS": "a platform key for tests that is long enough",
        "STONECHAT_SIGN_UP": said,
    }.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert serving._standalone("serve").sign_up == holds
