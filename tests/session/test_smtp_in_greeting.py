"""Banner, EHLO, HELO, and the small verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from smtp_in_harness import HOST, MakeNode

from kumo_py.core.policy import Disconnect, PolicyError, Rejection
from kumo_py.smtp_in.params import ListenerOverrides

if TYPE_CHECKING:
    from kumo_py.message.connection import ConnectionMeta


async def test_banner_names_host_and_banner_text(smtp_node: MakeNode) -> None:
    client = smtp_node(hostname="mail.example", banner="Welcome").connect()
    assert await client.reply() == "220 mail.example Welcome"


async def test_ehlo_offers_what_we_do(smtp_node: MakeNode) -> None:
    client = smtp_node(max_message_size=1000).connect()
    assert await client.reply() == f"220 {HOST} KumoMTA"
    reply = await client.command("EHLO client.test")
    assert reply == (
        f"250 {HOST} Aloha client.test\n"
        "PIPELINING\nENHANCEDSTATUSCODES\n8BITMIME\nSMTPUTF8\nCHUNKING\nSIZE 1000\nSTARTTLS"
    )


async def test_ehlo_with_very_long_names_keeps_to_the_line_limit(smtp_node: MakeNode) -> None:
    client = smtp_node(hostname="h" * 300).connect()
    await client.reply()
    domain = ".".join(["d" * 60] * 4)
    await client.send(f"EHLO {domain}\r\nNOOP\r\n".encode())
    reply, answer = await client.replies(2)
    assert answer == "250 the goggles do nothing"
    lines = reply.removeprefix("250 ").split("\n")
    assert all(len(line) <= 506 for line in lines)
    assert "STARTTLS" in lines
    assert "".join(lines).replace(" ", "").startswith(f"{'h' * 300}Aloha{domain}")


async def test_ehlo_offers_xclient_to_those_who_may(smtp_node: MakeNode) -> None:
    client = smtp_node(allow_xclient=True).connect()
    assert "XCLIENT ADDR PORT DESTADDR DESTPORT" in (await client.greet()).split("\n")


async def test_helo(smtp_node: MakeNode) -> None:
    node = smtp_node()
    client = node.connect()
    await client.reply()
    assert await client.command("HELO client.test") == "250 Hello client.test!"


async def test_policy_replaces_extensions_and_helo_passes_none(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_ehlo": lambda domain, meta, extensions=None: ["PIPELINING", "DSN"]})
    client = node.connect()
    assert await client.greet() == f"250 {HOST} Aloha client.test\nPIPELINING\nDSN"
    await client.command("HELO other.test")
    assert [len(args) for _, args in node.policy.asked] == [3, 2]
    # What the policy's own extensions bring along is not ours to refuse.
    assert (await client.command("MAIL FROM:<a@b.test> RET=HDRS ENVID=1")).startswith("250")


async def test_rejected_ehlo_leaves_the_session_open(smtp_node: MakeNode) -> None:
    def reject(domain: str, meta: ConnectionMeta, extensions: list[str] | None = None) -> None:
        raise Rejection(550, "5.7.1 not you")

    node = smtp_node({"smtp_server_ehlo": reject})
    client = node.connect()
    assert await client.greet() == "550 5.7.1 not you"
    assert await client.command("NOOP") == "250 the goggles do nothing"
    assert node.rejections == [(None, None, 550, "EHLO client.test")]


async def test_ehlo_resets_the_transaction(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    await client.command("EHLO client.test")
    assert (await client.command("RCPT TO:<c@d.test>")) == "503 5.5.0 MAIL FROM must be issued first"


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP", "250 the goggles do nothing"),
        ("NOOP and some words", "250 the goggles do nothing"),
        ("RSET", "250 Reset state"),
        ("VRFY postmaster", "252 2.5.2 Cannot VRFY user, but will take mail for it and try"),
        ("EXPN list", "502 5.5.1 Command unimplemented"),
        ("LHLO client.test", "502 5.5.1 Command unimplemented"),
        ("WIZ", "502 5.5.1 Command unimplemented"),
        ("HELP", "214 2.0.0 See RFC 5321; no help is available here"),
        ("MAIL", "501 Syntax error in command or arguments"),
        ("EHLO", "501 Syntax error in command or arguments"),
        (b"EHLO \xff\xfe", "501 5.5.2 Invalid UTF-8 in command"),
        ("NOOP " + "x" * 1000, "500 5.2.3 line too long"),
        ("STARTTLS", "454 4.7.0 TLS not available due to temporary reason"),
        ("XCLIENT ADDR=1.2.3.4", "550 insufficient authorization"),
    ],
)
async def test_small_verbs(smtp_node: MakeNode, command: str, reply: str) -> None:
    client = smtp_node().connect()
    await client.greet()
    assert await client.command(command) == reply
    assert await client.command("NOOP") == "250 the goggles do nothing"


async def test_quit_closes(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.greet()
    assert await client.command("QUIT") == "221 So long, and thanks for all the fish!"
    assert await client.closed() == b""


async def test_bare_lf_does_not_end_a_command(smtp_node: MakeNode) -> None:
    client = smtp_node().connect()
    await client.greet()
    assert (await client.command(b"NOOP\nMAIL FROM:<a@b.test>")).startswith("501")


async def test_refused_before_any_policy_runs(smtp_node: MakeNode) -> None:
    node = smtp_node({"smtp_server_connection_accepted": lambda meta: None})
    node.refusal = "disk is too full. Try later"
    client = node.connect()
    assert await client.reply() == f"421 4.3.2 {HOST} disk is too full. Try later"
    assert await client.closed() == b""
    assert node.policy.asked == []
    assert node.rejections == []
    assert node.endpoint.counters.denied == 1


async def test_rejected_connection_is_closed_whatever_the_code(smtp_node: MakeNode) -> None:
    def reject(meta: ConnectionMeta) -> None:
        raise Rejection(554, "5.7.1 no service")

    node = smtp_node({"smtp_server_connection_accepted": reject})
    client = node.connect()
    assert await client.reply() == "554 5.7.1 no service"
    assert await client.closed() == b""
    assert node.rejections == [(None, None, 554, None)]


async def test_connection_metadata_at_accept(smtp_node: MakeNode) -> None:
    seen = {}
    node = smtp_node(
        {"smtp_server_connection_accepted": lambda meta: seen.update(meta.values)}, meta={"site": "one"}
    )
    await node.connect().reply()
    assert seen == {
        "reception_protocol": "ESMTP",
        "received_via": "192.0.2.1:25",
        "received_from": "127.0.0.1:40000",
        "hostname": HOST,
        "site": "one",
    }


async def test_error_in_policy_is_421_and_closes(smtp_node: MakeNode) -> None:
    def fail(domain: str, meta: ConnectionMeta, extensions: list[str] | None = None) -> None:
        raise PolicyError("policy.lua:3: oops")

    node = smtp_node({"smtp_server_ehlo": fail})
    client = node.connect()
    assert await client.greet() == f"421 4.3.0 {HOST} technical difficulties"
    assert await client.closed() == b""
    assert node.rejections == [(None, None, 421, "EHLO client.test")]


@pytest.mark.parametrize(
    ("disconnect", "code", "rest"),
    [
        (Disconnect.NO, 421, b""),
        (Disconnect.FORCE_DISCONNECT, 550, b""),
        (Disconnect.FOLLOW_WITH_421, 550, b"421 mx.test disconnecting due to previous error\r\n"),
        (Disconnect.FOLLOW_WITH_421, 421, b""),
    ],
)
async def test_disconnect(smtp_node: MakeNode, disconnect: Any, code: str, rest: bytes) -> None:
    def reject(sender: str, meta: ConnectionMeta) -> None:
        raise Rejection(code, "go away", disconnect)

    client = smtp_node({"smtp_server_mail_from": reject}).connect()
    await client.greet()
    assert await client.command("MAIL FROM:<a@b.test>") == f"{code} go away"
    assert await client.closed() == rest


async def test_rejection_text_with_newlines_is_one_reply(smtp_node: MakeNode) -> None:
    def reject(sender: str, meta: ConnectionMeta) -> None:
        raise Rejection(550, "one\ntwo\r\n250 three")

    client = smtp_node({"smtp_server_mail_from": reject}).connect()
    await client.greet()
    assert await client.command("MAIL FROM:<a@b.test>") == "550 one\ntwo\n250 three"
    assert (await client.command("NOOP")).startswith("250")


async def test_replies_are_rewritten(smtp_node: MakeNode) -> None:
    def rewrite(status: int, response: str, command: str | None, meta: ConnectionMeta) -> Any:
        if status == 250 and command == "NOOP":
            return 251, "nothing was done"
        if status == 502:
            return None, "never heard of it"
        return None

    node = smtp_node({"smtp_server_rewrite_response": rewrite})
    client = node.connect()
    await client.greet()
    assert await client.command("NOOP") == "251 nothing was done"
    assert await client.command("WIZ") == "502 never heard of it"
    assert await client.command("RSET") == "250 Reset state"


async def test_failure_to_rewrite_changes_nothing(smtp_node: MakeNode) -> None:
    def rewrite(status: int, response: str, command: str | None, meta: ConnectionMeta) -> None:
        raise PolicyError("policy.lua:3: oops")

    client = smtp_node({"smtp_server_rewrite_response": rewrite}).connect()
    await client.greet()
    assert await client.command("NOOP") == "250 the goggles do nothing"


async def test_dynamic_parameters(smtp_node: MakeNode) -> None:
    node = smtp_node(
        {
            "smtp_server_get_dynamic_parameters": lambda listener, meta: ListenerOverrides(
                banner=f"for {meta.get('received_from')} at {listener}", max_message_size=5
            )
        }
    )
    client = node.connect()
    assert await client.reply() == f"220 {HOST} for 127.0.0.1:40000 at 192.0.2.1:25"
    assert "SIZE 5" in await client.command("EHLO client.test")
    # The next connection starts from the listener's own options again.
    del node.policy.handlers["smtp_server_get_dynamic_parameters"]
    assert "SIZE 20971520" in await node.connect().greet()


async def test_peer_and_via_overrides(smtp_node: MakeNode) -> None:
    node = smtp_node(
        banner="plain",
        peer={"203.0.113.0/24": {"banner": "peer", "meta": {"a": 1}}},
        via={"192.0.2.0/24": {"hostname": "via.test", "meta": {"b": 2}}},
    )
    assert await node.connect().reply() == "220 via.test plain"
    assert await node.connect("203.0.113.5:99").reply() == "220 via.test peer"
    values = {session.peer: session.meta.values for session in node.endpoint.sessions}
    assert values["203.0.113.5:99"] == {
        "reception_protocol": "ESMTP",
        "received_via": "192.0.2.1:25",
        "received_from": "203.0.113.5:99",
        "hostname": "via.test",
        "a": 1,
        "b": 2,
    }
