"""Who works in the operators' room, which lies beside the console: what each of its views is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.api.dependencies import AppServices
from stonechat.errors import InvalidInput
from stonechat.operator.operators import Operator
from stonechat.operator.sign_in import OperatorSession, find_session
from stonechat_admin.answering import Answering
from stonechat_admin.auth import client_key
from stonechat_admin.cookies import OPERATOR, read_cookie
from stonechat_admin.csrf import check_origin, check_token
from stonechat_admin.forms import refused


@dataclass(frozen=True)
class Desk(Answering):
    """An operator at work. `session` is one transaction over all tenants, which writes the platform's own tables only."""

    session: AsyncSession
    signed_in: OperatorSession

    @property
    def operator(self) -> Operator:
        return self.signed_in.operator

    async def take(
        self,
        deed: Awaitable[object],
        *,
        form: str,
        typed: Mapping[str, Any],
        back: str,
        toast: str,
        about: str = "reason",
        **values: Any,
    ) -> Response:
        """Do what a form asks for, and go `back`; where something does not fit, the template `form` once more, saying so."""
        try:
            await deed
        except InvalidInput as error:
            return self.fragment(form, status=422, form=refused(error, typed, about=about), **values)
        return self.go(back, toast=toast)


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
