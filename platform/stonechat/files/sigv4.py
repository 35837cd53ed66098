"""AWS Signature Version 4 for S3: the headers that make a request ours.

Written out because the libraries that do it bring far more than it (botocore alone is 25 MB of service descriptions), and
because it is short: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class S3Access:
    """Who we are to the store, and where it is. Without `endpoint` it is Amazon's own in `region`."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None


def query_string(parameters: Mapping[str, str]) -> str:
    """Parameters in the one order and encoding that both sides sign."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))


def signed_headers(
    method: str, url: str, *, access: S3Access, at: datetime, sha256: str, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """All headers of a request but its length. `url` has its path and query encoded; `sha256` is the body's, in hex."""
    parts = urlsplit(url)
    stamp, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    sent |= {"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": sha256}
    if access.session_token:
        sent["x-amz-security-token"] = access.session_token
    names = ";".join(sorted(sent))
    canonical = "\n".join(
        [
            method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{sent[name].strip()}" for name in sorted(sent)),
            "",
            names,
            sha256,
        ]
    )
    scope = f"{day}/{access.region}/s3/aws4_request"
    to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{access.secret}".encode()
    for part in (day, access.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    sent["authorization"] = (
        f"{_ALGORITHM} Credential={access.key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return sent
