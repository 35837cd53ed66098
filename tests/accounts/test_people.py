"""Addresses have one spelling, passwords are hashed within bounds, links work once."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.passwords import Passwords
from stonechat.accounts.people import (
    find_or_create_person,
    new_setup_token,
    normalise_email,
    redeem_setup_token,
    set_password,
    setup_url,
    verify_password,
)
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, Unavailable

CHEAP = Passwords(hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
PASSWORD = "correct horse battery"


async def new_person(database: Database) -> tuple[str, str]:
    async with database.directory() as session:
        person, is_new = await find_or_create_person(session, email=f"p-{uuid4().hex[:8]}@example.com")
    assert is_new
    return person.person_id, person.email


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Ada@Example.COM ", "ada@example.com"),
        ("o'hara+chat@mail.example.org", "o'hara+chat@mail.example.org"),
        ("info@Bücher.example", "info@xn--bcher-kva.example"),
    ],
)
def test_addresses_have_one_spelling(typed: str, kept: str) -> None:
    assert normalise_email(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "", "@", "ada", "ada@", "@example.com", "ada@localhost", "a b@example.com", "ada@example..com", ".a@example.com",
        "a..b@example.com", "ada@-example.com", "ada@example.com\nBcc: x@example.com", "ada\x00@example.com", "ü@example.com",
        "a" * 65 + "@example.com", "ada@" + "a." * 120 + "com", "ada@127.0.0.1", "ada@ex_ample.com", "ada@\u2024.com",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput):
        normalise_email(typed)


async def test_the_right_password_and_only_that(database: Database) -> None:
    person_id, email = await new_person(database)
    assert await verify_password(database, email, password=PASSWORD, passwords=CHEAP) is None
    await set_password(database, person_id, password=PASSWORD, passwords=CHEAP)
    found = await verify_password(database, email.upper(), password=PASSWORD, passwords=CHEAP)
    assert found is not None
    assert found.person_id == person_id
    assert await verify_password(database, email, password=PASSWORD + "!", passwords=CHEAP) is None
    assert await verify_password(database, email, password=PASSWORD + " " * 10_000, passwords=CHEAP) is None


async def test_unknown_addresses_cost_the_same_work(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    person_id, email = await new_person(database)
    await set_password(database, person_id, password=PASSWORD, passwords=CHEAP)
    verified: list[str] = []
    original = PasswordHasher.verify

    def counted(hasher: PasswordHasher, stored: str, password: str) -> bool:
        verified.append(stored)
        return original(hasher, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for address in (email, "nobody@example.com", "not an address"):
        assert await verify_password(database, address, password="wrong password", passwords=CHEAP) is None
    parameters = {stored.rpartition("$")[0].rpartition("$")[0] for stored in verified}
    assert (len(verified), len(parameters)) == (3, 1)


async def test_even_the_stand_ins_password_opens_nothing(database: Database) -> None:
    assert (
        await verify_password(database, "nobody@example.com", password="the password of nobody", passwords=CHEAP)
        is None
    )


async def test_a_hash_with_old_parameters_is_renewed_at_the_next_sign_in(database: Database) -> None:
    person_id, email = await new_person(database)
    await set_password(database, person_id, password=PASSWORD, passwords=CHEAP)
    dearer = Passwords(hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    assert await verify_password(database, email, password=PASSWORD, passwords=dearer) is not None
    async with database.directory() as session:
        stored = await session.scalar(text("select password_hash from people where person_id = :id"), {"id": person_id})
    assert "m=16,t=2" in stored
    assert await verify_password(database, email, password=PASSWORD, passwords=dearer) is not None


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
async def test_passwords_have_a_length(database: Database, password: str) -> None:
    person_id, _ = await new_person(database)
    with pytest.raises(InvalidInput):
        await set_password(database, person_id, password=password, passwords=CHEAP)


async def test_at_most_two_are_hashed_at_once_and_a_crowd_is_turned_away() -> None:
    go_on, lock = threading.Event(), threading.Lock()
    running: list[int] = [0, 0]

    class Slow(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            with lock:
                running[0] += 1
                running[1] = max(running)
            go_on.wait(30)
            with lock:
                running[0] -= 1
            return "hash"

    passwords = Passwords(hasher=Slow(), threads=2, queue=3)
    waiting = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.hash(PASSWORD)
    go_on.set()
    assert await asyncio.gather(*waiting) == ["hash"] * 5
    assert running[1] == 2
    assert await passwords.hash(PASSWORD) == "hash"


async def test_a_setup_link_works_once(database: Database) -> None:
    person_id, email = await new_person(database)
    async with database.directory() as session:
        token = await new_setup_token(session, person_id)
        other = await new_setup_token(session, person_id)
    assert setup_url("https://chat.example.com", token=token) == f"https://chat.example.com/setup?token={token}"
    assert await redeem_setup_token(database, token, password=PASSWORD, passwords=CHEAP) == person_id
    assert await verify_password(database, email, password=PASSWORD, passwords=CHEAP) is not None
    for spent in (token, other, "setup_unknown"):
        with pytest.raises(NotFound):
            await redeem_setup_token(database, spent, password="another password", passwords=CHEAP)


async def test_of_two_who_redeem_at_once_one_wins(database: Database) -> None:
    person_id, _ = await new_person(database)
    async with database.directory() as session:
        token = await new_setup_token(session, person_id)
    attempts = [redeem_setup_token(database, token, password=f"password number {n}", passwords=CHEAP) for n in range(4)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome == person_id] == [person_id]
    assert sum(isinstance(outcome, NotFound) for outcome in outcomes) == 3


async def test_a_setup_link_expires(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    person_id, _ = await new_person(database)
    async with database.directory() as session:
        token = await new_setup_token(session, person_id)
    later = clock.now() + timedelta(days=8)
    monkeypatch.setattr(clock, "now", lambda: later)
    with pytest.raises(NotFound):
        await redeem_setup_token(database, token, password=PASSWORD, passwords=CHEAP)
