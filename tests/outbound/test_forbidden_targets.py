"""Where requests must never go, each tried through every door of the real client: nothing may connect."""

from contextlib import suppress
from ipaddress import ip_network

import httpx2
import pytest

from stonechat.errors import TargetNotAllowed
from stonechat.outbound.client import OutboundClient
from support.outbound import PUBLIC, PUBLIC_V6, TLS, CannedBackend, TableResolver

FORBIDDEN_ADDRESSES = [
    # IPv4: this network, private, shared, loopback, link-local, special, documentation, multicast, reserved
    "0.0.0.0", "0.0.0.1", "0.255.255.255", "10.0.0.0", "10.0.0.1", "10.1.2.3", "10.255.255.255",
    "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "169.254.255.255",
    "172.16.0.1", "172.20.10.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "192.175.48.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # IPv6: unspecified, loopback, link-local, site-local, unique local, multicast, discard, documentation, benchmark
    "::", "::1", "::2", "fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "feff::1",
    "fc00::1", "fd00::1", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff::1",
    "ff01::1", "ff02::1", "ff05::2", "ff0e::1", "100::1", "100:0:0:1::1",
    "2001:db8::1", "3fff::1", "3fff:fff::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:30::1", "2001:1::1",
    "2001:3::1", "2001:4:112::1", "2620:4f:8000::1", "3ffe::1", "5f00::1", "4000::1", "1::1", "8000::1",
    # IPv4 inside IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:7f00:1", "::ffff:93.184.215.14",
    "::ffff:0:127.0.0.1", "::127.0.0.1", "::10.0.0.1", "::a9fe:a9fe", "::93.184.215.14",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::5db8:d70e",
    "64:ff9b:1::127.0.0.1", "64:ff9b:1::a00:1", "64:ff9b:1:ffff::a9fe:a9fe",
    "2002:7f00:1::1", "2002:a00:1::", "2002:a9fe:a9fe::", "2002:c0a8:101::1", "2002:5db8:d70e::1",
    "2001::1", "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2606:2800::5efe:127.0.0.1", "2606:2800::200:5efe:10.0.0.1", "fe80::5efe:c0a8:101",
]  # fmt: skip

FORBIDDEN_URLS = [
    # other spellings of IPv4: decimal, octal, hexadecimal, short, too long, mixed
    "http://2130706433/", "http://3232235521/", "http://017700000001/", "http://0x7f000001/", "http://0x7F.0.0.1/",
    "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.000.000.001/", "http://0x7f.1/", "http://127.1/",
    "http://127.0.1/", "http://0/", "http://0x0/", "http://10.1/", "http://192.168.257/", "http://127.0.0.1.1/",
    "http://256.256.256.256/", "http://1.1.1.1.0x1/", "http://0x.0x.0x.0x/", "http://127.0.0.0x1/",
    "http://00000000000000000000000000000177.1/", "http://425.510.425.510/", "http://4294967296/", "http://1.1.1.-1/",
    # other spellings of digits and dots
    "http://１２７.0.0.1/", "http://127。0。0。1/", "http://127．0．0．1/", "http://127｡0｡0｡1/", "http://①②⑦.0.0.1/",
    "http://ⓛocalhost/", "http://ｌｏｃａｌｈｏｓｔ/", "http://localhoſt/", "http://shop。example/", "http://shop．example/",
    "http://shop｡example/", "http://𝐬hop.example/", "http://s\u00adhop.example/", "http://sh\u200bop.example/",
    "http://ﬁ.example/", "http://\u212aelvin.example/", "http://shop․example/", "http://xn--a.example/", "http://xn--.com/", "http://-shop.example/", "http://shop-.example/", "http://xn--zzzzzzzzz.example/",
    # trailing and doubled dots
    "http://localhost./", "http://127.0.0.1./", "http://shop.example./", "http://shop..example/", "http://.shop.example/",
    "http://./", "http://../",
    # names of private networks
    "http://localhost/", "http://LOCALHOST/", "http://foo.localhost/", "http://localhost.localdomain/", "http://redis/",
    "http://postgres/", "http://metadata/", "http://metadata.google.internal/computeMetadata/v1/", "http://a.b.internal/",
    "http://kubernetes.default.svc.cluster.local/", "http://printer.local/", "http://router.lan/", "http://nas.home/",
    "http://nas.home.arpa/", "http://1.0.0.127.in-addr.arpa/", "http://wiki.corp/", "http://wiki.intranet/",
    "http://hidden.onion/",
    # user information, and what is taken for it
    "http://user@shop.example/", "http://user:password@shop.example/", "http://@shop.example/", "http://:@shop.example/",
    "http://shop.example@127.0.0.1/", "http://shop.example:80@127.0.0.1/", "http://127.0.0.1@shop.example/",
    "http://shop.example%40127.0.0.1/", "http://a@b@shop.example/",
    # separators that parsers disagree about
    "http://shop.example\\@127.0.0.1/", "http:\\\\127.0.0.1/", "http:/\\127.0.0.1/", "http://127.0.0.1\\.shop.example/",
    "http://127.0.0.1%2f.shop.example/", "http://shop.example%2f@127.0.0.1/", "http://127.0.0.1%00.shop.example/",
    "http://127.0.0.1%23.shop.example/", "http://%31%32%37.0.0.1/", "http://shop.example%20/", "http://shop.example /",
    "http://shop.example\t/", "http://shop.example\n/", "http://shop.example/\r\nHost: x", "http://\x00shop.example/",
    "http://shop.example/\x00", "http://shop.example/\u2028", " http://shop.example/", "http://shop.example/ ",
    "http://127.0.0.1;shop.example/", "http://127.0.0.1,shop.example/", "http://shop.example&@127.0.0.1/",
    "http:127.0.0.1/", "http:/127.0.0.1/", "http:///127.0.0.1/", "http://?127.0.0.1/", "http://#127.0.0.1/",
    "//shop.example/", "/etc/passwd", "shop.example", "", "http://", "http:", "://shop.example/",
    "http://$(hostname).example/", "http://shop_.example{}/", "http://*.shop.example/", "http://shop!.example/",
    # brackets and zones
    "http://[::1]/", "http://[::1]:80/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[0000::0001]/",
    "http://[::1%25lo]/", "http://[fe80::1%eth0]/", "http://[fe80::1%25eth0]/", "http://[2606:2800::1%25eth0]/",
    "http://[::ffff:127.0.0.1]/", "http://[::FFFF:7F00:1]/", "http://[::ffff:0x7f000001]/", "http://[127.0.0.1]/",
    "http://[::1/", "http://::1/", "http://[::1]shop.example/", "http://shop.example[::1]/", "http://[]/", "http://[::g]/",
    "http://[v1.abc]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/",
    # ports
    "http://shop.example:22/", "http://shop.example:25/", "http://shop.example:0/", "http://shop.example:53/",
    "http://shop.example:3306/", "http://shop.example:5432/", "http://shop.example:6379/", "http://shop.example:9200/",
    "http://shop.example:11211/", "http://shop.example:27017/", "http://shop.example:65536/", "http://shop.example:65616/",
    "http://shop.example:-80/", "http://shop.example:+80/", "http://shop.example:８０/", "http://shop.example:80:80/",
    "http://shop.example:0x50/", "http://shop.example:80a/", "http://shop.example:/@127.0.0.1:80:x/",
    "http://shop.example: 80/", "http://shop.example:2375/", "http://shop.example:10250/",
    # schemes
    "ftp://shop.example/", "file:///etc/passwd", "file://shop.example/", "gopher://shop.example/_x", "dict://shop.example:80/",
    "ldap://shop.example/", "javascript:alert(1)", "data:text/html,x", "blob:https://shop.example/x", "ws://shop.example/",
    "wss://shop.example/", "httpx://shop.example/", "jar:http://shop.example/!/", "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "view-source:http://shop.example/", "h\u0442tp://shop.example/",
    "http\uff1a//shop.example/", "url:http://shop.example/",
    # lengths
    "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/", "http://shop.example/" + "a" * 5000,
    "http://" + "ü" * 60 + "." + "ü" * 60 + "." + "ü" * 60 + "." + "ü" * 60 + ".example/",
]  # fmt: skip

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
