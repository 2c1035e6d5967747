"""The endpoints that list messages and change them: what they take, refuse, and answer while it goes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio

from kumo_py.admin import messages
from kumo_py.admin.exchange import Refusal
from kumo_py.core.options import OptionError, convert
from kumo_py.core.timer_wheel import TimerWheel
from kumo_py.queue.operations import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

ID = "76912000c73211f08000000000000001"


def fake_queues(spawn: Callable[..., None] | None = None) -> Any:
    return SimpleNamespace(
        running=True,
        stopping=False,
        spawn=spawn,
        wall=lambda: 1000.0,
        ready={},
        held={},
        in_hand={},
        scheduled={},
        promotion=SimpleNamespace(waiting=[]),
        wheel=TimerWheel[Any](0.05, 1000.0),
    )


class FakeCall(SimpleNamespace):
    """A request: its query, or its body."""

    def __init__(self, queues: Any, query: dict[str, str] | None = None, body: Any = None) -> None:
        super().__init__(
            query=query or {},
            node=SimpleNamespace(queues=queues),
            shared=SimpleNamespace(operations={}),
            body=body,
        )

    async def json(self, type_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return convert(self.body, type_, "request")


class FakeOperation:
    """One that ends when it is told to."""

    def __init__(self) -> None:
        self.progress = Progress(total=7, matched=3)
        self.missing: set[bytes] = set()
        self.error: str | None = None
        self.over = trio.Event()

    async def run(self) -> None:
        await self.over.wait()


async def content(response: Any) -> Any:
    body = response.body
    return orjson.loads(body if isinstance(body, bytes) else b"".join([piece async for piece in body]))


async def refusal(endpoint: Any, call: FakeCall) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        await endpoint(call)
    return caught.value.status, caught.value.text


# -- the list --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"limit": "0"}, "the parameter 'limit' must be 1 to 1000, not 0; with stream=true it may be any"),
        (
            {"limit": "1001"},
            "the parameter 'limit' must be 1 to 1000, not 1001; with stream=true it may be any",
        ),
        ({"limit": "x"}, "the parameter 'limit' must be a number of at most 9 digits, not 'x'"),
        ({"after": "x"}, "the parameter 'after': 'x' is not a spool id"),
        ({"id": "x"}, "the query: 'x' is not a spool id"),
        ({"held": "maybe"}, "the parameter 'held' must be true or false, not 'maybe'"),
        ({"older_than": "soon"}, "'soon' is not a duration"),
        ({"stream": "true", "after": ID}, "'after' is for pages"),
    ],
)
async def test_a_query_that_is_none(query: dict[str, str], text: str) -> None:
    status, problem = await refusal(messages.messages, FakeCall(fake_queues(), query))
    assert status == 400
    assert text in problem


async def test_a_list_of_nothing() -> None:
    page = await messages.messages(FakeCall(fake_queues(), {"held": "true"}))  # type: ignore[arg-type]
    assert await content(page) == {"messages": [], "next": None}
    stream = await messages.messages(FakeCall(fake_queues(), {"stream": "true"}))  # type: ignore[arg-type]
    assert stream.content_type == b"application/jsonl"
    assert [piece async for piece in stream.body] == []  # type: ignore[union-attr]


# -- which messages ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("endpoint", [messages.flush, messages.hold, messages.release, messages.delete])
async def test_everything_must_be_said(endpoint: Any) -> None:
    status, text = await refusal(endpoint, FakeCall(fake_queues(), body={}))
    assert status == 422
    assert text == (
        "say which messages: ids, queue_names, domain, tenant, campaign, routing_domain, sender, recipient, "
        "older_than, or everything"
    )
    status, text = await refusal(endpoint, FakeCall(fake_queues(), body={"held": True}))
    assert status == 422
    both = {"everything": True, "domain": "b.example"}
    status, text = await refusal(endpoint, FakeCall(fake_queues(), body=both))
    assert status == 422
    assert text.startswith("'everything' excludes ids, queue_names")


async def test_a_misspelt_criterion_is_refused() -> None:
    with pytest.raises(OptionError, match="domian"):
        await messages.delete(FakeCall(fake_queues(), body={"domian": "b.example"}))  # type: ignore[arg-type]


# -- what goes on ------------------------------------------------------------------------------------------------
async def test_a_short_one_is_over_when_it_is_answered(nursery: trio.Nursery) -> None:
    call = FakeCall(fake_queues(nursery.start_soon), body={"ids": [ID], "reason": "x"})
    state = await content(await messages.hold(call))  # type: ignore[arg-type]
    assert list(call.shared.operations) == [state.pop("id")]
    assert state == {
        "done": True,
        "error": None,
        "total": 0,
        "examined": 0,
        "matched": 0,
        "changed": 0,
        "in_flight": 0,
        "unchanged": 0,
        "held": 0,
        "suspended": 0,
        "scheduled": 0,
        "failed": 0,
        "not_found": [ID],
    }


async def test_a_long_one_is_asked_for_again(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = FakeOperation()
    monkeypatch.setattr(messages, "Flush", lambda *_, **__: one)
    call = FakeCall(fake_queues(nursery.start_soon), body={"everything": True})
    state = await content(await messages.flush(call))  # type: ignore[arg-type]
    assert trio.current_time() == messages.PATIENCE
    assert (state["done"], state["total"], state["matched"], state["not_found"]) == (False, 7, 3, None)
    call.query = {"id": state["id"]}
    one.error = "it ended early"
    nursery.start_soon(_end_later, one)
    state = await content(await messages.operation(call))  # type: ignore[arg-type]
    assert trio.current_time() == messages.PATIENCE + 0.5
    assert (state["done"], state["error"], state["not_found"]) == (True, "it ended early", [])
    assert await content(await messages.operation(call)) == state  # type: ignore[arg-type]


async def _end_later(one: FakeOperation) -> None:
    await trio.sleep(0.5)
    one.over.set()


async def test_an_unknown_one() -> None:
    call = FakeCall(fake_queues(), {"id": "x"})
    assert await refusal(messages.operation, call) == (404, "there is no operation x")


async def test_the_oldest_that_is_over_is_forgotten(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FakeOperation] = []

    def make(*_: object, **__: object) -> FakeOperation:
        made.append(FakeOperation())
        return made[-1]

    monkeypatch.setattr(messages, "Release", make)
    call = FakeCall(fake_queues(nursery.start_soon), body={"everything": True})
    for _ in range(messages.KEPT):
        await messages.release(call)  # type: ignore[arg-type]
    status, text = await refusal(messages.release, call)
    assert (status, text) == (503, "100 operations are under way already")
    made[3].over.set()
    await messages.release(call)  # type: ignore[arg-type]
    kept = list(call.shared.operations.values())
    assert len(kept) == messages.KEPT
    assert made[3] not in kept
    for one in made:
        one.over.set()


async def test_a_node_that_ends_takes_no_more() -> None:
    queues = fake_queues()
    queues.running = False
    assert (await refusal(messages.flush, FakeCall(queues, body={"everything": True})))[0] == 503
