"""A node that only remembers what its policy asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import trio

from kumo_py.core.capacities import Capacities
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.core.templates import Templates
from kumo_py.dns import Resolvers, ZoneBackend
from kumo_py.inject import Injector
from kumo_py.limits.shared import SharedThrottles
from kumo_py.queue.admin import AdminRules

if TYPE_CHECKING:
    from kumo_py.dns import Resolver
    from kumo_py.message.message import Message
    from kumo_py.policy import LuaPolicy
    from kumo_py.policy.context import Limits

SPOOLED = b"Subject: from the spool\r\n\r\nbody\r\n"


class MakePolicy(Protocol):
    """Make a policy of Lua text that follows the line `local kumo = …`."""

    def __call__(
        self, text: str | bytes, *, limits: Limits | None = None, validating: bool = False
    ) -> LuaPolicy: ...


async def run(policy: MakePolicy, code: str, *args: object) -> Any:
    """What a handler of that code returns; its arguments are `...`."""
    lua = policy(f"kumo.on('mine', function(...)\n{code}\nend)")
    await lua.load()
    try:
        return await lua.ask("mine", *args)
    finally:
        lua.close()


class RecordingHost:
    """Every call as (name, argument)."""

    hostname = "mx.example.com"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._began: float | None = None
        self._ids = SpoolIdSource(b"policy", 0)
        self.node: Any = None
        """Something with queues and a log."""
        self.policy: Any = None
        """The one that was made last."""
        self.injector = Injector(self)
        self.resolvers = Resolvers(backend=ZoneBackend())
        self.admin = AdminRules(trio.current_time, self.wall)
        self.capacities = Capacities()
        self.throttles = SharedThrottles(trio.current_time)
        self.shutdown = trio.Event()
        self.templates = Templates(self.wall)
        self.monitored: list[str] = []

    def wall(self) -> float:
        """A fixed day and hour when first asked, and trio's clock from there."""
        if self._began is None:
            self._began = trio.current_time()
        return 1_800_000_000.0 + trio.current_time() - self._began

    def new_id(self) -> bytes:
        return self._ids.next(int(self.wall() * 1e9))

    @property
    def queues(self) -> Any:
        """Those of a test that has some."""
        if self.node is None:
            raise ValueError("there are no queues yet")
        return self.node.queues

    @property
    def log(self) -> Any:
        if self.node is None:
            raise ValueError("there is no delivery log")
        return self.node.log

    def named(self, name: str) -> list[Any]:
        return [argument for called, argument in self.calls if called == name]

    async def start_esmtp_listener(self, params: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(("start_esmtp_listener", params))

    async def start_http_listener(self, params: Any) -> None:
        self.calls.append(("start_http_listener", params))

    async def metrics(self) -> dict[str, object]:
        return {"lua_count": {"help": "contexts", "type": "gauge", "value": 1}}

    async def define_spool(self, config: Any) -> None:
        self.calls.append(("define_spool", config))

    async def configure_local_logs(self, config: Any) -> None:
        self.calls.append(("configure_local_logs", config))

    @property
    def resolver(self) -> Resolver:
        return self.resolvers.default

    async def load_message(self, msg: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(("load_message", msg.id))
        if not msg.meta_loaded:
            msg.sender, msg.recipients, msg.meta = "from@spool.example", ("to@spool.example",), {}
        msg.load_data(SPOOLED)

    async def share_limits(self, options: Any) -> None:
        self.calls.append(("share_limits", options))

    async def shutdown_within(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self.shutdown.wait()
            return True
        return False

    def diagnostic(self, level: str, text: str) -> None:
        self.calls.append((level, text))

    def set_diagnostic_filter(self, directives: str) -> None:
        self.calls.append(("filter", directives))

    def validation_failed(self) -> None:
        self.calls.append(("validation_failed", None))

    async def monitored_files(self) -> list[str]:
        return self.monitored

    def bump_config_epoch(self) -> None:
        self.calls.append(("bump_config_epoch", None))

    def spawn(self, what: str, run: Any) -> None:
        """The test runs it."""
        self.calls.append(("spawn", run))
