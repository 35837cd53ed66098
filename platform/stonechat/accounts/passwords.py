"""Argon2id, where it can hurt nobody: in threads, at most two at once, with a short queue before them."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from stonechat.errors import InvalidInput, Unavailable

MIN_PASSWORD, MAX_PASSWORD = 10, 256
Result = TypeVar("Result")


@dataclass(frozen=True)
class Verdict:
    """Whether a password fits, and whether its hash was made with parameters that are no longer ours."""

    matches: bool
    outdated: bool = False


@dataclass
class Passwords:
    """Hashes and verifies. Each takes tens of megabytes and some tenths of a second of a core."""

    hasher: PasswordHasher = field(
        default_factory=lambda: PasswordHasher(time_cost=2, memory_cost=46 * 1024, parallelism=1)
    )
    threads: int = 2
    queue: int = 32
    """How many may wait; the next is refused with `Unavailable`, rather than kept waiting for long."""
    _busy: int = 0

    async def hash(self, password: str) -> str:
        """The hash to store. Raises `InvalidInput` for a password that is too short or too long."""
        self.check(password)
        return await self._in_thread(lambda: self.hasher.hash(_normal(password)))

    def check(self, password: str) -> None:
        """Raise `InvalidInput` unless the password could be stored."""
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InvalidInput(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Compare. Without a stored hash the same work is done, and nothing matches."""
        password = password[: MAX_PASSWORD + 1]  # longer ones are never stored; comparing a part of them suffices
        return await self._in_thread(lambda: self._verify(stored, password))

    def _verify(self, stored: str | None, password: str) -> Verdict:
        try:
            self.hasher.verify(stored or self._of_nobody, _normal(password))
        except VerifyMismatchError:
            return Verdict(matches=False)
        except (VerificationError, InvalidHashError):
            return Verdict(matches=False)
        return Verdict(
            matches=stored is not None, outdated=bool(stored) and self.hasher.check_needs_rehash(stored or "")
        )

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        if self._busy >= self.threads + self.queue:
            raise Unavailable(
                "Too many people are signing in at once. Try again in a moment.", headers={"Retry-After": "5"}
            )
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="password")

    @cached_property
    def _of_nobody(self) -> str:
        return self.hasher.hash("the password of nobody")


def _normal(password: str) -> str:
    """One spelling for what looks the same, whatever keyboard it was typed on."""
    return unicodedata.normalize("NFKC", password)


PASSWORDS = Passwords()
"""The process's own: the bound holds only if all share it."""
