"""XCLIENT and the PROXY protocol: sessions that speak for somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from smtp_in_harness import HOST, MakeNode

from kumo_py.core.policy import Rejection
from kumo_py.proto.proxy import build_v1, build_v2

if TYPE_CHECKING:
    import trio.testing

    from kumo_py.message.connection import ConnectionMeta


async def test_xclient(smtp_node: MakeNode) -> None:
    node = smtp_node(
        allow_xclient=True,
        relay_hosts=["203.0.113.0/24"],
        peer={"203.0.113.0/24": {"banner": "for you", "allow_xclient": False}},
    )
    client = node.connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert (await client.command("RCPT TO:<c@d.test>"))[:3] == "550"
    assert await client.command("XCLIENT ADDR=203.0.113.7") == "503 mail transaction in progress"
    await client.command("RSET")
    reply = await client.command("XCLIENT ADDR=203.0.113.7 PORT=77 DESTADDR=198.51.100.9 DESTPORT=26")
    assert reply == f"220 {HOST} for you"
    assert await client.command("XCLIENT ADDR=127.0.0.1") == "550 insufficient authorization"
    await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    await client.send(b"x: y\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250 OK")
    meta = node.message.meta
    assert meta["received_from"] == "203.0.113.7:77"
    assert meta["orig_received_from"] == "127.0.0.1:40000"
    assert meta["received_via"] == "198.51.100.9:26"
    assert meta["orig_received_via"] == "192.0.2.1:25"
    assert b"(203.0.113.7)" in node.message.data
    assert node.log.records[0][3].peer.addr == "203.0.113.7"


@pytest.mark.parametrize(
    ("arguments", "reply"),
    [
        ("ADDR=nonsense", "501 ADDR nonsense is invalid"),
        ("PORT=70000", "501 PORT 70000 is invalid"),
        ("NAME=x", "501 parameter NAME is not supported"),
        ("", "501 Syntax error in command or arguments"),
        ("ADDR=IPV6:2001:db8::1", f"220 {HOST} KumoMTA"),
    ],
)
async def test_xclient_arguments(smtp_node: MakeNode, arguments: str, reply: str) -> None:
    node = smtp_node(allow_xclient=True)
    client = node.connect()
    await client.greet()
    assert await client.command(f"XCLIENT {arguments}".rstrip()) == reply
    (session,) = node.endpoint.sessions
    wanted = "[2001:db8::1]:40000" if "2001" in arguments else "127.0.0.1:40000"
    assert session.meta.values["received_from"] == wanted


async def test_dynamic_parameters_are_asked_again_and_may_reject(smtp_node: MakeNode) -> None:
    def options(listener: str, meta: ConnectionMeta) -> None:
        if meta.get("received_from") != "127.0.0.1:40000":
            raise Rejection(554, "5.7.1 not for them")

    client = smtp_node({"smtp_server_get_dynamic_parameters": options}, allow_xclient=True).connect()
    await client.greet()
    assert await client.command("XCLIENT ADDR=203.0.113.7") == "554 5.7.1 not for them"
    assert await client.closed() == b""


SOURCE, DESTINATION = ("203.0.113.7", 77), ("198.51.100.9", 26)


@pytest.mark.parametrize("build", [build_v1, build_v2])
async def test_proxy_header(smtp_node: MakeNode, build: Any) -> None:
    node = smtp_node(require_proxy_protocol=True, relay_hosts=["203.0.113.0/24"])
    client = node.connect()
    # In pieces, and with the first command right behind.
    header = build(SOURCE, DESTINATION)
    await client.send(header[:5])
    await client.send(header[5:] + b"EHLO client.test\r\n")
    assert await client.reply() == f"220 {HOST} KumoMTA"
    assert (await client.reply()).startswith("250 ")
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command("RCPT TO:<c@d.test>") == "250 2.1.5 OK"
    (session,) = node.endpoint.sessions
    values = session.meta.values
    assert (values["received_from"], values["received_via"]) == ("203.0.113.7:77", "198.51.100.9:26")
    assert (values["orig_received_from"], values["orig_received_via"]) == ("127.0.0.1:40000", "192.0.2.1:25")


async def test_proxy_that_names_nobody(smtp_node: MakeNode) -> None:
    client = smtp_node(require_proxy_protocol=True).connect()
    await client.send(b"PROXY UNKNOWN\r\n")
    assert await client.reply() == f"220 {HOST} KumoMTA"


@pytest.mark.parametrize(
    "first", [b"EHLO client.test\r\n", b"PROXY nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\nxxxx"]
)
async def test_no_proxy_header(smtp_node: MakeNode, first: bytes) -> None:
    node = smtp_node(require_proxy_protocol=True)
    client = node.connect()
    await client.send(first)
    assert await client.closed() == b""
    assert node.rejections == []


async def test_proxy_header_that_does_not_come(
    smtp_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    client = smtp_node(require_proxy_protocol=True, client_timeout="10s").connect()
    await client.send(b"PROXY ")
    await client.ended.wait()
    assert await client.closed() == b""
