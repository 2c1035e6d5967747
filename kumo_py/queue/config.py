"""Queue and egress options, as a policy gives them (KumoMTA `make_queue_config`, `make_egress_*`).

Durations are seconds. Each struct's defaults are KumoMTA's (../compat: options), read from its code
where its documentation differs.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

import msgspec

from kumo_py.core.cidr import CidrSet
from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource
from kumo_py.core.tls_options import check_rustls_suites, parse_openssl_options
from kumo_py.limits.spec import LimitSpec, ThrottleSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

RefreshStrategy = Literal["Ttl", "Epoch"]
MemoryReduction = Literal["ShrinkDataAndMeta", "ShrinkData", "NoShrink"]
TlsMode = Literal["Opportunistic", "OpportunisticInsecure", "Required", "RequiredInsecure", "Disabled"]
IpStrategy = Literal["Ipv4AndIpv6", "Ipv4Only", "Ipv6Only", "Ipv6ThenIpv4", "Ipv4ThenIpv6"]
WakeupStrategy = Literal["Aggressive", "Relaxed"]

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")

UNSPECIFIED = "unspecified"
"""The pool and the source that exist without a policy: the kernel chooses the address."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all option tables: unknown keys are errors."""


class NamedHost(Options, frozen=True):
    """An `mx_list` entry with its address given."""

    name: str
    """For records and certificates."""
    addr: str
    """Its IP address, perhaps with a port."""


class SmtpProtocol(Options, frozen=True):
    """`protocol = { smtp = {...} }`."""

    mx_list: list[str | NamedHost] = []
    """Hosts in order, instead of the MX records: names or [addresses], perhaps with a port."""
    treat_mx_list_as_secure: bool = False
    """Take the names as safe from forgery, for DANE."""


class LuaProtocol(Options, frozen=True):
    """`protocol = { custom_lua = {...} }`."""

    constructor: str
    """The event that makes the connection, with domain, tenant and campaign."""
    batch_size: int = 1
    """Messages for one call of send_batch; with 1, send is called."""
    min_batch_size: int = 1
    """So many messages are waited for."""
    max_batch_latency: Duration = Duration(0.0)
    """How long they are waited for."""


class XferProtocol(Options, frozen=True):
    """`protocol = { xfer = {...} }`."""

    target: str
    """The URL of the other node."""


class DeliveryProtocol(Options, frozen=True):
    """How messages of a queue are delivered; SMTP unless one of the others is named."""

    smtp: SmtpProtocol | None = None
    """To hosts of the domain, or to those of mx_list."""
    maildir_path: str | None = None
    """Into a maildir; a template with domain_part, local_part, email and the like."""
    dir_mode: int | None = None
    """Permissions of directories that are made."""
    file_mode: int | None = None
    """Permissions of files that are made."""
    custom_lua: LuaProtocol | None = None
    """By the policy."""
    xfer: XferProtocol | None = None
    """To another node."""

    def __post_init__(self) -> None:
        chosen = [
            name for name in ("smtp", "maildir_path", "custom_lua", "xfer") if getattr(self, name) is not None
        ]
        if len(chosen) > 1:
            raise ValueError(f"a queue has one protocol; {' and '.join(chosen)} exclude each other")
        if self.maildir_path is None and (self.dir_mode is not None or self.file_mode is not None):
            raise ValueError("dir_mode and file_mode go with maildir_path")

    @property
    def name(self) -> str:
        """The last part of a ready queue's name."""
        if self.maildir_path is not None:
            return f"maildir:{self.maildir_path}"
        if self.custom_lua is not None:
            return f"lua:{self.custom_lua.constructor}"
        return "smtp_client" if self.xfer is None else "xfer"


class ShrinkPolicy(Options, frozen=True):
    """When a delayed message leaves memory, by the time to its next attempt."""

    interval: Duration
    """For messages that wait at least so long."""
    policy: MemoryReduction
    """What leaves memory."""


class QueueConfig(Options, frozen=True):
    """`kumo.make_queue_config`."""

    retry_interval: Duration = Duration(1200.0)
    """The wait after the first failure; it doubles with each."""
    max_retry_interval: Duration | None = None
    """The longest wait."""
    max_age: Duration = Duration(7 * 86400.0)
    """A message that would be older at its next attempt expires."""
    egress_pool: str | None = None
    """The pool of sources; `unspecified` lets the kernel choose the address."""
    max_message_rate: ThrottleSpec | None = None
    """How fast messages leave the scheduled queue."""
    protocol: DeliveryProtocol = DeliveryProtocol()
    """How messages are delivered."""
    reap_interval: Duration = Duration(600.0)
    """How long an empty queue stays."""
    refresh_interval: Duration = Duration(60.0)
    """How often the policy is asked again."""
    refresh_strategy: RefreshStrategy = "Ttl"
    """Ask again by the clock, or when the configuration changes."""
    strategy: Literal["SingletonTimerWheel", "SingletonTimerWheelV2", "TimerWheel", "SkipList"] = (
        "SingletonTimerWheel"
    )
    """Has no effect: there is one timer wheel."""
    timerwheel_tick_interval: Duration | None = None
    """Has no effect."""
    shrink_policy: list[ShrinkPolicy] = []
    """What of waiting messages leaves memory; the last entry that fits counts."""
    provider_name: str | None = None
    """By which metrics are grouped."""


class EgressPath(Options, frozen=True):
    """`kumo.make_egress_path`: everything about one source to one site."""

    connection_limit: LimitSpec = LimitSpec(32)
    """Connections at once."""
    additional_connection_limits: dict[str, LimitSpec] = {}
    """Further limits by name; all paths with the name share one."""
    max_message_rate: ThrottleSpec | None = None
    """How fast messages are sent."""
    additional_message_rate_throttles: dict[str, ThrottleSpec] = {}
    """Further rates by name; all paths with the name share one."""
    max_connection_rate: ThrottleSpec | None = None
    """How fast connections are opened."""
    source_selection_rate: ThrottleSpec | None = None
    """How often the source is chosen for the site."""
    additional_source_selection_rates: dict[str, ThrottleSpec] = {}
    """Further rates of choosing, by name."""
    max_deliveries_per_connection: int = 1024
    """Messages sent over one connection."""
    max_recipients_per_batch: int = 100
    """Recipients of one transaction."""
    max_ready: int = 1024
    """Messages in the ready queue; what is more waits up to a minute."""
    consecutive_connection_failures_before_delay: int = 100
    """After so many failures in a row all messages of the ready queue have failed."""
    smtp_port: int = 25
    """The port, unless the host or the source has one."""
    enable_tls: TlsMode = "Opportunistic"
    """Whether STARTTLS is used, wanted, and its certificate checked."""
    enable_mta_sts: bool = True
    """Whether a domain's MTA-STS policy makes TLS required (RFC 8461)."""
    enable_dane: bool = False
    """Whether TLSA records make TLS required (RFC 7672)."""
    enable_pipelining: bool = True
    """Use PIPELINING where it is offered."""
    enable_rset: bool = True
    """Send RSET between messages."""
    tls_prefer_openssl: bool = False
    tls_certificate: KeySource | None = None
    """PEM; ours, if the server asks."""
    tls_private_key: KeySource | None = None
    """PEM; goes with tls_certificate."""
    openssl_cipher_list: str | None = None
    """Ciphers below TLS 1.3, as OpenSSL names them."""
    openssl_cipher_suites: str | None = None
    """Cipher suites of TLS 1.3, as OpenSSL names them."""
    openssl_options: str | None = None
    rustls_cipher_suites: list[str] = []
    connect_timeout: Duration = Duration(60.0)
    """For the connection, the way through a proxy included."""
    banner_timeout: Duration = Duration(60.0)
    """For the 220."""
    ehlo_timeout: Duration = Duration(300.0)
    """For the reply to EHLO."""
    auth_timeout: Duration = Duration(60.0)
    """For the reply to AUTH."""
    mail_from_timeout: Duration = Duration(300.0)
    """For the reply to MAIL."""
    rcpt_to_timeout: Duration = Duration(300.0)
    """For the reply to RCPT."""
    data_timeout: Duration = Duration(300.0)
    """For the reply to DATA."""
    data_dot_timeout: Duration = Duration(300.0)
    """For the reply to the content."""
    rset_timeout: Duration = Duration(5.0)
    """For the reply to RSET."""
    starttls_timeout: Duration = Duration(5.0)
    """For the reply to STARTTLS, and the handshake."""
    idle_timeout: Duration = Duration(5.0)
    """How long a connection waits for the next message, or for a rate that allows it."""
    system_shutdown_timeout: Duration | None = None
    """How long sessions may go on when the node stops."""
    dispatcher_progress_watchdog_timeout: Duration | None = None
    """After such a time without progress a session is ended."""
    ehlo_domain: str | None = None
    """Our name in EHLO; else the source's, else the machine's."""
    prohibited_hosts: CidrSet = CidrSet(["127.0.0.0/8", "::1", "0.0.0.0", "::"])
    """Networks: a host in one bounces all messages of the ready queue."""
    skip_hosts: CidrSet = CidrSet([])
    """Networks whose hosts are left out."""
    ip_lookup_strategy: IpStrategy = "Ipv4AndIpv6"
    """Which addresses of hosts are asked for, and used in which order."""
    smtp_auth_plain_username: str | None = None
    """For AUTH PLAIN."""
    smtp_auth_plain_password: KeySource | None = None
    """For AUTH PLAIN."""
    allow_smtp_auth_plain_without_tls: bool = False
    """Even in the clear."""
    allow_smtp_auth_plain_without_valid_certificate: bool = False
    """Even to whom we do not know."""
    use_lmtp: bool = False
    """Speak LMTP (RFC 2033)."""
    reconnect_strategy: Literal["ConnectNextHost", "ReconnectSameHost", "TerminateSession"] = (
        "ConnectNextHost"
    )
    """Where to go on after a connection broke."""
    try_next_host_on_transport_error: bool = False
    """Try a message at once at the next host when its connection broke."""
    remember_broken_tls: Duration | None = None
    """How long a site whose TLS failed counts as one without TLS."""
    opportunistic_tls_reconnect_on_failed_handshake: bool = False
    """Connect again without TLS when the handshake failed."""
    ignore_8bit_checks: bool = False
    """Send messages that need 8BITMIME or SMTPUTF8 even to hosts that offer neither."""
    refresh_interval: Duration = Duration(60.0)
    """How often the policy is asked again."""
    refresh_strategy: RefreshStrategy = "Ttl"
    """Ask again by the clock, or when the configuration changes."""
    dispatcher_wakeup_strategy: WakeupStrategy = "Aggressive"
    maintainer_wakeup_strategy: WakeupStrategy = "Aggressive"
    low_memory_reduction_policy: MemoryReduction = "ShrinkDataAndMeta"
    """What leaves memory when it is low."""
    no_memory_reduction_policy: MemoryReduction = "ShrinkDataAndMeta"
    """What leaves memory when there is none left."""
    provider_name: str | None = None
    """Paths of one provider may share metrics."""
    readyq_pool_name: str | None = None
    aggressive_connection_opening: bool = False
    """Open connections before there are messages for all."""

    def __post_init__(self) -> None:
        if self.openssl_options is not None:
            parse_openssl_options(self.openssl_options)
        check_rustls_suites(self.rustls_cipher_suites)


class Threshold(Options, frozen=True):
    """So many failures within a period; the type of `trigger` where one alone is not enough."""

    Threshold: ThrottleSpec


class Suspension(Options, frozen=True, kw_only=True):
    """`suspend_when_unplumbed`, `suspend_when_proxy_unhealthy`."""

    trigger: Literal["Immediate"] | Threshold = "Immediate"
    """At once, or after so many failures in a time."""
    duration: Duration
    """For how long."""

    @property
    def threshold(self) -> ThrottleSpec | None:
        return self.trigger.Threshold if isinstance(self.trigger, Threshold) else None


class EgressSource(Options, frozen=True):
    """`kumo.make_egress_source`."""

    name: str
    """As pools name it."""
    source_address: str | None = None
    """The local address; the kernel chooses without it."""
    ehlo_domain: str | None = None
    """Our name in EHLO, unless the path has one."""
    remote_port: int | None = None
    """The port, whatever others say."""
    ha_proxy_server: str | None = None
    """host:port of a proxy that speaks the PROXY protocol."""
    ha_proxy_source_address: str | None = None
    """The address that this proxy is to use."""
    socks5_proxy_server: str | None = None
    """host:port of a SOCKS 5 proxy."""
    socks5_proxy_source_address: str | None = None
    """The address that this proxy is to use."""
    socks5_proxy_username: str | None = None
    """For the proxy (RFC 1929)."""
    socks5_proxy_password: KeySource | None = None
    """For the proxy (RFC 1929)."""
    suspend_when_unplumbed: Suspension | None = None
    """Leave the source out when its address is not there."""
    suspend_when_proxy_unhealthy: Suspension | None = None
    """Leave the source out when its proxy fails."""
    ttl: Duration = Duration(60.0)
    """How long the answer is remembered."""

    def __post_init__(self) -> None:
        for option in ("source_address", "ha_proxy_source_address", "socks5_proxy_source_address"):
            address = getattr(self, option)
            if address is not None:
                try:
                    ip_address(address)
                except ValueError:
                    raise ValueError(f"{option} '{address}' is not an IP address") from None
        for option in ("ha_proxy_server", "socks5_proxy_server"):
            server = getattr(self, option)
            if server is not None and _SERVER.fullmatch(server) is None:
                raise ValueError(
                    f"{option} '{server}' is not a server: write 192.0.2.1:1080, [2001:db8::1]:1080 or name:1080"
                )


class PoolEntry(Options, frozen=True):
    """One source of a pool; weight 0 leaves it out."""

    name: str
    """Of a source."""
    weight: int = 1
    """How often it is chosen, compared with the others; 0 is never."""


class EgressPool(Options, frozen=True):
    """`kumo.make_egress_pool`."""

    name: str
    """As queues name it."""
    entries: list[PoolEntry] = []
    """Its sources."""
    ttl: Duration = Duration(60.0)
    """How long the answer is remembered."""


UNSPECIFIED_SOURCE = EgressSource(name=UNSPECIFIED)
UNSPECIFIED_POOL = EgressPool(name=UNSPECIFIED, entries=[PoolEntry(name=UNSPECIFIED)])


NO_MEANING: Mapping[str, str] = {
    "strategy": "all delayed messages of a node lie in one timer wheel",
    "timerwheel_tick_interval": "delayed messages are never more than a twentieth of a second late",
    "dispatcher_wakeup_strategy": "idle sessions are woken as far as those at work cannot keep up",
    "maintainer_wakeup_strategy": "connections are opened when a message asks for one, without a maintainer",
    "readyq_pool_name": "a node has one event loop and no thread pools",
}
"""Options of KumoMTA that are accepted, so that a policy loads, and that there is nothing for in this program: why."""


def without_meaning(options: Options) -> list[str]:
    """The options that a policy set and that have no meaning here: to be said once."""
    return [
        item.name
        for item in msgspec.structs.fields(options)
        if item.name in NO_MEANING and getattr(options, item.name) != item.default
    ]
