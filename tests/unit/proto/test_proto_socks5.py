"""The client's side of SOCKS 5, against what RFC 1928 and RFC 1929 write down octet by octet."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.proto.socks5 import BindRefused, Endpoint, Login, Socks5Error, negotiate

LOGIN = Login(b"user", b"secret")
OK = b"\x05\x00\x00\x01\xc0\x00\x02\x07\x9c\x40"  # 192.0.2.7:40000


def run(
    answers: bytes, login: Login | None = None, to: Endpoint = ("198.51.100.2", 25), source: str = "192.0.2.1"
) -> tuple[bytes, Endpoint, bytes]:
    """Feed what the proxy answers: what was sent, the result, and the octets that were not asked for."""
    steps = negotiate(source, to, login)
    sent = b""
    try:
        request, count = next(steps)
        while True:
            sent += request
            if len(answers) < count:
                raise EOFError
            answer, answers = answers[:count], answers[count:]
            request, count = steps.send(answer)
    except StopIteration as done:
        return sent, done.value, answers


def test_bind_and_connect_over_ipv4() -> None:
    sent, bound, rest = run(b"\x05\x00" + OK + OK + b"220 hello")
    assert sent == (
        b"\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x00\x05\x01\x00\x01\xc6\x33\x64\x02\x00\x19"
    )
    assert bound == ("192.0.2.7", 40000)
    assert rest == b"220 hello"


def test_ipv6() -> None:
    address = bytes.fromhex("20010db8000000000000000000000001")
    reply = b"\x05\x00\x00\x04" + address + b"\x00\x19"
    sent, bound, _ = run(b"\x05\x00" + reply + reply, to=("2001:db8::1", 25), source="2001:db8::1")
    assert sent.endswith(b"\x05\x02\x00\x04" + address + b"\x00\x00\x05\x01\x00\x04" + address + b"\x00\x19")
    assert bound == ("2001:db8::1", 25)


def test_a_name_in_the_reply() -> None:
    named = b"\x05\x00\x00\x03\x04host\x00\x07"
    assert run(b"\x05\x00" + named + named)[1] == ("host", 7)


def test_a_login_is_offered_and_sent_when_it_is_wanted() -> None:
    sent, _, _ = run(b"\x05\x02\x01\x00" + OK + OK, LOGIN)
    assert sent.startswith(b"\x05\x02\x00\x02\x01\x04user\x06secret\x05\x02")
    sent, _, _ = run(b"\x05\x00" + OK + OK, LOGIN)
    assert b"secret" not in sent


@pytest.mark.parametrize(
    ("answers", "login", "error", "text"),
    [
        (b"\x04\x00", None, Socks5Error, "version 4"),
        (b"HTTP/1.1", None, Socks5Error, "version 72"),
        (b"\x05\xff", None, Socks5Error, "it wants a username and password"),
        (b"\x05\xff", LOGIN, Socks5Error, "another kind of login"),
        (b"\x05\x02", None, Socks5Error, "login method 2, which was not offered"),
        (b"\x05\x01", LOGIN, Socks5Error, "login method 1, which was not offered"),
        (b"\x05\x02\x01\x01", LOGIN, Socks5Error, "does not accept the username and password"),
        (b"\x05\x02\x05\x00", LOGIN, Socks5Error, "answers the login with version 5"),
        (b"\x05\x00\x05\x01\x00\x01", None, BindRefused, "cannot bind 192.0.2.1: general failure"),
        (b"\x05\x00\x05\x63\x00\x01", None, BindRefused, "cannot bind 192.0.2.1: code 99"),
        (b"\x05\x00" + OK + b"\x05\x05\x00\x01", None, Socks5Error, "to 198.51.100.2:25: connection refused"),
        (b"\x05\x00" + OK + b"\x05\x00\x00\x02", None, Socks5Error, "address type 2"),
        (b"\x05\x00" + OK + b"\x00\x00\x00\x01", None, Socks5Error, "version 0 in a reply"),
    ],
)
def test_refusals(answers: bytes, login: Login | None, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        run(answers, login)
    assert type(caught.value) is error


@pytest.mark.parametrize("login", [Login(b"", b"x"), Login(b"x", b""), Login(b"x" * 256, b"x")])
def test_logins_that_cannot_be_written(login: Login) -> None:
    with pytest.raises(ValueError, match="1 to 255 octets"):
        run(b"", login)


@given(st.binary(max_size=60), st.booleans())
def test_any_answer_gives_an_address_or_a_refusal(answers: bytes, login: bool) -> None:
    with contextlib.suppress(Socks5Error, EOFError):
        run(b"\x05" + answers, LOGIN if login else None)
