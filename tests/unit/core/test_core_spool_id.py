from __future__ import annotations

import uuid
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.spool_id import SpoolIdSource, created, parse_hex

NODE = bytes.fromhex("000c29c33806")
NOW = 1_700_000_000_123_456_700


def test_the_layout_is_uuid_version_1() -> None:
    spool_id = SpoolIdSource(NODE, 0x1234).next(NOW)
    parsed = uuid.UUID(bytes=spool_id)
    assert (parsed.version, parsed.variant) == (1, uuid.RFC_4122)
    assert parsed.node == int.from_bytes(NODE, "big")
    assert parsed.clock_seq == 0x1234
    assert parsed.time == NOW // 100 + 0x01B21DD213814000
    assert created(spool_id) == pytest.approx(NOW / 1e9, abs=1e-6)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=50))
def test_ids_increase_whatever_the_clock_does(steps: list[int]) -> None:
    source = SpoolIdSource(NODE, 0)
    now = NOW
    times = []
    for step in steps:
        now += step
        spool_id = source.next(now)
        times.append(uuid.UUID(bytes=spool_id).time)
        assert created(spool_id) >= now / 1e9 - 1e-6
    assert all(earlier < later for earlier, later in pairwise(times))


@given(st.integers(0, 2**60 * 100 - 0x01B21DD213814000 * 100 - 1), st.integers(0, 2**14 - 1))
def test_any_time_and_clock_sequence(now_ns: int, clock_seq: int) -> None:
    spool_id = SpoolIdSource(NODE, clock_seq).next(now_ns)
    assert len(spool_id) == 16
    assert uuid.UUID(bytes=spool_id).version == 1
    assert created(spool_id) == pytest.approx(now_ns / 1e9, abs=1e-4)
    assert parse_hex(spool_id.hex()) == parse_hex(str(uuid.UUID(bytes=spool_id))) == spool_id


def test_two_sources_differ() -> None:
    assert SpoolIdSource(NODE, 1).next(NOW) != SpoolIdSource(NODE, 2).next(NOW)
    assert SpoolIdSource(NODE, 1).next(NOW) != SpoolIdSource(NODE[::-1], 1).next(NOW)


@pytest.mark.parametrize(("node", "clock_seq"), [(b"", 0), (NODE + b"x", 0), (NODE, -1), (NODE, 1 << 14)])
def test_a_wrong_node_or_clock_sequence(node: bytes, clock_seq: int) -> None:
    with pytest.raises(ValueError, match="6 bytes of node and 14 bits"):
        SpoolIdSource(node, clock_seq)


@pytest.mark.parametrize("spool_id", [b"", b"x" * 15, uuid.UUID(int=0).bytes, uuid.UUID(int=4 << 76).bytes])
def test_an_id_without_a_time(spool_id: bytes) -> None:
    with pytest.raises(ValueError, match="is not a spool id"):
        created(spool_id)


@pytest.mark.parametrize(
    "text",
    ["", "00", "g" * 32, "0" * 33, "0" * 16 + "-" + "0" * 16, " " + "0" * 31, "0" * 32 + "\n", "٣" * 32],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a spool id: write 32"):
        parse_hex(text)


def test_hyphens_and_capitals_are_accepted() -> None:
    assert parse_hex("D7EF132B-5D77-11EE-A8C8-000C29C33806").hex() == "d7ef132b5d7711eea8c8000c29c33806"
