"""docs/errors.md from the error classes: `python errors_page.py` writes it, `--check` says whether it is up to date."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import stonechat
from stonechat.errors import StonechatError, all_errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HEAD = """# Errors

Every error of the API is a problem document (RFC 9457, `application/problem+json`) with a `code` that does not change between
releases. `title` says what the code means, `detail` what happened this time and what to do next. In a stream the same
code arrives in an error event.

This page is made from the code: `make errors`.

| Status | Code | Meaning |
|---|---|---|
"""


def render() -> str:
    """The page, from every error class of every module, by status and code."""
    for module in pkgutil.walk_packages(stonechat.__path__, "stonechat."):
        if not module.name.startswith("stonechat.migrations"):
            importlib.import_module(module.name)
    first: dict[str, type[StonechatError]] = {}
    for error in all_errors():
        known = first.setdefault(error.code, error)
        if known is not error and (known.status, known.title) != (error.status, error.title):
            raise SystemExit(f"{known.__name__} and {error.__name__} share the code {error.code!r} and differ otherwise.")
    errors = sorted(first.values(), key=lambda error: (error.status, error.code))
    return HEAD + "".join(f"| {error.status} | `{error.code}` | {error.title} |\n" for error in errors)


def main() -> None:
    page = render()
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        raise SystemExit("docs/errors.md is not up to date; `make errors` writes it.")


if __name__ == "__main__":
    main()
