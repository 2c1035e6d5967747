import pytest

from kumo_py.proto.address import (
    AddressError,
    ParameterError,
    parse_address,
    parse_mail_path,
    parse_params,
    parse_rcpt_path,
    split_address,
    valid_domain,
)

# RFC 5321 §4.1.2, one example or more of each production
MAILBOXES = [
    "user@example.com",
    "first.last@example.com",
    "user+tag@example.com",
    "!#$%&'*+-/=?^_`{|}~@example.com",
    "1@2",
    "USER@EXAMPLE.COM",
    "user@my_host.example.com",
    "user@xn--mnchen-3ya.de",
    "a" * 300 + "@example.com",
    "user@" + ".".join(["a" * 63] * 3 + ["b" * 61]),
    '""@example.com',
    '"john doe"@example.com',
    '"a@b"@example.com',
    r'"a\"b\\c"@example.com',
    '"<>"@example.com',
    "user@[192.0.2.1]",
    "user@[IPv6:2001:db8::1]",
    "user@[ipv6:::ffff:192.0.2.1]",
    "user@[x-tag:some@thing]",
    "d!u@example.com",
    "u%d@example.com",
    # RFC 6531 §3.3
    "üser@example.com",
    "пользователь@пример.рф",
    '"ü ü"@example.com',
    "😀@example.com",
]

NOT_MAILBOXES = [
    "user",
    "user@",
    "@example.com",
    "user@@example.com",
    "a@b@example.com",
    ".user@example.com",
    "user.@example.com",
    "us..er@example.com",
    "us er@example.com",
    "user@exa mple.com",
    "user@example..com",
    "user@.example.com",
    "user@example.com.",
    "user@-example.com",
    "user@example-.com",
    "user@_dmarc.example.com",
    "user@" + "a" * 64 + ".com",
    "user@" + ".".join(["a" * 63] * 4) + ".com",
    "user@[192.0.2.256]",
    "user@[192.0.2]",
    "user@[IPv6:192.0.2.1]",
    "user@[IPv6:fe80::1%eth0]",
    "user@[IPv6:xyz]",
    "user@[]",
    "user@[192.0.2.1",
    '"user@example.com',
    '"us"er@example.com',
    'first."last"@example.com',
    '"first".last@example.com',
    '"u@d"',
    '"a"b"@example.com',
    '"a\\"@example.com',
    "user@example.com\r\nRCPT TO:<x@y>",
    "user@example.com\n",
    "us\x00er@example.com",
    "us\x7fer@example.com",
    "us\x85er@example.com",
    '"us\ter"@example.com',
    '"us\\\r"@example.com',
    "user@exam\x9fple.com",
    "\ud800@example.com",
    "<user@example.com",
    "user@example.com>",
    "<user>@example.com",
    "a(comment)@example.com",
]


@pytest.mark.parametrize("mailbox", MAILBOXES)
def test_a_mailbox_is_accepted_as_spelled(mailbox: str) -> None:
    assert parse_address(mailbox) == mailbox
    assert parse_address(f"<{mailbox}>") == mailbox
    assert parse_mail_path(f"<{mailbox}>".encode()) == (mailbox, {})
    assert parse_rcpt_path(f"<{mailbox}>".encode()) == (mailbox, {})


@pytest.mark.parametrize("text", NOT_MAILBOXES)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)
    with pytest.raises(AddressError):
        parse_address(f"<{text}>")
    with pytest.raises(AddressError):
        parse_rcpt_path(f"<{text}>".encode(errors="surrogatepass"))


def test_the_error_says_what_was_wrong_and_what_would_be_right() -> None:
    with pytest.raises(AddressError, match=r"'joe' is not a mail address: expected local-part@domain"):
        parse_address("joe")
    with pytest.raises(AddressError, match="byte 3 is neither"):
        parse_mail_path(b"<a\xff@b>")


@pytest.mark.parametrize(
    ("path", "address"),
    [  # RFC 5321 §4.1.1.3 and appendix F.2
        (b"<@a.example:user@b.example>", "user@b.example"),
        (b"<@a.example,@b.example:user@c.example>", "user@c.example"),
        (b'<@a.example:"a@b"@c.example>', '"a@b"@c.example'),
        # Tolerated, as KumoMTA does
        (b" <user@b.example>", "user@b.example"),
        (b"\t<user@b.example>  ", "user@b.example"),
        (b"user@b.example", "user@b.example"),
    ],
)
def test_source_routes_are_dropped_and_sloppy_clients_tolerated(path: bytes, address: str) -> None:
    assert parse_rcpt_path(path) == (address, {})
    assert parse_mail_path(path) == (address, {})


@pytest.mark.parametrize(
    "path", [b"<@a.example:>", b"<@a.example>", b"<@a.example,:u@b>", b"<@:u@b>", b"@a:u@b"]
)
def test_broken_source_routes_are_refused(path: bytes) -> None:
    with pytest.raises(AddressError):
        parse_rcpt_path(path)


def test_the_null_sender_is_a_sender_and_no_recipient() -> None:
    assert parse_mail_path(b"<>") == ("", {})
    assert parse_mail_path(b" <> BODY=8BITMIME") == ("", {"BODY": "8BITMIME"})
    assert parse_address("") == parse_address("<>") == ""
    with pytest.raises(AddressError):
        parse_rcpt_path(b"<>")
    with pytest.raises(AddressError):
        parse_mail_path(b"")


def test_postmaster_needs_no_domain_as_a_recipient() -> None:
    assert parse_rcpt_path(b"<postmaster>") == ("Postmaster", {})
    assert parse_rcpt_path(b"<POSTMASTER> NOTIFY=NEVER") == ("Postmaster", {"NOTIFY": "NEVER"})
    assert parse_address("postmaster") == parse_address("<PostMaster>") == "Postmaster"
    with pytest.raises(AddressError):
        parse_mail_path(b"<postmaster>")
    with pytest.raises(AddressError):
        parse_rcpt_path(b"<postmaster>x")
    with pytest.raises(AddressError):
        parse_rcpt_path("<po\u017ftmaster>".encode())  # long s, whose upper case is S


@pytest.mark.parametrize(
    ("text", "params"),
    [
        (b"<a@b> SIZE=1000 BODY=8BITMIME SMTPUTF8", {"SIZE": "1000", "BODY": "8BITMIME", "SMTPUTF8": None}),
        (b"<a@b>  size=1\tauth=<>  ", {"SIZE": "1", "AUTH": "<>"}),
        (b"a@b ENVID=QQ+3D1", {"ENVID": "QQ+3D1"}),
        ("<a@b> X=\u00fc\u00a0".encode(), {"X": "\u00fc\u00a0"}),
    ],
)
def test_parameters(text: bytes, params: dict[str, str | None]) -> None:
    assert parse_mail_path(text)[1] == params


@pytest.mark.parametrize(
    "text", [b"<a@b> =1", b"<a@b> A=", b"<a@b> -A", b"<a@b> A=b=c", b"<a@b> A=\x01", b"<a@b> A==x"]
)
def test_bad_parameters_are_no_address_error(text: bytes) -> None:
    with pytest.raises(ParameterError):
        parse_mail_path(text)


def test_parameters_need_a_space_before_them() -> None:
    with pytest.raises(AddressError):
        parse_mail_path(b"<a@b>SIZE=1")


def test_parse_params_refuses_nothing_at_all() -> None:
    with pytest.raises(ParameterError, match="KEYWORD=VALUE"):
        parse_params("")


@pytest.mark.parametrize(
    ("address", "local", "domain"),
    [
        ("user@Example.COM", "user", "Example.COM"),
        ('"a@b"@example.com', "a@b", "example.com"),
        (r'"f\o\"o"@example.com', 'fo"o', "example.com"),
        ("user@[192.0.2.1]", "user", "[192.0.2.1]"),
        ('"a@[b"@[x-tag:c@d]', "a@[b", "[x-tag:c@d]"),
        ("", "", ""),
        ("Postmaster", "postmaster", ""),
    ],
)
def test_split_address(address: str, local: str, domain: str) -> None:
    assert split_address(address) == (local, domain)


def test_valid_domain() -> None:
    assert valid_domain("mail.example.com")
    assert valid_domain("[192.0.2.1]")
    assert valid_domain("[IPv6:::1]")
    assert not valid_domain("")
    assert not valid_domain("a b")
    assert not valid_domain("[")
    assert not valid_domain("a." * 127 + "aa")
