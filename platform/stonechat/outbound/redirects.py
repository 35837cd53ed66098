"""One request of a chain of redirects, and what of it may travel to the next."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from json import dumps
from typing import Any
from urllib.parse import urljoin

import httpx2

import stonechat
from stonechat.errors import InvalidInput, TargetNotAllowed
from stonechat.outbound.policy import Policy
from stonechat.outbound.targets import Target

USER_AGENT = f"Stonechat/{stonechat.__version__}"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What another origin may be told. A list of secrets to hold back would miss the next `X-Api-Key`.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})
_HAS_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")
_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding"})


@dataclass(frozen=True)
class Hop:
    """A request about to be sent."""

    method: str
    target: Target
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)

    @classmethod
    def first(
        cls, method: str, target: Target, *, headers: Mapping[str, str] | None, content: bytes | None, json: Any
    ) -> Hop:
        """The request as its caller described it; `json` is encoded here."""
        sent = {"User-Agent": USER_AGENT, "Accept": "*/*"}
        if json is not None:
            content = dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        given = {name.lower() for name in headers or {}}
        sent = {name: value for name, value in sent.items() if name.lower() not in given}
        return cls(method, target, sent | dict(headers or {}), content)

    def request(self, extensions: Mapping[str, Any]) -> httpx2.Request:
        """This hop for the transport."""
        try:
            headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in self.headers.items()]
        except UnicodeEncodeError:
            raise InvalidInput("A header holds characters that cannot be sent.") from None
        return httpx2.Request(
            self.method, self.target.url, headers=headers, content=self.content, extensions=dict(extensions)
        )

    def after(self, response: httpx2.Response, policy: Policy, *, allow_http: bool) -> Hop | None:
        """Where a redirect leads, checked like any target; None if `response` is no redirect."""
        location = response.headers.get("location")
        if response.status_code not in _REDIRECTS or location is None:
            return None
        target = policy.target(self._absolute(location), allow_http=allow_http)
        if self.target.scheme == "https" and target.scheme != "https":
            raise TargetNotAllowed(f"{self.target.host} redirects to an address that is not encrypted.")
        method, content, headers = self.method, self.content, self.headers
        if response.status_code == 303 or (response.status_code in (301, 302) and method == "POST"):
            method, content = "HEAD" if method == "HEAD" else "GET", None
            headers = {name: value for name, value in headers.items() if name.lower() not in _OF_THE_BODY}
        if target.origin != self.target.origin:
            if content is not None:
                raise TargetNotAllowed(f"{self.target.host} redirects what was sent to it to another site.")
            headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
        return Hop(method, target, headers, content)

    def _absolute(self, location: str) -> str:
        if _HAS_SCHEME.match(location):
            return location  # joining would mend what is broken in it
        try:
            return urljoin(self.target.url, location)
        except ValueError:
            raise TargetNotAllowed(f"{self.target.host} redirects to something that is not an address.") from None
