"""Whatever is sent, the answer is a problem document with a stable code, and a sentence for people."""

from __future__ import annotations

import base64
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from pypdf import PdfWriter

from support.api import Tenant, message, new_tenant
from support.running import Running

ORIGIN = "https://bad.example"
JSON = {"Content-Type": "application/json"}


@dataclass
class Target:
    tenant: Tenant
    agent: str
    key: str
    token: str

    @property
    def visitor(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Origin": ORIGIN}


@pytest.fixture(scope="module")
async def target(stonechat: Running) -> AsyncIterator[Target]:
    async with new_tenant(stonechat, "Bad input") as tenant:
        limits = await tenant.call("GET", "/limits")
        limits["visitor"]["messages_per_minute"] = 500
        await tenant.call("PUT", "/limits", json=limits)
        agent = await tenant.agent(model="scripted")
        key = await tenant.domain_key(agent, ORIGIN)
        yield Target(tenant, agent, key, (await tenant.session(key, ORIGIN))["token"])


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert problem["status"] == status
    assert problem["title"]
    assert "Traceback" not in answer.text


def altered(token: str, **claims: Any) -> str:
    """The token with other claims, and the old signature."""
    header, payload, signature = token.split(".")
    body = json.loads(base64.urlsafe_b64decode(payload + "==")) | claims
    forged = base64.urlsafe_b64encode(json.dumps(body).encode()).rstrip(b"=").decode()
    return f"{header}.{forged}.{signature}"


CHAT = [
    ("malformed JSON", b"{", JSON, 400, "malformed_body"),
    ("not an object", b"[]", JSON, 400, "malformed_body"),
    ("empty", b"", JSON, 400, "malformed_body"),
    ("not UTF-8", b'{"type": "\xff"}', JSON, 400, "malformed_body"),
    ("unknown type", b'{"type": "threads.explode", "params": {}}', JSON, 400, "malformed_body"),
    ("missing params", b'{"type": "threads.create"}', JSON, 400, "malformed_body"),
    ("deeply nested", b"[" * 100_000, JSON, 400, "malformed_body"),
    ("wrong content type", b"<xml/>", {"Content-Type": "text/xml"}, 415, "unsupported_media_type"),
    ("oversize", b'{"type": "' + b"x" * 1_200_000 + b'"}', JSON, 413, "payload_too_large"),
    (
        "a very long message",
        json.dumps(message("word " * 7_000)).encode(),
        JSON,
        422,
        "invalid_input",
    ),
    (
        "missing thread",
        json.dumps(message("Hello", "thr_missing")).encode(),
        JSON,
        404,
        "not_found",
    ),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), [case[1:] for case in CHAT], ids=[c[0] for c in CHAT])
async def test_chatkit(target: Target, body: bytes, headers: dict[str, str], status: int, code: str) -> None:
    url = f"{target.tenant.url}/chatkit"
    answer = await target.tenant.api.post(url, content=body, headers=target.visitor | headers)
    assert_problem(answer, status, code)


def tokens(target: Target) -> list[tuple[str, str]]:
    now = int(time.time())
    claims = jwt.decode(target.token, options={"verify_signature": False})
    return [
        ("garbage", "abc"),
        ("three parts of garbage", "a.b.c"),
        ("another tenant", altered(target.token, tenant="0190a5c6-0000-7000-8000-000000000000")),
        ("another user", altered(target.token, sub="usr_other")),
        ("later expiry", altered(target.token, exp=now + 100_000)),
        ("unsigned", jwt.encode(claims, None, algorithm="none")),
        ("own key", jwt.encode(claims, "k" * 40, algorithm="HS256", headers=jwt.get_unverified_header(target.token))),
        ("cut", target.token[:-2]),
        ("very long", "a" * 20_000 + ".b.c"),
    ]


async def test_session_tokens(target: Target) -> None:
    for name, token in tokens(target):
        answer = await target.tenant.api.post(
            f"{target.tenant.url}/chatkit",
            json=message("Hello"),
            headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN},
        )
        assert answer.status_code == 401, name
        assert_problem(answer, 401, "invalid_session")


async def test_another_origin_cannot_use_a_session(target: Target) -> None:
    answer = await target.tenant.api.post(
        f"{target.tenant.url}/chatkit",
        json=message("Hello"),
        headers=target.visitor | {"Origin": "https://evil.example"},
    )
    assert_problem(answer, 403, "origin_not_allowed")


SESSIONS: list[tuple[str, dict[str, Any], str, int, str]] = [
    ("unknown key", {"domain_key": "pk_unknown"}, ORIGIN, 404, "unknown_domain_key"),
    ("key of the wrong type", {"domain_key": 7}, ORIGIN, 422, "invalid_input"),
    ("no key", {}, ORIGIN, 422, "invalid_input"),
    ("other origin", {}, "https://evil.example", 403, "origin_not_allowed"),
    ("null origin", {}, "null", 403, "origin_not_allowed"),
    ("subdomain", {}, "https://www.bad.example", 403, "origin_not_allowed"),
    ("other scheme", {}, "http://bad.example", 403, "origin_not_allowed"),
    ("bad user token", {"user_token": "a.b.c"}, ORIGIN, 401, "invalid_user_token"),
]


@pytest.mark.parametrize(
    ("body", "origin", "status", "code"), [case[1:] for case in SESSIONS], ids=[c[0] for c in SESSIONS]
)
async def test_sessions(target: Target, body: dict[str, Any], origin: str, status: int, code: str) -> None:
    if status != 422 and "domain_key" not in body:
        body = body | {"domain_key": target.key}
    answer = await target.tenant.api.post(
        f"{target.tenant.url}/v1/sessions", json=body, headers={"Origin": origin, "Authorization": ""}
    )
    assert_problem(answer, status, code)


async def test_an_agent_that_was_never_published(target: Target) -> None:
    agent = await target.tenant.call("POST", "/agents", 201, json={"name": "Unborn", "model": "extractive"})
    key = await target.tenant.domain_key(agent["id"], ORIGIN)
    answer = await target.tenant.api.post(
        f"{target.tenant.url}/v1/sessions", json={"domain_key": key}, headers={"Origin": ORIGIN}
    )
    assert_problem(answer, 409, "agent_not_published")


MANAGEMENT: list[tuple[str, str, str, dict[str, Any], int, str]] = [
    ("malformed JSON", "POST", "/agents", {"content": b"{", "headers": JSON}, 400, "malformed_body"),
    ("no name", "POST", "/agents", {"json": {"model": "extractive"}}, 422, "invalid_input"),
    ("unknown field", "POST", "/agents", {"json": {"name": "A", "model": "extractive", "x": 1}}, 422, "invalid_input"),
    ("bad model", "POST", "/agents", {"json": {"name": "A", "model": "no such"}}, 422, "invalid_input"),
    ("NUL", "POST", "/agents", {"json": {"name": "A\0", "model": "extractive"}}, 422, "invalid_input"),
    ("bad cursor", "GET", "/agents?cursor=%00%ff", {}, 400, "invalid_cursor"),
    ("limit of zero", "GET", "/agents?limit=0", {}, 422, "invalid_input"),
    ("limit of 9999", "GET", "/agents?limit=9999", {}, 422, "invalid_input"),
    ("unknown agent", "GET", "/agents/agt_missing", {}, 404, "not_found"),
    ("unknown path", "GET", "/nothing", {}, 404, "not_found"),
    ("wrong method", "PUT", "/agents", {}, 405, "method_not_allowed"),
    ("bad limits", "PUT", "/limits", {"json": {"visitor": {"messages_per_minute": -1}}}, 422, "invalid_input"),
    ("empty query", "POST", "/knowledge/search", {"json": {"query": ""}}, 422, "invalid_input"),
    ("NUL", "POST", "/knowledge/search", {"json": {"query": "a", "agent_id": "\x00"}}, 422, "invalid_input"),
    (
        "NUL in a name",
        "POST",
        "/knowledge/sources",
        {"json": {"type": "text", "name": "a\x00", "text": "b"}},
        422,
        "invalid_input",
    ),
    ("NUL in a path", "GET", "/agents/%00", {}, 404, "not_found"),
    ("unknown document", "GET", "/knowledge/documents/doc_missing", {}, 404, "not_found"),
    ("unknown conversation", "GET", "/conversations/thr_missing", {}, 404, "not_found"),
    ("upload without a file", "POST", "/knowledge/documents", {"data": {"title": "x"}}, 422, "invalid_input"),
    ("JSON upload", "POST", "/knowledge/documents", {"json": {}}, 422, "invalid_input"),
    ("no key", "GET", "/agents", {"headers": {"Authorization": ""}}, 401, "invalid_api_key"),
    ("bad key", "GET", "/agents", {"headers": {"Authorization": "Bearer sk_wrong"}}, 401, "invalid_api_key"),
    ("wrong scheme", "GET", "/agents", {"headers": {"Authorization": "Basic YTpi"}}, 401, "invalid_api_key"),
]


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"), [case[1:] for case in MANAGEMENT], ids=[c[0] for c in MANAGEMENT]
)
async def test_management(
    target: Target, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(await target.tenant.api.request(method, path, **options), status, code)


@pytest.mark.parametrize("origin", ["*", "shop.example", "https://*", "https://a.example/path", "ftp://a.example", ""])
async def test_origins_that_are_no_origins(target: Target, origin: str) -> None:
    body = {"name": "Site", "environment": "production", "origins": [origin]}
    answer = await target.tenant.api.post(f"/agents/{target.agent}/domain-keys", json=body)
    assert_problem(answer, 422, "invalid_input")


def encrypted_pdf() -> bytes:
    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.encrypt("secret")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


FILES = [
    ("an encrypted PDF", "secret.pdf", encrypted_pdf, (422, "document_encrypted"), None),
    ("an empty file", "empty.txt", lambda: b"", (422, "document_empty"), None),
    ("a file of 50 MB", "big.txt", lambda: b"words " * 8_738_134, (413, "payload_too_large"), None),
    ("a zip that says it is a PDF", "not.pdf", zip_file, (415, "unsupported_media_type"), None),
    ("a cut PDF", "cut.pdf", lambda: b"%PDF-1.7\n1 0 obj\n<<", None, "document_unreadable"),
    ("binary as text", "noise.txt", lambda: bytes(range(256)) * 40, (415, "unsupported_media_type"), None),
    ("white space", "blank.md", lambda: b" \n\t\n " * 100, (422, "document_empty"), None),
]


@pytest.mark.parametrize(("name", "make", "refused", "failed"), [case[1:] for case in FILES], ids=[c[0] for c in FILES])
async def test_files(target: Target, name: str, make: Any, refused: tuple[int, str] | None, failed: str | None) -> None:
    """Refused at once with a problem, or accepted and marked failed with a code and a sentence."""
    content = make()
    if refused is not None:
        answer = await target.tenant.api.post("/knowledge/documents", files={"file": (name, content)})
        assert_problem(answer, *refused)
        return
    document = await target.tenant.document(name, content)
    assert document["status"] == "failed"
    assert document["error_code"] == failed
    assert document["error"]
