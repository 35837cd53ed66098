"""Who works in the operators' room, which lies beside the console: what each of its views is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.api.dependencies import AppServices, Services
from stonechat.operator.operators import Operator
from stonechat.operator.sign_in import OperatorSession, find_session
from stonechat_admin import render
from stonechat_admin.auth import client_key
from stonechat_admin.cookies import OPERATOR, read_cookie
from stonechat_admin.csrf import check_origin, check_token
from stonechat_admin.render import ToastKind


@dataclass(frozen=True)
class Desk:
    """An operator at work. `session` is one transaction over all tenants, which writes the platform's own tables only."""

    request: Request
    services: Services
    session: AsyncSession
    signed_in: OperatorSession

    @property
    def operator(self) -> Operator:
        return self.signed_in.operator

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks for a fragment."""
        return render.is_partial(self.request)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A whole page in the frame of this room."""
        return render.page(self.request, template, status=status, **values)

    def fragment(
        self,
        template: str | None = None,
        *,
        status: int = 200,
        toast: str | None = None,
        kind: ToastKind = "success",
        close: bool = False,
        show: str | None = None,
        **values: Any,
    ) -> Response:
        """A part of the page, for htmx."""
        return render.fragment(
            self.request, template, status=status, toast=toast, kind=kind, close=close, show=show, **values
        )

    def go(self, url: str, *, toast: str | None = None) -> Response:
        """On to another page; the toast is shown there."""
        return render.go(self.request, url, toast=toast)


async def proven(request: Request, services: AppServices) -> OperatorSession:
    """The operator who sends this. Raises `OperatorSignInNeeded`, or `ForgedRequest` for a form of another site."""
    check_origin(request, services.platform_origins)
    held = await find_session(services.database, read_cookie(request, OPERATOR), address=client_key(request))
    await check_token(request, held.csrf)
    return held


Proven = Annotated[OperatorSession, Depends(proven)]


async def desk(request: Request, services: AppServices, held: Proven) -> AsyncIterator[Desk]:
    """The dependency of every page of this room."""
    async with services.database.platform() as session:
        at_work = Desk(request, services, session, held)
        request.state.desk = at_work
        yield at_work


AtDesk = Annotated[Desk, Depends(desk, scope="function")]
