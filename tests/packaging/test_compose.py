"""docker-compose.yml, read as YAML: there may be no engine where the tests run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stonechat.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"web", "worker", "migrate"}


def test_it_has_the_services_that_the_guide_promises() -> None:
    assert set(SERVICES) == OURS | {"postgres", "qdrant", "redis"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_every_lasting_service_says_whether_it_is_healthy(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["retries"] > 0


def test_nothing_starts_before_what_it_needs_is_healthy() -> None:
    for name in ("web", "worker"):
        conditions = {other: need["condition"] for other, need in SERVICES[name]["depends_on"].items()}
        assert conditions.pop("migrate") == "service_completed_successfully"
        assert conditions == dict.fromkeys(("postgres", "qdrant", "redis"), "service_healthy")


def test_only_web_is_published_and_only_on_loopback() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["web"]["ports"])
    assert COMPOSE["networks"]["stores"]["internal"] is True
    for name in ("postgres", "qdrant", "redis"):
        assert SERVICES[name]["networks"] == ["stores"]


def test_every_secret_comes_from_a_file_and_none_has_a_default() -> None:
    secret_variables = re.compile(r"PASSWORD|SECRET|_KEY|DATABASE_URL|REDIS_URL")
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if secret_variables.search(variable):
                assert variable.endswith("_FILE"), f"{variable} is written into the file"
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    assert all(list(secret) == ["file"] for secret in COMPOSE["secrets"].values())
    assert not re.search(r"://[^\s$/]+:[^\s$/]+@", TEXT), "an address holds a password"


def test_the_owners_database_login_stays_with_the_migration() -> None:
    assert [name for name, service in SERVICES.items() if "owner_database_url" in service.get("secrets", ())] == [
        "migrate"
    ]


def test_every_variable_is_one_that_is_read() -> None:
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    for name in OURS:
        for variable in SERVICES[name]["environment"]:
            assert variable.removesuffix("_FILE") in known


def test_our_processes_cannot_write_outside_their_volume_nor_gain_privileges() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_volume_is_named_and_every_image_is_of_a_version() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _target, *mode = volume.split(":")
            if mode != ["ro"]:
                assert source in COMPOSE["volumes"], "data in the folder of the sources"
            else:
                assert (ROOT / source).is_file()
        if name not in OURS:
            assert re.search(r":v?\d", service["image"])


def test_the_image_runs_as_an_ordinary_user_and_copies_only_what_exists() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER stonechat" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists()
                assert source in allowed
