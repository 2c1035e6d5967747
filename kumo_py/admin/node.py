"""What the HTTP listeners need of their node; the daemon implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ssl
    from collections import Counter
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from kumo_py.core.capacities import Capacities
    from kumo_py.core.key_source import KeySource
    from kumo_py.dns import Resolvers
    from kumo_py.inject import Injector
    from kumo_py.logs import DeliveryLog
    from kumo_py.logs.trace import Traces
    from kumo_py.net.redis import RedisClient
    from kumo_py.policy import LuaPolicy
    from kumo_py.queue.admin import AdminRules
    from kumo_py.queue.queues import Queues
    from kumo_py.smtp_in import Listener
    from kumo_py.smtp_out.dane import DaneResult
    from kumo_py.spool import Spool


class Memory(Protocol):
    """Of the process, in bytes; None is not known."""

    usage: int
    over_soft_limit: bool
    over_limit_count: int
    low_count: int

    @property
    def soft_limit(self) -> int | None: ...
    @property
    def low_threshold(self) -> int | None: ...


class CpuUsage(Protocol):
    """In percent of one CPU."""

    count: int
    process: float
    system: float


class Reloader(Protocol):
    """Hot reload; `status` is a dataclass, see daemon/reload.py."""

    status: Any

    async def reload(self) -> None: ...


class Node(Protocol):
    """Whatever `ready` is not yet may be asked for memory, policy and rules only."""

    admin: AdminRules
    capacities: Capacities
    policy: LuaPolicy
    injector: Injector
    traces: Traces
    dane_results: Counter[DaneResult]
    resolvers: Resolvers

    wall: Callable[[], float]
    """Unix time that never steps."""
    nodeid: str
    started: float
    """Unix time."""

    @property
    def hostname(self) -> str: ...
    @property
    def log(self) -> DeliveryLog: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def cpu(self) -> CpuUsage: ...
    @property
    def ready(self) -> bool:
        """Whether all that its `init` asked for is running."""
        ...

    @property
    def stopping(self) -> bool: ...
    @property
    def disk_full(self) -> bool:
        """Whether a spool or log directory lacks space."""
        ...

    @property
    def queues(self) -> Queues:
        """Raises ValueError until there are some."""
        ...

    @property
    def spools(self) -> Mapping[str, Spool]:
        """By their names."""
        ...

    @property
    def redis(self) -> RedisClient | None: ...
    @property
    def reloader(self) -> Reloader | None: ...
    @property
    def smtp_listeners(self) -> Iterable[Listener]: ...
    @property
    def tls_context(
        self,
    ) -> Callable[[str, KeySource | None, KeySource | None], Awaitable[ssl.SSLContext]]:
        """The server context for a host name, certificate and key. Raises OSError or ValueError."""
        ...

    def set_diagnostic_filter(self, directives: str) -> None: ...
    def bump_config_epoch(self) -> None: ...


def not_accepting(node: Node) -> str | None:
    """Why no mail is taken just now, in KumoMTA's words."""
    if node.stopping:
        return "shutting down"
    if node.memory.over_soft_limit:
        return "load shedding"
    if not node.ready:
        return "waiting for spool startup"
    if node.disk_full:
        return "storage is too full"
    return None
