"""Reading URLs: what is taken has one meaning, and whatever else is refused with a sentence."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stonechat.errors import TargetNotAllowed
from stonechat.outbound.addresses import is_public
from stonechat.outbound.targets import parse_target

PIECES = st.sampled_from(
    ["http", "https", "://", ":", "/", "//", "\\", "@", "[", "]", "%2f", "%", "#", "?", ".", "。", "127.0.0.1", "::1", "0x7f",
     "shop.example", "xn--", "80", "443", ":8080", "localhost", " ", "\t", "\0", "ü", "⓪", "a", "-", "_"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://shop.example", "https://shop.example/"),
        ("HTTPS://Shop.EXAMPLE:443/Path?Q=1#part", "https://shop.example/Path?Q=1"),
        ("http://shop.example:80/", "http://shop.example/"),
        ("http://shop.example:443/", "http://shop.example:443/"),
        ("https://shop.example:8443/x", "https://shop.example:8443/x"),
        ("https://shop.example:00443/", "https://shop.example/"),
        ("https://shop.example?q", "https://shop.example/?q"),
        ("https://a_b.shop.example/", "https://a_b.shop.example/"),
        ("https://93.184.215.14/", "https://93.184.215.14/"),
        ("https://[2606:2800:0:0::1]/", "https://[2606:2800::1]/"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
        ("https://例え.example/", "https://xn--r8jz45g.example/"),
        ("https://shop.example/%2e%2e/a%2Fb", "https://shop.example/%2e%2e/a%2Fb"),
        ("https://shop.example/user@host:80//x", "https://shop.example/user@host:80//x"),
    ],
)
def test_ordinary_urls_are_taken_in_one_form(url: str, canonical: str) -> None:
    assert parse_target(url, allow_http=True).url == canonical


@given(st.text() | st.lists(PIECES, max_size=12).map("".join) | st.lists(PIECES, max_size=9).map("http://{}".format))
def test_any_text_is_either_refused_or_means_one_thing(text: str) -> None:
    for private in (False, True):
        try:
            target = parse_target(text, allow_http=True, allow_private_names=private, ports=range(1, 65536))
        except TargetNotAllowed:
            continue
        read_again = httpx2.URL(target.url)
        assert (read_again.scheme, read_again.raw_host.decode()) == (target.scheme, target.host)
        assert read_again.userinfo == b""
        assert parse_target(target.url, allow_http=True, allow_private_names=private, ports=[target.port]) == target


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_ipv4_address_is_public_that_the_standard_library_calls_private(address: IPv4Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_no_ipv6_address_is_public_outside_global_unicast(address: IPv6Address) -> None:
    assert not is_public(address) or (address.is_global and int(address) >> 125 == 1)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1",
     "198.17.255.255", "198.20.0.0", "223.255.255.255", "126.255.255.255", "128.0.0.0", "169.253.255.255", "11.0.0.0",
     "2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2400:cb00::1", "2001:200::1", "3000::1"],
)  # fmt: skip
def test_the_public_internet_can_be_reached_up_to_the_edges(address: str) -> None:
    assert is_public(ip_address(address))
