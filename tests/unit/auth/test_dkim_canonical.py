"""Canonical forms and header selection."""

from __future__ import annotations

import hashlib
import re
import time

import dkim.canonicalization as dkimpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.auth import canonical
from kumo_py.auth.canonical import Fields, relaxed_field


def body_form(body: bytes, *, relaxed: bool) -> bytes:
    """The octets that are hashed."""
    pieces = (canonical._relaxed_body if relaxed else canonical._simple_body)(body, 0)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n", b" \t\r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a \t", b"a \t\r\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n \r\n\t\r\n", b"a\r\n \r\n\t\r\n", b"a\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 §3.4.5
        (b"\r\n\r\na", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
        (b".\r\n..x  y\r\n", b".\r\n..x  y\r\n", b".\r\n..x y\r\n"),
        (b"\xff\xc3\xa9\t\xe9 \r\n", b"\xff\xc3\xa9\t\xe9 \r\n", b"\xff\xc3\xa9 \xe9\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert body_form(body, relaxed=False) == simple
    assert body_form(body, relaxed=True) == relaxed


BODIES = st.lists(
    st.sampled_from([b"a", b"\xc3\xa9", b".", b" ", b"\t", b"   ", b"\r\n", b"\r\n\r\n", b"\r\n.", b"\xff"])
).map(b"".join)


@given(BODIES, st.integers(1, 12))
@settings(database=None, deadline=None, max_examples=300)
def test_bodies_are_the_same_in_pieces_of_any_size(body: bytes, size: int) -> None:
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    expected = b"".join(line + b"\r\n" for line in lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "PIECE", size)
        assert body_form(body, relaxed=True) == expected


@given(BODIES.map(lambda body: body + b"x\r\n"))
@settings(database=None, deadline=None, max_examples=200)
def test_bodies_are_those_of_dkimpy(body: bytes) -> None:
    assert body_form(body, relaxed=False) == dkimpy.Simple.canonicalize_body(body)
    assert body_form(body, relaxed=True) == dkimpy.Relaxed.canonicalize_body(body)


def test_hash_of_the_first_octets() -> None:
    fields = Fields(b"From: a\r\n\r\nhello  world\r\n")
    assert fields.body_hash(relaxed=True) == (hashlib.sha256(b"hello world\r\n").digest(), 13)
    assert fields.body_hash(relaxed=True, limit=5) == (hashlib.sha256(b"hello").digest(), 5)
    assert fields.body_hash(relaxed=False, limit=99) == (hashlib.sha256(b"hello  world\r\n").digest(), 14)


@pytest.mark.parametrize(
    "body",
    [b"\r\n" * 4_000_000, b" " * 8_000_000, b" \t" * 4_000_000, b"a  \r\n" * 1_600_000, b" \r\n" * 2_500_000],
)
def test_time_is_linear(body: bytes) -> None:
    began = time.process_time()
    Fields(body).body_hash(relaxed=True)
    Fields(body).body_hash(relaxed=False)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        (b"SUBJect", b"AbC", b"subject:AbC\r\n"),
        (b"Subject", b"Your Name\t ", b"subject:Your Name\r\n"),
        (b"Subject", b"a \t \r\n b\t\r\n\tc", b"subject:a b c\r\n"),
        (b"Subject", b"\r\n a\r\n  \r\n", b"subject:a\r\n"),
        (b"Subject", b"", b"subject:\r\n"),
        (b"X", b"caf\xe9  \xff", b"x:caf\xe9 \xff\r\n"),
    ],
)
def test_relaxed_fields(name: bytes, value: bytes, form: bytes) -> None:
    assert relaxed_field(name, value) == form


def test_simple_fields_are_as_they_are() -> None:
    fields = Fields(b"From:a\r\nTO \t:  b\r\n  c \r\nSubject: last")
    forms = [fields.canonical(field, relaxed=False) for field in fields.chosen((b"from", b"to", b"subject"))]
    assert forms == [b"From:a\r\n", b"TO \t:  b\r\n  c \r\n", b"Subject: last\r\n"]


def test_fields_are_chosen_from_the_bottom_up() -> None:
    fields = Fields(b"A: 1\r\nB: 2\r\na: 3\r\nA: 4\r\n\r\nA: 5\r\n")
    names = (b"a", b"c", b"b", b"a", b"b", b"a", b"a")
    assert [field.value for field in fields.chosen(names)] == [b"4", b"2", b"3", b"1"]
    assert fields.body_start == 26


@pytest.mark.parametrize(
    ("data", "bare"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nx\ny", False),
        (b"A: 1\nB: 2\r\n\r\n", True),
        (b"A: 1\r\n\nx", True),
        (b"", False),
    ],
)
def test_bare_lf_in_the_header(data: bytes, bare: bool) -> None:
    assert Fields(data).has_bare_lf is bare
