"""The certificates that everybody trusts, read once a process: it takes 40 ms for each client that speaks TLS or might."""

from __future__ import annotations

import functools
import ssl
from types import ModuleType
from typing import Any

import httpcore2
import httpx._transports.default
import httpx2._transports.default


def read_trust_once() -> None:
    """From now on, clients that trust whom everybody trusts share what they verify others with. They do not change it."""
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
    for module in (httpx._transports.default, httpx2._transports.default):
        _share(module)


def _share(module: ModuleType) -> None:
    make = module.create_ssl_context
    shared = functools.cache(make)

    def create_ssl_context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is True and cert is None:
            context: ssl.SSLContext = shared(trust_env=trust_env)
            return context
        made: ssl.SSLContext = make(verify=verify, cert=cert, trust_env=trust_env)
        return made

    module.create_ssl_context = create_ssl_context  # type: ignore[attr-defined]
