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
    addr: str


class SmtpProtocol(Options, frozen=True):
    """`protocol = { smtp = {...} }`."""

    mx_list: list[str | NamedHost] = []
    treat_mx_list_as_secure: bool = False


class LuaProtocol(Options, frozen=True):
    """`protocol = { custom_lua = {...} }`."""

    constructor: str
    batch_size: int = 1
    min_batch_size: int = 1
    max_batch_latency: Duration = Duration(0.0)


class XferProtocol(Options, frozen=True):
    """`protocol = { xfer = {...} }`."""

    target: str


class DeliveryProtocol(Options, frozen=True):
    """How messages of a queue are delivered; SMTP unless one of the others is named."""

    smtp: SmtpProtocol | None = None
    maildir_path: str | None = None
    dir_mode: int | None = None
    file_mode: int | None = None
    custom_lua: LuaProtocol | None = None
    xfer: XferProtocol | None = None

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
    policy: MemoryReduction


class QueueConfig(Options, frozen=True):
    """`kumo.make_queue_config`."""

    retry_interval: Duration = Duration(1200.0)
    max_retry_interval: Duration | None = None
    max_age: Duration = Duration(7 * 86400.0)
    egress_pool: str | None = None
    max_message_rate: ThrottleSpec | None = None
    protocol: DeliveryProtocol = DeliveryProtocol()
    reap_interval: Duration = Duration(600.0)
    refresh_interval: Duration = Duration(60.0)
    refresh_strategy: RefreshStrategy = "Ttl"
    strategy: Literal["SingletonTimerWheel", "SingletonTimerWheelV2", "TimerWheel", "SkipList"] = (
        "SingletonTimerWheel"
    )
    timerwheel_tick_interval: Duration | None = None
    shrink_policy: list[ShrinkPolicy] = []
    provider_name: str | None = None


class EgressPath(Options, frozen=True):
    """`kumo.make_egress_path`: everything about one source to one site."""

    connection_limit: LimitSpec = LimitSpec(32)
    additional_connection_limits: dict[str, LimitSpec] = {}
    max_message_rate: ThrottleSpec | None = None
    additional_message_rate_throttles: dict[str, ThrottleSpec] = {}
    max_connection_rate: ThrottleSpec | None = None
    source_selection_rate: ThrottleSpec | None = None
    additional_source_selection_rates: dict[str, ThrottleSpec] = {}
    max_deliveries_per_connection: int = 1024
    max_recipients_per_batch: int = 100
    max_ready: int = 1024
    consecutive_connection_failures_before_delay: int = 100
    smtp_port: int = 25
    enable_tls: TlsMode = "Opportunistic"
    enable_mta_sts: bool = True
    enable_dane: bool = False
    enable_pipelining: bool = True
    enable_rset: bool = True
    tls_prefer_openssl: bool = False
    tls_certificate: KeySource | None = None
    tls_private_key: KeySource | None = None
    openssl_cipher_list: str | None = None
    openssl_cipher_suites: str | None = None
    openssl_options: str | None = None
    rustls_cipher_suites: list[str] = []
    connect_timeout: Duration = Duration(60.0)
    banner_timeout: Duration = Duration(60.0)
    ehlo_timeout: Duration = Duration(300.0)
    auth_timeout: Duration = Duration(60.0)
    mail_from_timeout: Duration = Duration(300.0)
    rcpt_to_timeout: Duration = Duration(300.0)
    data_timeout: Duration = Duration(300.0)
    data_dot_timeout: Duration = Duration(300.0)
    rset_timeout: Duration = Duration(5.0)
    starttls_timeout: Duration = Duration(5.0)
    idle_timeout: Duration = Duration(5.0)
    system_shutdown_timeout: Duration | None = None
    dispatcher_progress_watchdog_timeout: Duration | None = None
    ehlo_domain: str | None = None
    prohibited_hosts: CidrSet = CidrSet(["127.0.0.0/8", "::1", "0.0.0.0", "::"])
    skip_hosts: CidrSet = CidrSet([])
    ip_lookup_strategy: IpStrategy = "Ipv4AndIpv6"
    smtp_auth_plain_username: str | None = None
    smtp_auth_plain_password: KeySource | None = None
    allow_smtp_auth_plain_without_tls: bool = False
    allow_smtp_auth_plain_without_valid_certificate: bool = False
    use_lmtp: bool = False
    reconnect_strategy: Literal["ConnectNextHost", "ReconnectSameHost", "TerminateSession"] = (
        "ConnectNextHost"
    )
    try_next_host_on_transport_error: bool = False
    remember_broken_tls: Duration | None = None
    opportunistic_tls_reconnect_on_failed_handshake: bool = False
    ignore_8bit_checks: bool = False
    refresh_interval: Duration = Duration(60.0)
    refresh_strategy: RefreshStrategy = "Ttl"
    dispatcher_wakeup_strategy: WakeupStrategy = "Aggressive"
    maintainer_wakeup_strategy: WakeupStrategy = "Aggressive"
    low_memory_reduction_policy: MemoryReduction = "ShrinkDataAndMeta"
    no_memory_reduction_policy: MemoryReduction = "ShrinkDataAndMeta"
    provider_name: str | None = None
    readyq_pool_name: str | None = None
    aggressive_connection_opening: bool = False

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
    duration: Duration

    @property
    def threshold(self) -> ThrottleSpec | None:
        return self.trigger.Threshold if isinstance(self.trigger, Threshold) else None


class EgressSource(Options, frozen=True):
    """`kumo.make_egress_source`."""

    name: str
    source_address: str | None = None
    ehlo_domain: str | None = None
    remote_port: int | None = None
    ha_proxy_server: str | None = None
    ha_proxy_source_address: str | None = None
    socks5_proxy_server: str | None = None
    socks5_proxy_source_address: str | None = None
    socks5_proxy_username: str | None = None
    socks5_proxy_password: KeySource | None = None
    suspend_when_unplumbed: Suspension | None = None
    suspend_when_proxy_unhealthy: Suspension | None = None
    ttl: Duration = Duration(60.0)

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
    weight: int = 1


class EgressPool(Options, frozen=True):
    """`kumo.make_egress_pool`."""

    name: str
    entries: list[PoolEntry] = []
    ttl: Duration = Duration(60.0)


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
