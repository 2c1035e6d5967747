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
    hostname: str | None = None
    trusted_hosts: CidrSet = CidrSet(["127.0.0.1", "::1"])
    use_tls: bool = False
    tls_certificate: KeySource | None = None
    tls_private_key: KeySource | None = None
    request_body_limit: int = 2 * 1024 * 1024

    def __post_init__(self) -> None:
        check_listen_address(self.listen)


class Identity(_Options, frozen=True):
    """Somebody, and how we know."""

    identity: str
    context: Literal[
        "SmtpAuthPlainAuthentication",
        "SmtpAuthPlainAuthorization",
        "HttpBasicAuth",
        "BearerToken",
        "ProxyAuthRfc1929",
        "LocalSystem",
        "GenericAuth",
    ]


class AuthInfo(_Options, frozen=True):
    """KumoMTA's `auth_info`: what a handler that checks credentials may return instead of true."""

    peer_address: str | None = None
    identities: list[Identity] = []
    groups: list[str] = []
