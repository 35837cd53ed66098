"""What every web room needs and none owns: problems, middlewares, client addresses, pages of lists."""

from stonechat.web.addresses import ClientAddress, client_address
from stonechat.web.middleware import BodyLimit, DefaultHeaders, install_middlewares
from stonechat.web.moments import Moment
from stonechat.web.paging import MAX_PAGE, Cursor, Limit, Page, cut_page, decode_cursor, encode_cursor
from stonechat.web.problems import (
    PROBLEM_JSON,
    UnexpectedErrors,
    database_problem,
    install_problem_handlers,
    problem_response,
)

__all__ = [
    "MAX_PAGE",
    "PROBLEM_JSON",
    "BodyLimit",
    "ClientAddress",
    "Cursor",
    "DefaultHeaders",
    "Limit",
    "Moment",
    "Page",
    "UnexpectedErrors",
    "client_address",
    "cut_page",
    "database_problem",
    "decode_cursor",
    "encode_cursor",
    "install_middlewares",
    "install_problem_handlers",
    "problem_response",
]
