import pytest

from kumo_py.proto.command import Command, CommandError, parse_command

BAD_SENDER = (501, "5.1.7 Bad sender's mailbox address syntax")
BAD_RECIPIENT = (501, "5.1.3 Invalid recipient address syntax")
SYNTAX = (501, "Syntax error in command or arguments")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        # RFC 5321 §4.1.1.1
        (b"EHLO mail.example.com", Command("EHLO", "mail.example.com")),
        (b"ehlo [192.0.2.1]  ", Command("EHLO", "[192.0.2.1]")),
        (b"HELO my_host", Command("HELO", "my_host")),
        (b"LHLO [IPv6:::1]", Command("LHLO", "[IPv6:::1]")),
        # §4.1.1.2
        (b"MAIL FROM:<a@b.example>", Command("MAIL", "a@b.example")),
        (b"mail FROM:<a@b.example> size=12", Command("MAIL", "a@b.example", {"SIZE": "12"})),
        (b"MAIL FROM:<a@b.example> ", Command("MAIL", "a@b.example")),
        (b"MAIL  FROM: a@b.example  SMTPUTF8", Command("MAIL", "a@b.example", {"SMTPUTF8": None})),
        (b"MAIL FROM:<>", Command("MAIL", "")),
        (b"MAIL FROM:<" + b"a" * 300 + b"@b>", Command("MAIL", "a" * 300 + "@b")),
        ("MAIL FROM:<ü@b.example> SMTPUTF8".encode(), Command("MAIL", "ü@b.example", {"SMTPUTF8": None})),
        # §4.1.1.3
        (b"RCPT TO:<a@b.example>", Command("RCPT", "a@b.example")),
        (b"rcpt to:<@x.example:a@b.example>", Command("RCPT", "a@b.example")),
        (b"RCPT TO:<Postmaster>", Command("RCPT", "Postmaster")),
        (b"RCPT TO:<a@b.example> NOTIFY=NEVER", Command("RCPT", "a@b.example", {"NOTIFY": "NEVER"})),
        # §4.1.1.4 to §4.1.1.10
        (b"DATA", Command("DATA")),
        (b"data \t", Command("DATA")),
        (b"RSET", Command("RSET")),
        (b"NOOP", Command("NOOP")),
        (b"NOOP whatever is said", Command("NOOP", "whatever is said")),
        (b"QUIT", Command("QUIT")),
        (b"VRFY joe", Command("VRFY", "joe")),
        (b"EXPN list", Command("EXPN", "list")),
        (b"HELP", Command("HELP")),
        # RFC 3207, 4954, 3030
        (b"StartTLS", Command("STARTTLS")),
        (b"AUTH PLAIN", Command("AUTH", "PLAIN")),
        (b"AUTH PLAIN AGEAYg==", Command("AUTH", "PLAIN", initial="AGEAYg==")),
        (b"AUTH SCRAM-SHA-256 =", Command("AUTH", "SCRAM-SHA-256", initial="")),
        (b"BDAT 1000", Command("BDAT", size=1000)),
        (b"bdat 0 last", Command("BDAT", size=0, last=True)),
        # Postfix XCLIENT_README
        (b"XCLIENT ADDR=192.0.2.1 port=25", Command("XCLIENT", params={"ADDR": "192.0.2.1", "PORT": "25"})),
        (b"XCLIENT NAME=a+2Bb+3D NEW=x=y", Command("XCLIENT", params={"NAME": "a+b=", "NEW": "x=y"})),
        # Not ours to know
        (b"XYZZY foo", Command("UNKNOWN", "XYZZY foo")),
        (b"GET / HTTP/1.1", Command("UNKNOWN", "GET / HTTP/1.1")),
        (b"DATAx", Command("UNKNOWN", "DATAx")),
    ],
)
def test_a_command_is_read(line: bytes, command: Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL FROM:<a@b", BAD_SENDER),
        (b"MAIL FROM:", BAD_SENDER),
        (b"MAIL FROM:<a@b.example>x", BAD_SENDER),
        (b"MAIL FROM:<a\rb@c>", BAD_SENDER),
        (b"MAIL FROM:<a@b>\n", BAD_SENDER),
        (b"MAIL FROM:<a b@c> SIZE=1", BAD_SENDER),
        (b"RCPT TO:<a>", BAD_RECIPIENT),
        (b"RCPT TO:<>", BAD_RECIPIENT),
        (b"RCPT TO:<a@b>\nRCPT TO:<c@d>", BAD_RECIPIENT),
        (b'RCPT TO:<"u@d">', BAD_RECIPIENT),
        (b"MAIL FROM:<a@b> SIZE=", SYNTAX),
        (b"MAIL FROM:<a@b> A\x00B", SYNTAX),
        (b'MAIL FROM:<"q q"@b> ==', SYNTAX),
        (b"RCPT TO:<a@b> =", SYNTAX),
        (b"RCPT TO:<Postmaster> =", SYNTAX),
        (b"MAIL", SYNTAX),
        (b"MAIL <a@b>", SYNTAX),
        (b"MAIL FROM <a@b>", SYNTAX),
        (b"MAIL TO:<a@b>", SYNTAX),
        (b"RCPT", SYNTAX),
        (b"RCPT FROM:<a@b>", SYNTAX),
        (b"EHLO", SYNTAX),
        (b"EHLO a b", SYNTAX),
        (b"HELO \x1b[2J", SYNTAX),
        (b"LHLO [1.2.3.400]", SYNTAX),
        (b"DATA now", SYNTAX),
        (b"RSET now", SYNTAX),
        (b"QUIT now", SYNTAX),
        (b"STARTTLS now", SYNTAX),
        (b"NOOP \x00", SYNTAX),
        (b"AUTH", SYNTAX),
        (b"AUTH PLAIN a b", SYNTAX),
        (b"AUTH PLAIN $", SYNTAX),
        (b"BDAT", SYNTAX),
        (b"BDAT -1", SYNTAX),
        (b"BDAT 1 FIRST", SYNTAX),
        (b"BDAT 1LAST", SYNTAX),
        (b"BDAT " + b"9" * 21, SYNTAX),
        ("BDAT ٣".encode(), SYNTAX),
        (b"XCLIENT", SYNTAX),
        (b"XCLIENT ADDR", SYNTAX),
        (b"XCLIENT ADDR=", SYNTAX),
        (b"XCLIENT NAME=+4", SYNTAX),
        (b"XCLIENT NAME=+zz", SYNTAX),
        (b"XCLIENT NAME=+0D+0A", SYNTAX),
        (b"XCLIENT NAME=+FF", SYNTAX),
        (b"", SYNTAX),
        (b" NOOP", SYNTAX),
        (b"\x16\x03\x01", SYNTAX),
        (b"EHLO \xff", (501, "5.5.2 Invalid UTF-8 in command")),
    ],
)
def test_a_bad_command_carries_its_reply(line: bytes, reply: tuple[int, str]) -> None:
    with pytest.raises(CommandError) as caught:
        parse_command(line)
    assert (caught.value.code, caught.value.text) == reply


def test_letters_whose_upper_case_is_ascii_do_not_make_a_verb() -> None:
    with pytest.raises(CommandError):
        parse_command("\u017fTARTTLS".encode())


def test_commands_do_not_share_parameters() -> None:
    first, second = parse_command(b"MAIL FROM:<a@b>"), parse_command(b"MAIL FROM:<a@b>")
    first.params["X"] = None
    assert second.params == {}
