"""Floods and drips: memory stays bounded, time stays linear."""

import tracemalloc
from collections.abc import Callable
from time import process_time

import pytest

from kumo_py.proto.content import DataResult, Fault
from kumo_py.proto.reply import ReplyError, ReplyReader
from kumo_py.proto.server import Receiver

MIB = 1 << 20
PIECE = b"x" * 65536
PIECES = 100 * MIB // len(PIECE)


def peak_memory(run: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_command_line_of_100_mb() -> None:
    receiver = Receiver()

    def flood() -> None:
        for _ in range(PIECES):
            receiver.feed(PIECE)
            assert receiver.next_line() is None

    assert peak_memory(flood) < MIB
    receiver.feed(b"\r\nNOOP\r\n")
    assert receiver.next_line() is Fault.LINE_TOO_LONG
    assert receiver.next_line() == b"NOOP"


@pytest.mark.parametrize(
    "piece", [PIECE, b"\r\n" * 32768, b"\r\n.x" * 16384, b"\r\n.\r" * 16384], ids=lambda p: repr(p[:4])
)
def test_a_content_of_100_mb(piece: bytes) -> None:
    receiver = Receiver()
    receiver.begin_data(2 * MIB, 998, "Deny")

    def flood() -> None:
        for _ in range(PIECES if piece is PIECE else PIECES // 10):
            receiver.feed(piece)
            assert receiver.next_data() is None

    assert peak_memory(flood) < 3 * MIB
    receiver.feed(b"\r\n.\r\nNOOP\r\n")
    assert receiver.next_data() == DataResult(fault=Fault.TOO_BIG)
    assert receiver.next_line() == b"NOOP"


def test_a_chunk_of_100_mb() -> None:
    receiver = Receiver()
    receiver.begin_bdat(PIECES * len(PIECE), 2 * MIB)
    results = []

    def flood() -> None:
        for _ in range(PIECES):
            receiver.feed(PIECE)
            results.append(receiver.next_bdat())

    assert peak_memory(flood) < MIB
    assert results == [None] * (PIECES - 1) + [Fault.TOO_BIG]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_drip_costs_little_more_than_its_size(size: int) -> None:
    receiver = Receiver()
    receiver.begin_data(MIB, 998, "Deny")
    drop = b"xyz"[:size]

    def drip() -> None:
        for _ in range(100_000):
            receiver.feed(drop)
            receiver.next_data()

    assert peak_memory(drip) < 100_000 * size * 1.2 + 65536


def test_a_reply_without_an_end() -> None:
    reader = ReplyReader()
    reader.feed(PIECE)
    with pytest.raises(ReplyError):
        reader.next()

    reader = ReplyReader()

    def flood() -> None:
        for _ in range(100_000):
            reader.feed(b"250-x\r\n")
            reader.next()

    with pytest.raises(ReplyError):
        flood()


def receive_dripped(size: int) -> None:
    receiver = Receiver()
    receiver.begin_data(size + 10, 998, "Deny")
    for byte in (b"x", b"x", b"x", b"\r", b"\n") * (size // 5):
        receiver.feed(byte)
        assert receiver.next_data() is None
    receiver.feed(b".\r\n")
    result = receiver.next_data()
    assert result is not None
    assert len(result.content) == size


def read_long_lines_dripped(size: int) -> None:
    receiver = Receiver(line_limit=16384)
    for byte in (b"x" * 16000 + b"\r\n").decode() * (size // 16000):
        receiver.feed(byte.encode())
        receiver.next_line()


def read_a_flood_of_messages(size: int) -> None:
    receiver = Receiver()
    receiver.feed(b"DATA\r\n.\r\n" * (size // 9))
    while receiver.next_line() is not None:
        receiver.begin_data(1000, 998, "Deny")
        assert receiver.next_data() == DataResult()


@pytest.mark.parametrize("run", [receive_dripped, read_long_lines_dripped, read_a_flood_of_messages])
def test_time_is_linear(run: Callable[[int], None]) -> None:
    def cost(size: int) -> float:
        costs = []
        for _ in range(3):
            start = process_time()
            run(size)
            costs.append(process_time() - start)
        return min(costs)

    # Linear would be 8 times as much, quadratic 64 times.
    assert cost(160_000) < 24 * cost(20_000)
