"""Where requests must never go, each tried through every door of the real client: nothing may connect."""

from contextlib import suppress
from ipaddress import ip_network

import httpx2
import pytest

from stonechat.errors import TargetNotAllowed
from stonechat.outbound.client import OutboundClient
from support.forbidden import FORBIDDEN_ADDRESSES, FORBIDDEN_URLS
from support.outbound import PUBLIC, PUBLIC_V6, TLS, CannedBackend, TableResolver

PUBLIC_NAMES = ("shop.example", "xn--a.example", "kelvin.example", "fi.example")


def as_host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def guarded(address: str | None = None) -> tuple[OutboundClient, CannedBackend]:
    """A client for which every name resolves: the shop's to `address`, or else to a public one."""
    table = {name: [PUBLIC if address is None else address] for name in PUBLIC_NAMES}
    table |= {name: [PUBLIC] for name in ("localhost", "redis", "metadata.google.internal", "localhost.localdomain")}
    backend = CannedBackend()
    return OutboundClient(ssl_context=TLS, resolver=TableResolver(table), backend=backend), backend


async def assert_refused(client: OutboundClient, backend: CannedBackend, url: str) -> None:
    with pytest.raises(TargetNotAllowed) as refused:
        await client.request("GET", url, allow_http=True)
    assert refused.value.detail
    assert refused.value.detail.endswith(".")
    with pytest.raises(TargetNotAllowed):
        await client.check(url, allow_http=True)
    with pytest.raises(TargetNotAllowed):
        async with client.stream("POST", url, json={}, allow_http=True, follow_redirects=3):
            pass
    with pytest.raises(TargetNotAllowed):
        async with client.httpx_client(url, allow_http=True) as sdk:
            await sdk.get("")
    assert backend.connected == []
    async with client.httpx_client("https://shop.example") as sdk:
        with suppress(TargetNotAllowed, httpx2.HTTPError, httpx2.InvalidURL):
            await sdk.get(url)  # a relative one is of the shop itself, and may well be answered
    assert set(backend.connected) <= {(PUBLIC, 443)}


def test_the_tables_hold_at_least_150_targets_each_once() -> None:
    assert len(FORBIDDEN_URLS) + len(FORBIDDEN_ADDRESSES) >= 150
    assert len(set(FORBIDDEN_URLS)) == len(FORBIDDEN_URLS)
    assert len(set(FORBIDDEN_ADDRESSES)) == len(FORBIDDEN_ADDRESSES)


async def test_the_doubles_would_let_a_good_request_through() -> None:
    """Without this, a client that refuses everything would pass."""
    for url in (
        "http://shop.example/",
        "https://shop.example:8443/a?b#c",
        f"https://{PUBLIC}/",
        f"https://[{PUBLIC_V6}]/",
    ):
        client, backend = guarded()
        assert (await client.request("GET", url, allow_http=True)).content == b"ok"
        assert len(backend.connected) == 1


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
async def test_forbidden_addresses_are_refused_as_they_are(address: str) -> None:
    client, backend = guarded()
    await assert_refused(client, backend, f"http://{as_host(address)}/latest/meta-data/")


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
async def test_names_of_forbidden_addresses_are_refused(address: str) -> None:
    client, backend = guarded(address)
    await assert_refused(client, backend, "http://shop.example/")


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
async def test_one_forbidden_address_among_public_ones_refuses_them_all(address: str) -> None:
    backend = CannedBackend()
    resolver = TableResolver({"shop.example": [PUBLIC, PUBLIC_V6, address]})
    await assert_refused(
        OutboundClient(ssl_context=TLS, resolver=resolver, backend=backend), backend, "https://shop.example/"
    )


@pytest.mark.parametrize("url", [pytest.param(url, id=ascii(url)[:60]) for url in FORBIDDEN_URLS])
async def test_forbidden_urls_are_refused(url: str) -> None:
    client, backend = guarded()
    await assert_refused(client, backend, url)


@pytest.mark.parametrize(
    "location",
    [f"http://{as_host(address)}/" for address in FORBIDDEN_ADDRESSES]
    + [
        url
        for url in FORBIDDEN_URLS
        if "://" in url and url.strip() == url and not url.startswith("://") and url.isascii() and url.isprintable()
    ],
)
async def test_redirects_to_forbidden_targets_are_not_followed(location: str) -> None:
    answer = f"HTTP/1.1 302 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    backend = CannedBackend(answer.encode())
    client = OutboundClient(
        ssl_context=TLS, resolver=TableResolver({"start.example": [PUBLIC], "shop.example": [PUBLIC]}), backend=backend
    )
    with pytest.raises(TargetNotAllowed):
        await client.request("GET", "http://start.example/", allow_http=True, follow_redirects=5)
    assert backend.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize("answer", ["fe80::1%eth0", "2606:2800::1%eth0", "not an address", "127.1", "0x7f000001", ""])
async def test_a_resolver_that_answers_oddly_is_not_believed(answer: str) -> None:
    client, backend = guarded(answer)
    await assert_refused(client, backend, "https://shop.example/")


async def test_a_name_that_is_rebound_to_a_private_address_is_refused_from_then_on() -> None:
    backend = CannedBackend(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    resolver = TableResolver({"rebind.example": [[PUBLIC], ["127.0.0.1"]]})
    client = OutboundClient(ssl_context=TLS, resolver=resolver, backend=backend)
    assert (await client.request("GET", "https://rebind.example/")).content == b"ok"
    # One look-up a connection: what was checked is what was connected to.
    assert resolver.asked == ["rebind.example"]
    assert backend.connected == [(PUBLIC, 443)]
    with pytest.raises(TargetNotAllowed):
        await client.request("GET", "https://rebind.example/")
    assert backend.connected == [(PUBLIC, 443)]


async def test_a_redirect_to_the_same_name_is_looked_up_and_checked_again() -> None:
    backend = CannedBackend(b"HTTP/1.1 302 Go\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    resolver = TableResolver({"rebind.example": [[PUBLIC], ["169.254.169.254"]]})
    with pytest.raises(TargetNotAllowed):
        await OutboundClient(ssl_context=TLS, resolver=resolver, backend=backend).request(
            "GET", "https://rebind.example/", follow_redirects=2
        )
    assert backend.connected == [(PUBLIC, 443)]


async def test_plain_http_is_refused_unless_asked_for() -> None:
    client, backend = guarded()
    with pytest.raises(TargetNotAllowed):
        await client.request("GET", "http://shop.example/")
    with pytest.raises(TargetNotAllowed):
        client.httpx_client("http://shop.example/")
    assert backend.connected == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://shop.example:22/", "Port 22"),
        ("https://user:pw@shop.example/", "user name or a password"),
        ("https://localhost/", "private network"),
        ("https://127.1/", "four decimal numbers"),
        ("https://shop。example/", "not a valid one"),
        ("ftp://shop.example/", "must start with https://"),
        ("shop.example", "absolute web address"),
    ],
)
async def test_what_is_wrong_with_a_url_is_said_before_anyone_is_asked(url: str, why: str) -> None:
    resolver = TableResolver({"shop.example": [PUBLIC]})
    client = OutboundClient(ssl_context=TLS, resolver=resolver, backend=CannedBackend())
    with pytest.raises(TargetNotAllowed, match=why):
        client.httpx_client(url)
    with pytest.raises(TargetNotAllowed, match=why):
        await client.check(url)
    assert resolver.asked == []


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "get", "GET ", "GET / HTTP/1.1\r\nX: y", ""])
async def test_other_methods_are_refused(method: str) -> None:
    client, backend = guarded()
    with pytest.raises(TargetNotAllowed):
        await client.request(method, "https://shop.example/")
    async with client.httpx_client("https://shop.example/") as sdk:
        with pytest.raises(TargetNotAllowed):
            await sdk.request(f"{method}X", "/")  # a client writes methods in capitals itself
    assert backend.connected == []


async def test_a_client_made_for_one_origin_talks_to_no_other() -> None:
    backend = CannedBackend()
    resolver = TableResolver({"models.example": [PUBLIC], "shop.example": [PUBLIC]})
    client = OutboundClient(ssl_context=TLS, resolver=resolver, backend=backend)
    async with client.httpx_client("https://models.example/v1", allow_http=True) as sdk:
        for url in ("https://shop.example/", "http://models.example/", "https://models.example:8443/"):
            with pytest.raises(TargetNotAllowed):
                await sdk.get(url)
        assert backend.connected == []
        assert (await sdk.get("models")).content == b"ok"


async def test_an_operators_own_networks_open_nothing_else() -> None:
    backend = CannedBackend()
    resolver = TableResolver({"ollama": ["10.1.0.5"], "shop.example": [PUBLIC], "other": ["10.2.0.5"]})
    client = OutboundClient(
        ssl_context=TLS, resolver=resolver, backend=backend, allowed_networks=[ip_network("10.1.0.0/16")]
    )
    assert (await client.request("GET", "http://ollama:11434/", allow_http=True)).content == b"ok"
    assert (await client.request("GET", "http://10.1.2.3:5000/", allow_http=True)).content == b"ok"
    connected = list(backend.connected)
    for url in ("http://other/", "http://10.2.0.5/", "http://127.0.0.1/", "http://169.254.169.254/",
                "http://[::ffff:10.1.0.5]/", "http://shop.example:6379/", "http://167837701/"):  # fmt: skip
        with pytest.raises(TargetNotAllowed):
            await client.request("GET", url, allow_http=True)
    assert backend.connected == connected


async def test_international_names_are_looked_up_in_ascii() -> None:
    backend = CannedBackend()
    resolver = TableResolver({"xn--mnchen-3ya.example": [PUBLIC]})
    client = OutboundClient(ssl_context=TLS, resolver=resolver, backend=backend)
    answer = await client.request("GET", "https://MÜNCHEN.example/straße?q=ä")
    assert answer.url == "https://xn--mnchen-3ya.example/stra%C3%9Fe?q=%C3%A4"
    assert resolver.asked == ["xn--mnchen-3ya.example"]
