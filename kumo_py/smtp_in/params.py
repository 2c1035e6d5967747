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
    """Put a Received header on top, before smtp_server_message_received."""
    supplemental_header: bool = True
    """Put a header on top, after that event, by which feedback reports find back to the message."""
    header_name: str = "X-KumoRef"
    """The name of that header."""
    include_meta_names: list[str] = []
    """Metadata that it carries too."""


class ListenerDomain(_Options, frozen=True):
    """`kumo.make_listener_domain`: who may relay for a domain, and what becomes of reports."""

    relay_to: bool = False
    """Accept mail to the domain, from anybody."""
    relay_from: CidrSet = CidrSet([])
    """Accept mail of senders of the domain from these networks, to anybody."""
    log_oob: LogReport | bool = "Ignore"
    """What becomes of bounces (RFC 3464) that come to the domain; true is LogThenRelay."""
    log_arf: LogReport | bool = "Ignore"
    """What becomes of feedback reports (RFC 5965) that come to the domain; true is LogThenRelay."""
    ttl: Duration = Duration(60.0)
    """Has no effect: a session remembers some answers until its end."""

    @property
    def accepts_reports(self) -> bool:
        """Whether mail is accepted for the domain because it may be a bounce or feedback report."""
        return self.log_oob not in ("Ignore", False) or self.log_arf not in ("Ignore", False)


class ListenerOverrides(_Options, frozen=True):
    """What `peer`, `via` and `smtp_server_get_dynamic_parameters` may change; None leaves it alone."""

    hostname: str | None = None
    """Our name in the banner, in replies and in Received; the machine's unless set."""
    relay_hosts: CidrSet | None = None
    """Networks whose clients may send to anybody."""
    banner: str | None = None
    """What follows the name in the 220."""
    batch_handling: BatchHandling | None = None
    """Make a message for each recipient, or for each domain."""
    tls_certificate: KeySource | None = None
    """PEM; without it a self-signed certificate is made."""
    tls_private_key: KeySource | None = None
    """PEM; goes with tls_certificate."""
    tls_required_client_ca: KeySource | None = None
    """PEM; clients are asked for certificates of these authorities."""
    deferred_spool: bool | None = None
    """Answer 250 before the message is on the disk: it is written only if the first attempt fails."""
    deferred_queue: bool | None = None
    """Answer 250 before queues are looked up: smtp_server_message_deferred_inject runs later."""
    trace_headers: TraceHeaders | None = None
    """What the message tells of its way."""
    client_timeout: Duration | None = None
    """How long a command may take to come."""
    data_processing_timeout: Duration | None = None
    """How long the policy may take after the content has come."""
    max_messages_per_connection: int | None = None
    """Recipients that are accepted over one connection."""
    max_recipients_per_message: int | None = None
    """Further recipients get 452."""
    max_message_size: int | None = None
    """Bytes; larger messages get 552."""
    data_buffer_size: int | None = None
    """Has no effect: what is there is read."""
    invalid_line_endings: LineEndings | None = None
    """What becomes of a CR or LF that stands alone."""
    line_length_hard_limit: int | None = None
    """Octets of a line without its end; longer ones are refused."""
    allow_xclient: bool | None = None
    """Let clients say, by XCLIENT, whom they speak for."""
    require_proxy_protocol: bool | None = None
    """Clients are proxies, and tell their client's address before anything else."""
    meta: dict[str, object] | None = None
    """Metadata of the connection; laid over what wider tables say."""
    peer: dict[str, ListenerOverrides] | None = None
    """Other options by the client's network."""
    via: dict[str, ListenerOverrides] | None = None
    """Other options by the network of the local address."""

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
    """The address to bind, with its port."""
    max_connections: int = 32768
    """Sessions at once; others get 421."""
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
