"""The console's cookies. With https their names begin with `__Host-`, so that no neighbouring site can set them."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

SESSION = "stonechat"
OPERATOR = "stonechat_operator"
FLASH = "stonechat_flash"
THEME = "stonechat_theme"
"""`light` or `dark`, set by the page's script; no secret, and read as it is."""


def session_token(connection: HTTPConnection) -> str | None:
    """The secret of the console session, if the browser sent one."""
    return connection.cookies.get(_name(connection, SESSION))


def set_session(connection: HTTPConnection, response: Response, token: str) -> None:
    """Sign the browser in; the server decides how long it lasts."""
    set_cookie(connection, response, SESSION, token, max_age=30 * 86400)


def clear_session(connection: HTTPConnection, response: Response) -> None:
    clear_cookie(connection, response, SESSION)


def read_cookie(connection: HTTPConnection, name: str) -> str | None:
    return connection.cookies.get(_name(connection, name))


def set_cookie(connection: HTTPConnection, response: Response, name: str, value: str, *, max_age: int) -> None:
    """A cookie that scripts cannot read and other sites' requests do not carry."""
    response.set_cookie(
        _name(connection, name),
        value,
        max_age=max_age,
        path="/",
        secure=_is_https(connection),
        httponly=True,
        samesite="lax",
    )


def clear_cookie(connection: HTTPConnection, response: Response, name: str) -> None:
    response.delete_cookie(
        _name(connection, name), path="/", secure=_is_https(connection), httponly=True, samesite="lax"
    )


def _name(connection: HTTPConnection, name: str) -> str:
    return f"__Host-{name}" if _is_https(connection) else name


def _is_https(connection: HTTPConnection) -> bool:
    return str(connection.app.state.settings.public_url).startswith("https://")
