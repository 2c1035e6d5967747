"""AWS Signature Version 4: what makes a request to an AWS service authentic.

Source: "Create a signed AWS API request" (AWS Identity and Access Management User Guide), and AWS's published
test suite.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of an AWS user; `session_token` goes with temporary ones."""

    access_key: str
    secret_key: str
    session_token: str | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """The result, and what it was made of."""

    authorization: str
    """Value of the Authorization header."""
    timestamp: str
    """Value of the X-Amz-Date header."""
    canonical_request: str
    string_to_sign: str
    signature: str
    content_sha256: str | None
    """Value of the X-Amz-Content-Sha256 header, for S3, which demands it."""


def sign(
    credentials: Credentials,
    *,
    region: str,
    service: str,
    method: str,
    path: str,
    params: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    payload: bytes,
    when: datetime,
) -> Signature:
    """Sign a request. `path` and `params` are not encoded yet; `when` is in UTC.

    Raises ValueError unless there is a host header.
    """
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    if "host" not in signed:
        raise ValueError("headers must include 'host'")
    timestamp = when.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(payload).hexdigest()
    signed["x-amz-date"] = timestamp
    if credentials.session_token is not None:
        signed["x-amz-security-token"] = credentials.session_token
    if service == "s3":
        signed["x-amz-content-sha256"] = digest
    names = ";".join(sorted(signed))
    canonical_request = "\n".join(
        (
            method,
            quote(path or "/", safe="/~"),
            "&".join(
                f"{name}={value}" for name, value in sorted((_encoded(k), _encoded(v)) for k, v in params)
            ),
            *(f"{name}:{value}" for name, value in sorted(signed.items())),
            "",
            names,
            digest,
        )
    )
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    hashed = hashlib.sha256(canonical_request.encode()).hexdigest()
    string_to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{hashed}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, string_to_sign).hex()
    return Signature(
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}",
        timestamp,
        canonical_request,
        string_to_sign,
        signature,
        digest if service == "s3" else None,
    )


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _encoded(text: str) -> str:
    return quote(text, safe="~")
