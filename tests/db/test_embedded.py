"""The embedded Postgres: real servers are started, shared, crashed, recovered and stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from stonechat.db import embedded_binaries
from stonechat.db.embedded import EmbeddedPostgres, PostgresAddress
from stonechat.db.embedded_binaries import Installation, account_for, find_installation, make_executable_for
from stonechat.db.embedded_process import find_postmaster, open_lock, try_lock
from stonechat.errors import EmbeddedPostgresFailed

USER_OF_ITS_OWN = """
import sys
from pathlib import Path
from stonechat.db.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as address:
    print(address.url("postgres"), address.started, flush=True)
    sys.stdin.read()
"""


def another_process(root: Path) -> subprocess.Popen[str]:
    """A process that uses the server until its standard input is closed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", USER_OF_ITS_OWN, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said_by(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """The URL that the other process was given, and whether it started the server."""
    assert process.stdout is not None
    url, started = process.stdout.readline().split()
    return url, started == "True"


def query(url: str, statement: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, ask()).result()


def wait_until_stopped(root: Path) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if find_postmaster(root / "data") is None:
            return True
        time.sleep(0.05)
    return False


def kill_guard(root: Path) -> None:
    while not (written := (root / "guard.lock").read_text()):
        time.sleep(0.01)
    os.kill(int(written), signal.SIGKILL)
    with open_lock(root / "guard.lock") as lock:
        while not try_lock(lock):
            time.sleep(0.01)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, PostgresAddress]]:
    """A server in a folder whose path is as awkward as paths get, shared by the tests that only look."""
    root = tmp_path_factory.mktemp("x") / 'my data; it\'s "5 $HOME" `é`' / "postgres"
    with EmbeddedPostgres(root) as address:
        yield root, address


@pytest.fixture
def root(running: tuple[Path, PostgresAddress], tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own; whatever the test left running there is stopped."""
    folder = tmp_path / "postgres"
    yield folder
    assert wait_until_stopped(folder), "the test left a server behind"


def test_a_path_with_spaces_and_quotes_works(running: tuple[Path, PostgresAddress]) -> None:
    _root, address = running
    assert address.started
    assert query(address.url("postgres"), "select 1") == 1


def test_the_server_does_not_run_as_root_and_keeps_its_files_to_itself(running: tuple[Path, PostgresAddress]) -> None:
    root, _address = running
    assert (root / "data" / "postmaster.pid").stat().st_uid != 0, "the server writes this file"
    assert (root / "data").stat().st_mode & 0o777 == 0o700
    assert (root / "password").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("password", ["wrong", ""])
def test_a_wrong_password_is_refused(running: tuple[Path, PostgresAddress], password: str) -> None:
    _root, address = running
    url = f"postgresql://postgres:{password}@127.0.0.1:{address.port}/postgres"
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(url, "select 1")


def test_every_way_in_demands_scram(running: tuple[Path, PostgresAddress]) -> None:
    _root, address = running
    methods = "select string_agg(distinct auth_method, ',') from pg_hba_file_rules"
    assert query(address.url("postgres"), methods) == "scram-sha-256"
    assert str(query(address.url("postgres"), "select rolpassword from pg_authid where rolsuper")).startswith("SCRAM")


def test_it_listens_on_loopback_only(running: tuple[Path, PostgresAddress]) -> None:
    _root, address = running
    assert query(address.url("postgres"), "show listen_addresses") == "127.0.0.1"
    assert query(address.url("postgres"), "show unix_socket_directories") == ""
    with pytest.raises(OSError):  # noqa: PT011
        socket.create_connection(("127.0.0.2", address.port), timeout=5).close()


def test_acknowledged_writes_are_flushed(running: tuple[Path, PostgresAddress]) -> None:
    _root, address = running
    assert query(address.url("postgres"), "show fsync") == "on"
    assert query(address.url("postgres"), "show synchronous_commit") == "on"


def test_text_sorts_and_folds_as_unicode(running: tuple[Path, PostgresAddress]) -> None:
    _root, address = running
    assert query(address.url("postgres"), "select lower('ÄÉ')") == "äé"
    assert query(address.url("postgres"), "show server_encoding") == "UTF8"


def test_urls_quote_what_they_hold() -> None:
    address = PostgresAddress("127.0.0.1", 5432, "postgres", "p", started=False)
    assert address.url() == "postgresql://postgres:p@127.0.0.1:5432/stonechat"
    assert address.url("a b", user="u@v", password="/:") == "postgresql://u%40v:%2F%3A@127.0.0.1:5432/a%20b"


def test_the_last_one_out_stops_the_server(root: Path) -> None:
    first, second = EmbeddedPostgres(root), EmbeddedPostgres(root)
    address = first.acquire()
    other = another_process(root)
    assert said_by(other) == (address.url("postgres"), False)
    assert second.acquire().started is False
    assert first.release() is False
    assert query(address.url("postgres"), "select 1") == 1
    assert second.release() is False
    assert query(address.url("postgres"), "select 1") == 1
    other.communicate()
    assert other.returncode == 0
    assert find_postmaster(root / "data") is None
    assert first.release() is False, "releasing twice is releasing once"
    with open_lock(root / "guard.lock") as lock:
        assert try_lock(lock), "the guard is gone too"


def test_two_that_start_at_once_share_one_server(root: Path) -> None:
    both = [another_process(root), another_process(root)]
    said = [said_by(process) for process in both]
    for process in both:
        process.communicate()
    assert {url for url, _started in said} == {said[0][0]}
    assert sorted(started for _url, started in said) == [False, True]


def test_data_survives_the_killing_of_its_user_and_the_next_user_stops_the_server(root: Path) -> None:
    killed = another_process(root)
    url, _started = said_by(killed)
    query(url, "create table kept as select 42 as answer")
    kill_guard(root)
    killed.kill()
    killed.communicate()
    heir = EmbeddedPostgres(root)
    address = heir.acquire()
    assert address.started is False
    assert address.url("postgres") == url
    assert query(url, "select answer from kept") == 42
    assert heir.release() is True
    assert find_postmaster(root / "data") is None


def test_a_server_whose_users_were_all_killed_is_stopped_by_its_guard(root: Path) -> None:
    killed = another_process(root)
    said_by(killed)
    killed.kill()
    killed.communicate()
    assert wait_until_stopped(root)


def test_a_crashed_server_is_recovered(root: Path) -> None:
    with EmbeddedPostgres(root) as address:
        query(address.url("postgres"), "create table kept as select 42 as answer")
        found = find_postmaster(root / "data")
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        assert wait_until_stopped(root)
        assert (root / "data" / "postmaster.pid").exists(), "the crash left its pid file"
        with EmbeddedPostgres(root) as again:
            assert again.started
            assert query(again.url("postgres"), "select answer from kept") == 42


@pytest.mark.parametrize("inside", [False, True])
def test_a_stranger_that_got_the_servers_process_id_survives(root: Path, inside: bool) -> None:
    with EmbeddedPostgres(root):
        lines = (root / "data" / "postmaster.pid").read_text().splitlines()
    stranger = subprocess.Popen(["sleep", "600"], cwd=root / "data" if inside else "/")
    try:
        (root / "data" / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert find_postmaster(root / "data") is None
        user = EmbeddedPostgres(root)
        assert user.acquire().started
        assert user.release() is True
        assert stranger.poll() is None
        (root / "data" / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert wait_until_stopped(root)
    finally:
        stranger.kill()
        stranger.wait()


def test_loosened_permissions_are_tightened_again(root: Path) -> None:
    with EmbeddedPostgres(root):
        pass
    (root / "data").chmod(0o755)
    with EmbeddedPostgres(root) as address:
        assert query(address.url("postgres"), "select 1") == 1
    assert (root / "data").stat().st_mode & 0o777 == 0o700


def test_a_file_system_without_permissions_is_refused_with_advice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(root):
        pass
    (root / "data").chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.raises(EmbeddedPostgresFailed, match=r"does not keep permissions(.|\n)*Set DATABASE_URL"):
        EmbeddedPostgres(root).acquire()


def test_an_initdb_that_was_cut_short_is_done_again(root: Path) -> None:
    for folder in ("data.new", "data"):
        (root / folder).mkdir(parents=True)
        (root / folder / "half").write_text("")
    with EmbeddedPostgres(root) as address:
        assert query(address.url("postgres"), "select 1") == 1


def test_what_stops_the_server_from_starting_is_told_with_the_end_of_its_log(root: Path) -> None:
    with EmbeddedPostgres(root):
        pass
    with (root / "data" / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = on\n")
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"):
        EmbeddedPostgres(root).acquire()


def test_a_lost_password_file_is_told(root: Path) -> None:
    with EmbeddedPostgres(root):
        pass
    (root / "password").unlink()
    with pytest.raises(EmbeddedPostgresFailed, match="password is missing"):
        EmbeddedPostgres(root).acquire()


def test_a_cluster_of_a_version_that_is_not_here_is_left_alone(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresFailed, match="made by Postgres 12"):
        EmbeddedPostgres(root).acquire()
    assert (root / "data" / "PG_VERSION").read_text() == "12\n"


def test_a_server_that_lives_out_of_sight_is_not_started_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedPostgres(root):
        pass
    monkeypatch.setattr("stonechat.db.embedded.DEAD_SECONDS", 0.2)
    with open_lock(root / "server.lock") as lock:
        assert try_lock(lock)
        with pytest.raises(EmbeddedPostgresFailed, match="cannot see"):
            EmbeddedPostgres(root).acquire()


def test_the_wheels_newest_postgres_is_preferred_and_the_systems_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = find_installation(major=None)
    assert wheel.major >= 18
    monkeypatch.setattr(embedded_binaries, "find_spec", lambda _name: None)
    monkeypatch.setattr(embedded_binaries, "SYSTEM_FOLDERS", (str(wheel.programs.parents[1] / "pginstall*" / "bin"),))
    assert find_installation(major=wheel.major) == wheel
    monkeypatch.setattr(embedded_binaries, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedPostgresFailed, match="DATABASE_URL"):
        find_installation(major=None)


def test_programs_that_the_servers_account_cannot_execute_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root hands the server to another account, so for anyone else there is nothing to copy."""
    original = find_installation(major=None)
    package = original.programs.parents[1]
    private = tmp_path / "private"
    shutil.copytree(original.programs.parent, private / package.name / "pginstall")
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, private / libraries.name)
    private.chmod(0o700)
    hidden = Installation(private / package.name / "pginstall" / "bin", original.major)
    account = account_for(tmp_path / "nothing-yet")
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        monkeypatch.setattr(embedded_binaries, "SHARED_COPIES", Path(reachable) / "cache")
        usable = make_executable_for(account, hidden, root=tmp_path)
        assert (usable == hidden) == (os.geteuid() != 0)
        assert make_executable_for(account, hidden, root=tmp_path) == usable, "and only once"
        done = embedded_binaries.run_as(account, usable.programs / "initdb", "--version", capture_output=True)
        assert f" {original.major}" in done.stdout
        monkeypatch.setattr("stonechat.db.embedded.find_installation", lambda **_: hidden)
        with EmbeddedPostgres(tmp_path / "postgres") as address:
            assert query(address.url("postgres"), "select 1") == 1
