"""What an outgoing session says, in which order, and how it reads the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from queue_harness import BODY, constant
from smtp_out_harness import Server, answering, egress, start_delivery, usual

from kumo_py.core.duration import Duration
from kumo_py.core.policy import PolicyError

if TYPE_CHECKING:
    import trio
    from smtp_out_harness import Peer
    from trio.testing import MockClock

MAIL = "MAIL FROM:<from@a.test>"
RCPT = "RCPT TO:<to@b.test>"
BARE = ("8BITMIME",)
"""The extensions of a server that cannot pipeline."""


# -- one message ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("extensions", [(), BARE])
async def test_one_message(mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]) -> None:
    server = Server(usual(*extensions, dot="250 2.0.0 queued as 1"))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send()
    await node.done(1)
    assert server.commands == [["EHLO me.test", MAIL, RCPT, "DATA", ".", "QUIT"]]
    assert server.messages == [(MAIL, (RCPT,), BODY + b".\r\n")]
    (record,) = node.log.records
    assert (record.kind, record.code, str(record.response.enhanced), record.content) == (
        "Delivery",
        250,
        "2.0.0",
        "queued as 1",
    )
    assert record.response.command == "."
    assert record.site == f"unspecified->mx_list:{server.mx}@smtp_client"
    context = record.context
    assert context.peer is not None
    assert context.source_address is not None
    assert (context.peer.name, context.peer.addr) == ("[127.0.0.1]", server.address)
    assert context.source_address.address.startswith("127.0.0.1:")
    assert (context.egress_pool, context.egress_source, context.delivery_protocol) == (
        "unspecified",
        "unspecified",
        "ESMTP",
    )
    assert not node.in_spool(msg)


async def test_the_envelope_is_one_write_with_pipelining(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    await node.send("one@b.test", "two@b.test")
    await node.done(1)
    assert (
        f"{MAIL}\r\nRCPT TO:<one@b.test>\r\nRCPT TO:<two@b.test>\r\nDATA\r\n".encode()
        in server.peers[0].chunks
    )


@pytest.mark.option("make_egress_path.enable_pipelining")
@pytest.mark.parametrize("offered", [True, False])
async def test_without_pipelining_each_command_waits_for_its_reply(
    mock_clock: MockClock, nursery: trio.Nursery, offered: bool
) -> None:
    server = Server(usual(*(("PIPELINING",) if offered else BARE)))
    node = await start_delivery(mock_clock, nursery, server, path=egress(enable_pipelining=not offered))
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert server.peers[0].chunks == [
        b"EHLO me.test\r\n",
        f"{MAIL}\r\n".encode(),
        f"{RCPT}\r\n".encode(),
        b"DATA\r\n",
        BODY + b".\r\n",
        b"RSET\r\n",
        f"{MAIL}\r\n".encode(),
        f"{RCPT}\r\n".encode(),
        b"DATA\r\n",
        BODY + b".\r\n",
        b"QUIT\r\n",
    ]


@pytest.mark.option("make_egress_path.ehlo_domain")
async def test_the_ehlo_name_comes_from_path_source_or_host(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    from kumo_py.queue.config import EgressSource

    server = Server()
    handlers = {"get_egress_source": constant(EgressSource(name="s", ehlo_domain="source.test"))}
    node = await start_delivery(mock_clock, nursery, server, handlers=handlers)
    node.policy.handlers["get_egress_source"] = constant(EgressSource(name="s", ehlo_domain="source.test"))
    await node.send()
    await node.done(1)
    assert server.commands[0][0] == "EHLO me.test"
    other = Server()
    node = await start_delivery(mock_clock, nursery, other, path=egress(ehlo_domain="path.test"))
    await node.send()
    await node.done(1)
    assert other.commands[0][0] == "EHLO path.test"


@pytest.mark.option("make_egress_path.use_lmtp")
async def test_lmtp_says_lhlo(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server, path=egress(use_lmtp=True))
    await node.send()
    await node.done(1)
    assert server.commands[0][0] == "LHLO me.test"


async def test_the_null_sender(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(sender="")
    await node.done(1)
    assert server.messages[0].mail == "MAIL FROM:<>"


# -- content -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b".a\r\n..b\r\n", b"..a\r\n...b\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
        (b"a\n.\nb\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.\nMAIL FROM:<x@y>\r\n", b"a\r\n..\r\nMAIL FROM:<x@y>\r\n.\r\n"),
        (b"", b".\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (
            b"." * 40_000 + b"\r\n" + b".\r\n" * 40_000,
            b"." * 40_001 + b"\r\n" + b"..\r\n" * 40_000 + b".\r\n",
        ),
        (b"x" * 500_000, b"x" * 500_000 + b"\r\n.\r\n"),
        (b"a\0b\r\n", b"a\0b\r\n.\r\n"),
    ],
)
async def test_dots_and_line_ends_on_the_wire(
    mock_clock: MockClock, nursery: trio.Nursery, content: bytes, wire: bytes
) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(data=content)
    await node.send()
    await node.done(2)
    assert server.contents == [wire, BODY + b".\r\n"]


@pytest.mark.parametrize(
    ("extensions", "sender", "recipient", "data", "mail"),
    [
        (("8BITMIME",), "from@a.test", "to@b.test", "é", "MAIL FROM:<from@a.test> BODY=8BITMIME"),
        (("8BITMIME",), "from@a.test", "to@b.test", "e", "MAIL FROM:<from@a.test>"),
        (("SMTPUTF8",), "fröm@a.test", "to@b.test", "e", "MAIL FROM:<fröm@a.test> SMTPUTF8"),
        (("SMTPUTF8",), "from@a.test", "tö@b.test", "e", "MAIL FROM:<from@a.test> SMTPUTF8"),
        (
            ("8BITMIME", "SMTPUTF8"),
            "f@a.test",
            "tö@b.test",
            "é",
            "MAIL FROM:<f@a.test> BODY=8BITMIME SMTPUTF8",
        ),
        (
            ("8bitmime", "SmtpUtf8"),
            "f@a.test",
            "tö@b.test",
            "é",
            "MAIL FROM:<f@a.test> BODY=8BITMIME SMTPUTF8",
        ),
        (("SIZE 1000",), "from@a.test", "to@b.test", "e", "MAIL FROM:<from@a.test>"),
    ],
)
async def test_mail_parameters(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    extensions: tuple[str, ...],
    sender: str,
    recipient: str,
    data: str,
    mail: str,
) -> None:
    server = Server(usual(*extensions))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(recipient, sender=sender, data=f"{data}\r\n".encode())
    await node.done(1)
    assert (server.messages[0].mail, server.messages[0].rcpts) == (mail, (f"RCPT TO:<{recipient}>",))


@pytest.mark.parametrize(
    ("recipient", "data", "enhanced"), [("to@b.test", "é", "5.6.3"), ("tö@b.test", "e", "5.6.7")]
)
@pytest.mark.parametrize("pipelining", ["PIPELINING", "X-OTHER"])
async def test_what_the_server_cannot_take_bounces_here(
    mock_clock: MockClock, nursery: trio.Nursery, recipient: str, data: str, enhanced: str, pipelining: str
) -> None:
    server = Server(usual(pipelining))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send(recipient, data=f"{data}\r\n".encode())
    await node.send()
    await node.done(2)
    bounce, delivery = node.log.records
    assert (bounce.kind, bounce.code, str(bounce.response.enhanced)) == ("Bounce", 554, enhanced)
    assert bounce.content.startswith("KumoMTA internal: ")
    assert delivery.kind == "Delivery"
    assert server.commands == [["EHLO me.test", MAIL, RCPT, "DATA", ".", "QUIT"]]
    assert not node.data.stored


async def test_a_second_message_that_the_server_cannot_take(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(usual("PIPELINING"))
    node = await start_delivery(mock_clock, nursery, server)
    for data in (BODY, "é\r\n".encode(), BODY):
        await node.send(data=data)
    await node.done(3)
    assert node.log.brief == [("Delivery", 250), ("Bounce", 554), ("Delivery", 250)]
    assert len(server.messages) == 2


@pytest.mark.option("make_egress_path.ignore_8bit_checks")
async def test_ignore_8bit_checks_sends_regardless(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(usual("PIPELINING"))
    node = await start_delivery(mock_clock, nursery, server, path=egress(ignore_8bit_checks=True))
    await node.send(data="é\r\n".encode())
    await node.done(1)
    assert server.messages == [(MAIL, (RCPT,), "é\r\n.\r\n".encode())]


async def test_an_address_without_a_wire_form_bounces(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    await node.send("to@b.test>\r\nRCPT TO:<victim@b.test")
    await node.send()
    await node.done(2)
    assert [(record.kind, record.code) for record in node.log.records] == [("Bounce", 554), ("Delivery", 250)]
    assert server.commands == [["EHLO me.test", MAIL, RCPT, "DATA", ".", "QUIT"]]


# -- several messages over one connection --------------------------------------------------------------
async def test_the_next_envelope_rides_with_the_body(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    for _ in range(3):
        await node.send()
    await node.done(3)
    envelope = f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode()
    assert server.peers[0].chunks == [
        b"EHLO me.test\r\n",
        envelope,
        BODY + b".\r\nRSET\r\n" + envelope,
        BODY + b".\r\nRSET\r\n" + envelope,
        BODY + b".\r\n",
        b"QUIT\r\n",
    ]


@pytest.mark.option("make_egress_path.enable_rset")
async def test_without_enable_rset_none_is_sent_after_success(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server, path=egress(enable_rset=False))
    for _ in range(4):
        await node.send()
    await node.done(4)
    assert node.log.kinds == ["Delivery"] * 4
    assert server.commands == [["EHLO me.test", *[MAIL, RCPT, "DATA", "."] * 4, "QUIT"]]


@pytest.mark.parametrize("extensions", [(), BARE])
@pytest.mark.parametrize("enable_rset", [True, False])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "dot"])
async def test_after_a_refusal_the_next_message_begins_with_rset(
    mock_clock: MockClock, nursery: trio.Nursery, verb: str, enable_rset: bool, extensions: tuple[str, ...]
) -> None:
    usual_reply = "354 go" if verb == "DATA" else "250 ok"
    server = Server(usual(*extensions, **{verb: ["550 no", usual_reply]}))
    node = await start_delivery(mock_clock, nursery, server, path=egress(enable_rset=enable_rset))
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert node.log.brief == [("Bounce", 550), ("Delivery", 250)]
    commands = server.commands[0]
    if verb == "dot" and not extensions and not enable_rset:
        # The next envelope was under way before the answer came; a refused content ends its transaction anyway.
        assert "RSET" not in commands
    else:
        assert commands.count("RSET") == 1
        assert commands[commands.index("RSET") + 1] == MAIL
    assert len(server.messages) == 1


@pytest.mark.option("make_egress_path.max_deliveries_per_connection")
async def test_max_deliveries_per_connection(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server()
    node = await start_delivery(mock_clock, nursery, server, path=egress(max_deliveries_per_connection=2))
    for _ in range(5):
        await node.send()
    await node.done(5)
    assert [commands.count("MAIL FROM:<from@a.test>") for commands in server.commands] == [2, 2, 1]
    assert [commands[-1] for commands in server.commands] == ["QUIT"] * 3
    assert node.log.kinds == ["Delivery"] * 5


async def test_an_idle_connection_is_used_again(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    import trio

    server = Server()
    node = await start_delivery(mock_clock, nursery, server)
    for _ in range(3):
        await node.send()
        await trio.sleep(3)
    await node.done(3)
    assert len(server.peers) == 1
    assert server.commands[0].count("RSET") == 2


async def test_an_idle_connection_is_closed_with_quit(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    import trio

    server = Server()
    node = await start_delivery(mock_clock, nursery, server, path=egress(idle_timeout=Duration(10)))
    await node.send()
    await node.log.reach(1)
    await trio.sleep(9)
    assert not server.peers[0].closed.is_set()
    with trio.fail_after(3):
        await server.peers[0].closed.wait()
    assert server.commands[0][-1] == "QUIT"


async def test_a_server_that_does_not_answer_quit_is_not_waited_for(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    import trio

    server = Server(usual(QUIT="silence"))
    spare = Server()
    node = await start_delivery(mock_clock, nursery, server, spare)
    await node.send()
    await node.log.reach(1)
    await trio.sleep(10)
    assert node.queues.ready[f"unspecified->mx_list:{server.mx},{spare.mx}@smtp_client"].connections == 0
    await node.send()
    await node.done(2)
    assert (len(server.peers), len(spare.peers)) == (2, 0)


async def test_data_accepted_without_recipients_is_ended_empty(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """RFC 2920 §3.1."""
    answers = ["554 no valid recipients", "250 ok"]
    server = Server(usual(RCPT=["550 5.1.1 no such user", "250 ok"], DATA="354 go", dot=answers))
    node = await start_delivery(mock_clock, nursery, server)
    for _ in range(2):
        await node.send()
    await node.done(2)
    bounce, _ = node.log.records
    assert (bounce.kind, bounce.content, bounce.response.command) == ("Bounce", "no such user", RCPT)
    assert node.log.brief == [("Bounce", 550), ("Delivery", 250)]
    assert b".\r\n" in server.peers[0].chunks
    assert len(server.messages) == 1


# -- answers -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("extensions", [(), BARE])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("450 4.2.0 later", "TransientFailure"),
        ("550 5.7.1 never", "Bounce"),
        ("503 bad sequence", "TransientFailure"),
        ("399 odd", "TransientFailure"),
    ],
)
async def test_refusals(
    mock_clock: MockClock,
    nursery: trio.Nursery,
    verb: str,
    reply: str,
    kind: str,
    extensions: tuple[str, ...],
) -> None:
    server = Server(usual(*extensions, **{verb: reply}))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    command = {"MAIL": MAIL, "RCPT": RCPT, "DATA": "DATA", "dot": "."}[verb]
    assert (record.kind, record.response.to_single_line(), record.response.command) == (kind, reply, command)
    assert node.in_spool(msg) == (kind == "TransientFailure")
    assert msg.attempts == (kind == "TransientFailure")
    assert server.messages == []


@pytest.mark.parametrize("extensions", [(), BARE])
@pytest.mark.parametrize(
    ("verb", "reply"), [("RCPT", "251 will forward"), ("RCPT", "252 cannot verify"), ("MAIL", "251 fine")]
)
async def test_any_success_before_data_is_no_delivery_yet(
    mock_clock: MockClock, nursery: trio.Nursery, verb: str, reply: str, extensions: tuple[str, ...]
) -> None:
    """RFC 5321 §3.4: 251 to RCPT accepts the recipient. Only the answer to the content counts as delivered."""
    server = Server(usual(*extensions, dot="250 queued", **{verb: reply}))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send()
    await node.done(1)
    assert [(record.kind, record.content) for record in node.log.records] == [("Delivery", "queued")]
    assert server.contents == [BODY + b".\r\n"]


@pytest.mark.parametrize("extensions", [(), BARE])
async def test_success_instead_of_354_is_no_delivery(
    mock_clock: MockClock, nursery: trio.Nursery, extensions: tuple[str, ...]
) -> None:
    server = Server(usual(*extensions, DATA="250 what?"))
    node = await start_delivery(mock_clock, nursery, server)
    msg = await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert record.kind == "TransientFailure"
    assert node.in_spool(msg)


async def test_a_refused_rset_does_not_bounce_the_message(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = Server(usual(RSET="502 not implemented"))
    node = await start_delivery(mock_clock, nursery, server)
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert "Bounce" not in node.log.kinds


async def test_multi_line_replies_and_odd_octets(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            await peer.line()
        await peer.send("250 ok", "250 ok", "354 go")
        await peer.content()
        await peer.send(b"550-5.7.1 one \xff\x01\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n")
        await peer.converse()

    node = await start_delivery(mock_clock, nursery, Server(script))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, str(record.response.enhanced)) == ("Bounce", "5.7.1")
    assert record.content.split("\n")[1:] == ["two", "three"]


@pytest.mark.parametrize(
    ("reply", "code", "kind"),
    [("550 5.1.1 no such user", 450, "TransientFailure"), ("450 4.7.1 spam", 550, "Bounce")],
)
async def test_the_policy_may_rewrite_a_status(
    mock_clock: MockClock, nursery: trio.Nursery, reply: str, code: int, kind: str
) -> None:
    server = Server(usual(RCPT=reply))
    handlers = {"smtp_client_rewrite_delivery_status": constant(code)}
    node = await start_delivery(mock_clock, nursery, server, handlers=handlers)
    await node.send(meta={"tenant": "t", "campaign": "c", "routing_domain": "r.test"})
    await node.done(1)
    asked = [asked for asked in node.policy.asked if asked[0] == "smtp_client_rewrite_delivery_status"]
    assert asked == [("smtp_client_rewrite_delivery_status", reply, "b.test", "t", "c", "r.test")]
    (record,) = node.log.records
    assert (record.kind, record.code) == (kind, code)
    assert record.content == f"{reply[10:]} (kumomta: status was rewritten from {reply[:3]} -> {code})"


async def test_what_this_node_says_itself_is_not_rewritten(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    handlers = {"smtp_client_rewrite_delivery_status": constant(450)}
    node = await start_delivery(mock_clock, nursery, Server(usual("PIPELINING")), handlers=handlers)
    await node.send(data="Subject: x\r\n\r\nä\r\n".encode())
    await node.done(1)
    (record,) = node.log.records
    assert (record.kind, record.code) == ("Bounce", 554)
    assert node.policy.count("smtp_client_rewrite_delivery_status") == 0


async def test_an_event_that_fails_leaves_the_status(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    def fail(*_: object) -> None:
        raise PolicyError("policy.lua:3: oops")

    node = await start_delivery(
        mock_clock,
        nursery,
        Server(usual(RCPT="450 4.2.1 later")),
        handlers={"smtp_client_rewrite_delivery_status": fail},
    )
    await node.send()
    await node.done(1)
    assert node.log.brief == [("TransientFailure", 450)]


async def test_a_delivery_is_not_rewritten(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    handlers = {"smtp_client_rewrite_delivery_status": constant(550)}
    node = await start_delivery(mock_clock, nursery, Server(), handlers=handlers)
    await node.send()
    await node.send("one@b.test", "two@b.test")
    await node.done(2)
    assert node.log.brief == [("Delivery", 250)] * 2


async def test_whole_commands_can_be_scripted(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(answering({RCPT: "550 not you"}))
    node = await start_delivery(mock_clock, nursery, server)
    await node.send("to@b.test", "fine@b.test")
    await node.done(2)
    assert server.messages[0].rcpts == ("RCPT TO:<fine@b.test>",)
