"""Listener options (KumoMTA `start_esmtp_listener`, `make_listener_domain`) and their layering.

Parameters are merged in order: the listener's own, what `peer` says for the client's address, what
`via` says for the local address, then what `smtp_server_get_dynamic_parameters` returns. `meta` maps
are merged; every other key is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import msgspec

from kumo_py.core.cidr import CidrMap, CidrSet, check_listen_address
from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource

LineEndings = Literal["Deny", "Allow", "Fix"]
BatchHandling = Literal["BifurcateAlways", "BatchByDomain"]
LogReport = Literal["Ignore", "LogThenRelay", "LogThenDrop"]


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class TraceHeaders(_Options, frozen=True):
    """`trace_headers`."""

    received_header: bool = True
    supplemental_header: bool = True
    header_name: str = "X-KumoRef"
    include_meta_names: list[str] = []


class ListenerDomain(_Options, frozen=True):
    """`kumo.make_listener_domain`: who may relay for a domain, and what becomes of reports."""

    relay_to: bool = False
    relay_from: CidrSet = CidrSet([])
    log_oob: LogReport | bool = "Ignore"
    log_arf: LogReport | bool = "Ignore"
    ttl: Duration = Duration(60.0)

    @property
    def accepts_reports(self) -> bool:
        """Whether mail is accepted for the domain because it may be a bounce or feedback report."""
        return self.log_oob not in ("Ignore", False) or self.log_arf not in ("Ignore", False)


class ListenerOverrides(_Options, frozen=True):
    """What `peer`, `via` and `smtp_server_get_dynamic_parameters` may change; None leaves it alone."""

    hostname: str | None = None
    relay_hosts: CidrSet | None = None
    banner: str | None = None
    batch_handling: BatchHandling | None = None
    tls_certificate: KeySource | None = None
    tls_private_key: KeySource | None = None
    tls_required_client_ca: KeySource | None = None
    deferred_spool: bool | None = None
    deferred_queue: bool | None = None
    trace_headers: TraceHeaders | None = None
    client_timeout: Duration | None = None
    data_processing_timeout: Duration | None = None
    max_messages_per_connection: int | None = None
    max_recipients_per_message: int | None = None
    max_message_size: int | None = None
    data_buffer_size: int | None = None
    invalid_line_endings: LineEndings | None = None
    line_length_hard_limit: int | None = None
    allow_xclient: bool | None = None
    require_proxy_protocol: bool | None = None
    meta: dict[str, object] | None = None
    peer: dict[str, ListenerOverrides] | None = None
    via: dict[str, ListenerOverrides] | None = None

    def __post_init__(self) -> None:
        for option in ("peer", "via"):
            for network in getattr(self, option) or ():
                try:
                    CidrSet([network])
                except ValueError as err:
                    raise ValueError(f"{option}: {err}") from None


class ListenerParams(ListenerOverrides, frozen=True):
    """`kumo.start_esmtp_listener`."""

    listen: str = "127.0.0.1:2025"
    max_connections: int = 32768
    implicit_tls: bool = False
    """Ours, not KumoMTA's: TLS from the first byte, as on port 465 (RFC 8314 §3.3)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_listen_address(self.listen)

    @staticmethod
    def defaults_in_force() -> dict[str, object]:
        """What holds for an option that is None here."""
        session = SessionParams("")
        return {name: getattr(session, name) for name in _SESSION_OPTIONS if name != "hostname"}


@dataclass(slots=True)
class SessionParams:
    """The options in force for one session; sizes in bytes, durations in seconds."""

    hostname: str
    relay_hosts: CidrSet = field(default_factory=lambda: CidrSet(["127.0.0.1", "::1"]))
    banner: str = "KumoMTA"
    batch_handling: BatchHandling = "BifurcateAlways"
    tls_certificate: KeySource | None = None
    tls_private_key: KeySource | None = None
    tls_required_client_ca: KeySource | None = None
    deferred_spool: bool = False
    deferred_queue: bool = False
    trace_headers: TraceHeaders = field(default_factory=TraceHeaders)
    client_timeout: float = 60.0
    data_processing_timeout: float = 300.0
    max_messages_per_connection: int = 10_000
    max_recipients_per_message: int = 1024
    max_message_size: int = 20 * 1024 * 1024
    data_buffer_size: int = 128 * 1024
    invalid_line_endings: LineEndings = "Deny"
    line_length_hard_limit: int = 998
    allow_xclient: bool = False
    require_proxy_protocol: bool = False

    def apply(
        self, overrides: ListenerOverrides, local_ip: str, peer_ip: str, meta: dict[str, object]
    ) -> None:
        """Lay one table over these, then what its `peer` and then its `via` map say for the addresses."""
        for name in _SESSION_OPTIONS:
            if (value := getattr(overrides, name)) is not None:
                setattr(self, name, value)
        if overrides.hostname is not None:
            meta["hostname"] = overrides.hostname
        if overrides.meta:
            meta.update(overrides.meta)
        for networks, address in ((overrides.peer, peer_ip), (overrides.via, local_ip)):
            if networks and (match := CidrMap(networks).get(address)) is not None:
                self.apply(match, local_ip, peer_ip, meta)


_SESSION_OPTIONS = tuple(item.name for item in fields(SessionParams))
