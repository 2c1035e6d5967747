"""Messages of a queue, for who asks: as many as wanted, and no longer a look than it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.core.timer_wheel import TimerWheel
from kumo_py.message.message import Message
from kumo_py.message.scheduling import parse_schedule
from kumo_py.queue.config import UNSPECIFIED_POOL, QueueConfig
from kumo_py.queue.egress import SourceSelector
from kumo_py.queue.listing import inspect_message, messages_of
from kumo_py.queue.scheduled import ScheduledQueue
from kumo_py.spool import SpoolError
from kumo_py.spool.messages import encode_meta

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_763_768_000.0


class Store:
    """One of a message spool's two."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.loads = 0
        self.error: Exception | None = None
        self.before_load: Callable[[], None] = lambda: None

    async def load(self, id: bytes) -> bytes:
        self.loads += 1
        self.before_load()
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return self.records[id]


class Spool:
    def __init__(self) -> None:
        self.data, self.meta = Store(), Store()

    async def load_meta(self, msg: Message) -> None:
        from kumo_py.spool.messages import decode_meta

        decode_meta(msg, await self.meta.load(msg.id))


class Promotion:
    waiting: list[Message] = []  # noqa: RUF012


class World:
    """What the listing needs of queues."""

    def __init__(self) -> None:
        self.spool = Spool()
        self.wheel: TimerWheel[Message] = TimerWheel(0.05, NOW)
        self.promotion = Promotion()
        self.in_hand: dict[Message, None] = {}
        self.held: dict[Message, None] = {}
        self.ready: dict[str, Any] = {}
        self.queues: dict[str, ScheduledQueue] = {}
        self._ids = SpoolIdSource(bytes(6), 0)

    def waiting_in(self, name: str) -> list[ScheduledQueue]:
        return [self.queues[name]] if name in self.queues else []

    def message(self, *recipients: str, saved: bool = True) -> Message:
        id = self._ids.next(int(NOW * 1e9))
        msg = Message(id, "from@a.test", recipients or ("to@b.test",), {"key": "value"}, b"caf\xe9")
        if saved:
            self.spool.meta.records[id] = encode_meta(msg)
            self.spool.data.records[id] = b"caf\xe9"
            msg.data_saved = msg.meta_saved = msg.spooled = True
        return msg

    def delay(self, queue: str, *, shrunk: bool = True, after: float = 3600.0) -> Message:
        msg = self.message()
        if queue not in self.queues:
            self.queues[queue] = ScheduledQueue(queue, QueueConfig(), SourceSelector(UNSPECIFIED_POOL))
        msg.queue = self.queues[queue]
        self.queues[queue].delayed += 1
        msg.due = NOW + after
        if shrunk:
            msg.shrink_data()
            msg.shrink_meta()
        self.wheel.insert(msg.due, msg)
        return msg

    async def listed(self, name: str, limit: int | None = None, *, want_body: bool = False) -> list[Any]:
        found = messages_of(self, name, limit, want_body=want_body)  # type: ignore[arg-type]
        return [message async for message in found]


async def test_a_shrunken_message_stays_so() -> None:
    world = World()
    msg = world.delay("b.test")
    [found] = await world.listed("b.test", want_body=True)
    assert found == {
        "id": msg.id.hex(),
        "message": {
            "sender": "from@a.test",
            "recipient": "to@b.test",
            "meta": {"key": "value"},
            "data": "caf\N{REPLACEMENT CHARACTER}",
            "due": "2025-11-22T00:33:20Z",
            "num_attempts": 0,
        },
    }
    assert not msg.meta_loaded
    assert not msg.data_loaded


async def test_what_is_in_memory_is_not_read() -> None:
    world = World()
    world.delay("b.test", shrunk=False)
    [found] = await world.listed("b.test", want_body=True)
    assert found["message"]["meta"] == {"key": "value"}
    assert world.spool.meta.loads == world.spool.data.loads == 0


async def test_other_queues_and_old_slots_are_passed_over() -> None:
    world = World()
    world.delay("a.test")
    gone = world.delay("b.test")
    gone.queue = None
    world.queues["b.test"].delayed -= 1
    moved = world.delay("b.test", after=7200.0)
    world.wheel.insert(NOW + 9000.0, moved)  # the slot before it is void
    kept = [moved.id.hex(), world.delay("b.test", after=100.0).id.hex()]
    found = await world.listed("b.test")
    assert sorted(one["id"] for one in found) == sorted(kept)


async def test_a_look_ends_when_it_has_all(autojump_clock: trio.testing.MockClock) -> None:
    """Neither the limit nor the queue's size is passed, and other tasks have their turns."""
    world = World()
    for number in range(20_000):
        world.delay("big.test", shrunk=False, after=60.0 + number)
    world.delay("small.test", after=30_000.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert len(await world.listed("big.test", 5)) == 5
        assert turns < 10
        assert len(await world.listed("small.test")) == 1
        assert turns > 20_000 // 600
        assert await world.listed("big.test", 0) == []
        assert len(await world.listed("big.test")) == 20_000
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_read_is_left_out() -> None:
    world = World()
    first, second = world.delay("b.test"), world.delay("b.test")
    del world.spool.meta.records[first.id]
    assert [one["id"] for one in await world.listed("b.test")] == [second.id.hex()]
    world.spool.meta.error = SpoolError("the disk is sick")
    assert await world.listed("b.test") == []


async def test_a_message_that_leaves_meanwhile() -> None:
    """It is sent while another one's metadata is being read."""
    world = World()
    first, second = world.delay("b.test"), world.delay("b.test")

    def send() -> None:
        second.queue = None

    world.spool.meta.before_load = send
    assert [one["id"] for one in await world.listed("b.test")] == [first.id.hex()]


async def test_a_message_by_its_id() -> None:
    world = World()
    msg = world.message("one@b.test", "two@b.test")
    msg.schedule = parse_schedule({"first_attempt": "2030-01-01T00:00:00Z"}, "x")
    world.spool.meta.records[msg.id] = encode_meta(msg)
    found = await inspect_message(world, msg.id, want_body=False)  # type: ignore[arg-type]
    assert found == {
        "sender": "from@a.test",
        "recipient": ["one@b.test", "two@b.test"],
        "meta": {"key": "value"},
        "data": None,
        "scheduling": {"first_attempt": "2030-01-01T00:00:00Z"},
    }
    with pytest.raises(KeyError):
        await inspect_message(world, bytes(16), want_body=False)  # type: ignore[arg-type]
    world.spool.meta.error = SpoolError("the disk is sick")
    with pytest.raises(SpoolError):
        await inspect_message(world, msg.id, want_body=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["in_hand", "ready", "wheel", "due"])
async def test_a_message_that_only_memory_has(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`deferred_spool` keeps it there until its first attempt fails."""
    world = World()
    msg = world.message(saved=False)
    match place:
        case "in_hand":
            world.in_hand[msg] = None
        case "ready":

            class Ready:
                messages = (world.message(), msg)

            world.ready["x"] = Ready()
        case "wheel":
            msg.queue = object()
            world.wheel.insert(NOW + 60.0, msg)
        case "due":
            msg.queue = object()
            monkeypatch.setattr(Promotion, "waiting", [msg])
    gone = world.message(saved=False)
    world.wheel.insert(NOW + 60.0, gone)  # it is in no queue any more
    with pytest.raises(KeyError):
        await inspect_message(world, gone.id, want_body=True)  # type: ignore[arg-type]
    found = await inspect_message(world, msg.id, want_body=True)  # type: ignore[arg-type]
    assert (found["sender"], found["data"]) == ("from@a.test", "caf\N{REPLACEMENT CHARACTER}")
