"""Tables that policies give us and no other room has a struct for."""

from __future__ import annotations

from typing import Literal

import msgspec

from kumo_py.core.cidr import CidrSet, check_listen_address
from kumo_py.core.key_source import KeySource


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class HttpListenerParams(_Options, frozen=True):
    """`kumo.start_http_listener`; sizes in bytes."""

    listen: str = "127.0.0.1:8000"
    """The address to bind, with its port."""
    hostname: str | None = None
    """The name in certificates and in injected messages; the machine's unless set."""
    trusted_hosts: CidrSet = CidrSet(["127.0.0.1", "::1"])
    """Networks whose clients need no login."""
    use_tls: bool = False
    """Serve HTTPS."""
    tls_certificate: KeySource | None = None
    """PEM; without it a self-signed certificate is made."""
    tls_private_key: KeySource | None = None
    """PEM; goes with tls_certificate."""
    request_body_limit: int = 2 * 1024 * 1024
    """Bytes, after decompression; larger requests get 413."""
    console: Literal["read_only", "actions", "off"] = "read_only"
    """The web console at `/`: it shows only, or also offers to suspend, hold, bounce and the like, or is not there."""

    def __post_init__(self) -> None:
        check_listen_address(self.listen)


class Identity(_Options, frozen=True):
    """Somebody, and how we know."""

    identity: str
    """A name."""
    context: Literal[
        "SmtpAuthPlainAuthentication",
        "SmtpAuthPlainAuthorization",
        "HttpBasicAuth",
        "BearerToken",
        "ProxyAuthRfc1929",
        "LocalSystem",
        "GenericAuth",
    ]
    """How it was shown."""


class AuthInfo(_Options, frozen=True):
    """KumoMTA's `auth_info`: what a handler that checks credentials may return instead of true."""

    peer_address: str | None = None
    """The client's IP address."""
    identities: list[Identity] = []
    """Whom the client speaks for."""
    groups: list[str] = []
    """What they belong to."""
