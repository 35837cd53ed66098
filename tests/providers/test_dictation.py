"""Dictation: a recording becomes text through the tenant's own provider, bounded, counted, and told in words."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import ChatKitReq
from pydantic import TypeAdapter
from sqlalchemy import text
from starlette.requests import HTTPConnection

from stonechat.accounts.actor import system
from stonechat.api import chatkit_body
from stonechat.api.chatkit_body import MAX_BODY, MAX_DICTATION_BODY, read_body, require_fitting
from stonechat.assistant.config import AgentConfig, parse_config
from stonechat.chat.dictation import AT_ONCE_PER_TENANT, Dictation
from stonechat.db.session import Database
from stonechat.errors import (
    AudioTooLarge,
    BudgetUsedUp,
    InvalidInput,
    NotOffered,
    PayloadTooLarge,
    StonechatError,
    TooManyConcurrent,
    UnsupportedMediaType,
    UploadTooSlow,
    UpstreamFailed,
    UpstreamTimedOut,
)
from stonechat.identity.caller import Caller
from stonechat.providers.transcription import MAX_AUDIO_BYTES, audio_type, transcribe
from stonechat.usage.quota import Budget, put_budget
from support import fake_openai as host
from support.assistant import add_provider, model_providers
from support.loopback import plain

WEBM = b"\x1aE\xdf\xa3" + b"\0" * 100
ON = parse_config({"name": "Shop", "dictation": {"enabled": True, "model": "acme/whisper"}})


def said(**more: Any) -> list[bytes]:
    return [plain(json.dumps({"text": " Guten Tag "} | more).encode(), headers={"Content-Type": "application/json"})]


@pytest.mark.parametrize(
    ("usage", "tokens", "estimated"),
    [
        ({"usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}}, (14, 45), False),
        ({"usage": {"type": "duration", "seconds": 3}}, (0, 0), True),
        ({}, (0, 0), True),
    ],
)
async def test_a_recording_becomes_text_and_is_counted(
    database: Database, tenant_id: UUID, usage: Any, tokens: tuple[int, int], estimated: bool
) -> None:
    caller = Caller(tenant_id, "usr_1", "agt_1")
    async with (
        host.fake_openai(said(**usage)) as fake,
        model_providers(database, platform_key="sk-platform") as providers,
    ):
        await add_provider(database, tenant_id, base_url=fake.url)
        assert await Dictation(database, providers).transcribe(WEBM, caller, config=ON) == "Guten Tag"
    [request] = fake.requests
    assert request.path == "/v1/audio/transcriptions"
    assert request.headers["authorization"] == "bearer sk-tenants-own"
    assert b"whisper" in request.body
    assert b'filename="speech.webm"' in request.body
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            text("select provider, model, purpose, input_tokens, output_tokens, estimated, run_id from usage_ledger")
        )
        assert [tuple(row) for row in rows] == [("acme", "whisper", "transcription", *tokens, estimated, None)]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (host.refusal(401), UpstreamFailed),
        (host.refusal(404), UpstreamFailed),
        (host.refusal(400), InvalidInput),
        (host.refusal(429), UpstreamFailed),
        (host.refusal(500), UpstreamFailed),
        (host.web_page(), UpstreamFailed),
        ([plain(b"[1]", headers={"Content-Type": "application/json"})], UpstreamFailed),
        ([plain(b'{"text": 5}', headers={"Content-Type": "application/json"})], UpstreamFailed),
        ([plain(b"{", headers={"Content-Type": "application/json"})], UpstreamFailed),
        ([], UpstreamFailed),
        ([host.SILENCE], UpstreamTimedOut),
    ],
)
async def test_each_trouble_is_told_and_nothing_counted(
    database: Database, tenant_id: UUID, reply: list[bytes], error: type[StonechatError]
) -> None:
    async with host.fake_openai(reply) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        with pytest.raises(error) as caught:
            await transcribe(providers, tenant_id, model="acme/whisper", audio=WEBM, seconds=0.5)
    assert caught.value.detail
    assert "sk-" not in str(caught.value.problem())
    assert len(fake.requests) == 1


async def test_the_platforms_key_does_not_pay_for_dictation(database: Database, tenant_id: UUID) -> None:
    async with (
        host.fake_openai(said()) as fake,
        model_providers(database, openai_base_url=fake.url, platform_key="sk-platform") as providers,
    ):
        with pytest.raises(UpstreamFailed, match="how it is set up"):
            await transcribe(providers, tenant_id, model="openai/whisper", audio=WEBM)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (b"", InvalidInput),
        (b"<html>", UnsupportedMediaType),
        (b"MZ" + b"\0" * 50, UnsupportedMediaType),
        (WEBM + b"\0" * MAX_AUDIO_BYTES, AudioTooLarge),
    ],
)
async def test_only_recordings_of_a_size_are_sent_on(
    database: Database, tenant_id: UUID, audio: bytes, error: type[StonechatError]
) -> None:
    async with model_providers(database) as providers:
        with pytest.raises(error):
            await transcribe(providers, tenant_id, model="acme/whisper", audio=audio)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (WEBM, "webm"),
        (b"OggS....", "ogg"),
        (b"\0\0\0\x20ftypM4A ", "m4a"),
        (b"RIFF\0\0\0\0WAVEfmt", "wav"),
        (b"ID3\x03", "mp3"),
        (b"\xff\xfb\x90\x00", "mp3"),
        (b"fLaC", "flac"),
    ],
)
def test_the_kind_is_told_by_the_content(head: bytes, name: str) -> None:
    assert audio_type(head)[0] == f"speech.{name}"


async def test_an_agent_that_does_not_offer_it_takes_none(database: Database, tenant_id: UUID) -> None:
    async with model_providers(database) as providers:
        with pytest.raises(NotOffered):
            await Dictation(database, providers).transcribe(
                WEBM, Caller(tenant_id, "u", "a"), config=AgentConfig(name="Shop")
            )


async def test_dictation_ends_with_the_budget(database: Database, tenant_id: UUID) -> None:
    caller, admin = Caller(tenant_id, "usr_1", "agt_1"), system(tenant_id)
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
    async with host.fake_openai(said(usage=usage)) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        async with database.tenant(tenant_id) as session:
            await put_budget(session, admin, budget=Budget(max_tokens=59, message="Until next month."))
        dictation = Dictation(database, providers)
        assert await dictation.transcribe(WEBM, caller, config=ON) == "Guten Tag"
        with pytest.raises(BudgetUsedUp, match="Until next month"):
            await dictation.transcribe(WEBM, caller, config=ON)
    assert len(fake.requests) == 1


async def test_one_tenants_slow_dictation_leaves_room_for_others(
    database: Database, tenant_id: UUID, make_tenant: Any
) -> None:
    other = await make_tenant()
    async with (
        host.fake_openai([host.SILENCE]) as slow,
        host.fake_openai(said()) as quick,
        model_providers(database) as providers,
    ):
        await add_provider(database, tenant_id, base_url=slow.url)
        await add_provider(database, other, base_url=quick.url)
        dictation = Dictation(database, providers)
        mine = Caller(tenant_id, "u", "a")
        waiting = [asyncio.create_task(dictation.transcribe(WEBM, mine, config=ON)) for _ in range(AT_ONCE_PER_TENANT)]
        while slow.hanging < AT_ONCE_PER_TENANT:
            await asyncio.sleep(0.01)
        with pytest.raises(TooManyConcurrent):
            await dictation.transcribe(WEBM, mine, config=ON)
        assert await dictation.transcribe(WEBM, Caller(other, "u", "a"), config=ON) == "Guten Tag"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


# The body of the request


parse = TypeAdapter[ChatKitReq](ChatKitReq).validate_json


def request_of(audio: bytes, **more: Any) -> bytes:
    params = {"audio_base64": base64.b64encode(audio).decode(), "mime_type": "audio/webm"} | more
    return json.dumps({"type": "input.transcribe", "params": params}).encode()


async def taken(body: bytes, *, piece: int = 65_536) -> bytes | None:
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    messages = [{"type": "http.request", "body": each, "more_body": True} for each in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        return messages.pop(0)

    headers = [(b"content-type", b"application/json")]
    return await read_body(HTTPConnection({"type": "http", "headers": headers}), receive)


async def test_a_recording_may_be_larger_than_other_requests() -> None:
    body = request_of(b"\xff" * (MAX_AUDIO_BYTES - 3))
    assert await taken(body) == body
    request = parse(body)
    require_fitting(request, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "threads.create", "params": {"x": "' + b"x" * 2 * MAX_BODY + b'"}}',
        b'{"audio_base64": "AAAA", "x": [' + b"0," * MAX_BODY + b"0]}",
        request_of(b"\xff" * 2 * MAX_BODY, filler="x y " * MAX_BODY),
        request_of(b"\xff" * MAX_DICTATION_BODY),
    ],
)
async def test_nothing_else_may(body: bytes) -> None:
    with pytest.raises(PayloadTooLarge):
        await taken(body)


async def test_a_message_that_hides_as_a_recording_is_refused_once_read() -> None:
    message = json.dumps(
        {
            "type": "threads.get_by_id",
            "params": {"thread_id": "thr_1"},
            "audio_base64": base64.b64encode(b"\xff" * 2 * MAX_BODY).decode(),
        }
    ).encode()
    body = await taken(message)
    assert body is not None
    with pytest.raises(PayloadTooLarge):
        require_fitting(parse(body), body)


async def test_a_large_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chatkit_body, "LARGE_SECONDS", 0.05)
    large = request_of(b"\xff" * 2 * MAX_BODY)
    messages = [{"type": "http.request", "body": large[:-2], "more_body": True}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    with pytest.raises(UploadTooSlow):
        await read_body(HTTPConnection({"type": "http", "headers": [(b"content-type", b"application/json")]}), receive)
    assert chatkit_body._large == 0


async def test_few_large_bodies_are_read_at_once() -> None:
    gate = asyncio.Event()
    large = request_of(b"\xff" * 2 * MAX_BODY)

    async def slow() -> bytes | None:
        messages = [{"type": "http.request", "body": large, "more_body": True}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gate.wait()
            return {"type": "http.disconnect"}

        return await read_body(
            HTTPConnection({"type": "http", "headers": [(b"content-type", b"application/json")]}), receive
        )

    tasks = [asyncio.create_task(slow()) for _ in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(TooManyConcurrent):
        await taken(large)
    gate.set()
    assert await asyncio.gather(*tasks) == [None] * 4
    assert await taken(large) == large
