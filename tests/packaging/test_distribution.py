"""What is installed: locks with hashes, and a wheel that carries everything that is not Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPLAINED = ["run", "test", "check", "prove", "format", "lint", "types", "imports"]
EXPLAINED += ["migrate", "migration", "seed", "widget", "bench", "clean"]
LOCKS = sorted(ROOT.glob("requirements*.lock"))


def test_there_are_locks() -> None:
    assert {lock.name for lock in LOCKS} >= {"requirements.lock", "requirements-dev.lock", "requirements-build.lock"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_pin_and_hash_everything_and_name_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^--?(i|f|index|extra|find|trusted)", text, re.MULTILINE)
    requirements = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    for requirement in requirements:
        assert re.match(r"[a-z0-9][a-z0-9.-]*(\[[a-z,0-9-]+\])?==[^\s;]+", requirement)
        assert "--hash=sha256:" in requirement


def pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9][a-z0-9.-]*)(?:\[.*\])?==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE
    ):
        found.setdefault(name, set()).add(version)
    return found


def test_what_is_tested_is_what_runs() -> None:
    tested = pins("requirements-dev.lock")
    assert {name: tested.get(name) for name in pins("requirements.lock")} == pins("requirements.lock")


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[\[<>=; ]", line)[0].lower() for line in project["project"]["dependencies"]}
    assert names <= set(pins("requirements.lock")), "run `make lock`"
    development = {re.split(r"[\[<>=; ]", line)[0].lower() for line in project["dependency-groups"]["dev"]}
    assert development <= set(pins("requirements-dev.lock")), "run `make lock`"


def test_the_wheel_carries_migrations_templates_and_built_assets(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = [
        file.relative_to(ROOT).as_posix()
        for folder in ("platform/stonechat", "admin/stonechat_admin", "migrations", "docs/guide")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    ]
    assert len(sources) > 20
    moved = [
        ("platform/", ""),
        ("admin/", ""),
        ("migrations/", "stonechat/migrations/"),
        ("docs/guide/", "stonechat/guide/"),
    ]
    for file in sources:
        packed_as = next(new + file.removeprefix(old) for old, new in moved if file.startswith(old))
        assert packed_as in packed
    assert any(name.endswith("licenses/LICENSE") for name in packed)
    entry_points = next(name for name in packed if name.endswith("entry_points.txt"))
    assert "stonechat = stonechat.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()


def test_make_says_what_there_is() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    said = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    for target in EXPLAINED:
        assert re.search(rf"^  {target}  +\S", said, re.MULTILINE), f"make {target} is not explained"
