"""What a policy sets up of its node, and what its functions reach there (policy.host.Host).

`pre_init` and `init` fill it in before anything runs; the node then starts what is there (node.py).
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.capacities import Capacities
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.core.templates import Templates
from kumo_py.daemon.config_monitor import ConfigMonitor
from kumo_py.daemon.cpu import CpuUsage
from kumo_py.daemon.memory import Memory
from kumo_py.dns import PolicyFetcher, Resolvers
from kumo_py.inject import Injector
from kumo_py.limits.lease import Leases
from kumo_py.limits.redis import RedisLeases, RedisThrottles
from kumo_py.limits.shared import SharedThrottles
from kumo_py.net.redis import RedisClient
from kumo_py.queue.admin import AdminRules
from kumo_py.smtp_in import Listener
from kumo_py.spool import Spool, SpoolError, open_spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kumo_py.admin import HttpListeners
    from kumo_py.daemon.reload import Reloader
    from kumo_py.dns import Resolver
    from kumo_py.logs import DeliveryLog, LocalLogsConfig
    from kumo_py.logs.diagnostics import Diagnostics
    from kumo_py.message.message import Message
    from kumo_py.net.redis import RedisOptions
    from kumo_py.policy import LuaPolicy
    from kumo_py.policy.params import HttpListenerParams
    from kumo_py.queue.queues import Queues
    from kumo_py.smtp_in import Services
    from kumo_py.smtp_in.params import ListenerParams
    from kumo_py.smtp_out.dane import DaneResult
    from kumo_py.spool import SpoolConfig

log = structlog.get_logger("kumo_py.daemon")


class PolicyHost:
    """The node without its life."""

    policy: LuaPolicy
    http: HttpListeners
    wall: Callable[[], float]
    _support: trio.Nursery
    _services: Services

    def __init__(self, diagnostics: Diagnostics | None) -> None:
        self._diagnostics = diagnostics
        self._hostname = socket.gethostname()
        self._valid = True
        self._starting = True
        self.started = time.time()
        """Unix time."""
        self._stop = trio.Event()
        self._spools: dict[str, Spool] = {}
        self._listeners: list[Listener] = []
        self._suspend_when_spool_unhealthy = True
        self._log: DeliveryLog | None = None
        self._queues: Queues | None = None
        self._ids = SpoolIdSource(os.urandom(6), int.from_bytes(os.urandom(2)) & 0x3FFF)
        self.addresses: dict[str, list[str]] = {"smtp": [], "http": []}
        """What is bound, as `ip:port`, by kind of listener."""
        self.resolvers = Resolvers()
        self.resolvers.mta_sts.fetch = PolicyFetcher()
        self.admin = AdminRules(trio.current_time, lambda: self.wall())
        self.throttles = SharedThrottles(trio.current_time)
        self._leases = Leases()
        self._redis: RedisClient | None = None
        self.templates = Templates(lambda: self.wall())
        self.injector = Injector(self)
        self.memory = Memory()
        self.cpu = CpuUsage()
        self.dane_results: Counter[DaneResult] = Counter()
        self._monitor = ConfigMonitor()
        self.reloader: Reloader | None = None
        """None until the node is ready."""
        self.capacities = Capacities()
        self.capacities.adopt("dns_resolver_mx", self.resolvers.resize_mx_caches)
        self.capacities.adopt("dns_resolver_ip", self.resolvers.resize_address_caches)
        self.capacities.adopt("mta_sts_policy", self.resolvers.mta_sts.resize)

    @property
    def hostname(self) -> str:
        return self._hostname

    def new_id(self) -> bytes:
        return self._ids.next(time.time_ns())

    @property
    def queues(self) -> Queues:
        if self._queues is None:
            raise ValueError("there are no queues yet: they run once the init event is over")
        return self._queues

    @property
    def log(self) -> DeliveryLog:
        if self._log is None:
            raise ValueError("there is no delivery log: the node does not run")
        return self._log

    async def start_esmtp_listener(self, params: ListenerParams) -> None:
        """Bound at once, so that an address in use is an error of the policy; served when the node is ready."""
        listener = Listener(params)
        listener.bind()
        self._listeners.append(listener)
        if not self._starting:
            await self._open(listener)

    async def _open(self, listener: Listener) -> None:
        address = await self._support.start(listener.serve, self._services)
        self.addresses["smtp"].append(address)
        log.info(f"smtp listener on {address}")

    async def start_http_listener(self, params: HttpListenerParams) -> None:
        self.addresses["http"].append(await self.http.start(params))

    async def metrics(self) -> dict[str, object]:
        return await self.http.metrics()

    async def define_spool(self, config: SpoolConfig) -> None:
        if config.name in self._spools:
            raise ValueError(f"spool '{config.name}' is defined already")
        try:
            spool = self._spools[config.name] = await open_spool(config)
        except SpoolError as err:
            raise ValueError(str(err)) from err
        for notice in (spool.notice, *spool.problems):
            if notice:
                log.warning(f"spool {config.name}: {notice}")

    @property
    def spools(self) -> dict[str, Spool]:
        return self._spools

    async def configure_local_logs(self, config: LocalLogsConfig) -> None:
        await self.log.add_local(config)

    @property
    def resolver(self) -> Resolver:
        return self.resolvers.default

    async def load_message(self, msg: Message) -> None:
        await self.queues.spool.load(msg)

    async def share_limits(self, options: RedisOptions) -> None:
        if self._redis is not None:
            raise ValueError("Redis counts the limits already: it can be configured once")
        client = RedisClient(options)
        store = await RedisThrottles.connect(client)
        self._redis, self.throttles.store = client, store
        if self._queues is not None:
            self._share_leases(client, self._queues)

    def _share_leases(self, client: RedisClient, queues: Queues) -> None:
        queues.limits.leases = RedisLeases(
            client, self._leases, spawn=queues.spawn, granted=queues.connect_now
        )

    @property
    def redis(self) -> RedisClient | None:
        """That counts limits for several nodes."""
        return self._redis

    async def shutdown_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self._stop.wait()
            return True
        return False

    def diagnostic(self, level: str, text: str) -> None:
        getattr(log, "warning" if level == "warn" else level)(text)

    def set_diagnostic_filter(self, directives: str) -> None:
        if self._diagnostics is not None:
            self._diagnostics.set_filter(directives)

    def set_config_monitor_globs(self, globs: list[str]) -> None:
        self._monitor.use(globs)

    async def monitored_files(self) -> list[str]:
        return await self._monitor.files()

    def bump_config_epoch(self) -> None:
        if self.reloader is not None:
            self.reloader.request()

    def spawn(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            self._support.start_soon(self._in_background, what, run)
        except RuntimeError:
            raise ValueError(f"{what} cannot be started: the node has ended") from None

    async def _in_background(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except (PolicyError, Rejection) as err:
            log.error(f"{what} has ended: {err}")

    def suspend_delivery_when_spool_unhealthy(self, enabled: bool) -> None:
        self._suspend_when_spool_unhealthy = enabled

    def validation_failed(self) -> None:
        self._valid = False
