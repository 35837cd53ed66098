"""The web application: what is opened, in what order, and which routes answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stonechat import __version__, metrics
from stonechat.accounts.suspension import Suspensions
from stonechat.api import (
    agents,
    api_keys,
    audit_log,
    chatkit,
    cited,
    config,
    conversations,
    domain_keys,
    embed,
    health,
    identity_keys,
    invoices,
    knowledge,
    limits,
    me,
    members,
    model_providers,
    plan,
    secrets,
    sessions,
    stripe_webhooks,
    traces,
    unanswered,
    uploads,
    usage,
    users,
    webhook_endpoints,
)
from stonechat.api.chatkit_body import MAX_DICTATION_BODY
from stonechat.api.cors import VisitorCors
from stonechat.api.dependencies import Services
from stonechat.api.openapi import complete_openapi
from stonechat.assistant.agent import Assistant
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.documents import TenantDocuments
from stonechat.assistant.summaries import ThreadMemory
from stonechat.assistant.titles import TitleModel
from stonechat.assistant.tools.context import ToolAccess
from stonechat.assistant.trace import TurnTrace
from stonechat.assistant.trace_export import telemetry_spans
from stonechat.assistant.unanswered import UnansweredQuestions
from stonechat.assistant.visitor_tools import VisitorTools
from stonechat.billing.service import BillingService
from stonechat.chat.attached_files import AttachedFiles
from stonechat.chat.dictation import Dictation
from stonechat.chat.hub import RunHub
from stonechat.chat.links import FileLinks
from stonechat.chat.sweeper import sweep_crashed_runs
from stonechat.chat.turns import ChatServer
from stonechat.chat.uploading import MAX_UPLOAD_BYTES
from stonechat.configuration.texts import MAX_BYTES as MAX_CONFIGURATION_BYTES
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.demo.pages import demo_router
from stonechat.embed.assets import load_assets
from stonechat.embed.installs import Installs
from stonechat.embed.stock import StockTroubles
from stonechat.identity.lookup import SiteKeys
from stonechat.identity.origins import platform_origins
from stonechat.identity.tokens import SessionTokens
from stonechat.knowledge.deps import open_knowledge
from stonechat.knowledge.related import related
from stonechat.knowledge.service import MAX_DOCUMENT_BYTES
from stonechat.limits.limiter import Limiter
from stonechat.limits.rules import RulesCache
from stonechat.operator.bulletin import Bulletin
from stonechat.operator.flags import FeatureFlags
from stonechat.outbound.client import OutboundClient
from stonechat.providers.provider import ModelProviders
from stonechat.scraping import answering_metrics
from stonechat.settings import Settings
from stonechat.telemetry import OtlpExporter
from stonechat.web import install_middlewares, install_problem_handlers
from stonechat.worker import running_worker
from stonechat_admin.app import install_console

MULTIPART_OVERHEAD = 64 * 1024
_BODY_LIMITS = {
    "/api/v1/knowledge/documents": MAX_DOCUMENT_BYTES + MULTIPART_OVERHEAD,
    "/console/knowledge/documents": MAX_DOCUMENT_BYTES + MULTIPART_OVERHEAD,
    "/v1/uploads/": MAX_UPLOAD_BYTES,
    "/chatkit": MAX_DICTATION_BODY,
    "/api/v1/config": MAX_CONFIGURATION_BYTES,
}
DESCRIPTION = "AI chat for other people's web sites. Errors are RFC 9457 problems; see docs/errors.md."


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything a web process holds, closed in reverse. Nothing connects before it is used."""
    assert settings.database_url is not None, "local_services() or the environment provides it"  # noqa: S101
    keyring = Keyring([key.get_secret_value() for key in settings.secret_keys])
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url, pool_size=settings.database_pool_size)
        stack.push_async_callback(database.close)
        knowledge_room = open_knowledge(settings, database)
        stack.push_async_callback(knowledge_room.close)
        outbound = OutboundClient(allowed_networks=settings.outbound_networks)
        stack.push_async_callback(outbound.aclose)
        # A model server on a network of the operator's own rarely has a certificate.
        http_client = partial(outbound.httpx_client, allow_http=bool(settings.outbound_networks))
        providers = ModelProviders(database, keyring=keyring, settings=settings, http_client=http_client)
        stack.push_async_callback(providers.aclose)
        billing = BillingService(settings, database)
        stack.push_async_callback(billing.aclose)
        limiter = Limiter(settings, rules=RulesCache(database))
        stack.push_async_callback(limiter.close)
        hub = RunHub(database, on_trace=await stack.enter_async_context(exporting_traces(settings)))
        stack.push_async_callback(hub.close)
        configs = ConfigCache()
        documents = TenantDocuments(knowledge_room)
        unanswered_questions = UnansweredQuestions(database)
        access = ToolAccess(database, keyring, outbound, allow_http=bool(settings.outbound_networks))
        assistant = Assistant(
            knowledge=documents,
            providers=providers,
            settings=settings,
            access=access,
            memory=ThreadMemory(database, providers),
            attached=AttachedFiles(database, knowledge_room.files),
            unanswered=unanswered_questions,
        )
        yield Services(
            settings=settings,
            database=database,
            keyring=keyring,
            session_tokens=SessionTokens(keyring, issuer=settings.public_url),
            site_keys=SiteKeys(database),
            suspensions=Suspensions(database),
            bulletin=Bulletin(database),
            flags=FeatureFlags(database),
            billing=billing,
            limiter=limiter,
            knowledge=knowledge_room,
            outbound=outbound,
            configs=configs,
            chat=ChatServer(
                hub,
                assistant,
                tools=VisitorTools(documents, access),
                titles=TitleModel(database, providers),
                dictation=Dictation(database, providers),
                unanswered=unanswered_questions,
                configs=configs,
                files=knowledge_room.files,
                links=FileLinks(keyring, public_url=settings.public_url),
            ),
            assets=load_assets(),
            installs=Installs(database),
            stock_troubles=StockTroubles(database),
            platform_origins=platform_origins(settings),
        )


@asynccontextmanager
async def exporting_traces(settings: Settings) -> AsyncIterator[Callable[[TurnTrace], None] | None]:
    """Tells the operator's collector of every turn, if there is one."""
    if settings.otlp_endpoint is None:
        yield None
        return
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers is not None else ""
    exporter = OtlpExporter(settings.otlp_endpoint, headers=headers, version=__version__)
    try:
        yield lambda trace: exporter.export(telemetry_spans(trace))
    finally:
        await exporter.aclose()


class Application(FastAPI):
    """FastAPI, but for the one address that visitors' messages go to, which does without most of it."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self.state.settings = settings
        self._chat = chatkit.chat_app(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        began, is_chat = perf_counter(), scope["path"] == "/chatkit" and scope["method"] == "POST"
        # What the middlewares note of the response is read from here: another one around it would cost each event its time.
        state = scope.setdefault("state", {})
        try:
            if is_chat:
                scope["app"] = self
                await self._chat(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            status = metrics.status_class(state.get("status"))
            if is_chat:
                metrics.CHAT_REQUESTS[status].value += 1
                metrics.CHAT_SECONDS.note(perf_counter() - began)
            else:
                route = self._template(scope)
                metrics.REQUESTS.of(route, scope["method"], status).value += 1
                metrics.REQUEST_SECONDS.of(route).note(perf_counter() - began)

    def _template(self, scope: Scope) -> str:
        """The route's path as it stands in the code; never the one that was asked for."""
        # The framework says which of its own routes it chose, with prefixes there and without them here, and of others only
        # what they lead to.
        route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
        path = getattr(route, "path_format", None) or self._plain_paths.get(id(scope.get("endpoint")))
        return path if isinstance(path, str) else metrics.UNMATCHED

    @cached_property
    def _plain_paths(self) -> dict[int, str]:
        return {id(route.endpoint): route.path for route in self.router.routes if isinstance(route, Route)}


def create_app(
    settings: Settings, *, with_worker: bool = False, metrics_port: socket.socket | None = None
) -> Application:
    """The application. Opens nothing until its lifespan begins; then `app.state.services` is there.

    `with_worker` does the background work in this process, too; on `metrics_port` it tells what it counted.
    `app.state.drain()` ends what streams.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_services(settings) as services,
            answering_metrics(metrics_port, database=services.database, works=with_worker),
        ):
            app.state.services = services
            # The first visitor should not wait for what is read once.
            await asyncio.to_thread(related, "hello")
            # What a crash left behind is closed at once; the worker looks again every few seconds.
            await sweep_crashed_runs(services.database)
            if not with_worker:
                yield
                return
            async with running_worker(settings, services.database, services.knowledge):
                yield

    app = Application(
        settings,
        title="Stonechat",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=_operation_id,
    )
    app.state.demo_keys = {}

    async def drain() -> None:
        services: Services | None = getattr(app.state, "services", None)
        if services is not None:
            await services.chat.hub.close()

    app.state.drain = drain
    install_problem_handlers(app)
    app.add_middleware(VisitorCors)
    install_middlewares(app, settings, body_limits=_BODY_LIMITS)
    _add_routes(app, settings)
    complete_openapi(app)
    return app


def _add_routes(app: FastAPI, settings: Settings) -> None:
    app.router.routes.extend([*chatkit.routes(), *cited.routes()])  # first, because they are asked for most
    app.include_router(health.router)
    for router in (
        embed.assets_router,
        embed.router,
        sessions.router,
        uploads.router,
        me.router,
        stripe_webhooks.router,
    ):
        app.include_router(router)
    management = APIRouter(prefix="/api/v1")
    for room in (
        agents,
        domain_keys,
        knowledge,
        conversations,
        identity_keys,
        limits,
        api_keys,
        model_providers,
        secrets,
        traces,
        usage,
        plan,
        invoices,
        webhook_endpoints,
        users,
        members,
        audit_log,
        config,
    ):
        management.include_router(room.router)
    management.include_router(unanswered.router)
    management.include_router(unanswered.ask_router)
    management.include_router(sessions.preview_router)
    app.include_router(management)
    install_console(app, settings)
    if not settings.is_production:
        app.include_router(demo_router(app.state.demo_keys))


def _operation_id(route: APIRoute) -> str:
    return route.name
