"""Secrets in files: how they are made, and how a container's process gets them."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import pytest
import yaml

from stonechat.db import migrate
from stonechat.db.embedded import EmbeddedPostgres, PostgresAddress
from stonechat.db.embedded_binaries import find_installation

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ENTRYPOINT, *command],
        env={"PATH": "/usr/bin:/bin"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_variable_takes_what_its_file_holds(tmp_path: Path) -> None:
    secret = 'it\'s a "secret" $(echo no) `echo no` \\n *'
    (tmp_path / "my secret").write_text(secret + "\n")
    done = run({"DATABASE_URL_FILE": str(tmp_path / "my secret"), "PORT": "8000"}, "printenv", "DATABASE_URL")
    assert done.stdout == secret + "\n"
    assert run({"DATABASE_URL_FILE": str(tmp_path / "my secret")}, "printenv", "DATABASE_URL_FILE").returncode == 1


def test_other_variables_and_the_commands_answer_are_left_alone() -> None:
    done = run({"PORT": "8000"}, "sh", "-c", 'printf "%s" "$PORT $1"; exit 7', "sh", "two words")
    assert (done.stdout, done.returncode) == ("8000 two words", 7)


def test_a_secret_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    done = run({"REDIS_URL_FILE": str(tmp_path / "absent")}, "printenv")
    assert done.returncode == 1
    assert "REDIS_URL_FILE" in done.stderr


def test_a_secret_given_twice_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://a")
    done = run({"REDIS_URL_FILE": str(tmp_path / "url"), "REDIS_URL": "redis://b"}, "printenv")
    assert done.returncode == 1
    assert "redis://" not in done.stderr


def test_every_secret_of_the_compose_file_is_made_once_and_kept(tmp_path: Path) -> None:
    make = ["sh", ROOT / "docker" / "make-secrets.sh", tmp_path]
    subprocess.run(make, check=True, capture_output=True)
    folder = tmp_path / "secrets"
    before = {file.name: file.read_text() for file in folder.iterdir()}
    wanted = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"]
    assert {secret["file"].removeprefix("secrets/") for secret in wanted.values()} <= set(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert before["web_password"].strip() in before["database_url"]
    assert before["postgres_password"].strip() in before["owner_database_url"]
    assert len(before["platform_keys"].strip()) >= 64
    assert len(set(before.values())) == len(before)
    subprocess.run(make, check=True, capture_output=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


async def test_the_web_login_becomes_the_applications_roles_and_no_other(tmp_path: Path) -> None:
    """The container's script, run against an embedded server in the place of the container's."""
    (tmp_path / "web_password").write_text("it's secret\n")
    server = EmbeddedPostgres(tmp_path / "postgres")
    address = await asyncio.to_thread(server.acquire)
    try:
        connection = await asyncpg.connect(address.url("postgres"))
        await connection.execute("create database stonechat")
        await connection.close()
        await asyncio.to_thread(_run_init_script, address, tmp_path / "web_password")
        await migrate.ensure_roles(address.url())
        assert await migrate.migrate(address.url()), "the migrations run as the owner that the script appointed"
        url = address.url(user="stonechat_web", password="it's secret")
        for role in ("stonechat_app", "stonechat_platform"):
            connection = await asyncpg.connect(url, server_settings={"role": role})
            assert await connection.fetchval("select current_user") == role
            await connection.close()
        for role in ("stonechat_owner", "postgres"):
            with pytest.raises(asyncpg.PostgresError, match="permission denied to set role"):
                await asyncpg.connect(url, server_settings={"role": role})
    finally:
        await asyncio.to_thread(server.release)


def _run_init_script(address: PostgresAddress, password_file: Path) -> None:
    subprocess.run(
        ["sh", ROOT / "docker" / "postgres-init.sh"],
        env={
            "PATH": f"{find_installation(major=None).programs}:/usr/bin:/bin",
            "PGHOST": address.host,
            "PGPORT": str(address.port),
            "PGPASSWORD": address.password,
            "POSTGRES_USER": address.user,
            "POSTGRES_DB": "stonechat",
            "WEB_PASSWORD_FILE": str(password_file),
        },
        check=True,
    )
