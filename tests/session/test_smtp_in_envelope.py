"""MAIL, RCPT, their parameters, limits, and who may relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from smtp_in_harness import HOST, MakeNode

from kumo_py.core.cidr import CidrSet
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.smtp_in.params import ListenerDomain

if TYPE_CHECKING:
    from kumo_py.message.connection import ConnectionMeta

OUTSIDER = "203.0.113.9:7777"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("MAIL FROM:<a@b.test> SIZE=1000", "250 2.1.0 OK"),
        ("MAIL FROM:<a@b.test> SIZE=1001", "552 5.3.4 message too big"),
        ("MAIL FROM:<a@b.test> SIZE=99999999999999999999", "552 5.3.4 message too big"),
        ("MAIL FROM:<a@b.test> SIZE=-1", "501 5.5.4 the value of SIZE is not valid"),
        ("MAIL FROM:<a@b.test> SIZE=x", "501 5.5.4 the value of SIZE is not valid"),
        ("MAIL FROM:<a@b.test> SIZE", "501 5.5.4 the value of SIZE is not valid"),
        ("MAIL FROM:<a@b.test> BODY=8BITMIME SMTPUTF8 AUTH=<>", "250 2.1.0 OK"),
        ("MAIL FROM:<a@b.test> body=7bit", "250 2.1.0 OK"),
        ("MAIL FROM:<a@b.test> BODY=BINARYMIME", "501 5.5.4 the value of BODY is not valid"),
        ("MAIL FROM:<a@b.test> SMTPUTF8=yes", "501 5.5.4 the value of SMTPUTF8 is not valid"),
        ("MAIL FROM:<a@b.test> RET=HDRS", "555 5.5.4 MAIL FROM parameter RET is not supported"),
        ("MAIL FROM:<>", "250 2.1.0 OK"),
        ("MAIL FROM:<a@b@c>", "501 5.1.7 Bad sender's mailbox address syntax"),
        ("mail from: a@b.test", "250 2.1.0 OK"),
        ("MAIL FROM:<jörg@b.test>", "250 2.1.0 OK"),  # KumoMTA does not insist on SMTPUTF8 either
    ],
)
async def test_mail(smtp_node: MakeNode, line: str, reply: str) -> None:
    client = smtp_node(max_message_size=1000).connect()
    await client.greet()
    assert await client.command(line) == reply
    follows = await client.command("RCPT TO:<c@d.test>")
    assert follows == ("250 2.1.5 OK" if reply[0] == "2" else "503 5.5.0 MAIL FROM must be issued first")


async def test_second_mail_is_refused_until_reset(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.greet()
    assert await client.commands(
        "MAIL FROM:<a@b.test>", "MAIL FROM:<a@b.test>", "RSET", "MAIL FROM:<a@b.test>"
    ) == [
        "250 2.1.0 OK",
        "503 5.5.0 MAIL FROM already issued; you must RSET first",
        "250 Reset state",
        "250 2.1.0 OK",
    ]


async def test_mail_needs_no_ehlo(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.reply()
    assert await client.command("MAIL FROM:<a@b.test>") == "250 2.1.0 OK"


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("RCPT TO:<c@d.test>", "250 2.1.5 OK"),
        ("RCPT TO: <c@d.test>", "250 2.1.5 OK"),
        ("RCPT TO:<postmaster>", "250 2.1.5 OK"),
        ("RCPT TO:<c d@e.test>", "501 5.1.3 Invalid recipient address syntax"),
        ("RCPT TO:<>", "501 5.1.3 Invalid recipient address syntax"),
        ("RCPT TO:<c@d.test> NOTIFY=NEVER", "555 5.5.4 RCPT TO parameter NOTIFY is not supported"),
        ("DATA", "503 5.5.0 RCPT TO must be issued first"),
    ],
)
async def test_rcpt(smtp_node: MakeNode, line: str, reply: str) -> None:
    client = smtp_node().connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command(line) == reply


async def test_data_and_rcpt_without_mail(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.greet()
    assert await client.commands("RCPT TO:<c@d.test>", "DATA") == [
        "503 5.5.0 MAIL FROM must be issued first",
        "503 5.5.0 MAIL FROM must be issued first",
    ]


async def test_events_see_addresses_and_can_reject(smtp_node: MakeNode) -> None:
    def refuse_x(address: str, meta: ConnectionMeta) -> None:
        if address.startswith("x"):
            raise Rejection(550, "5.1.1 no such user")

    node = smtp_node({"smtp_server_mail_from": refuse_x, "smtp_server_rcpt_to": refuse_x})
    client = node.connect()
    await client.greet()
    assert await client.commands(
        "MAIL FROM:<x@b.test>",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<x@d.test>",
        "RCPT TO:<c@d.test>",
        "RCPT TO:<x@d.test>",
    ) == [
        "550 5.1.1 no such user",
        "250 2.1.0 OK",
        "550 5.1.1 no such user",
        "250 2.1.5 OK",
        "550 5.1.1 no such user",
    ]
    assert [args[0] for _, args in node.policy.asked] == [
        "x@b.test",
        "a@b.test",
        "x@d.test",
        "c@d.test",
        "x@d.test",
    ]
    # The last recipient of the open transaction is the one that a Rejection record names.
    assert node.rejections == [
        (None, None, 550, "MAIL FROM:<x@b.test>"),
        ("a@b.test", None, 550, "RCPT TO:<x@d.test>"),
        ("a@b.test", "c@d.test", 550, "RCPT TO:<x@d.test>"),
    ]
    assert node.endpoint.counters.rejections == 3


async def test_recipients_per_message(smtp_node: MakeNode) -> None:
    client = smtp_node(max_recipients_per_message=2).connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.commands(*["RCPT TO:<c@d.test>"] * 3) == [
        "250 2.1.5 OK",
        "250 2.1.5 OK",
        "452 4.5.3 too many recipients",
    ]


async def test_recipients_per_connection(smtp_node: MakeNode) -> None:
    node = smtp_node(max_messages_per_connection=2)
    client = node.connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.commands(*["RCPT TO:<c@d.test>"] * 3) == [
        "250 2.1.5 OK",
        "250 2.1.5 OK",
        "452 4.5.3 too many recipients on this connection",
    ]
    await client.command("RSET")
    await client.command("MAIL FROM:<a@b.test>")
    assert (
        await client.command("RCPT TO:<c@d.test>")
        == f"421 4.5.3 {HOST} too many recipients on this connection"
    )
    assert await client.closed() == b""


async def test_a_rejected_recipient_counts_for_the_connection(smtp_node: MakeNode) -> None:
    def refuse(address: str, meta: ConnectionMeta) -> None:
        raise Rejection(550, "no")

    client = smtp_node({"smtp_server_rcpt_to": refuse}, max_messages_per_connection=1).connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert (await client.command("RCPT TO:<c@d.test>"))[:3] == "550"
    assert (await client.command("RCPT TO:<c@d.test>"))[:3] == "421"


# -- relaying ------------------------------------------------------------------------------------------
async def test_strangers_may_not_relay(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect(OUTSIDER)
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command("RCPT TO:<c@d.test>") == f"550 5.7.1 relaying not permitted for {OUTSIDER}"


async def test_relay_hosts(smtp_node: MakeNode) -> None:
    node = smtp_node(relay_hosts=["203.0.113.0/24"])
    for peer, code in ((OUTSIDER, "250"), ("[2001:db8::1]:25", "550"), ("127.0.0.1:9", "550")):
        client = node.connect(peer)
        await client.greet()
        await client.command("MAIL FROM:<a@b.test>")
        assert (await client.command("RCPT TO:<c@d.test>"))[:3] == code


@pytest.mark.parametrize(
    ("sender", "recipient", "code"),
    [
        ("a@elsewhere.test", "c@in.test", "250"),  # relay_to
        ("a@elsewhere.test", "c@out.test", "550"),
        ("a@ours.test", "c@out.test", "250"),  # relay_from, and the peer matches
        ("a@theirs.test", "c@out.test", "550"),  # relay_from, but another peer
        ("a@elsewhere.test", "c@reports.test", "250"),  # log_oob
        ("a@elsewhere.test", "c@feedback.test", "250"),  # log_arf
    ],
)
async def test_listener_domains(smtp_node: MakeNode, sender: str, recipient: str, code: str) -> None:
    domains = {
        "in.test": ListenerDomain(relay_to=True),
        "ours.test": ListenerDomain(relay_from=CidrSet(["203.0.113.0/24"])),
        "theirs.test": ListenerDomain(relay_from=CidrSet(["198.51.100.1"])),
        "reports.test": ListenerDomain(log_oob="LogThenDrop"),
        "feedback.test": ListenerDomain(log_arf=True),
    }
    node = smtp_node({"get_listener_domain": lambda domain, listener, meta: domains.get(domain)})
    client = node.connect(OUTSIDER)
    await client.greet()
    await client.command(f"MAIL FROM:<{sender}>")
    assert (await client.command(f"RCPT TO:<{recipient}>"))[:3] == code
    assert [args[:2] for _, args in node.policy.asked] == [
        (address.partition("@")[2], "192.0.2.1:25") for address in (sender, recipient)
    ]


async def test_listener_domain_is_asked_once_per_session(smtp_node: MakeNode) -> None:
    node = smtp_node({"get_listener_domain": lambda *args: ListenerDomain(relay_to=True)})
    client = node.connect(OUTSIDER)
    await client.deliver(b"x: y\r\n\r\n", "c@d.test", "e@d.test")
    assert node.policy.events == ["get_listener_domain"] * 2
    # At most 16 answers are remembered.
    await client.command("MAIL FROM:<a@d0.test>")
    for number in range(40):
        await client.command(f"RCPT TO:<c@d{number}.test>")
    (session,) = node.endpoint.sessions
    assert len(session.domains) == 16


@pytest.mark.parametrize("error", [Rejection(550, "no"), PolicyError("policy.lua:1: oops"), KeyError("x")])
async def test_failing_get_listener_domain_is_421_even_for_a_rejection(
    smtp_node: MakeNode, error: Any
) -> None:
    def fail(*args: Any) -> None:
        raise error

    client = smtp_node({"get_listener_domain": fail}).connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command("RCPT TO:<c@d.test>") == f"421 4.3.0 {HOST} technical difficulties"
    assert await client.closed() == b""


OPEN_RELAY_FORMS = [
    "u%d.test@relay.test",
    '"u@d.test"',
    '"u%d.test"',
    "u%d.test",
    "u@d.test@relay.test",
    '"u@d.test"@relay.test',
    '"u%d.test"@relay.test',
    "@relay.test:u@d.test",
    '@relay.test:"u@d.test"',
    '@relay.test:"u%d.test"@relay.test',
    "@[192.0.2.1]:u@d.test",
    "u%d.test@[192.0.2.1]",
    "d.test!u",
    "d.test!u@relay.test",
    "d.test!u@[192.0.2.1]",
    "u@d.test",
]


@pytest.mark.parametrize("sender", ["", "spam@d.test", "root@relay.test", "root@[192.0.2.1]", "root"])
@pytest.mark.parametrize("recipient", OPEN_RELAY_FORMS)
async def test_no_open_relay(smtp_node: MakeNode, sender: str, recipient: str) -> None:
    """What nmap's smtp-open-relay tries, against a host that takes mail for one other domain only."""
    domains = {"local.test": ListenerDomain(relay_to=True)}
    node = smtp_node({"get_listener_domain": lambda domain, *_: domains.get(domain)})
    client = node.connect(OUTSIDER)
    await client.greet()
    await client.command(f"MAIL FROM:<{sender}>")
    for form in (f"<{recipient}>", recipient):
        assert (await client.command(f"RCPT TO:{form}"))[0] == "5"
    assert (await client.command("DATA"))[0] == "5"
    assert node.queues.inserted == []


@pytest.mark.parametrize("recipient", ["u%d.test@local.test", "d.test!u@local.test", '"u@d.test"@local.test'])
async def test_source_routes_in_local_parts_are_no_routes(smtp_node: MakeNode, recipient: str) -> None:
    """They are accepted for our own domain, and stay in it: the domain after the last @ decides."""
    domains = {"local.test": ListenerDomain(relay_to=True)}
    node = smtp_node({"get_listener_domain": lambda domain, *_: domains.get(domain)})
    client = node.connect(OUTSIDER)
    assert (await client.deliver(b"x: y\r\n\r\n", recipient)).startswith("250 OK ids=")
    assert [queue for _, queue in node.queues.inserted] == ["local.test"]
