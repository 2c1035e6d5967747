"""The survey of all queues: what comes first, what it sums up, and how much work it may be. The clock is virtual."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from kumo_py.admin import survey
from kumo_py.admin.survey import BURST, INTERVAL, KEPT, SHARE, Survey, View
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.core.timer_wheel import TimerWheel
from kumo_py.message.queue_name import QueueName

if TYPE_CHECKING:
    from trio.testing import MockClock

COST = 0.002
"""Seconds that a slice takes where the tests say that it costs something."""


@pytest.fixture(autouse=True)
def _free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks take no time, however busy the machine is."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice takes COST."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += COST
        return now

    monkeypatch.setattr(time, "perf_counter", clock)


class Counting(dict[str, Any]):
    """A dict that counts how often it was gone through."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


def scheduled(name: str, delayed: int, error: float | None = None) -> Any:
    last_error = None if error is None else (error, "451 later")
    parts = QueueName.parse(name)
    queue = SimpleNamespace(name=name, components=parts, delayed=delayed, last_error=last_error)
    return Hashable(queue)


def ready(
    name: str, messages: int, connections: int = 0, error: float | None = None, delivered: int = 0
) -> Any:
    last_error = None if error is None else (error, "451 later")
    counts = SimpleNamespace(delivered=delivered, failed=1, transfailed=2, last_error=last_error)
    site = name.partition("->")[2].partition("@")[0]
    return SimpleNamespace(
        name=name, site_name=site, messages=[None] * messages, connections=connections, counts=counts
    )


class Hashable(SimpleNamespace):
    """By identity, as a queue is."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, other: SimpleNamespace) -> None:
        super().__init__(**vars(other))

    def __eq__(self, other: object) -> bool:
        return self is other


def node_queues(scheduled_queues: list[Any], ready_queues: list[Any] = []) -> Any:  # noqa: B006
    return SimpleNamespace(
        scheduled=Counting({queue.name: queue for queue in scheduled_queues}),
        ready=Counting({queue.name: queue for queue in ready_queues}),
        wheel=TimerWheel[Any](0.05, 1000.0),
        held={},
    )


def wait_in(queues: Any, queue: Any, since: float, due: float = 5000.0) -> None:
    queues.wheel.insert(due, SimpleNamespace(id=ids(since), queue=queue))


def ids(at: float) -> bytes:
    return SpoolIdSource(b"\0" * 6, 0).next(round(at * 1e9))


def names(queues: list[Any]) -> list[str]:
    return [queue.name for queue in queues]


async def test_what_comes_first() -> None:
    a, b, c = scheduled("a.example", 5, 30.0), scheduled("b.example", 9), scheduled("c.example", 7, 40.0)
    queues = node_queues([a, b, c])
    for queue, since in ((a, 900.0), (b, 700.0), (b, 600.0), (c, 800.0), (None, 1.0)):
        wait_in(queues, queue, since)
    asked = Survey()
    for order, expected in (("size", [b, c, a]), ("age", [b, c, a]), ("errors", [c, a, b])):
        found = await asked.look(queues, View(order=order))  # type: ignore[arg-type]
        assert found.scheduled == expected, order
    assert asked.oldest == {a: 900.0, b: 600.0, c: 800.0}
    found = await asked.look(queues, View(limit=1))
    assert (found.scheduled, found.scheduled_count, found.scheduled_messages) == ([b], 3, 21)


async def test_what_is_held_ages_too() -> None:
    queue = scheduled("a.example", 2)
    queues = node_queues([queue])
    wait_in(queues, queue, 900.0)
    queues.held[Hashable(SimpleNamespace(id=ids(500.0), queue=queue))] = None
    asked = Survey()
    await asked.look(queues, View())
    assert asked.oldest == {queue: 500.0}


async def test_equals_keep_their_order() -> None:
    queues = node_queues([scheduled(f"{number}.example", 1) for number in range(2000)])
    found = await Survey().look(queues, View(limit=3))
    assert names(found.scheduled) == ["0.example", "1.example", "2.example"]


async def test_a_filter_knows_no_case_and_leaves_the_sums_alone() -> None:
    several = [scheduled("News:Acme@Example.com", 2), scheduled("acme@other.com", 3), scheduled("b.org", 4)]
    queues = node_queues(
        several, [ready("ip->mx.ACME.com@smtp_client", 1), ready("ip->mx.b.org@smtp_client", 6)]
    )
    found = await Survey().look(queues, View(match="aCMe"))
    assert names(found.scheduled) == ["acme@other.com", "News:Acme@Example.com"]
    assert names(found.ready) == ["ip->mx.ACME.com@smtp_client"]
    assert (found.scheduled_count, found.ready_count) == (2, 1)
    assert (found.scheduled_messages, found.ready_messages) == (9, 7)
    assert found.tenants == [("acme", 3), ("Acme", 2)]


async def test_ready_queues_and_their_sites() -> None:
    several = [
        ready("a->mx.one@smtp_client", 3, connections=1, delivered=10),
        ready("b->mx.one@smtp_client", 4, connections=2, error=50.0, delivered=5),
        ready("a->mx.two@smtp_client", 0, connections=9, error=20.0),
    ]
    queues = node_queues([], several)
    found = await Survey().look(queues, View())
    assert found.ready == [several[1], several[0], several[2]]
    assert (found.ready_messages, found.connections) == (7, 12)
    assert [(name, site.messages, site.connections, site.delivered) for name, site in found.sites] == [
        ("mx.one", 7, 3, 15),
        ("mx.two", 0, 9, 0),
    ]
    assert (found.sites[0][1].failed, found.sites[0][1].transfailed) == (2, 4)
    assert (await Survey().look(queues, View(order="errors"))).ready[:2] == [several[1], several[2]]


async def test_what_waits_without_a_configuration_is_seen() -> None:
    """Queues that cannot be set up are known to nobody but their messages."""
    known, unknown, unread = scheduled("known.example", 1), scheduled("unknown.example", 2), scheduled("", 1)
    queues = node_queues([known])
    for queue in (known, unknown, unread):
        wait_in(queues, queue, 900.0)
    found = await Survey().look(queues, View())
    assert names(found.scheduled) == ["unknown.example", "known.example"]
    assert found.scheduled_messages == 3


async def test_all_who_ask_get_the_same(autojump_clock: MockClock) -> None:
    queues = node_queues([scheduled("a.example", 1)])
    asked = Survey()
    answers = []

    async def ask() -> None:
        answers.append(await asked.look(queues, View()))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(set(map(id, answers))) == 1
    assert queues.scheduled.looks == 1
    await trio.sleep(INTERVAL)
    assert await asked.look(queues, View()) is not answers[0]
    assert queues.scheduled.looks == 2
    await trio.sleep(10 * KEPT)
    assert queues.scheduled.looks == 2  # nobody asked


async def test_looks_take_their_share_of_the_time(autojump_clock: MockClock, costly: None) -> None:
    queues = node_queues([scheduled(f"{number}.example", 1) for number in range(10 * survey._SLICE)])
    asked = Survey()
    await asked.look(queues, View())
    work = 10 * COST
    while trio.current_time() < 100.0:
        await trio.sleep(0.5)
        await asked.look(queues, View())
    looks = queues.scheduled.looks
    assert looks * work <= SHARE * trio.current_time() + work
    assert looks > 40


async def test_a_new_question_is_answered_at_once(autojump_clock: MockClock, costly: None) -> None:
    """But not any number of them."""
    queues = node_queues([scheduled(f"{number}.example", 1) for number in range(10 * survey._SLICE)])
    asked = Survey()
    for number in range(25):
        await asked.look(queues, View(match=str(number)))
    assert trio.current_time() == 0.0
    work = 10 * COST
    for number in range(25, 50):
        await asked.look(queues, View(match=str(number)))
    assert trio.current_time() >= (50 * work - BURST) / SHARE - 2 * work / SHARE


async def test_who_asks_during_a_look_gets_the_last_answer(autojump_clock: MockClock) -> None:
    queues = node_queues([scheduled(f"{number}.example", 1) for number in range(50 * survey._SLICE)])
    asked = Survey()
    first = await asked.look(queues, View())
    await trio.sleep(INTERVAL)
    turns = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.look, queues, View())
        while not asked._looking.locked():
            await trio.lowlevel.checkpoint()
        assert await asked.look(queues, View()) is first
        while asked._looking.locked():
            turns += 1
            await trio.lowlevel.checkpoint()
    assert turns >= 50  # others had their turns
    assert await asked.look(queues, View()) is not first


async def test_old_answers_are_not_kept(autojump_clock: MockClock) -> None:
    queues = node_queues([scheduled("a.example", 1)])
    asked = Survey()
    for number in range(200):
        await asked.look(queues, View(match=str(number)))
    assert len(asked._found) <= survey._MOST_KEPT
    await trio.sleep(KEPT + 1)
    await asked.look(queues, View())
    assert list(asked._found) == [View()]
