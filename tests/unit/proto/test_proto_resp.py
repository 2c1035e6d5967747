"""RESP: commands out, replies in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.proto.resp import NOTHING, Parser, RespError, ServerError, Status, encode


def replies(data: bytes, *, step: int | None = None) -> list[Any]:
    parser, found = Parser(), []
    for start in range(0, len(data), step or max(len(data), 1)):
        parser.feed(data[start : start + (step or len(data))])
        while (reply := parser.next()) is not NOTHING:
            found.append(reply)
    return found


def test_a_command() -> None:
    assert encode([b"SET", b"k", b"a\r\nb"]) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n"


@pytest.mark.parametrize("step", [None, 1, 3])
def test_replies(step: int | None) -> None:
    data = (
        b"+OK\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n$0\r\n\r\n*-1\r\n*0\r\n"
        b"*3\r\n*2\r\n:1\r\n$1\r\nx\r\n*0\r\n*1\r\n$-1\r\n"
    )
    assert replies(data, step=step) == [b"OK", -7, b"a\r\nbc", None, b"", None, [], [[1, b"x"], [], [None]]]
    assert isinstance(replies(b"+OK\r\n", step=step)[0], Status)


def test_an_error_is_a_reply() -> None:
    outer, array = replies(b"-MOVED 5 127.0.0.1:7000\r\n*1\r\n-ERR no\r\n")
    assert isinstance(outer, ServerError)
    assert (outer.code, str(outer)) == ("MOVED", "MOVED 5 127.0.0.1:7000")
    assert str(array[0]) == "ERR no"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400\r\n",
        b":x\r\n",
        b":--1\r\n",
        b":99999999999999999999\r\n",
        b"$-2\r\n",
        b"$9999999999\r\n",
        b"$1\r\nabc\r\n",
        b"*99999999999\r\n",
        b"\r\n",
        b"*1\r\n" * 33,
        b"+" + b"x" * 70000,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(RespError):
        replies(data)


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_input_gives_replies_or_an_error_fed_whole_or_in_parts(data: bytes, step: int) -> None:
    def outcome(step: int | None) -> object:
        try:
            return list(map(repr, replies(data, step=step)))
        except RespError:
            return None

    whole = outcome(None)
    if whole is not None:
        assert outcome(step) == whole
