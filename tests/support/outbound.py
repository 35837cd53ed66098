"""The guarded client on loopback, and doubles for the network: a resolver that answers from a table, and a backend that
connects to nothing."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import httpcore2

from stonechat.outbound.client import OutboundClient
from support.loopback import Received

# Loading the system's certificates takes longer than everything else in these tests, so it happens once.
TLS = ssl.create_default_context()
LOOPBACK = [ip_network("127.0.0.0/8")]
PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
SECRETS = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "a=s3cret", "Webhook-Signature": "s3cret"}


class TableResolver:
    """Resolves from a table; the last of several answers is repeated. Counts how often it was asked."""

    def __init__(self, table: Mapping[str, Sequence[str] | list[Sequence[str]]]) -> None:
        self._table = {host: [list(a) for a in answers] if isinstance(answers[0], list | tuple) else [list(answers)]
                       for host, answers in table.items()}  # fmt: skip
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answers = self._table.get(host)
        if answers is None:
            raise OSError("no such host")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class CannedBackend(httpcore2.AsyncMockBackend):
    """Answers every connection with the same bytes, and remembers where connections were asked to go."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        super().__init__([answer])
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        return await super().connect_tcp(host, port, *args, **kwargs)


def client_for(resolver: TableResolver | None = None, *, ssl_context: ssl.SSLContext = TLS) -> OutboundClient:
    resolver = resolver or TableResolver({"one.test": ["127.0.0.1"], "two.test": ["127.0.0.1"]})
    return OutboundClient(resolver=resolver, allowed_networks=LOOPBACK, ssl_context=ssl_context)


async def get(url: str, **options: Any) -> Any:
    client = client_for()
    try:
        return await client.request("GET", url, allow_http=True, **options)
    finally:
        await client.aclose()


async def write_for_ever(_request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()
