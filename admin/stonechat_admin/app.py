"""The console, put into the web application."""

from __future__ import annotations

import importlib
import pkgutil

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from stonechat.limits.addresses import limit_address
from stonechat.settings import Settings
from stonechat_admin import assets, views
from stonechat_admin.auth import Elsewhere
from stonechat_admin.problems import ConsoleProblems
from stonechat_admin.render import go


def install_console(app: FastAPI, settings: Settings) -> None:
    """Add every view of `views/`, the assets, and errors as pages. Call it after the house's own middlewares."""
    console = APIRouter(include_in_schema=False, dependencies=[Depends(limit_address)])
    for module in sorted(pkgutil.iter_modules(views.__path__), key=lambda found: found.name):
        if module.name != "dev_mail" or not settings.is_production:
            console.include_router(importlib.import_module(f"{views.__name__}.{module.name}").router)
    app.include_router(console)
    app.include_router(assets.router)
    app.add_exception_handler(Elsewhere, _elsewhere)
    app.add_middleware(ConsoleProblems)


async def _elsewhere(request: Request, error: Exception) -> Response:
    assert isinstance(error, Elsewhere)  # noqa: S101
    return go(request, error.url)
