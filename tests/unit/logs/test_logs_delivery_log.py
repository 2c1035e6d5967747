"""The delivery log as the rooms above use it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from structlog.testing import capture_logs

from kumo_py.core.options import convert
from kumo_py.core.policy import PolicyError, Rejection, SilentPolicy
from kumo_py.core.spool_id import SpoolIdSource
from kumo_py.logs import DeliveryLog, LocalLogsConfig, LogContext, Peer, RecordType
from kumo_py.logs.reader import records, segments
from kumo_py.message.message import Message
from kumo_py.proto.reply import EnhancedCode, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trio.testing import MockClock

    from kumo_py.core.policy import Policy

NODE = "557f3ad4-2c8c-11ee-976e-782d7e12e173"
OK = Response(250)
IDS = SpoolIdSource(b"\x01\x02\x03\x04\x05\x06", 7)


def wall_clock() -> float:
    return 1757675281.5 + trio.current_time()


def message(sender: str = "from@sender.example", **meta: object) -> Message:
    id = IDS.next(1757675281_440526_000)
    return Message(
        id, sender, ("to@there.example",), meta, b"Subject: hi\r\nX-Tag: a\r\nX-Tag: b\r\n\r\nbody\r\n"
    )


async def delivery_log(policy: Policy | None = None, *configs: Mapping[str, object]) -> DeliveryLog:
    log = DeliveryLog(NODE, wall_clock, policy)
    for options in configs:
        await log.add_local(convert(options, LocalLogsConfig, "kumo.configure_local_logs"))
    return log


def read(directory: Path) -> list[dict[str, Any]]:
    return list(records(directory))


class AskedPolicy:
    """Answers one event; an exception is raised."""

    def __init__(self, answer: Callable[[Message], object]) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def handles(self, event: str) -> bool:
        return True

    async def ask(self, event: str, *args: Any) -> Any:
        self.asked.append(event)
        await trio.lowlevel.checkpoint()
        answer = self.answer(*args)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_message_is_received_and_delivered(tmp_path: Path, autojump_clock: MockClock) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path / "logs"), "meta": ["tenant", "x_*"]})
    assert os.listdir(tmp_path / "logs") == []
    assert log.wants(RecordType.Reception)
    assert not log.needs_headers
    msg = message(tenant="t", x_null=None, x_list=[1, {"a": "b"}], other=1, reception_protocol="ESMTP")
    session = LogContext(peer=Peer("client.example", "10.0.0.2"), session_id=NODE)
    await log.record(RecordType.Reception, msg, OK, session)
    await trio.sleep(2)
    msg.attempts = 1
    dispatcher = LogContext(site="s->there.example@smtp_client", delivery_protocol="ESMTP")
    response = Response(250, EnhancedCode(2, 0, 0), "OK", ".")
    await log.record(RecordType.Delivery, msg, response, dispatcher, recipients=["x@y"], queue="given")
    await log.aclose()
    assert not log.wants(RecordType.Reception)

    received, delivered = read(tmp_path / "logs")
    assert received["type"] == "Reception"
    assert received["meta"] == {"tenant": "t", "x_null": None, "x_list": [1, {"a": "b"}]}
    assert received["headers"] == {}
    assert received["queue"] == "t@there.example"
    assert received["timestamp"] == 1757675281
    assert delivered["timestamp"] == 1757675283
    assert (delivered["recipient"], delivered["queue"]) == ("x@y", "given")
    assert delivered["num_attempts"] == 1
    assert delivered["created"] == received["created"] == 1757675281


async def test_headers_are_shown_if_the_content_is_loaded(tmp_path: Path) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path), "headers": ["subject", "X-*"]})
    assert log.needs_headers
    msg = message()
    await log.record(RecordType.Reception, msg, OK, LogContext())
    msg.data_saved = True
    msg.shrink_data()
    await log.record(RecordType.Delivery, msg, OK, LogContext())
    await log.aclose()
    assert [record["headers"] for record in read(tmp_path)] == [{"Subject": "hi", "X-Tag": ["a", "b"]}, {}]


async def test_rejection_without_a_transaction(tmp_path: Path) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path), "meta": ["hostname"]})
    context = LogContext(peer=Peer("", "10.0.0.2"), session_id=NODE)
    response = Response(550, None, "no", "EHLO x")
    await log.record_rejection(None, (), response, context, {"hostname": "mx", "secret": 1})
    await log.record_rejection("a@b", ["c@d", "e@f"], response, context, {})
    await log.aclose()
    first, second = read(tmp_path)
    assert (first["sender"], first["recipient"], first["meta"]) == ("", "", {"hostname": "mx"})
    assert (second["sender"], second["recipient"], second["id"]) == ("a@b", "e@f", "")


async def test_per_record_routes_each_type(tmp_path: Path) -> None:
    log = await delivery_log(
        None,
        {
            "log_dir": str(tmp_path / "main"),
            "per_record": {
                "Reception": {"suffix": "_recv", "segment_header": "received\n"},
                "Delivery": {"log_dir": str(tmp_path / "delivery")},
                "Bounce": {},
                "TransientFailure": {"enable": False},
                "Any": {"suffix": "_any"},
            },
        },
    )
    kinds = [kind for kind in RecordType if kind is not RecordType.Rejection]
    for kind in kinds:
        await log.record(kind, message(), OK, LogContext())
    assert not log.wants(RecordType.TransientFailure)
    await log.aclose()
    by_suffix = {
        path.partition(".")[2][6:]: [r["type"] for r in records(path)] for path in segments(tmp_path / "main")
    }
    assert by_suffix["_recv"] == ["Reception"]
    assert by_suffix[""] == ["Bounce"]
    rest = {"Reception", "Delivery", "Bounce", "TransientFailure", "Rejection"}
    assert by_suffix["_any"] == [kind.value for kind in kinds if kind.value not in rest]
    assert [record["type"] for record in read(tmp_path / "delivery")] == ["Delivery"]


async def test_any_disabled_leaves_only_what_is_named(tmp_path: Path) -> None:
    options = {"log_dir": str(tmp_path), "per_record": {"Any": {"enable": False}, "Bounce": {}}}
    log = await delivery_log(None, options)
    assert [kind for kind in RecordType if log.wants(kind)] == [RecordType.Bounce]
    await log.record(RecordType.Reception, message(), OK, LogContext())
    await log.record_rejection("", (), OK, LogContext(), {})
    await log.aclose()
    assert read(tmp_path) == []


async def test_two_loggers_choose_for_themselves(tmp_path: Path) -> None:
    log = await delivery_log(
        None,
        {"log_dir": str(tmp_path / "a"), "meta": ["x"]},
        {"log_dir": str(tmp_path / "b"), "per_record": {"Reception": {"enable": False}}},
    )
    for kind in (RecordType.Reception, RecordType.Delivery):
        await log.record(kind, message(x=1), OK, LogContext())
    await log.aclose()
    assert [(r["type"], r["meta"]) for r in read(tmp_path / "a")] == [
        ("Reception", {"x": 1}),
        ("Delivery", {"x": 1}),
    ]
    assert [(r["type"], r["meta"]) for r in read(tmp_path / "b")] == [("Delivery", {})]


async def test_filter_event_decides(tmp_path: Path) -> None:
    policy = AskedPolicy(lambda msg: msg.sender.startswith("keep"))
    log = await delivery_log(
        policy, {"log_dir": str(tmp_path / "a"), "filter_event": "wanted"}, {"log_dir": str(tmp_path / "b")}
    )
    for sender in ("keep@a", "drop@a", "keep@b"):
        await log.record(RecordType.Reception, message(sender), OK, LogContext())
    await log.record_rejection("drop@a", (), Response(550), LogContext(), {})
    await log.aclose()
    assert [record["sender"] for record in read(tmp_path / "a")] == ["keep@a", "keep@b", "drop@a"]
    assert len(read(tmp_path / "b")) == 4
    assert policy.asked == ["wanted"] * 3


@pytest.mark.parametrize("answer", [PolicyError("policy.lua:3: oops"), Rejection(550, "no"), None, False])
async def test_filter_that_fails_or_is_silent_leaves_the_record_out(tmp_path: Path, answer: object) -> None:
    log = await delivery_log(
        AskedPolicy(lambda msg: answer), {"log_dir": str(tmp_path), "filter_event": "wanted"}
    )
    with capture_logs() as diagnostics:
        await log.record(RecordType.Reception, message(), OK, LogContext())
    await log.aclose()
    assert read(tmp_path) == []
    assert len(diagnostics) == isinstance(answer, Exception)


async def test_filter_without_a_handler_leaves_the_record_out(tmp_path: Path) -> None:
    for policy in (SilentPolicy(), None):
        log = await delivery_log(policy, {"log_dir": str(tmp_path), "filter_event": "wanted"})
        await log.record(RecordType.Reception, message(), OK, LogContext())
        await log.aclose()
    assert read(tmp_path) == []


async def test_start_completes_the_segments_of_earlier_processes(tmp_path: Path) -> None:
    for directory in (tmp_path / "main", tmp_path / "other"):
        directory.mkdir()
        (directory / "20200101-000000.5").write_bytes(b"")
    log = await delivery_log(
        None, {"log_dir": str(tmp_path / "main"), "per_record": {"OOB": {"log_dir": str(tmp_path / "other")}}}
    )
    for directory in (tmp_path / "main", tmp_path / "other"):
        assert not os.stat(directory / "20200101-000000.5").st_mode & 0o222
    await log.aclose()


async def test_serving_flushes_and_rotates_in_time(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path), "max_segment_duration": "1 min"})
    await nursery.start(log.serve)
    await trio.sleep(500)
    await log.record(RecordType.Reception, message(), OK, LogContext())
    await trio.sleep(1.1)
    assert len(read(tmp_path)) == 1
    (path,) = segments(tmp_path)
    assert os.stat(path).st_mode & 0o200
    await trio.sleep(30)
    await log.record(RecordType.Delivery, message(), OK, LogContext())
    await trio.sleep(31)
    assert not os.stat(path).st_mode & 0o222
    assert [record["type"] for record in read(tmp_path)] == ["Reception", "Delivery"]
    await log.record(RecordType.Bounce, message(), OK, LogContext())
    await trio.sleep(2)
    assert len(segments(tmp_path)) == 2
    await log.add_local(LocalLogsConfig(log_dir=str(tmp_path / "late")))
    await log.record(RecordType.Bounce, message(), OK, LogContext())
    await trio.sleep(2)
    assert len(read(tmp_path / "late")) == 1
    nursery.cancel_scope.cancel()
    await log.aclose()


class Outage:
    """While it lasts, os.write fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if not self.over:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(fd, data)


async def test_back_pressure_holds_record_until_the_disk_recovers(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path), "back_pressure": 10})
    await nursery.start(log.serve)
    outage = Outage(monkeypatch)
    recorded: list[int] = []

    async def submit(n: int) -> None:
        await log.record(RecordType.Reception, message(f"{n}@a"), OK, LogContext())
        recorded.append(n)

    with capture_logs() as diagnostics:
        await submit(0)
        await trio.sleep(1.5)  # the first flush fails: its record is in the compressor
        for n in range(1, 11):
            await submit(n)
        for n in range(11, 15):
            nursery.start_soon(submit, n)
        await trio.sleep(600)
        assert recorded == list(range(11))
        assert [logger.waits for logger in log.loggers] == [4]
        outage.over = True
        await trio.sleep(1.5)
        assert sorted(recorded) == list(range(15))
    assert [entry["log_level"] for entry in diagnostics] == ["error", "info"]
    nursery.cancel_scope.cancel()
    await log.aclose()
    senders = [record["sender"] for record in read(tmp_path)]
    assert senders[:11] == [f"{n}@a" for n in range(11)]
    assert sorted(senders[11:]) == [f"{n}@a" for n in range(11, 15)]


async def test_closing_while_the_disk_fails_frees_who_waits(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path), "back_pressure": 1})
    async with trio.open_nursery() as serving:
        await serving.start(log.serve)
        Outage(monkeypatch)
        with capture_logs() as diagnostics:
            await log.record(RecordType.Reception, message(), OK, LogContext())
            await trio.sleep(1.5)
            await log.record(RecordType.Reception, message(), OK, LogContext())
            nursery.start_soon(log.record, RecordType.Reception, message(), OK, LogContext())
            await trio.sleep(1.5)
            serving.cancel_scope.cancel()
            await log.aclose()
            await trio.testing.wait_all_tasks_blocked()
    assert [entry["log_level"] for entry in diagnostics] == ["error"] * 3
    assert nursery.child_tasks == frozenset()


async def test_record_takes_no_task_switch(tmp_path: Path) -> None:
    log = await delivery_log(None, {"log_dir": str(tmp_path)})
    coroutine = log.record(RecordType.Reception, message(), OK, LogContext())
    with pytest.raises(StopIteration):
        coroutine.send(None)
    await log.aclose()


async def test_disk_low_is_looked_at_every_five_seconds(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 500
    looks = 0

    def statvfs(path: str) -> os.statvfs_result:
        nonlocal looks
        looks += 1
        if free < 0:
            raise FileNotFoundError(errno.ENOENT, "gone", path)
        return os.statvfs_result((4096, 4096, 1000, free, free, 1000, 500, 500, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    log = await delivery_log(None, {"log_dir": str(tmp_path)})
    with capture_logs() as diagnostics:
        assert log.disk_low() is None
        free = 50
        assert log.disk_low() is None
        assert looks == 1
        await trio.sleep(5)
        assert log.disk_low() == f"log directory {tmp_path}: 5% of bytes free, at least 10% wanted"
        await trio.sleep(5)
        assert log.disk_low() is not None
        free = 500
        await trio.sleep(5)
        assert log.disk_low() is None
        free = -1
        await trio.sleep(5)
        assert log.disk_low() is None
    assert [entry["log_level"] for entry in diagnostics] == ["error", "error", "warning"]
    assert looks == 5
