"""DATA and BDAT: how a content comes in, and what is refused."""

from __future__ import annotations

import pytest
from smtp_in_harness import DATE, HOST, Client, MakeNode

BODY = b"Subject: x\r\n\r\nhello\r\n"


async def test_one_message(smtp_node: MakeNode) -> None:
    node = smtp_node(trace_headers={"supplemental_header": False})
    client = node.connect()
    reply = await client.deliver(BODY)
    message = node.message
    assert reply == f"250 OK ids={message.id.hex()}"
    assert message.sender == "from@a.test"
    assert message.recipients == ("to@b.test",)
    assert (
        message.data
        == (
            b"Received: from client.test (127.0.0.1)\r\n"
            b"  by mx.test (KumoMTA 192.0.2.1) \r\n"
            b"  with ESMTP id %b for <to@b.test>;\r\n"
            b"  %b\r\n" % (message.id.hex().encode(), DATE.encode())
        )
        + BODY
    )
    assert node.spool.stored == {message.id: message.data}
    assert node.log.kinds == ["Reception"]
    # The next one on the same connection.
    await client.command("MAIL FROM:<second@a.test>")
    await client.command("RCPT TO:<to@b.test>")
    await client.command("DATA")
    await client.send(b".\r\n")
    assert (await client.reply()).startswith("250 OK ids=")
    assert [msg.sender for msg in node.queues.messages] == ["from@a.test", "second@a.test"]


async def test_fed_byte_by_byte(smtp_node: MakeNode) -> None:
    node = smtp_node(trace_headers={"supplemental_header": False, "received_header": False})
    client = node.connect()
    await client.reply()
    for (
        octet
    ) in b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n..dot\r\n.\r\nQUIT\r\n":
        await client.send(bytes([octet]))
    codes = await client.codes(6)
    assert codes == ["250", "250", "250", "354", "250", "221"]
    assert node.message.data == b".dot\r\n"
    assert node.message.dot_lines is True


async def test_whole_session_in_one_segment_gets_two_sends(smtp_node: MakeNode) -> None:
    """Pipelined commands are answered together (RFC 2920), here with the content as well."""
    node = smtp_node()
    client = node.connect()
    await client.reply()
    sends = []
    send_all = client.stream.send_all
    (session,) = node.endpoint.sessions
    original = session.transport.send_all

    async def spy(data: bytes) -> None:
        sends.append(data)
        await original(data)

    session.transport.__class__ = type(
        "Spied", (type(session.transport),), {"__slots__": (), "send_all": lambda self, data: spy(data)}
    )
    await send_all(
        b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nRCPT TO:<e@d.test>\r\nDATA\r\n"
        b"x: y\r\n\r\n.\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx: z\r\n\r\n.\r\nQUIT\r\n"
    )
    codes = await client.codes(10)
    assert codes == ["250", "250", "250", "250", "354", "250", "250", "250", "354", "250"]
    assert await client.reply() == "221 So long, and thanks for all the fish!"
    assert len(sends) == 1
    assert len(node.queues.inserted) == 3


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"x" * 200 + b"\r\n", "552 5.3.4 message too big"),
        (b"x" * 51 + b"\r\n", "500 5.2.3 line too long"),
        (b"a\nb\r\n", "552 5.6.0 message data must use CRLF for line endings"),
        (b"a\rb\r\n", "552 5.6.0 message data must use CRLF for line endings"),
    ],
)
async def test_refused_content_ends_the_transaction(smtp_node: MakeNode, content: bytes, reply: str) -> None:
    node = smtp_node(max_message_size=100, line_length_hard_limit=50)
    client = node.connect()
    assert await client.deliver(content) == reply
    assert await client.command("RCPT TO:<c@d.test>") == "503 5.5.0 MAIL FROM must be issued first"
    assert await client.command("MAIL FROM:<a@b.test>") == "250 2.1.0 OK"
    assert node.queues.inserted == []
    assert node.rejections[0] == ("from@a.test", "to@b.test", int(reply[:3]), "DATA")


@pytest.mark.parametrize(
    ("mode", "kept"), [("Allow", b"a\nb\rc\r\n.\r\r\n"), ("Fix", b"a\r\nb\r\nc\r\n.\r\n\r\n")]
)
async def test_bare_line_ends_allowed_or_fixed(smtp_node: MakeNode, mode: str, kept: bytes) -> None:
    node = smtp_node(
        invalid_line_endings=mode, trace_headers={"supplemental_header": False, "received_header": False}
    )
    client = node.connect()
    assert (await client.deliver(b"a\nb\rc\r\n..\r\r\n")).startswith("250")
    assert node.message.data == kept


async def test_limit_is_inclusive(smtp_node: MakeNode) -> None:
    client = smtp_node(max_message_size=len(BODY)).connect()
    assert (await client.deliver(BODY)).startswith("250")


async def test_client_leaves_in_the_middle_of_data(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.start_data()
    await client.send(b"Subject: half\r\n")
    await client.stream.aclose()
    await client.ended.wait()
    assert node.queues.inserted == []
    assert node.spool.stored == {}


# -- BDAT ------------------------------------------------------------------------------------------------
async def _envelope(client: Client) -> None:
    await client.greet()
    await client.command("MAIL FROM:<a@b.test> BODY=8BITMIME")
    await client.command("RCPT TO:<c@d.test>")


async def test_bdat_in_chunks(smtp_node: MakeNode) -> None:
    node = smtp_node(trace_headers={"supplemental_header": False, "received_header": False})
    client = node.connect()
    await _envelope(client)
    await client.send(b"BDAT 12\r\nSubject: x\r\nBDAT 2\r\n\r\nBDAT 7 LAST\r\n.hello\n")
    assert await client.replies(2) == ["250 2.0.0 12 octets received", "250 2.0.0 2 octets received"]
    assert (await client.reply())[:3] == "552"  # a bare LF is refused here too
    await client.command("MAIL FROM:<a@b.test>")
    await client.command("RCPT TO:<c@d.test>")
    await client.send(b"BDAT 14\r\nSubject: x\r\n\r\nBDAT 8\r\n.hello\r\nBDAT 0 LAST\r\n")
    codes = await client.codes(3)
    assert codes == ["250", "250", "250"]
    assert node.message.data == b"Subject: x\r\n\r\n.hello\r\n"
    assert node.message.dot_lines is True


async def test_bdat_without_final_line_end_gets_one(smtp_node: MakeNode) -> None:
    node = smtp_node(trace_headers={"supplemental_header": False, "received_header": False})
    client = node.connect()
    await _envelope(client)
    await client.send(b"BDAT 3 LAST\r\nx:y")
    assert (await client.reply()).startswith("250 OK ids=")
    assert node.message.data == b"x:y\r\n"


async def test_chunk_of_a_refused_bdat_is_no_command(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.greet()
    await client.send(b"BDAT 22\r\nMAIL FROM:<a@b.test>\r\nNOOP\r\n")
    assert await client.replies(2) == [
        "503 5.5.0 MAIL FROM must be issued first",
        "250 the goggles do nothing",
    ]
    await client.command("MAIL FROM:<a@b.test>")
    await client.send(b"BDAT 6 LAST\r\nRSET\r\nNOOP\r\n")
    assert await client.replies(2) == [
        "503 5.5.0 RCPT TO must be issued first",
        "250 the goggles do nothing",
    ]


async def test_bdat_too_big(smtp_node: MakeNode) -> None:
    client = smtp_node(max_message_size=10).connect()
    await _envelope(client)
    await client.send(b"BDAT 6\r\n123456BDAT 6\r\n123456BDAT 2 LAST\r\n12NOOP\r\n")
    assert await client.replies(4) == [
        "250 2.0.0 6 octets received",
        "552 5.3.4 message too big",
        "503 5.5.0 MAIL FROM must be issued first",
        "250 the goggles do nothing",
    ]


async def test_bdat_in_many_small_chunks(smtp_node: MakeNode) -> None:
    """What is kept of them costs no more than their octets."""
    node = smtp_node()
    client = node.connect()
    await _envelope(client)
    await client.send(b"BDAT 1\r\nx" * 20_000 + b"BDAT 0\r\n" * 100)
    assert set(await client.codes(20_100)) == {"250"}
    (session,) = node.endpoint.sessions
    assert len(session.transaction.chunks) <= 4
    await client.send(b"BDAT 2 LAST\r\n\r\n")
    # One line of 20,000 octets.
    assert await client.reply() == "500 5.2.3 line too long"


async def test_data_after_bdat(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await _envelope(client)
    await client.send(b"BDAT 2\r\n\r\nDATA\r\n")
    assert await client.replies(2) == [
        "250 2.0.0 2 octets received",
        "503 5.5.1 DATA cannot follow BDAT in one transaction",
    ]
    await client.send(b"BDAT 0 LAST\r\n")
    assert (await client.reply()).startswith("250 OK")


@pytest.mark.parametrize("line", ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 2", "BDAT 1 LAST x"])
async def test_bdat_syntax(smtp_node: MakeNode, line: str) -> None:
    client = smtp_node().connect()
    await _envelope(client)
    assert await client.command(line) == "501 Syntax error in command or arguments"


# -- Received --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hello", "mail", "wanted"),
    [
        (
            "EHLO c.test",
            "MAIL FROM:<a@b.test>",
            b"from c.test (127.0.0.1)\r\n  by %b (KumoMTA 192.0.2.1) \r\n",
        ),
        ("EHLO c.test", "MAIL FROM:<a@b.test>", b"  with ESMTP id"),
        ("HELO c.test", "MAIL FROM:<a@b.test>", b"with SMTP id"),
        (None, "MAIL FROM:<a@b.test>", b"from unspecified (127.0.0.1)"),
        ("EHLO c.test", "MAIL FROM:<a@b.test> SMTPUTF8", b"with UTF8SMTP id"),
    ],
)
async def test_received_header(smtp_node: MakeNode, hello: str, mail: str, wanted: bytes) -> None:
    node = smtp_node()
    client = node.connect()
    await client.reply()
    if hello is not None:
        await client.command(hello)
    await client.commands(mail, "RCPT TO:<c@d.test>", "DATA")
    await client.send(b"x: y\r\n\r\n.\r\n")
    await client.reply()
    assert wanted.replace(b"%b", HOST.encode()) in node.message.data


async def test_overlong_recipient_does_not_make_an_overlong_received_line(smtp_node: MakeNode) -> None:
    node = smtp_node()
    await node.connect().deliver(BODY, "x" * 900 + "@d.test")
    assert max(len(line) for line in node.message.data.split(b"\r\n")) < 998
