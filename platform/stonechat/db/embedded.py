"""A Postgres of our own, for who has none: made, started, shared and stopped without being asked.

    with EmbeddedPostgres(settings.data_dir / "postgres") as address:
        connect(address.url())

Any number of processes may use one folder at once; the first starts the server, the last one out stops it. If the last
one is killed, a guard stops it a moment later (see `embedded_process`), unless a new user attaches first. The server
listens on loopback only, on a free port, and demands a generated password.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import asyncpg

from stonechat.db import embedded_process
from stonechat.db.embedded_binaries import (
    Account,
    Installation,
    account_for,
    as_data_folder,
    find_installation,
    make_executable_for,
    run_as,
)
from stonechat.db.embedded_process import (
    find_postmaster,
    hold,
    open_lock,
    server_lock_is_taken,
    stop_postmaster,
    try_lock,
)
from stonechat.errors import EmbeddedPostgresFailed

HOST = "127.0.0.1"
SUPERUSER = "postgres"
OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "''",
    "cluster_name": "stonechat",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",  # statements hold what visitors wrote
}
"""For a small machine. `fsync` stays on: an acknowledged message survives a power cut."""
LARGEST_LOG_BYTES = 8 * 1024 * 1024
LOCK_SECONDS = 180
LOGIN_SECONDS = 60
DEAD_SECONDS = 15
START_ATTEMPTS = 3
PASSING = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a login may meet while the server is starting, recovering or dying."""
ELSEWHERE = "Set DATABASE_URL to a Postgres of your own, or STONECHAT_DATA_DIR to a folder on another file system."


@dataclass(frozen=True)
class PostgresAddress:
    """How to reach the server as its superuser."""

    host: str
    port: int
    user: str
    password: str
    started: bool
    """Whether this acquisition started the server, rather than found it running."""

    def url(self, database: str = "stonechat", *, user: str | None = None, password: str | None = None) -> str:
        """A `postgresql://` URL of a database, whether or not it exists yet."""
        login = f"{quote(user or self.user, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"


class EmbeddedPostgres:
    """One process's use of the server under `root`. Blocking: call from a thread. Raises `EmbeddedPostgresFailed`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.data = self.root / "data"
        self._held: list[BufferedRandom] = []

    def __enter__(self) -> PostgresAddress:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> PostgresAddress:
        """Make the cluster and start the server if need be, and count as a user of it until `release`."""
        if self._held:
            raise RuntimeError("this EmbeddedPostgres is already acquired")
        try:
            self.root.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            with hold(self.root / "start.lock", seconds=LOCK_SECONDS):
                self._join()
                try:
                    address = self._attach_or_start()
                    self._ensure_guard()
                    return address
                except BaseException:
                    self._leave()
                    raise
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedPostgresFailed(
                f"The embedded database in {self.root} failed: {error}. {ELSEWHERE}"
            ) from error

    def release(self) -> bool:
        """Stop using the server; whether this was its last user, and so stopped it. Twice is once."""
        if not self._held:
            return False
        try:
            with hold(self.root / "start.lock", seconds=LOCK_SECONDS):
                stopped = self._leave()
        except OSError as error:
            while self._held:
                self._held.pop().close()  # if the server still lives, its guard stops it
            raise EmbeddedPostgresFailed(f"The embedded database in {self.root} was not stopped: {error}.") from error
        if stopped:
            with contextlib.suppress(TimeoutError), hold(self.root / "guard.lock", seconds=3):
                pass  # nothing to do but to see the guard go
        return stopped

    def _join(self) -> None:
        for name in ("wake.lock", "users.lock"):
            file = open_lock(self.root / name)
            self._held.append(file)
            fcntl.flock(file, fcntl.LOCK_SH)

    def _leave(self) -> bool:
        last = try_lock(self._held[-1])
        if last:
            stop_postmaster(self.data)
        while self._held:
            self._held.pop().close()
        return last

    def _attach_or_start(self) -> PostgresAddress:
        account = account_for(self.data)
        address = self._running()
        if address is not None:
            return address
        self._wait_for_the_dead()
        version_file = self.data / "PG_VERSION"
        major = int(version_file.read_text()) if version_file.exists() else None
        installation = make_executable_for(account, find_installation(major=major), root=self.root)
        if major is None:
            self._initialise(installation, account)
        self._make_private(self.data, account)
        for _attempt in range(START_ATTEMPTS):  # the free port may be taken by then, or somebody kills the server
            self._start(installation, account)
            if (address := self._running()) is not None:
                return replace(address, started=True)
            self._wait_for_the_dead()
        raise EmbeddedPostgresFailed(f"Postgres did not start.{self._log_tail()}")

    def _running(self) -> PostgresAddress | None:
        """The address of the live server, once a login has shown that it serves our data."""
        deadline = time.monotonic() + LOGIN_SECONDS
        while (found := find_postmaster(self.data)) is not None:
            address = PostgresAddress(HOST, found.port, SUPERUSER, self._password(), started=False)
            try:
                identifier = _ask_identifier(address)
            except asyncpg.InvalidAuthorizationSpecificationError as error:
                raise EmbeddedPostgresFailed(
                    f"The server in {self.root} refuses the password in its file `password`: {error}. "
                    f"Restore that file.{self._log_tail()}"
                ) from error
            except PASSING as error:
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresFailed(f"Postgres does not answer: {error}.{self._log_tail()}") from error
                time.sleep(0.1)
                continue
            if identifier != self._identifier():
                raise EmbeddedPostgresFailed(f"Port {found.port} is answered by another Postgres than {self.data}.")
            return address
        return None

    def _wait_for_the_dead(self) -> None:
        """See the last processes of a crashed server go, and remove its pid file, which may name a stranger by now."""
        deadline = time.monotonic() + DEAD_SECONDS
        while server_lock_is_taken(self.data):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"A server that this process cannot see, perhaps in another container, is using {self.data}. Stop it."
                )
            time.sleep(0.05)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self, installation: Installation, account: Account | None) -> None:
        unfinished = self.root / "data.new"
        for leftover in (unfinished, self.data):
            if leftover.exists():
                shutil.rmtree(leftover)
        unfinished.mkdir(mode=0o700)
        self._make_private(unfinished, account)
        password = secrets.token_urlsafe(32)
        self._write_password(password)
        locale = "C.UTF-8" if sys.platform != "darwin" else "en_US.UTF-8"
        options = ["--auth=scram-sha-256", f"--username={SUPERUSER}", "--encoding=UTF8", f"--locale={locale}"]
        if installation.major >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        reader, writer = os.pipe()
        try:
            os.write(writer, f"{password}\n".encode())
            os.close(writer)
            if account is not None:
                os.fchown(reader, account.uid, account.gid)
            done = run_as(
                account,
                installation.programs / "initdb",
                *options,
                f"--pwfile=/dev/fd/{reader}",
                pass_fds=(reader,),
                **as_data_folder(unfinished, account, installation),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        finally:
            os.close(reader)
        if done.returncode != 0:
            raise EmbeddedPostgresFailed(f"Postgres could not make its data folder: {done.stdout[-1000:]}")
        unfinished.rename(self.data)

    def _make_private(self, folder: Path, account: Account | None) -> None:
        """Let the server's account alone into the folder. Postgres insists, and some file systems cannot."""
        if account is not None and folder.stat().st_uid != account.uid:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.uid, account.gid, follow_symlinks=False)
        folder.chmod(0o700)
        if (mode := folder.stat().st_mode & 0o777) != 0o700:
            raise EmbeddedPostgresFailed(
                f"The file system of {folder} does not keep permissions (mode {mode:o}, wanted 700), and without them "
                f"others could read the database. {ELSEWHERE}"
            )

    def _start(self, installation: Installation, account: Account | None) -> None:
        log = self.data / "server.log"
        if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
            log.replace(self.data / "server.log.1")
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        options = " ".join(f"-c {name}={value}" for name, value in (OPTIONS | {"port": str(port)}).items())
        with open_lock(self.root / "server.lock") as lock:
            try_lock(lock)
            run_as(
                account,
                installation.programs / "pg_ctl",
                *("start", "--silent", "--wait", "--timeout=60", "--log=server.log", f"--options={options}"),
                pass_fds=(lock.fileno(),),
                **as_data_folder(self.data, account, installation),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def _ensure_guard(self) -> None:
        with open_lock(self.root / "guard.lock") as lock:
            if not try_lock(lock):
                return
        program = [sys.executable, "-I", embedded_process.__file__, str(self.root)]
        subprocess.run(program, stdin=subprocess.DEVNULL, timeout=30, check=True)  # noqa: S603

    def _password(self) -> str:
        try:
            return (self.root / "password").read_text().strip()
        except FileNotFoundError as error:
            raise EmbeddedPostgresFailed(f"{self.root / 'password'} is missing. Restore it from a backup.") from error

    def _write_password(self, password: str) -> None:
        path = self.root / "password"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _identifier(self) -> int:
        """The cluster's own number, which Postgres keeps at the start of its control file."""
        return int.from_bytes((self.data / "global" / "pg_control").read_bytes()[:8], sys.byteorder)

    def _log_tail(self) -> str:
        try:
            text = (self.data / "server.log").read_bytes()[-4096:].decode(errors="replace")
        except OSError:
            return ""
        return " The end of its log:\n" + "\n".join(text.splitlines()[-12:])


def _ask_identifier(address: PostgresAddress) -> int:
    """The system identifier of the cluster that answers. In a thread of its own, since the caller's may run a loop."""

    async def ask() -> int:
        connection = await asyncpg.connect(address.url("postgres"), timeout=10, ssl=False)
        try:
            return int(await connection.fetchval("select system_identifier from pg_control_system()"))
        finally:
            await connection.close(timeout=5)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, ask()).result()
