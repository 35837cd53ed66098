"""How whoever is at work in a room answers a request: with a page, a part of one, or the way to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from stonechat.api.dependencies import Services
from stonechat_admin import render
from stonechat_admin.render import ToastKind


@dataclass(frozen=True)
class Answering:
    """What the console and the operators' room have in common."""

    request: Request
    services: Services

    @property
    def is_partial(self) -> bool:
        """Whether htmx asks for a fragment."""
        return render.is_partial(self.request)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A whole page in the frame of the room."""
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
        """A part of the page, for htmx; `toast` says what happened, `close` shuts the open dialog, `show` opens one."""
        return render.fragment(
            self.request, template, status=status, toast=toast, kind=kind, close=close, show=show, **values
        )

    def go(self, url: str, *, toast: str | None = None) -> Response:
        """On to another page; the toast is shown there."""
        return render.go(self.request, url, toast=toast)
