"""STARTTLS, implicit TLS, AUTH PLAIN."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
import trustme
from smtp_in_harness import HOST, Client, MakeNode, Node

from kumo_py.core.policy import PolicyError, Rejection

if TYPE_CHECKING:
    from kumo_py.message.connection import ConnectionMeta


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def tls_node(smtp_node: Any, server_context: Any) -> Any:
    def make(*args: Any, **options: Any) -> Any:
        node = smtp_node(*args, **options)
        node.server_context = server_context
        return node

    return make


async def _secure(client: Client, context: ssl.SSLContext) -> None:
    client.stream = trio.SSLStream(client.stream, context, server_hostname=HOST, https_compatible=True)
    await client.stream.do_handshake()


async def _starttls(client: Client, context: ssl.SSLContext) -> None:
    await client.greet()
    assert await client.command("STARTTLS") == "220 Ready to Start TLS"
    await _secure(client, context)


async def test_starttls(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    node = tls_node()
    client = node.connect()
    await _starttls(client, client_context)
    extensions = (await client.command("EHLO client.test")).split("\n")
    assert "AUTH PLAIN" in extensions
    assert "STARTTLS" not in extensions
    assert await client.command("STARTTLS") == "501 Cannot STARTTLS as TLS is already active"
    await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    await client.send(b"x: y\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250 OK")
    message = node.message
    assert message.meta["tls_protocol_version"] == "TLSv1.3"
    cipher = message.meta["tls_cipher"]
    assert f"with ESMTPS (TLSv1.3:{cipher})  id ".encode() in message.data
    assert "tls_peer_subject_name" not in message.meta
    tls = node.log.records[0][3].tls
    assert (tls.cipher, tls.protocol_version, tls.subject_name) == (cipher, "TLSv1.3", [])


async def test_client_certificate(
    tls_node: MakeNode, authority: trustme.CA, client_context: ssl.SSLContext
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("sender.test", common_name="sender.test").configure_cert(context)
    node = tls_node()
    client = node.connect()
    await _starttls(client, context)
    await client.command("NOOP")
    (session,) = node.endpoint.sessions
    assert "CN=sender.test" in session.meta.values["tls_peer_subject_name"]


async def test_nothing_sent_in_the_clear_is_executed_after_tls(
    tls_node: MakeNode, client_context: ssl.SSLContext
) -> None:
    """RFC 3207 §4.2; CVE-2011-0411."""
    node = tls_node()
    client = node.connect()
    await client.greet()
    await client.send(b"STARTTLS\r\nRSET\r\nMAIL FROM:<evil@b.test>\r\n")
    assert await client.reply() == "220 Ready to Start TLS"
    await _secure(client, client_context)
    assert await client.command("NOOP") == "250 the goggles do nothing"
    assert await client.command("RCPT TO:<c@d.test>") == "503 5.5.0 MAIL FROM must be issued first"


async def test_half_a_command_in_the_clear_is_forgotten(
    tls_node: MakeNode, client_context: ssl.SSLContext
) -> None:
    client = tls_node().connect()
    await client.greet()
    await client.send(b"STARTTLS\r\nMAIL FROM:<ev")
    assert await client.reply() == "220 Ready to Start TLS"
    await _secure(client, client_context)
    assert await client.command("NOOP") == "250 the goggles do nothing"


async def test_tls_forgets_greeting_and_transaction(
    tls_node: MakeNode, client_context: ssl.SSLContext
) -> None:
    node = tls_node()
    client = node.connect()
    await client.greet()
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command("STARTTLS") == "220 Ready to Start TLS"
    await _secure(client, client_context)
    assert await client.command("RCPT TO:<c@d.test>") == "503 5.5.0 MAIL FROM must be issued first"
    (session,) = node.endpoint.sessions
    assert session.helo is None
    assert "ehlo_domain" not in session.meta.values


async def test_failed_handshake_closes(tls_node: MakeNode) -> None:
    node = tls_node()
    client = node.connect()
    await client.greet()
    await client.command("STARTTLS")
    await client.send(b"EHLO this is no TLS record\r\n" * 10)
    with trio.fail_after(5):
        await client.ended.wait()


async def test_handshake_that_does_not_come_is_cut_off(
    tls_node: MakeNode, autojump_clock: trio.testing.MockClock
) -> None:
    client = tls_node(client_timeout="10s").connect()
    await client.greet()
    await client.command("STARTTLS")
    started = trio.current_time()
    await client.ended.wait()
    assert trio.current_time() - started <= 12


async def test_starttls_takes_no_argument(tls_node: MakeNode) -> None:
    client = tls_node().connect()
    await client.greet()
    assert await client.command("STARTTLS now") == "501 Syntax error in command or arguments"


async def test_implicit_tls(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    client = tls_node(implicit_tls=True).connect()
    await _secure(client, client_context)
    assert "AUTH PLAIN" in await client.greet()


# -- AUTH ------------------------------------------------------------------------------------------------
def _plain(*fields: str) -> str:
    return base64.b64encode("\0".join(fields).encode()).decode()


GOOD = _plain("", "user", "secret")


def _check(authz: str, authc: str, password: str, meta: ConnectionMeta) -> Any:
    return authc == "user" and password == "secret"


async def _secured(node: Node, client_context: Any) -> Client:
    client = node.connect()
    await _starttls(client, client_context)
    await client.command("EHLO client.test")
    return client


async def test_auth_with_initial_response(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    node = tls_node({"smtp_server_auth_plain": _check})
    client = await _secured(node, client_context)
    assert await client.command(f"AUTH PLAIN {GOOD}") == "235 2.7.0 AUTH OK!"
    assert await client.command(f"AUTH PLAIN {GOOD}") == "503 5.5.1 AUTH me once, can't get authed again!"
    await client.commands("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA")
    await client.send(b"x: y\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250 OK")
    assert (node.message.meta["authz_id"], node.message.meta["authn_id"]) == ("user", "user")
    assert b"with ESMTPSA (" in node.message.data


async def test_auth_with_challenge(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    node = tls_node({"smtp_server_auth_plain": _check})
    client = await _secured(node, client_context)
    assert await client.command("auth plain") == "334 "
    assert await client.command(_plain("boss", "user", "secret")) == "235 2.7.0 AUTH OK!"
    (session,) = node.endpoint.sessions
    assert (session.meta.values["authz_id"], session.meta.values["authn_id"]) == ("boss", "user")
    assert session.meta.auth_info() == {
        "peer_address": session.peer_ip,
        "identities": [
            {"identity": "boss", "context": "SmtpAuthPlainAuthorization"},
            {"identity": "user", "context": "SmtpAuthPlainAuthentication"},
        ],
        "groups": [],
    }


async def test_auth_info_of_the_policy_is_kept(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    found = {
        "peer_address": "192.0.2.9",
        "identities": [{"identity": "account 7", "context": "GenericAuth"}],
        "groups": ["senders"],
    }
    node = tls_node({"smtp_server_auth_plain": lambda *_: found})
    client = await _secured(node, client_context)
    assert await client.command(f"AUTH PLAIN {GOOD}") == "235 2.7.0 AUTH OK!"
    (session,) = node.endpoint.sessions
    assert session.meta.auth_info() == found | {"peer_address": session.peer_ip}
    assert (session.meta.values["authz_id"], session.meta.values["authn_id"]) == ("account 7", "account 7")


@pytest.mark.parametrize(
    ("response", "reply"),
    [
        ("*", "501 5.5.0 AUTH cancelled by client"),
        ("????", "501 5.5.2 Invalid base64 response"),
        (_plain("user", "secret"), "501 5.5.2 Invalid decoded PLAIN response"),
        (base64.b64encode(b"\0\xff\0x").decode(), "501 5.5.2 Invalid UTF8 in decoded PLAIN response"),
        ("x" * 16385, "500 5.5.6 authentication exchange line too long"),
        (_plain("", "user", "wrong"), "535 5.7.8 AUTH invalid"),
    ],
)
async def test_auth_that_fails_can_be_tried_again(
    tls_node: MakeNode, client_context: ssl.SSLContext, response: str, reply: str
) -> None:
    node = tls_node({"smtp_server_auth_plain": _check})
    client = await _secured(node, client_context)
    await client.command("AUTH PLAIN")
    assert await client.command(response) == reply
    assert await client.command(f"AUTH PLAIN {GOOD}") == "235 2.7.0 AUTH OK!"


async def test_password_is_not_in_the_rejection_record(
    tls_node: MakeNode, client_context: ssl.SSLContext
) -> None:
    node = tls_node({"smtp_server_auth_plain": _check})
    client = await _secured(node, client_context)
    await client.command(f"AUTH PLAIN {_plain('', 'user', 'wrong')}")
    await client.command("AUTH PLAIN")
    await client.command(_plain("", "user", "wrong"))
    await client.command(f"AUTH PLAIN {GOOD} {GOOD}")
    assert [(code, command) for _, _, code, command in node.rejections] == [
        (535, "AUTH PLAIN"),
        (535, "AUTH PLAIN"),
        (501, "AUTH PLAIN"),
    ]


async def test_auth_needs_tls(tls_node: MakeNode) -> None:
    client = tls_node({"smtp_server_auth_plain": _check}).connect()
    await client.greet()
    assert await client.command(f"AUTH PLAIN {GOOD}") == "538 5.7.11 AUTH PLAIN requires an encrypted channel"


async def test_auth_other_mechanism(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    client = await _secured(tls_node(), client_context)
    assert await client.command("AUTH LOGIN") == "504 5.5.4 AUTH LOGIN not supported"


async def test_auth_in_transaction(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    client = await _secured(tls_node(), client_context)
    await client.command("MAIL FROM:<a@b.test>")
    assert await client.command("AUTH PLAIN") == "503 5.5.1 AUTH not permitted inside a transaction"


async def test_auth_without_handler(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    client = await _secured(tls_node(), client_context)
    assert await client.command(f"AUTH PLAIN {GOOD}") == "535 5.7.8 AUTH invalid"


@pytest.mark.parametrize(
    ("identities", "ids"),
    [
        ([{"identity": "x", "context": "HttpBasicAuth"}], ("x", "x")),
        (
            [
                {"identity": "z", "context": "SmtpAuthPlainAuthorization"},
                {"identity": "c", "context": "SmtpAuthPlainAuthentication"},
            ],
            ("z", "c"),
        ),
    ],
)
async def test_policy_answers_with_identities(
    tls_node: MakeNode, client_context: ssl.SSLContext, identities: Any, ids: Any
) -> None:
    node = tls_node({"smtp_server_auth_plain": lambda *_: {"identities": identities, "groups": []}})
    client = await _secured(node, client_context)
    assert await client.command(f"AUTH PLAIN {GOOD}") == "235 2.7.0 AUTH OK!"
    (session,) = node.endpoint.sessions
    assert (session.meta.values["authz_id"], session.meta.values["authn_id"]) == ids


@pytest.mark.parametrize(
    ("handler", "reply"),
    [
        (Rejection(454, "4.7.0 try later"), "454 4.7.0 try later"),
        (PolicyError("x"), f"421 4.3.0 {HOST} technical difficulties"),
        ({"identities": []}, f"421 4.3.0 {HOST} technical difficulties"),
    ],
)
async def test_policy_refuses_to_say(
    tls_node: MakeNode, client_context: ssl.SSLContext, handler: Any, reply: str
) -> None:
    def answer(*_args: Any) -> Any:
        if isinstance(handler, Exception):
            raise handler
        return handler

    client = await _secured(tls_node({"smtp_server_auth_plain": answer}), client_context)
    assert await client.command(f"AUTH PLAIN {GOOD}") == reply


async def test_authentication_changes_what_a_listener_domain_allows(
    tls_node: MakeNode, client_context: ssl.SSLContext
) -> None:
    from kumo_py.smtp_in.params import ListenerDomain

    node = tls_node(
        {
            "smtp_server_auth_plain": _check,
            "get_listener_domain": lambda name, listener, meta: ListenerDomain(
                relay_to=bool(meta.get("authz_id"))
            ),
        },
        relay_hosts=[],
    )
    client = await _secured(node, client_context)
    await client.command("MAIL FROM:<a@b.test>")
    assert (await client.command("RCPT TO:<c@d.test>"))[:3] == "550"
    await client.command("RSET")
    await client.command(f"AUTH PLAIN {GOOD}")
    await client.command("MAIL FROM:<a@b.test>")
    assert (await client.command("RCPT TO:<c@d.test>"))[:3] == "250"


async def test_logins_go_to_the_audit_log(tls_node: MakeNode, client_context: ssl.SSLContext) -> None:
    class Audit:
        async def authenticated(self, identity: Any, auth: Any, *, success: bool) -> None:
            seen.append((identity["identity"], success, len(auth["identities"])))

    seen: list[tuple[str, bool, int]] = []
    node = tls_node({"smtp_server_auth_plain": _check})
    node.log.audit = Audit()
    client = await _secured(node, client_context)
    assert (await client.command(f"AUTH PLAIN {_plain('', 'user', 'wrong')}")).startswith("535")
    assert (await client.command(f"AUTH PLAIN {GOOD}")).startswith("235")
    assert seen == [("user", False, 0), ("user", True, 2)]
