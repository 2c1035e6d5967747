"""A node: one policy, its listeners, spool, queues and logs; the order in which they start and stop.

Start: policy, `pre_init`, `init` (which defines spools and logs and binds listeners), queues, listeners, then
what the spool holds. Stop: listeners first, so that nothing new comes in; then sessions and dispatchers finish what
they have in hand, within `grace` seconds; logs and spool close last. A second signal skips the grace. Nothing
answered with 250 is lost either way, because the spool was written before the answer.
"""

from __future__ import annotations

import signal
import uuid
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.admin import HttpListeners
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.daemon.clock import wall_clock
from kumo_py.daemon.policy_host import PolicyHost
from kumo_py.daemon.reload import TRIAL_TIME, Reloader, Trial
from kumo_py.daemon.server_tls import ServerContexts
from kumo_py.inject import Generator
from kumo_py.logs import DeliveryLog
from kumo_py.logs.trace import Trace, Traces
from kumo_py.policy import LuaPolicy
from kumo_py.queue.custom_lua import LuaDelivery
from kumo_py.queue.deferred_injection import DeferredInjection
from kumo_py.queue.enumeration import enumerate_spool
from kumo_py.queue.log_records import LogRecordSink
from kumo_py.queue.queues import Queues
from kumo_py.smtp_in import Listener, Services
from kumo_py.smtp_in.reports import ReceivedReports
from kumo_py.smtp_out.session import SmtpDelivery
from kumo_py.spool import SpoolError
from kumo_py.spool.messages import MessageSpool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from ssl import SSLContext

    from kumo_py.logs.diagnostics import Diagnostics

log = structlog.get_logger("kumo_py.daemon")

DEFAULT_GRACE = 30.0
"""Seconds that sessions and dispatchers have to finish after the first signal."""
CLOSE_TIME = 10.0
"""Seconds that logs and spools have at least to write out what they hold, at the very end."""


class StartupError(Exception):
    """The node cannot start; the text says why and what would help."""


class Node(PolicyHost):
    """Several may run in one process."""

    def __init__(
        self,
        policy_path: Path,
        *,
        grace: float = DEFAULT_GRACE,
        diagnostics: Diagnostics | None = None,
    ) -> None:
        super().__init__(diagnostics)
        self._policy_path = policy_path
        self._grace = grace
        self._validating = False
        self.nodeid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self._hostname}.{uuid.getnode():012x}"))
        self._stop_now = trio.CancelScope()
        self._tls_contexts = ServerContexts()
        self.capacities.adopt_cache(self._tls_contexts.kept)
        self.traces = Traces(Trace(lambda: self.wall()), Trace(lambda: self.wall()))
        self.http = HttpListeners(self)

    # -- life --------------------------------------------------------------------------------------
    async def serve(self, *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop` is called twice, or once and all is finished. Raises StartupError."""
        self.policy = self._make_policy()
        self.started = self.wall()
        self._log = DeliveryLog(self.nodeid, self.wall, self.policy, self.templates)
        try:
            with self._stop_now:
                async with trio.open_nursery() as support:
                    await self._start(support)
                    task_status.started(self)
                    log.info("initialization complete")
                    await self._stop.wait()
                    log.info("shutting down")
                    await self._finish()
                    support.cancel_scope.cancel()
        finally:
            await self._close()

    def stop(self) -> None:
        """Begin to stop; called again, stop now."""
        if self._stop.is_set():
            self._stop_now.cancel()
        self._stop.set()

    async def serve_until_signalled(self) -> bool:
        """`serve`, with SIGTERM, SIGINT and SIGHUP each calling `stop`."""
        problem: StartupError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_signals)
            try:
                await self.serve()
            except* StartupError as group:
                problem = _first(group)
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return True

    async def validate(self) -> bool:
        """Load the policy and run its start-up events without effect; whether it is fit to serve.

        Raises PolicyError or Rejection.
        """
        await self.load_to_ask()
        await self.policy.ask("validate_config")
        return self._valid

    async def load_to_ask(self) -> None:
        """Load the policy and run its start-up events without effect, so that its other events can be asked.

        Raises PolicyError or Rejection.
        """
        self._validating = True
        await self._load_policy()
        for event in ("pre_init", "init"):
            await self.policy.ask(event)

    async def run_script(self, *args: str) -> bool:
        """Load the policy and run its `main` event. Raises PolicyError or Rejection."""
        problem: BaseException | None = None
        async with trio.open_nursery() as self._support:
            try:
                await self._load_policy()
                await self.policy.ask("main", *args)
            except (PolicyError, Rejection, KeyboardInterrupt) as err:
                problem = err
            self._support.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return True

    async def _load_policy(self) -> None:
        self.policy = self._make_policy()
        await self.policy.load()

    def _make_policy(self) -> LuaPolicy:
        self.wall: Callable[[], float] = wall_clock()
        policy = LuaPolicy(self._policy_path, self, trio.current_time, validating=self._validating)
        for cache in (policy.access.definitions, policy.access.decisions):
            self.capacities.adopt_cache(cache)
        return policy

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                log.info(f"received {signal.Signals(number).name}")
                self.stop()

    async def _start(self, support: trio.Nursery) -> None:
        self._support = support
        self.http.serve_in(support)
        await support.start(self.log.serve)
        try:
            await self.policy.load()
            await self.policy.ask("pre_init")
            await self.policy.ask("init")
        except (PolicyError, Rejection) as err:
            raise StartupError(str(err)) from err
        missing = [name for name in ("data", "meta") if name not in self._spools]
        if missing:
            raise StartupError(
                f"no spool named {' and '.join(missing)}: call kumo.define_spool {{ name = '{missing[0]}', "
                "path = '/var/spool/…' } in the policy's init event"
            )
        spool = MessageSpool(self._spools["data"], self._spools["meta"])
        found = spool.reconcile()
        self._queues = Queues(
            policy=self.policy,
            spool=spool,
            delivery_log=self.log,
            resolver=self.resolver,
            throttles=self.throttles.local,
            rates=self.throttles,
            leases=self._leases,
            wall=self.wall,
            admin=self.admin,
        )
        if self._redis is not None:
            self._share_leases(self._redis, self.queues)
        self.queues.suspend_when_spool_unhealthy = self._suspend_when_spool_unhealthy
        self.queues.memory_state = lambda: self.memory.state
        self.memory.on_shortage = self.queues.memory.shrink_all
        egress = self.queues.placement.egress
        self.capacities.adopt_cache(egress.pools)
        self.capacities.adopt_cache(egress.sources)
        delivery = SmtpDelivery(self.queues, self._hostname, self.traces.client)
        self.dane_results = delivery.tls.dane
        for cache in delivery.tls.caches:
            self.capacities.adopt_cache(cache)
        self.queues.dispatchers["smtp_client"] = delivery.run
        self.queues.dispatchers["lua"] = LuaDelivery(self.queues).run
        DeferredInjection(self.queues)
        Generator(self.queues, self.injector)
        support.start_soon(delivery.watch)
        self._queues_done = trio.Event()
        await support.start(self._serve_queues)
        self.log.connect(LogRecordSink(self.queues, self.new_id))
        self._services = self._make_services(spool)
        self._starting = False
        for listener in self._listeners:
            await self._open(listener)
        support.start_soon(enumerate_spool, self.queues, found)
        support.start_soon(self.memory.watch)
        support.start_soon(self.cpu.watch)
        self.reloader = Reloader(
            self.policy,
            self._monitor,
            try_policy=self._try_policy,
            taken=self._epoch_began,
            wall=self.wall,
        )
        support.start_soon(self.reloader.serve)

    def _epoch_began(self) -> None:
        self._support.start_soon(self.log.reload_classifier)
        if self._queues is not None:
            self._queues.epoch_changed()

    async def _try_policy(self) -> Trial:
        return await trio.to_thread.run_sync(trio.run, try_policy, self._policy_path, abandon_on_cancel=True)

    async def _serve_queues(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self.queues.serve(task_status=task_status)
        finally:
            self._queues_done.set()

    async def _close(self) -> None:
        """Write out what logs and spools hold; that takes its time whatever the grace."""
        for listener in self._listeners:
            listener.close()
        self.http.close()
        if self._redis is not None:
            self._redis.close()
        with trio.move_on_after(max(self._grace, CLOSE_TIME), shield=True):
            try:
                await self.policy.ask("shutdown_logging")
            except (PolicyError, Rejection) as err:
                log.error("shutdown_logging failed", error=str(err))
            await self.log.aclose()
            for name, spool in self._spools.items():
                try:
                    await spool.aclose()
                except SpoolError as err:
                    log.error(f"spool {name} was not closed in good order: {err}")

    async def _finish(self) -> None:
        """Let sessions and dispatchers come to an end within the grace, neither waiting for the other."""
        with trio.move_on_after(self._grace) as scope:
            async with trio.open_nursery() as stopping:
                for listener in self._listeners:
                    stopping.start_soon(listener.stop, self._grace)
                self.queues.stop()
                await self._queues_done.wait()
            await self.http.stop()  # last, so that operators see what the others do
        if scope.cancelled_caught:
            log.warning(f"sessions did not finish within {self._grace:g}s; they are cut off")

    def _make_services(self, spool: MessageSpool) -> Services:
        return Services(
            policy=self.policy,
            queues=self.queues,
            spool=spool,
            log=self.log,
            new_id=self.new_id,
            wall=self.wall,
            refusing=self._refusing,
            tls_context=self._tls_contexts.get,
            hostname=self._hostname,
            reports=ReceivedReports(self.log),
            trace=self.traces.server,
        )

    def _refusing(self) -> str | None:
        """Why mail is not accepted just now, for a 421."""
        if self._stop.is_set():
            return "shutting down"
        if self.disk_full:
            return "disk is too full. Try later"
        if self.memory.over_soft_limit:
            return "load shedding. Try later"
        return None

    # -- what the HTTP listeners ask for ------------------------------------------------------------
    @property
    def ready(self) -> bool:
        return self.reloader is not None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def disk_full(self) -> bool:
        return bool(any(spool.free_space_low() for spool in self._spools.values()) or self.log.disk_low())

    @property
    def smtp_listeners(self) -> list[Listener]:
        return self._listeners

    @property
    def tls_context(self) -> Callable[..., Awaitable[SSLContext]]:
        return self._tls_contexts.context


async def try_policy(path: Path) -> Trial:
    """Validate a policy in a node of its own. Raises PolicyError or Rejection."""
    node = Node(path)
    sound = False
    try:
        with trio.move_on_after(TRIAL_TIME) as scope:
            sound = await node.validate()
    finally:
        node.policy.close()
    if scope.cancelled_caught:
        raise PolicyError(f"its start-up events took more than {TRIAL_TIME:g}s")
    if not sound:
        raise PolicyError("it called kumo.validation_failed")
    return Trial(node.policy.source, node.policy.configured)


def _first(group: BaseExceptionGroup[StartupError]) -> StartupError:
    """The error inside the groups that nurseries make."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
