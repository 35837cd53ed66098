"""The console in process: people of every role, their browsers, their mail; every answer's policy and queries checked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from selectolax.lexbor import LexborHTMLParser, LexborNode
from sqlalchemy import event

from stonechat.accounts import resets, sessions
from stonechat.accounts.actor import Actor, system
from stonechat.accounts.memberships import SCOPE_OF_ROLE, add_member
from stonechat.accounts.models import Role
from stonechat.accounts.people import find_or_create_person
from stonechat.accounts.sessions import open_session
from stonechat.accounts.tenants import create_tenant
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.limits.addresses import reset_addresses
from stonechat.mail import job_handlers
from stonechat.mail.transports import KeptMail, folder_of
from stonechat.settings import Settings
from stonechat_admin.render import POLICY
from support.identity import PLATFORM, PLATFORM_KEY
from support.jobs import running, until

ROLES: tuple[Role, ...] = ("viewer", "editor", "admin", "owner")
MAX_QUERIES = 10
MAX_OPERATOR_QUERIES = 12
COOKIE = "__Host-stonechat"
_COUNTED: ContextVar[list[str] | None] = ContextVar("counted", default=None)
"""Where the statements of this request go. What an earlier one left running in the background is not this one's."""


class Answer:
    """A response, and its HTML."""

    def __init__(self, response: httpx.Response, queries: list[str]) -> None:
        self.response, self.queries = response, queries
        self.html = LexborHTMLParser(response.text)

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def text(self) -> str:
        """What a person reads, spaces collapsed."""
        body = self.html.body
        return " ".join(body.text(separator=" ").split()) if body else ""

    @property
    def told(self) -> dict[str, Any]:
        """What the page's script is told: `toast`, `close`, `show`, `keep`."""
        told: dict[str, Any] = json.loads(self.response.headers.get("console", "{}"))
        return told

    @property
    def toast(self) -> str:
        return str(self.told.get("toast", {}).get("text", ""))

    def one(self, selector: str) -> LexborNode:
        """The only element that the selector finds."""
        found = self.html.css(selector)
        assert len(found) == 1, f"{selector}: {len(found)} found in {self.response.text[:2000]}"
        return found[0]

    def all(self, selector: str) -> list[LexborNode]:
        return self.html.css(selector)


class Browser:
    """A client that behaves as a browser on the console's pages does."""

    def __init__(
        self, world: ConsoleWorld, *, address: str = "198.51.100.20", person_id: str = "", email: str = ""
    ) -> None:
        self.world, self.person_id, self.email = world, person_id, email
        transport = httpx.ASGITransport(app=world.app, client=(address, 4711))
        self.http = httpx.AsyncClient(transport=transport, base_url=PLATFORM)
        self.token = ""

    async def request(self, method: str, path: str, *, partial: bool = False, **options: Any) -> Answer:
        """One request, redirects not followed. Checks the policy, and the number of queries of pages and fragments."""
        headers: dict[str, str] = {"Sec-Fetch-Site": "same-origin"}
        if method != "GET":
            headers["Origin"] = PLATFORM
        if partial:
            headers |= {"HX-Request": "true", "HX-Request-Type": "partial", "X-CSRF-Token": self.token}
            headers["HX-Current-URL"] = PLATFORM + path
        headers |= options.pop("headers", {})
        with self.world.counted() as queries:
            response = await self.http.request(method, path, headers=headers, **options)
        answer = Answer(response, queries)
        if "text/html" in response.headers.get("content-type", "") and path.startswith(
            ("/console", "/setup", "/operator")
        ):
            check_policy(answer)
        if method == "GET":
            most = MAX_OPERATOR_QUERIES if path.startswith("/operator") else MAX_QUERIES
            assert len(queries) <= most, f"{path} asks {len(queries)} queries:\n" + "\n".join(queries)
        token = answer.html.css_first('meta[name="csrf-token"]')
        if token is not None:
            self.token = token.attributes["content"] or ""
        return answer

    async def page(self, path: str, *, status: int = 200, **options: Any) -> Answer:
        """A page, as a browser opens it."""
        answer = await self.request("GET", path, **options)
        assert answer.status == status, f"{path}: {answer.status} {answer.text[:500]}"
        return answer

    async def htmx(
        self, method: str, path: str, data: Mapping[str, Any] | None = None, *, status: int = 200, **options: Any
    ) -> Answer:
        """A request of htmx's, with this session's token."""
        if not self.token:
            await self.page("/console/tenants")
        answer = await self.request(method, path, partial=True, data=data, **options)
        assert answer.status == status, f"{method} {path}: {answer.status} {answer.toast or answer.text[:500]}"
        return answer

    async def submit(self, path: str, data: Mapping[str, Any], *, status: int = 303, **options: Any) -> Answer:
        """A plain form, with this session's token; returns the answer itself, not where it leads."""
        if not self.token and COOKIE in self.http.cookies:
            await self.page("/console/tenants")
        answer = await self.request("POST", path, data={"csrf": self.token, **data}, **options)
        assert answer.status == status, f"POST {path}: {answer.status} {answer.text[:500]}"
        return answer


def check_policy(answer: Answer) -> None:
    """The policy is the strict one, and nothing in the page needs a weaker one."""
    assert answer.response.headers["content-security-policy"] == POLICY
    assert answer.response.headers["cache-control"] == "no-store"
    assert answer.all("style, [style], [hx-on], [onclick], [onsubmit], [onchange]") == []
    for script in answer.all("script"):
        assert (script.attributes.get("src") or "").startswith("/"), script.html


@dataclass
class ConsoleWorld:
    """An application with one tenant to work in."""

    app: FastAPI
    tenant_id: UUID
    _browsers: list[Browser] = field(default_factory=list)

    @property
    def services(self) -> Services:
        services = self.app.state.services
        assert isinstance(services, Services)
        return services

    @property
    def actor(self) -> Actor:
        """The system, in this world's tenant: to arrange what a test needs."""
        return system(self.tenant_id)

    def stranger(self, **options: Any) -> Browser:
        """A browser that is not signed in."""
        browser = Browser(self, **options)
        self._browsers.append(browser)
        return browser

    async def signed_in(self, role: Role = "owner", *, tenant_id: UUID | None = None) -> Browser:
        """The browser of a new person with this role, signed in."""
        tenant_id = tenant_id or self.tenant_id
        email = f"{role}-{uuid4().hex[:10]}@example.com"
        async with self.services.database.tenant(tenant_id) as session:
            member = await add_member(session, system(tenant_id), email=email, role=role, name=f"{role.title()} Person")
        browser = self.stranger(person_id=member.id, email=email)
        await self.sign_in(browser, member.id)
        return browser

    async def sign_in(self, browser: Browser, person_id: str) -> None:
        """Give the browser a session without a password, and what any page of it would say its forms are to send."""
        token = await open_session(self.services.database, person_id, address="198.51.100.20")
        browser.http.cookies.set(COOKIE, token, domain=httpx.URL(PLATFORM).host, path="/")
        browser.token = sessions._csrf(token)

    def actor_of(self, browser: Browser, role: Role) -> Actor:
        return Actor(self.tenant_id, "person", browser.person_id, frozenset({SCOPE_OF_ROLE[role]}))

    async def another_tenant(self, name: str = "Another company") -> UUID:
        made = await create_tenant(
            self.services.database, name=name, owner_email=f"owner-{uuid4().hex[:10]}@example.com"
        )
        return made.tenant_id

    async def person(self) -> tuple[str, str]:
        """A new person who belongs nowhere: id and address."""
        async with self.services.database.directory() as session:
            person, _ = await find_or_create_person(session, email=f"p-{uuid4().hex[:10]}@example.com")
        return person.person_id, person.email

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The statements that the application sends meanwhile."""
        statements: list[str] = []
        token = _COUNTED.set(statements)
        try:
            yield statements
        finally:
            _COUNTED.reset(token)

    async def mail_to(self, email: str) -> KeptMail:
        """The newest mail to this address, once the worker has sent it."""
        settings, folder = self.services.settings, folder_of(self.services.settings)
        url = settings.direct_database_url
        assert url is not None
        handlers = job_handlers(folder) | resets.job_handlers(self.services.database, public_url=PLATFORM)

        async def found() -> KeptMail | None:
            return next((mail for mail in await folder.list_mails() if mail.to == email), None)

        async with running(url, handlers):
            mail = await until(found)
        assert isinstance(mail, KeptMail)
        return mail


@asynccontextmanager
async def console_world(database_url: str, folder: Path, **settings: Any) -> AsyncIterator[ConsoleWorld]:
    """The whole application, its services open, with a tenant of its own. `settings` are fields of `Settings`."""
    reset_addresses()
    chosen = Settings(
        **{
            "database_url": database_url,
            "secret_keys": (PLATFORM_KEY,),
            "configured_public_url": PLATFORM,
            "data_dir": folder,
            "database_pool_size": 4,
            "configured_ip_requests_per_minute": 100_000,  # a room's tests all come from one address
        }
        | settings
    )
    app = create_app(chosen)
    async with app.router.lifespan_context(app):
        services: Services = app.state.services
        made = await create_tenant(
            services.database, name="Alder & Loom", owner_email=f"owner-{uuid4().hex[:10]}@example.com"
        )
        world = ConsoleWorld(app, made.tenant_id)

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if (statements := _COUNTED.get()) is not None:
                statements.append(statement)

        engines = [services.database.engine.sync_engine, services.database.platform_engine.sync_engine]
        for engine in engines:
            event.listen(engine, "before_cursor_execute", note)
        try:
            yield world
        finally:
            for browser in world._browsers:
                await browser.http.aclose()
            for engine in engines:
                event.remove(engine, "before_cursor_execute", note)
