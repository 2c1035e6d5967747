"""Options of the HTTP listener (KumoMTA `start_http_listener`)."""

from __future__ import annotations

import msgspec

from kumo_py.core.cidr import CidrSet
from kumo_py.core.key_source import KeySource


class HttpListenerParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kumo.start_http_listener`; sizes in bytes."""

    listen: str = "127.0.0.1:8000"
    hostname: str | None = None
    trusted_hosts: CidrSet = CidrSet(["127.0.0.1", "::1"])
    use_tls: bool = False
    tls_certificate: KeySource | None = None
    tls_private_key: KeySource | None = None
    request_body_limit: int = 2 * 1024 * 1024
