"""`/api/v1/config`, and `stonechat export` and `apply`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from stonechat.api import config
from stonechat.cli import configuration, group, main
from stonechat.configuration.document import Configuration
from stonechat.configuration.texts import read_document
from stonechat.settings import Settings
from support.configurations import everything
from support.management import Management, management
from support.postgres import TestDatabase

UNCHANGED = 18
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("config")) as opened:
        yield opened


async def test_a_configuration_is_put_as_json_and_got_as_yaml_and_the_other_way_round(house: Management) -> None:
    shop = await house.tenant("Over HTTP")
    tried = await shop.call("PUT", "/config?dry_run=true", json=everything())
    made = await shop.call("PUT", "/config", json=everything())
    assert (tried["dry_run"], made["dry_run"]) == (True, False)
    assert [change["says"] for change in tried["changes"]] == [change["says"] for change in made["changes"]]
    got = await shop.ask("GET", "/config", params={"format": "yaml", "content": True})
    assert got.headers["content-type"].startswith("application/yaml")
    assert got.headers["ratelimit"]
    values = yaml.safe_load(got.text)
    assert (values["tenant"]["name"], values["agents"][0]["draft"]["name"]) == ("Over HTTP", "Shop")
    again = await shop.call("PUT", "/config?prune=true", content=got.content, headers=YAML)
    assert (again["changes"], again["to_do"]) == ([], [])
    assert await shop.call("GET", "/config?content=true") == values
    without = await shop.call("GET", "/config")
    assert without["knowledge"]["sources"][0]["text"] is None


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, b"version: 1", 415, "unsupported_media_type"),
        ({}, b"version: 1", 415, "unsupported_media_type"),
        (YAML, b"version: [", 400, "malformed_body"),
        ({"Content-Type": "application/json"}, b"{", 400, "malformed_body"),
        (YAML, b"version: 3", 422, "invalid_input"),
        (YAML, b"x: [" + b"1," * 400_000 + b"]", 400, "malformed_body"),
        (YAML, b"version: 1\n#" + b"x" * 1024 * 1024, 413, "payload_too_large"),
        ({"Content-Type": "application/json"}, b" " * 8 * 1024 * 1024 + b"{}", 413, "payload_too_large"),
    ],
)
async def test_what_is_no_configuration_is_refused(
    house: Management, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    shop = await house.tenant("Refused")
    assert (await shop.call("PUT", "/config", status, content=content, headers=headers))["code"] == code


async def test_readers_read_and_writers_write(house: Management) -> None:
    shop = await house.tenant("Readers", scope="read")
    assert (await shop.call("GET", "/config"))["version"] == 1
    assert (await shop.call("PUT", "/config?dry_run=true", 403, json={"version": 1}))["code"] == "scope_missing"


async def test_one_document_is_read_after_the_other(house: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await house.tenant("In turn")
    at_once: list[int] = []
    reading = 0

    def read_slowly(data: bytes, **options: Any) -> Configuration:
        nonlocal reading
        reading += 1
        at_once.append(reading)
        time.sleep(0.02)
        reading -= 1
        return read_document(data, **options)

    monkeypatch.setattr(config, "read_document", read_slowly)
    put = [shop.ask("PUT", "/config?dry_run=true", json={"version": 1}) for _ in range(4)]
    assert {answer.status_code for answer in await asyncio.gather(*put)} <= {200, 409}
    assert at_once == [1] * 4
    # Whoever waits for too long is told so.
    monkeypatch.setattr(config, "WAIT_SECONDS", 0.0)
    async with config._turns[asyncio.get_running_loop()]:
        refused = await shop.call("GET", "/config", 503)
    assert refused["code"] == "unavailable"


@pytest.fixture
def at_home(house: Management, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line beside the application, on the same database and data folder."""

    @contextmanager
    def services() -> Iterator[Settings]:
        yield house.services.settings

    monkeypatch.setattr(configuration, "services", services)
    monkeypatch.setattr(group, "configure_logging", lambda **_: None)  # the log is the test run's
    return CliRunner()


def run(runner: CliRunner, *arguments: str, **options: Any) -> tuple[int, str]:
    done = runner.invoke(main, arguments, **options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


async def test_the_command_line_exports_and_applies(house: Management, at_home: CliRunner, tmp_path: Path) -> None:
    shop = await house.tenant("Command line")
    await shop.call("PUT", "/config", json=everything())

    def in_a_process_of_its_own() -> None:
        code, text = run(at_home, "export", "--tenant", str(shop.tenant_id), "--content")
        assert (code, text.startswith("# The configuration of Command line.")) == (0, True)
        file = tmp_path / "shop.yaml"
        file.write_text(text)
        assert run(at_home, "apply", str(file)) == (
            0,
            f"Nothing changes.\n{UNCHANGED} things are as the file says already.\n",
        )
        file.write_text(text.replace("messages_per_minute: 7", "messages_per_minute: 8"))
        code, said = run(at_home, "apply", str(file), "--dry-run")
        assert (code, "Would be done:\n  Change the limits: visitor.messages_per_minute.\n" in said) == (0, True)
        code, said = run(at_home, "apply", str(file), "--json")
        assert (code, json.loads(said)["changes"][0]["kind"]) == (0, "limits")
        as_json = run(at_home, "export", "--tenant", str(shop.tenant_id), "--format", "json")[1]
        assert json.loads(as_json)["limits"]["visitor"]["messages_per_minute"] == 8
        assert run(at_home, "apply", "-", input=as_json)[0] == 0

    await asyncio.to_thread(in_a_process_of_its_own)


async def test_the_command_line_says_what_is_wrong(house: Management, at_home: CliRunner) -> None:
    shop = await house.tenant("Wrong")
    here = f"version: 1\ntenant: {{id: {shop.tenant_id}}}\n"
    nobody = "00000000-0000-7000-8000-000000000000"

    def in_a_process_of_its_own() -> None:
        for text, arguments, says in (
            ("version: 1", (), "--tenant ID"),
            (here + "limits: {visitor: {concurrent: 0}}", (), "limits.visitor.concurrent: Input should be"),
            (
                here + "agents: [{draft: {name: A, model: x/y}, published: draft}]",
                (),
                "agents.0.published: There is no model",
            ),
            (here, ("--tenant", nobody), f"There is no tenant {nobody}."),
            ("a: [", (), "YAML"),
        ):
            code, said = run(at_home, "apply", "-", *arguments, input=text)
            assert (code, says in said) == (1, True), said
        assert run(at_home, "export", "--tenant", nobody) == (1, f"Error: There is no tenant {nobody}.\n")

    await asyncio.to_thread(in_a_process_of_its_own)
