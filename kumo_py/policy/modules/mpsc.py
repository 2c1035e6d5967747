"""The `kumo.mpsc` module: named queues of values, between all events of a node; many may send, one receives."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from kumo_py.policy.registry import Kind, Owner, Param
from kumo_py.policy.types import BOOLEAN, INTEGER, NUMBER, SHARED, TEXT, ListOf

if TYPE_CHECKING:
    from kumo_py.policy.context import LuaContext

mpsc = Owner("kumo.mpsc")

_SINCE = "2025.10.06-5ec871ab"


class ValueQueue:
    """Values in the order they were sent. Closed, it takes no more, and gives what it has."""

    __slots__ = ("_has_room", "_has_values", "_is_receiving", "is_closed", "limit", "values")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.values: deque[Any] = deque()
        self.is_closed = False
        self._has_values = trio.lowlevel.ParkingLot()
        self._has_room = trio.lowlevel.ParkingLot()
        self._is_receiving = False

    def put(self, value: object) -> bool:
        """Whether there was room. Raises ValueError if the queue is closed."""
        if self.is_closed:
            raise ValueError("the queue is closed")
        if self.limit is not None and len(self.values) >= self.limit:
            return False
        self.values.append(value)
        self._has_values.unpark()
        return True

    async def send(self, value: object) -> None:
        """Wait for room. Raises ValueError if the queue is closed."""
        await trio.lowlevel.checkpoint()
        while not self.put(value):
            await self._has_room.park()

    def take(self, limit: int) -> list[Any]:
        """Up to `limit` values that are there."""
        taken = [self.values.popleft() for _ in range(min(limit, len(self.values)))]
        self._has_room.unpark(count=len(taken))
        return taken

    async def receive(self, limit: int) -> list[Any]:
        """Wait for values, and take up to `limit`; none come from a queue that is closed and empty.

        Raises ValueError while somebody else receives.
        """
        self.check_receiver()
        self._is_receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not self.values and not self.is_closed:
                await self._has_values.park()
            return self.take(limit)
        finally:
            self._is_receiving = False

    def check_receiver(self) -> None:
        """Raises ValueError while somebody waits for values."""
        if self._is_receiving:
            raise ValueError("the queue has a receiver already, and can have only one at a time")

    def close(self) -> None:
        """Take no more; wake who waits."""
        self.is_closed = True
        self._has_values.unpark_all()
        self._has_room.unpark_all()


class _Queues(dict[str, ValueQueue]):
    """The node's, by name."""


queue = Kind("queue", ValueQueue)

_VALUE = Param("value", SHARED)


@mpsc.function(
    "define", Param("name", TEXT), Param("limit", INTEGER, optional=True), result=queue.type, since=_SINCE
)
def define(ctx: LuaContext, name: str, limit: int | None) -> ValueQueue:
    """The queue of that name. The first call makes it, and its limit stays; without one it takes all that is sent."""
    if limit is not None and limit < 1:
        raise ValueError(f"the limit must be at least 1, got {limit}")
    queues = ctx.env.state(_Queues)
    if name not in queues:
        queues[name] = ValueQueue(limit)
    return queues[name]


@queue.function("send", _VALUE, since=_SINCE)
async def send(ctx: LuaContext, self: ValueQueue, value: object) -> None:
    """Put a value in, waiting for room; an error if the queue is closed."""
    await self.send(value)


@queue.function("send_timeout", _VALUE, Param("seconds", NUMBER), since=_SINCE)
async def send_timeout(ctx: LuaContext, self: ValueQueue, value: object, seconds: float) -> None:
    """As send, but an error if there is no room in that time."""
    if not seconds >= 0:
        raise ValueError(f"cannot wait for {seconds} seconds")
    with trio.move_on_after(seconds) as waiting:
        await self.send(value)
    if waiting.cancelled_caught:
        raise ValueError(f"there was no room in the queue for {seconds} seconds")


@queue.function("try_send", _VALUE, result=BOOLEAN, since=_SINCE)
def try_send(ctx: LuaContext, self: ValueQueue, value: object) -> bool:
    """Put a value in if there is room and the queue is not closed, and say whether."""
    return not self.is_closed and self.put(value)


@queue.function("recv", result=SHARED, since=_SINCE)
async def recv(ctx: LuaContext, self: ValueQueue) -> object:
    """Wait for a value, and take it; nil once the queue is closed and empty."""
    taken = await self.receive(1)
    return taken[0] if taken else None


@queue.function("try_recv", result=SHARED, since=_SINCE)
def try_recv(ctx: LuaContext, self: ValueQueue) -> object:
    """Take a value if there is one, else nil."""
    self.check_receiver()
    taken = self.take(1)
    return taken[0] if taken else None


@queue.function("recv_many", Param("limit", INTEGER), result=ListOf(SHARED), since=_SINCE)
async def recv_many(ctx: LuaContext, self: ValueQueue, limit: int) -> list[Any] | None:
    """Wait for a value, and take all there are up to the limit; nil once the queue is closed and empty."""
    if limit < 1:
        raise ValueError(f"the limit must be at least 1, got {limit}")
    return await self.receive(limit) or None


@queue.function("len", result=INTEGER, since=_SINCE)
def length(ctx: LuaContext, self: ValueQueue) -> int:
    """How many values are in it."""
    return len(self.values)


@queue.function("is_empty", result=BOOLEAN, since=_SINCE)
def is_empty(ctx: LuaContext, self: ValueQueue) -> bool:
    """Whether no value is in it."""
    return not self.values


@queue.function("is_closed", result=BOOLEAN, since=_SINCE)
def is_closed(ctx: LuaContext, self: ValueQueue) -> bool:
    """Whether it takes no more."""
    return self.is_closed


@queue.function("close", since=_SINCE)
def close(ctx: LuaContext, self: ValueQueue) -> None:
    """Take no more values; what is in it can still be received."""
    self.close()
