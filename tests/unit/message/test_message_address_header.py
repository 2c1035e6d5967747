"""Address lists in headers (RFC 5322 §3.4)."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.message.address_header import Group, Mailbox, parse_address_list
from kumo_py.message.headers import HeaderError

JOE = Mailbox(None, "joe", "example.com")


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (b"", []),
        (b" , ,", []),
        (b"joe@example.com", [JOE]),
        (b"<joe@example.com>", [JOE]),
        (b"Joe <joe@example.com>", [Mailbox("Joe", "joe", "example.com")]),
        (b'"Joe, the \\"man\\"" <joe@example.com>', [Mailbox('Joe, the "man"', "joe", "example.com")]),
        (b"Joe Q. Public <joe@example.com>", [Mailbox("Joe Q. Public", "joe", "example.com")]),
        (b"=?utf-8?q?J=C3=B8e?= =?utf-8?q?_Q?= <joe@example.com>", [Mailbox("Jøe Q", "joe", "example.com")]),
        ("Jøe <jøe@exämple.com>".encode(), [Mailbox("Jøe", "jøe", "exämple.com")]),
        (b'"" <joe@example.com>', [JOE]),
        (b"joe@example.com (Joe (the) man), <joe@example.com>", [JOE, JOE]),
        (b"joe @ example.com", [JOE]),
        (b"joe@[192.0.2.1]", [Mailbox(None, "joe", "[192.0.2.1]")]),
        (b'"a@b c"@example.com', [Mailbox(None, "a@b c", "example.com")]),
        (b"Joe\r\n\t<joe@example.com>", [Mailbox("Joe", "joe", "example.com")]),
        (b"<@a.example,@b.example:joe@example.com>", [JOE]),
        (b"undisclosed-recipients:;", [Group("undisclosed-recipients", ())]),
        (b"My team: joe@example.com, Joe <joe@example.com>;, joe@example.com",
         [Group("My team", (JOE, Mailbox("Joe", "joe", "example.com"))), JOE]),
    ],
)  # fmt: skip
def test_lists(value: bytes, entries: list[Mailbox | Group]) -> None:
    assert parse_address_list(value) == entries


@pytest.mark.parametrize(
    "value",
    [
        b"joe", b"joe@", b"@example.com", b"a b@example.com", b"joe@exam ple.com", b"<joe@example.com",
        b"joe@example.com>",
        b'"joe', b"(joe", b"joe)", b"team: joe@example.com", b"a: b: joe@example.com;;", b"joe@example.com;",
        b"<joe@example.com> x", b"<a@b@c>", b"<>", b"joe@[1", b"j\0oe@example.com", b"joe\\@example.com",
        b"a@b <joe@example.com> <x@y>",
    ],
)  # fmt: skip
def test_what_is_no_list(value: bytes) -> None:
    with pytest.raises(HeaderError, match=r"^not a list of addresses: "):
        parse_address_list(value)


@pytest.mark.parametrize(
    ("user", "email"),
    [
        ("joe", "joe@example.com"),
        ("a@b", '"a@b"@example.com'),
        ('a"\\', '"a\\"\\\\"@example.com'),
        ("", '""@example.com'),
    ],
)
def test_an_email_is_quoted_as_needed(user: str, email: str) -> None:
    assert Mailbox(None, user, "example.com").email == email


TOKENS = st.lists(
    st.sampled_from(["a", "b.c", " ", "@", "<", ">", ",", ":", ";", '"', "(", ")", "\\", "[", "]",
         "=?utf-8?q?a?=", "\r\n ", "é"])
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@given(st.binary() | TOKENS)
def test_any_value_gives_a_list_or_a_header_error(value: bytes) -> None:
    try:
        entries = parse_address_list(value)
    except HeaderError:
        return
    for entry in entries:
        for mailbox in entry.mailboxes if isinstance(entry, Group) else (entry,):
            # What was understood is understood again.
            assert parse_address_list(mailbox.email.encode()) == [mailbox._replace(name=None)]


@pytest.mark.parametrize(
    "value",
    [
        b"a@b.example, " * 20_000,
        b"x:" + b"a@b.example, " * 20_000 + b";",
        b"(" * 100_000,
        b"(" * 50_000 + b")" * 50_000,
        b'"' * 100_001,
        b'"\\' * 50_000,
        b"a " * 100_000 + b"<a@b>",
        b"<" * 50_000,
        b"[" * 100_000,
        b"a:" * 50_000,
        b"<a@b>," * 30_000,
        b"<@a,",
        b"<" + b"@a," * 30_000 + b":x@y>",
    ],
)
def test_time_is_in_proportion_to_size(value: bytes) -> None:
    started = time.process_time()
    with contextlib.suppress(HeaderError):
        parse_address_list(value)
    assert time.process_time() - started < 0.3


def test_a_header_has_a_bounded_number_of_mailboxes() -> None:
    assert len(parse_address_list(b"a@b.example," * 2000)) == 2000
    with pytest.raises(HeaderError, match="more than 2000"):
        parse_address_list(b"a@b.example," * 2001)
