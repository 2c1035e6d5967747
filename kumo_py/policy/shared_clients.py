"""Clients of brokers that all contexts of a node share.

A policy file runs once per context, and a constructor of `custom_lua` once per connection; many policies even connect
anew for each message. So whoever gives the same options gets a handle on the same client. It lives as long as a
handle on it is neither closed nor garbage, a little longer, and never longer than the node.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import finalize

import trio

from kumo_py.core.options import OptionError, convert
from kumo_py.policy.conversion import LuaTable, plain, remembered, text_key
from kumo_py.policy.types import BYTES, OptionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import msgspec

    from kumo_py.policy.context import LuaContext
    from kumo_py.policy.conversion import LuaValue

LINGER = 5.0
"""Seconds that a client is kept after the last handle on it was closed; it may be twice as many."""


class Client(Protocol):
    """What can be shared."""

    async def run(self) -> None:
        """Serve those who use it until cancelled, or until it is of no more use; then close. Raises nothing."""


C = TypeVar("C", bound=Client)


@dataclass(slots=True, eq=False)
class _Entry(Generic[C]):
    client: C
    users: int = 0
    idle_since: float = 0.0
    """Trio time."""


class SharedClients(Generic[C]):
    """The node's clients of one kind, by what they were made with."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry[C]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def join(
        self, ctx: LuaContext, key: Hashable, what: str, make: Callable[[], C], *, linger: float | None = None
    ) -> tuple[C, Callable[[], None]]:
        """The client with this key, which is made if need be; and what gives it up, to be called once.

        `linger` is in seconds, LINGER unless given.
        Raises ValueError when the node has ended.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(make())
            ctx.env.host.spawn(what, lambda: self._keep(key, entry, LINGER if linger is None else linger))
            self._entries[key] = entry
        entry.users += 1

        def leave() -> None:
            entry.users -= 1
            entry.idle_since = trio.current_time()

        return entry.client, leave

    async def _keep(self, key: Hashable, entry: _Entry[C], linger: float) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run, key, entry, nursery.cancel_scope)
                entry.idle_since = trio.current_time()
                while entry.users or trio.current_time() < entry.idle_since + linger:  # noqa: ASYNC110
                    await trio.sleep(linger)
                self._forget(key, entry)
                nursery.cancel_scope.cancel()
        finally:
            self._forget(key, entry)

    async def _run(self, key: Hashable, entry: _Entry[C], scope: trio.CancelScope) -> None:
        await entry.client.run()
        self._forget(key, entry)
        scope.cancel()

    def _forget(self, key: Hashable, entry: _Entry[C]) -> None:
        if self._entries.get(key) is entry:
            del self._entries[key]


class Handle(Generic[C]):
    """A policy's hold on a client. One that a validated policy made has none."""

    def __init__(self, client: C | None = None, leave: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self.is_closed = False
        token = trio.lowlevel.current_trio_token()
        self._leave = finalize(self, _leave_soon, token, leave)
        self._leave.atexit = False

    @property
    def client(self) -> C:
        """Raises ValueError."""
        if self.is_closed:
            raise ValueError("client was closed")
        if self._client is None:
            raise ValueError(NOT_NOW)
        return self._client

    def close(self) -> None:
        """Give the client up; may be called again."""
        self.is_closed = True
        self._leave()


NOT_NOW = "nothing is sent while a configuration is only validated: see _VALIDATING_CONFIG"


def _leave_soon(token: trio.lowlevel.TrioToken, leave: Callable[[], None]) -> None:
    """From wherever the garbage collector runs."""
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(leave)


def require_package(label: str, package: str, extra: str) -> None:
    """Raises ValueError if a package that a function needs is not installed."""
    if find_spec(package) is None:
        raise ValueError(f"{label} needs kumo-py[{extra}]: pip install 'kumo-py[{extra}]'")


class Payload(bytes):
    """The content of a record: octets, where other options are text."""

    option_type = "string"

    @classmethod
    def from_option(cls, value: object) -> Payload:
        if isinstance(value, str):
            return cls(value.encode())
        raise ValueError("must be a string")


class RecordTable(OptionTable):
    """The options of something to be published, whose `payload` may be any octets."""

    def from_lua(self, ctx: LuaContext, raw: LuaValue, what: str) -> msgspec.Struct:
        raw = remembered(ctx, raw)
        items = dict(raw.items()) if type(raw) is LuaTable else {}
        if b"payload" not in items:
            return super().from_lua(ctx, raw, what)
        try:
            payload = Payload(BYTES.from_lua(ctx, items.pop(b"payload"), what))
        except ValueError as err:
            raise OptionError(f"{what}: option 'payload' {err}") from None
        value: dict[str, object] = {text_key(key): plain(ctx, item) for key, item in items.items()}
        return convert(value | {"payload": payload}, self.struct, what)
