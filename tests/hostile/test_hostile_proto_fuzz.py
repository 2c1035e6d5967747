"""Any bytes, fed whole, in pieces or byte by byte, give the same events and only the declared errors."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from kumo_py.proto.address import (
    AddressError,
    ParameterError,
    Params,
    parse_address,
    parse_mail_path,
    parse_rcpt_path,
    split_address,
)
from kumo_py.proto.client import mail_command, rcpt_command, stuff
from kumo_py.proto.command import CommandError, parse_command
from kumo_py.proto.content import DataResult, Fault, LineEndings, to_crlf
from kumo_py.proto.proxy import ProxyError, ProxyHeader, build_v1, build_v2, parse_proxy_header
from kumo_py.proto.reply import ReplyError, ReplyReader, Response, format_reply
from kumo_py.proto.sasl import decode_plain, encode_plain
from kumo_py.proto.server import Receiver
from kumo_py.proto.xclient import xclient_endpoints

fuzz = settings(max_examples=300, deadline=None, derandomize=True, database=None)

LINE_LIMIT, MAX_SIZE, DATA_LINE_LIMIT = 20, 30, 12


def texts(*tokens: bytes, size: int = 30) -> st.SearchStrategy[bytes]:
    """Bytes made of telling tokens and of noise."""
    return st.lists(st.one_of(*[st.sampled_from(tokens)] * 4, st.binary(max_size=4)), max_size=size).map(
        b"".join
    )


sessions = texts(
    b"\r\n", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\r\n..", b"\r", b"\n", b".", b"..", b"DATA\r\n",
    b"DATA\r\n.\r\n", b"BDAT 7\r\n", b"BDAT 40\r\n", b"a" * 11, b"a" * 19, b"a" * 30,
)  # fmt: skip
envelopes = texts(
    b"MAIL FROM:", b"RCPT TO:", b"<", b">", b"@", b"a", b"example.com", b'"', b"\\", b".", b" ", b"\t", b"[",
    b"]", b"IPv6:", b"::1", b"127.0.0.1", b"@a,@b:", b"SIZE=1", b"=", "ü".encode(), b"\r", b"\n", b"\0",
    b"EHLO ", b"AUTH ", b"XCLIENT ", b"ADDR=", b"BDAT ", b"postmaster",
)  # fmt: skip
nearly_paths = st.builds(
    b"<%b@%b>%b".__mod__,
    st.tuples(
        texts(b"a", b"b.c", b'"', b"\\", b" ", "ü".encode(), b"@", b"%", size=4),
        texts(
            b"a",
            b".",
            b"-",
            b"_",
            b"[",
            b"]",
            b"IPv6:",
            b"::1",
            b"127.0.0.1",
            "ü".encode(),
            b"x-tag:",
            size=4,
        ),
        texts(b" ", b"SIZE=1", b"SMTPUTF8", b"=", b"<>", size=4),
    ),
)
replies = texts(
    b"250 ",
    b"250-",
    b"250",
    b"\r\n",
    b"\r\n",
    b"354 go\r\n",
    b"5.7.1 ",
    b"no",
    b"a" * 30,
    b"\r",
    b"\n",
    b"\xc3",
)
proxied = texts(
    b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"127.0.0.1 ", b"::1 ", b"25", b" ", b"\r\n",
    b"\r\n\r\n\0\r\nQUIT\n", b"\x21", b"\x11", b"\x20", b"\0\x0c", b"\0\0", b"x" * 12,
)  # fmt: skip
policies = st.sampled_from(["Deny", "Allow", "Fix"])


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


def session_events(pieces: Iterable[bytes], policy: LineEndings) -> list[object]:
    """What a small SMTP server sees."""
    receiver = Receiver(LINE_LIMIT)
    events: list[object] = []
    wants = receiver.next_line
    for piece in pieces:
        receiver.feed(piece)
        while (event := wants()) is not None:
            events.append(event)
            if wants != receiver.next_line:
                wants = receiver.next_line
            elif event == b"DATA":
                receiver.begin_data(MAX_SIZE, DATA_LINE_LIMIT, policy)
                wants = receiver.next_data  # type: ignore[assignment]
            elif isinstance(event, bytes) and (match := re.fullmatch(rb"BDAT ([0-9]{1,2})", event)):
                receiver.begin_bdat(int(match[1]), MAX_SIZE)
                wants = receiver.next_bdat  # type: ignore[assignment]
    return events


def naive_session_events(data: bytes, policy: LineEndings) -> Iterator[object]:
    """The same by the book, without a thought for speed or memory."""
    while True:
        line, crlf, rest = data.partition(b"\r\n")
        if not crlf:
            return
        yield line if len(line) <= LINE_LIMIT else Fault.LINE_TOO_LONG
        data = rest
        if line == b"DATA":
            content, end, rest = (b"\r\n" + data).partition(b"\r\n.\r\n")
            if not end:
                return
            data = rest
            yield naive_content((content + b"\r\n")[2:], policy)
        elif match := re.fullmatch(rb"BDAT ([0-9]{1,2})", line):
            size = int(match[1])
            if len(data) < size:
                return
            yield data[:size] if size <= MAX_SIZE else Fault.TOO_BIG
            data = data[size:]


def naive_content(content: bytes, policy: LineEndings) -> DataResult:
    if len(content) > MAX_SIZE:
        return DataResult(fault=Fault.TOO_BIG)
    content = b"\r\n".join(line.removeprefix(b".") for line in content.split(b"\r\n"))
    clean = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if clean != content and policy == "Deny":
        return DataResult(fault=Fault.BAD_LINE_ENDINGS)
    lines = clean.split(b"\r\n")
    if max(map(len, lines)) > DATA_LINE_LIMIT:
        return DataResult(fault=Fault.LINE_TOO_LONG)
    return DataResult(
        content if policy == "Allow" else clean,
        has_leading_dots=any(line.startswith(b".") for line in lines),
        is_8bit=any(byte > 127 for byte in content),
    )


@fuzz
@given(sessions, st.lists(st.integers(0, 500), max_size=6), policies)
def test_a_session_is_what_the_book_says_however_it_is_cut(
    data: bytes, cuts: list[int], policy: LineEndings
) -> None:
    expected = list(naive_session_events(data, policy))
    assert session_events([data], policy) == expected
    assert session_events(pieces_of(data, cuts), policy) == expected
    assert session_events(pieces_of(data, range(len(data))), policy) == expected


@fuzz
@given(
    sessions.map(lambda data: b"DATA\r\n" + data + b"\r\n.\r\n"),
    st.lists(st.integers(0, 500), max_size=6),
    policies,
)
def test_so_is_a_content(data: bytes, cuts: list[int], policy: LineEndings) -> None:
    expected = list(naive_session_events(data, policy))
    assert session_events([data], policy) == expected
    assert session_events(pieces_of(data, cuts), policy) == expected
    assert session_events(pieces_of(data, range(len(data))), policy) == expected


@fuzz
@given(sessions)
def test_what_is_stuffed_arrives(data: bytes) -> None:
    receiver = Receiver()
    receiver.begin_data(10_000, 10_000, "Deny")
    receiver.feed(b"".join(stuff(data)))
    content = to_crlf(data)
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    result = receiver.next_data()
    assert result is not None
    assert (result.content, result.fault) == (content, None)
    assert not receiver.pending
    again = b"".join(stuff(result.content, result.has_leading_dots, has_clean_endings=True))
    assert again == b"".join(stuff(data))


@fuzz
@given(envelopes)
def test_a_command_line(line: bytes) -> None:
    try:
        command = parse_command(line)
    except CommandError:
        return
    if command.verb != "UNKNOWN":
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", command.argument)
    if command.verb == "XCLIENT":
        with suppress(CommandError):
            xclient_endpoints(command.params)


@fuzz
@given(st.one_of(envelopes, nearly_paths))
def test_an_address(arg: bytes) -> None:
    def parse_bare(arg: bytes) -> tuple[str, Params]:
        return parse_address(arg.decode("utf-8", "replace")), {}

    for parse in (parse_mail_path, parse_rcpt_path, parse_bare):
        try:
            address, params = parse(arg)
        except (AddressError, ParameterError):
            continue
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", address + "".join(map(str, params.items())))
        assert parse_address(address) == address
        local, domain = split_address(address)
        assert (local == "") == (address == "" or address.startswith('""'))
        assert domain == "" or address.endswith("@" + domain)
        if parse is parse_rcpt_path:
            assert parse_command(rcpt_command(address)[:-2]).argument == address
        elif address != "Postmaster":
            assert parse_command(mail_command(address)[:-2]).argument == address


def reply_events(pieces: Iterable[bytes]) -> list[Response | None]:
    """The replies, and None for an error."""
    reader = ReplyReader(max_line=24, max_lines=4)
    events: list[Response | None] = []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (reply := reader.next()) is not None:
                events.append(reply)
        except ReplyError:
            return [*events, None]
    return events


@fuzz
@given(replies, st.lists(st.integers(0, 500), max_size=6))
def test_a_reply(data: bytes, cuts: list[int]) -> None:
    expected = reply_events([data])
    assert reply_events(pieces_of(data, cuts)) == expected
    assert reply_events(pieces_of(data, range(len(data)))) == expected
    for reply in expected:
        assert reply is None or "\n" not in reply.to_single_line() + str(reply.to_record())


@fuzz
@given(st.integers(200, 599), st.text(max_size=1500))
def test_a_reply_we_write_is_one_reply(code: int, text: str) -> None:
    wire = format_reply(code, text)
    assert max(map(len, wire.split(b"\r\n"))) <= 510
    assert not re.search(rb"[\x00-\x1f\x7f]", wire.replace(b"\r\n", b""))
    reader = ReplyReader(max_lines=2000)
    reader.feed(wire)
    reply = reader.next()
    assert reply is not None
    assert reply.code == code
    assert not reader.pending


def proxy_event(data: bytes) -> ProxyHeader | str | None:
    try:
        return parse_proxy_header(data)
    except ProxyError:
        return "error"


@fuzz
@given(proxied)
def test_a_proxy_header(data: bytes) -> None:
    final = proxy_event(data)
    early = [event for size in range(len(data)) if (event := proxy_event(data[:size])) is not None]
    assert not early or early[0] == final


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65535)


@fuzz
@given(addresses, ports, ports)
def test_a_proxy_header_we_write(
    pair: tuple[object, object], source_port: int, destination_port: int
) -> None:
    source, destination = (str(pair[0]), source_port), (str(pair[1]), destination_port)
    for header in (build_v1(source, destination), build_v2(source, destination)):
        assert parse_proxy_header(header) == ProxyHeader(source, destination, len(header))


@fuzz
@given(st.one_of(st.text(), st.binary().map(lambda data: b64encode(data).decode())))
def test_an_auth_response(response: str) -> None:
    try:
        credentials = decode_plain(response)
    except CommandError:
        return
    assert (
        decode_plain(
            encode_plain(credentials.authc, credentials.password.encode(), credentials.authz).decode()
        )
        == credentials
    )
