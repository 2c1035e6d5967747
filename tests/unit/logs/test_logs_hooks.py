"""Log hooks: what is queued, back pressure, failing spools, and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from kumo_py.core.options import OptionError, convert
from kumo_py.core.policy import PolicyError
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import (
    DeliveryLog,
    DispositionHookConfig,
    LocalLogsConfig,
    LogContext,
    LogHookConfig,
    RecordType,
)
from kumo_py.logs.reader import SegmentReader, segments
from kumo_py.message.message import Message
from kumo_py.proto.reply import Response
from kumo_py.spool.errors import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trio.testing import MockClock

NODE = "557f3ad4-2c8c-11ee-976e-782d7e12e173"
IDS = SpoolIdSource(b"\x01\x02\x03\x04\x05\x06", 7)
NOW = 1757675281.5


def message(**meta: object) -> Message:
    id = IDS.next(1757675281_440526_000)
    return Message(id, "from@a.example", ("to@b.example",), meta, b"Subject: hi\r\n\r\nbody\r\n")


class AskedPolicy:
    """Answers every event by a function; an exception is raised."""

    def __init__(self, answer: Callable[..., object] = lambda *args: True) -> None:
        self.answer = answer
        self.handled = True
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def handles(self, event: str) -> bool:
        return self.handled

    async def ask(self, event: str, *args: Any) -> Any:
        self.asked.append((event, args))
        answer = self.answer(*args)
        if isinstance(answer, trio.Event):
            await answer.wait()
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer


class Sink:
    """Takes messages, unless it is told to fail so many times."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.taken: list[Message] = []
        self.deferred: set[bool] = set()

    def new_id(self) -> bytes:
        return IDS.next(1757675281_440526_000)

    async def enqueue(self, messages: Sequence[Message], *, deferred_spool: bool) -> None:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise SpoolError("no space")
        self.taken += messages
        self.deferred.add(deferred_spool)


def hooked(policy: AskedPolicy, **options: object) -> DeliveryLog:
    log = DeliveryLog(NODE, lambda: NOW, policy)  # type: ignore[arg-type]
    log.add_hook(convert({"name": "web", **options}, LogHookConfig, "kumo.configure_log_hook"))
    return log


async def test_a_record_becomes_a_message(nursery: trio.Nursery) -> None:
    policy, sink = AskedPolicy(), Sink()
    log = hooked(policy, meta=["tenant"], headers=["subject"], deferred_spool=True)
    assert log.wants(RecordType.Bounce)
    assert log.needs_headers
    await nursery.start(log.serve)
    log.connect(sink)
    original = message(tenant="t", secret=1)
    await log.record(RecordType.Bounce, original, Response(550, None, "no"), LogContext(site="s"))
    await trio.testing.wait_all_tasks_blocked()
    (msg,) = sink.taken
    assert sink.deferred == {True}
    assert policy.asked == [("should_enqueue_log_record", (msg, "web"))]
    assert (msg.sender, msg.recipients) == ("from@a.example", ("to@b.example",))
    assert msg.id != original.id
    assert set(msg.meta) == {"tenant", "log_record", "reception_protocol"}
    assert msg.meta["reception_protocol"] == "LogRecord"
    record: Any = msg.meta["log_record"]
    assert (record["id"], record["type"], record["site"]) == (original.id.hex(), "Bounce", "s")
    assert (record["meta"], record["headers"]) == ({"tenant": "t"}, {"Subject": "hi"})
    assert orjson.loads(msg.data) == record
    assert msg.data.endswith(b"}\n")
    # The record of a log record's own delivery goes nowhere.
    await log.record(RecordType.Delivery, msg, Response(200), LogContext())
    await trio.testing.wait_all_tasks_blocked()
    assert len(sink.taken) == 1
    nursery.cancel_scope.cancel()


async def test_records_wait_for_the_queues_and_the_end_hands_them_over() -> None:
    policy, sink = AskedPolicy(), Sink()
    log = hooked(policy)
    for _ in range(200):
        await log.record(RecordType.Reception, message(), Response(250), LogContext())
    assert policy.asked == []
    log.connect(sink)
    await log.aclose()
    assert len({msg.id for msg in sink.taken}) == 200


async def test_a_worker_that_is_cancelled_loses_nothing() -> None:
    gate = trio.Event()
    policy, sink = AskedPolicy(lambda *args: gate), Sink()
    log = hooked(policy)
    log.connect(sink)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.serve)
        for _ in range(100):
            await log.record(RecordType.Reception, message(), Response(250), LogContext())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sink.taken == []
    gate.set()
    await log.aclose()
    originals = [msg.meta["log_record"]["id"] for msg in sink.taken]  # type: ignore[index]
    assert len(originals) == len(set(originals)) == 100


async def test_back_pressure_makes_who_logs_wait(nursery: trio.Nursery) -> None:
    gate = trio.Event()
    policy, sink = AskedPolicy(lambda *args: gate), Sink()
    log = hooked(policy, back_pressure=70)
    await nursery.start(log.serve)
    log.connect(sink)
    done = 0

    async def records() -> None:
        nonlocal done
        for _ in range(3000):
            await log.record(RecordType.Reception, message(), Response(250), LogContext())
            await trio.lowlevel.checkpoint()
            done += 1

    nursery.start_soon(records)
    await trio.testing.wait_all_tasks_blocked()
    assert done < 3000  # every worker waits for the policy, and 70 records are pending
    assert (log.hooks[0].pending, log.hooks[0].waits) == (70, 1)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert done == len(sink.taken) == 3000
    nursery.cancel_scope.cancel()


async def test_a_failing_spool_is_tried_again(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    sink = Sink(failures=3)
    log = hooked(AskedPolicy())
    await nursery.start(log.serve)
    log.connect(sink)
    with capture_logs() as logged:
        await log.record(RecordType.Reception, message(), Response(250), LogContext())
        await trio.sleep(10)
    assert len(sink.taken) == 1
    assert [line["event"] for line in logged] == ["log records wait: the spool fails"] * 3
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [False, None, PolicyError("oops")])
async def test_what_the_policy_does_not_want_is_dropped(nursery: trio.Nursery, answer: object) -> None:
    policy, sink = AskedPolicy(lambda *args: answer), Sink()
    log = hooked(policy)
    await nursery.start(log.serve)
    log.connect(sink)
    await log.record(RecordType.Reception, message(), Response(250), LogContext())
    await log.record_rejection("a@b", ["c@d"], Response(550), LogContext(), {})
    await trio.testing.wait_all_tasks_blocked()
    assert sink.taken == []
    assert [args[0].recipients for _, args in policy.asked] == [("to@b.example",), ("c@d",)]
    nursery.cancel_scope.cancel()


async def test_types_and_templates(nursery: trio.Nursery) -> None:
    sink = Sink()
    per_record = {
        "Any": {"template": "any {{ type }}"},
        "Bounce": {},
        "Delivery": {"enable": False},
        "Reception": {"template": "{{ log_record.id }} {{ response.code }} {{ nope.nope }}"},
    }
    log = hooked(AskedPolicy(), per_record=per_record)
    assert not log.wants(RecordType.Delivery)
    await nursery.start(log.serve)
    log.connect(sink)
    kinds = RecordType.Delayed, RecordType.Bounce, RecordType.Delivery, RecordType.Reception
    with capture_logs() as logged:
        for kind in kinds:
            await log.record(kind, message(), Response(250), LogContext())
        await trio.testing.wait_all_tasks_blocked()
    texts = [msg.data for msg in sink.taken]
    assert texts[0] == b"any Delayed\n"
    # A type that is named has no template of Any's; and a template that fails leaves JSON.
    assert [orjson.loads(text)["type"] for text in texts[1:]] == ["Bounce", "Reception"]
    assert "template 'Reception' line 1: undefined value" in logged[0]["error"]
    nursery.cancel_scope.cancel()


async def test_templates_of_files(tmp_path: Path) -> None:
    log = DeliveryLog(NODE, lambda: NOW)
    options = {
        "log_dir": str(tmp_path),
        "per_record": {
            "Any": {"suffix": "_any"},
            "Delivery": {"template": "{{ type }} {{ timestamp|dateformat }}\n", "segment_header": "-- log\n"},
        },
    }
    await log.add_local(convert(options, LocalLogsConfig, "kumo.configure_local_logs"))
    await log.record(RecordType.Delivery, message(), Response(250), LogContext())
    await log.record(RecordType.Bounce, message(), Response(550), LogContext())
    await log.aclose()
    by_suffix = {}
    for path in segments(tmp_path):
        with SegmentReader(path) as reader:
            by_suffix[path.endswith("_any")] = [line.rstrip() for line in reader.lines()]
    assert by_suffix[False] == [b"-- log", b"Delivery Sep 12 2025"]
    assert [orjson.loads(line)["type"] for line in by_suffix[True]] == ["Bounce"]


async def test_disposition_hooks_are_asked_at_once() -> None:
    policy = AskedPolicy(lambda *args: PolicyError("oops"))
    log = DeliveryLog(NODE, lambda: NOW, policy)  # type: ignore[arg-type]
    config = {"name": "see", "per_record": {"Any": {"enable": False}, "Bounce": {}}}
    log.add_disposition_hook(convert(config, DispositionHookConfig, "kumo.configure_log_disposition_hook"))
    msg = message()
    with capture_logs() as logged:
        for kind in (RecordType.Bounce, RecordType.Delivery):
            await log.record(kind, msg, Response(550), LogContext())
        await log.record(
            RecordType.Bounce, message(reception_protocol="LogRecord"), Response(550), LogContext()
        )
    ((event, (seen, record)),) = policy.asked
    assert (event, seen, record["type"]) == ("log_disposition_see", msg, "Bounce")
    assert logged[0]["event"] == "log_disposition_see failed"


def test_mistakes_are_named() -> None:
    log = hooked(AskedPolicy())
    with pytest.raises(ValueError, match="a log hook named 'web' already"):
        log.add_disposition_hook(DispositionHookConfig(name="web"))
    with pytest.raises(
        OptionError, match=r"option 'per_record.Bounce': template 'template' line 1: syntax error"
    ):
        hooked(AskedPolicy(), per_record={"Bounce": {"template": "{{"}})
    with capture_logs() as logged:
        hooked(AskedPolicy(), per_record={"Bounce": {"suffix": "x"}})
    assert "suffix, log_dir and segment_header are for log files only" in logged[0]["event"]
