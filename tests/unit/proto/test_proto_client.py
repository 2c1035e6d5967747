import pytest

from kumo_py.proto.address import AddressError
from kumo_py.proto.client import mail_command, parse_ehlo, rcpt_command, stuff


def test_commands() -> None:
    assert mail_command("a@b.example") == b"MAIL FROM:<a@b.example>\r\n"
    assert mail_command("") == b"MAIL FROM:<>\r\n"
    assert mail_command("", body_8bitmime=True) == b"MAIL FROM:<> BODY=8BITMIME\r\n"
    assert (
        mail_command("ü@b.example", body_8bitmime=True, smtputf8=True)
        == "MAIL FROM:<ü@b.example> BODY=8BITMIME SMTPUTF8\r\n".encode()
    )
    assert rcpt_command("a@b.example") == b"RCPT TO:<a@b.example>\r\n"
    assert rcpt_command('"a > b"@b.example') == b'RCPT TO:<"a > b"@b.example>\r\n'
    assert rcpt_command("Postmaster") == b"RCPT TO:<Postmaster>\r\n"


@pytest.mark.parametrize(
    "addr",
    ["a@b\r\nDATA", "a@b\n", "a\0@b", "a@b> NOTIFY=NEVER", "a@b\x85", "a", "a b@c", "a@b c", "\ud800@b"],
)
def test_nothing_but_an_address_gets_into_a_command(addr: str) -> None:
    with pytest.raises(AddressError):
        rcpt_command(addr)
    with pytest.raises(AddressError):
        mail_command(addr)


def test_the_null_sender_is_no_recipient() -> None:
    with pytest.raises(AddressError, match="null sender"):
        rcpt_command("")


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".a\r\n..b\r\nc.\r\n", b"..a\r\n...b\r\nc.\r\n.\r\n"),
        (b"a\n.\nb\r.\r\n", b"a\r\n..\r\nb\r\n..\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
        (b"\r\n.\r\nMAIL FROM:<x@y>\r\n", b"\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"),
        (b"\n.\nMAIL FROM:<x@y>\n", b"\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"),
    ],
)
def test_stuff(data: bytes, wire: bytes) -> None:
    assert b"".join(stuff(data)) == wire


def test_what_the_caller_knows_spares_work_and_never_safety() -> None:
    data = b"a\r\nb\r\n"
    assert stuff(data, False, has_clean_endings=True)[0] is data
    assert stuff(data)[0] is data
    assert b"".join(stuff(b"a\r\n.b\r\n", True, has_clean_endings=True)) == b"a\r\n..b\r\n.\r\n"
    # A bare LF makes the knowledge of dots worthless: it was about lines that ended with CRLF.
    assert b"".join(stuff(b"a\n.\nb\r\n", False)) == b"a\r\n..\r\nb\r\n.\r\n"


def test_parse_ehlo() -> None:
    content = "mx.example.com hello\nPIPELINING\nsize 1000\nAUTH PLAIN LOGIN\n\n 8BITMIME \nSIZE"
    assert parse_ehlo(content) == {
        "PIPELINING": None,
        "SIZE": None,
        "AUTH": "PLAIN LOGIN",
        "8BITMIME": None,
    }
    assert parse_ehlo("mx.example.com") == {}
