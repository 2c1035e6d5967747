"""What a policy may ask of the node that runs it; the daemon implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kumo_py.core.capacities import Capacities
    from kumo_py.core.templates import Templates
    from kumo_py.dns import Resolver, Resolvers
    from kumo_py.inject import Injector
    from kumo_py.limits.shared import SharedThrottles
    from kumo_py.logs import DeliveryLog
    from kumo_py.logs.config import LocalLogsConfig
    from kumo_py.message.message import Message
    from kumo_py.net.redis import RedisOptions
    from kumo_py.policy.params import HttpListenerParams
    from kumo_py.queue.admin import AdminRules
    from kumo_py.queue.queues import Queues
    from kumo_py.smtp_in.params import ListenerParams
    from kumo_py.spool.config import SpoolConfig


class Memory(Protocol):
    """What the node may use, in bytes; None is not known."""

    hard_limit: int | None

    @property
    def soft_limit(self) -> int | None: ...
    @soft_limit.setter
    def soft_limit(self, limit: int) -> None: ...
    @property
    def low_threshold(self) -> int | None: ...
    @low_threshold.setter
    def low_threshold(self, limit: int) -> None: ...


class Host(Protocol):
    """The node, as Lua functions reach it.

    A ValueError or OSError becomes an error of the policy, at the line that called the function.
    """

    @property
    def hostname(self) -> str:
        """The machine's name: the default of listeners and headers."""
        ...

    def wall(self) -> float:
        """Unix time in seconds that never steps."""
        ...

    def new_id(self) -> bytes:
        """A spool id for a message that is made now."""
        ...

    @property
    def queues(self) -> Queues:
        """The node's queues, and its message spool with them. Raises ValueError until the node runs."""
        ...

    @property
    def log(self) -> DeliveryLog:
        """The delivery log. Raises ValueError until the node runs."""
        ...

    @property
    def templates(self) -> Templates:
        """The node's compiled templates."""
        ...

    @property
    def injector(self) -> Injector:
        """Makes messages of injection requests."""
        ...

    async def start_esmtp_listener(self, params: ListenerParams) -> None: ...

    async def start_http_listener(self, params: HttpListenerParams) -> None: ...

    async def metrics(self) -> dict[str, object]:
        """All metrics, by name, as GET /metrics.json has them."""
        ...

    async def define_spool(self, config: SpoolConfig) -> None: ...

    async def configure_local_logs(self, config: LocalLogsConfig) -> None: ...

    @property
    def resolvers(self) -> Resolvers:
        """The default resolver, which the queues use, and those that the policy named."""
        ...

    @property
    def resolver(self) -> Resolver:
        """The default one; the same object for the node's whole life."""
        ...

    @property
    def admin(self) -> AdminRules:
        """What operators suspend and bounce; there before the queues run."""
        ...

    @property
    def capacities(self) -> Capacities:
        """How large the node's caches may be."""
        ...

    @property
    def throttles(self) -> SharedThrottles:
        """Those that the policy names."""
        ...

    async def share_limits(self, options: RedisOptions) -> None:
        """Count throttles and connections in Redis, together with other nodes. Raises ValueError or OSError."""
        ...

    async def shutdown_within(self, seconds: float) -> bool:
        """Wait; True at once when the node begins to shut down."""
        ...

    async def load_message(self, msg: Message) -> None:
        """Bring what is only in the spool into memory. Raises KeyError or OSError."""
        ...

    def diagnostic(self, level: str, text: str) -> None:
        """Log a line of the policy's; the level is error, warn, info or debug."""
        ...

    def set_diagnostic_filter(self, directives: str) -> None:
        """Which lines are logged from now on (KumoMTA's filter syntax). Raises ValueError."""
        ...

    @property
    def memory(self) -> Memory: ...

    def set_config_monitor_globs(self, globs: list[str]) -> None:
        """Which files begin a new config epoch when they are edited. Raises ValueError."""
        ...

    async def monitored_files(self) -> list[str]:
        """What these match now."""
        ...

    def bump_config_epoch(self) -> None:
        """Begin a new config epoch soon."""
        ...

    def spawn(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run something in the background as long as the node runs; an error is logged and ends it."""
        ...

    def suspend_delivery_when_spool_unhealthy(self, enabled: bool) -> None:
        """Whether queues wait while the spool cannot write removals."""
        ...

    def validation_failed(self) -> None:
        """The policy says that it is not fit to serve."""
        ...
