"""Hot reload: an edited policy is tried first, beside the one that runs, and takes over only if it is sound.

It is tried in a thread with an event loop and a Lua of its own, as `--validate` does it: its file is run, and its
`pre_init`, `init` and `validate_config` events, without effect. So neither an error nor an endless loop in it
touches the node. Then its contexts take over: what is under way ends with the old ones. What `init` asked for when
the node started stays as it is; where the new `init` asks for something else, that is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.policy.configured import changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kumo_py.daemon.config_monitor import ConfigMonitor
    from kumo_py.policy import LuaPolicy
    from kumo_py.policy.configured import Configured
    from kumo_py.policy.source import PolicySource

log = structlog.get_logger("kumo_py.config")

TRIAL_TIME = 60.0
"""Seconds that an edited policy has to load and to run its start-up events."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An edited policy that is fit to serve."""

    source: PolicySource
    configured: list[Configured]


@dataclass(slots=True)
class PolicyStatus:
    """What runs and how it came about; times are Unix seconds."""

    epoch: int = 0
    """Grows with each policy that takes over, and with each bump of the config epoch."""
    since: float = 0.0
    reloads: int = 0
    failures: int = 0
    error: str | None = None
    """Why the last edit was refused; None when the last one was taken."""
    failed_at: float | None = None
    restart_needed: list[str] = field(default_factory=list)
    """What takes effect at the next start only."""


class Reloader:
    """Owns the monitor and the status. Run `serve` in a nursery once the node is ready."""

    def __init__(
        self,
        policy: LuaPolicy,
        monitor: ConfigMonitor,
        *,
        try_policy: Callable[[], Awaitable[Trial]],
        taken: Callable[[], None],
        wall: Callable[[], float],
    ) -> None:
        """`try_policy` raises PolicyError or Rejection; `taken` is called when a new epoch has begun."""
        self._policy = policy
        self._monitor = monitor
        self._try = try_policy
        self._taken = taken
        self._wall = wall
        self._lock = trio.Lock()
        self._requested = trio.Event()
        self.status = PolicyStatus()

    async def serve(self) -> None:
        """Reload after each edit and each request, for ever."""
        self._begin_epoch()
        self._monitor.use(read=self._policy.source.digests)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._monitor.watch, self.reload)
            while True:
                await self._requested.wait()
                self._requested = trio.Event()
                await self.bump()

    def request(self) -> None:
        """Begin a new epoch soon (`kumo.bump_config_epoch`); several requests may become one."""
        self._requested.set()

    async def bump(self) -> None:
        """Begin a new epoch; what has been edited since is tried first, what has not needs no trial."""
        source = self._policy.source
        if not await self._monitor.is_current(source.digests):
            await self.reload()
            return
        async with self._lock:
            try:
                await self._policy.load(source)
            except PolicyError as err:
                self._refuse(str(err))
                return
            self._begin_epoch()
            log.info(f"epoch {self.status.epoch} begins, with the same policy")

    async def reload(self) -> None:
        """Let the policy as it is on disk take over if it is sound; `status` says what came of it."""
        async with self._lock:
            try:
                trial = await self._try()
                while not await self._monitor.is_current(trial.source.digests):
                    trial = await self._try()  # it was edited under our hands
                await self._policy.load(trial.source)
            except (PolicyError, Rejection) as err:
                self._refuse(str(err))
                return
            self.status.reloads += 1
            self.status.error = None
            self.status.restart_needed = changes(self._policy.configured, trial.configured)
            self._monitor.use(_globs(trial.configured), self._policy.source.digests)
            self._begin_epoch()
            log.info(f"the policy has changed: epoch {self.status.epoch} begins")
            for change in self.status.restart_needed:
                log.warning(f"takes effect at the next start only: {change}")

    def _refuse(self, error: str) -> None:
        self.status.failures += 1
        self.status.error = error
        self.status.failed_at = self._wall()
        log.error(f"the edited policy is refused; epoch {self.status.epoch} goes on: {error}")

    def _begin_epoch(self) -> None:
        self.status.epoch = self._policy.epoch
        self.status.since = self._wall()
        self._taken()


def _globs(configured: list[Configured]) -> list[str] | None:
    """What the new `init` wants monitored, if it says so."""
    for call in configured:
        if call.label == "kumo.set_config_monitor_globs":
            globs = call.arguments[0]
            assert isinstance(globs, list)
            return globs
    return None
