"""SMTP smuggling: what looks like an end of data to somebody is none to us, in or out."""

import pytest

from kumo_py.proto.client import stuff
from kumo_py.proto.content import DataResult, Fault, LineEndings
from kumo_py.proto.server import Receiver

# Every way to write "line end, dot, line end" with a broken line end in it.
LINE_ENDS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\n\r",
    b"\r\r\n",
    b"\0\r\n",
    b"\r\0\n",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\x0b",
    b"\x0c",
]
LOOK_ALIKES = [before + b"." + after for before in LINE_ENDS for after in LINE_ENDS]
LOOK_ALIKES += [
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n .\r\n",
    b"\r\n. \r\n",
    b"\r\n.\r.\r\n",
    b"\n.\r\n.\n",
    b"\r\n\x8e.\r\n",
]
LOOK_ALIKES = [alike for alike in LOOK_ALIKES if b"\r\n.\r\n" not in alike]
SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nevil\r\n"


def has_bare(data: bytes) -> bool:
    rest = data.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def receive(wire: bytes, policy: LineEndings, piece: int) -> DataResult:
    receiver = Receiver()
    receiver.begin_data(1_000_000, 998, policy)
    for start in range(0, len(wire), piece):
        receiver.feed(wire[start : start + piece])
        result = receiver.next_data()
        if result is not None:
            assert start + piece >= len(wire), "DATA ended early"
            assert not receiver.pending, "DATA ended early"
            return result
    raise AssertionError("DATA did not end")


@pytest.mark.parametrize("policy", ["Deny", "Allow", "Fix"])
@pytest.mark.parametrize("alike", LOOK_ALIKES, ids=repr)
def test_a_look_alike_never_ends_data(alike: bytes, policy: LineEndings) -> None:
    wire = b"Subject: x\r\n\r\nhello" + alike + SMUGGLED + b".\r\n"
    for piece in (1, 7, len(wire)):
        result = receive(wire, policy, piece)
        if policy == "Deny" and has_bare(alike):
            assert result == DataResult(fault=Fault.BAD_LINE_ENDINGS)
        else:
            assert result.fault is None
            assert b"MAIL FROM:<evil@example.com>" in result.content


@pytest.mark.parametrize("policy", ["Deny", "Allow", "Fix"])
@pytest.mark.parametrize("alike", LOOK_ALIKES, ids=repr)
def test_a_look_alike_at_the_very_start_never_ends_data(alike: bytes, policy: LineEndings) -> None:
    start = alike.removeprefix(b"\r\n").removeprefix(b"\n").removeprefix(b"\r")
    if start.startswith(b".\r\n"):  # an empty message
        return
    result = receive(start + SMUGGLED + b".\r\n", policy, 1000)
    assert result.fault is (Fault.BAD_LINE_ENDINGS if policy == "Deny" and has_bare(start) else None)


@pytest.mark.parametrize("policy", ["Allow", "Fix"])
@pytest.mark.parametrize("alike", LOOK_ALIKES, ids=repr)
def test_what_was_let_in_goes_out_as_one_message(alike: bytes, policy: LineEndings) -> None:
    result = receive(b"hello" + alike + SMUGGLED + b".\r\n", policy, 1000)
    for has_dots in (result.has_leading_dots, None):
        sent = b"".join(stuff(result.content, has_dots, has_clean_endings=policy == "Fix"))
        assert not has_bare(sent)
        assert sent.count(b"\r\n.\r\n") == 1
        assert sent.endswith(b"\r\n.\r\n")
        # A reader that takes any line end for one still sees no lone dot before the last line.
        lines = sent.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        assert b"." not in lines[:-2]


def test_a_bare_line_end_cannot_hide_in_a_big_content() -> None:
    clean = (b"x" * 76 + b"\r\n") * 2000
    for position in (0, 77, 78, 50_000, len(clean) - 1):
        for bare in (b"\r", b"\n"):
            wire = clean[:position] + bare + clean[position:]
            assert has_bare(wire)
            assert receive(wire + b"\r\n.\r\n", "Deny", 65536).fault is Fault.BAD_LINE_ENDINGS
