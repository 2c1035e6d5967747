"""AUTH PLAIN: when a password is sent, what it looks like, and who never gets it."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import trustme
from smtp_out_harness import Server
from smtp_out_tls_harness import (
    EXTENSIONS,
    TRANSACTION,
    context_for,
    offering,
    plain,
    start,
    trusted_by_the_system,
)

from kumo_py.core.duration import Duration
from kumo_py.core.key_source import KeySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio
    from smtp_out_harness import Peer
    from trio.testing import MockClock

HELLO = "EHLO me.test"
USER = {"smtp_auth_plain_username": "daniel"}
LOGIN = {**USER, "smtp_auth_plain_password": KeySource(key_data="tiger")}
AUTH = "AUTH PLAIN AGRhbmllbAB0aWdlcg=="
"""RFC 4616: NUL, daniel, NUL, tiger."""
ACCEPTED = {"AUTH": "235 2.7.0 ok"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def _trusted(authority: trustme.CA, tmp_path: Path) -> Iterator[None]:
    with trusted_by_the_system(authority, tmp_path):
        yield


@pytest.mark.option("make_egress_path.smtp_auth_plain_username")
@pytest.mark.option("make_egress_path.smtp_auth_plain_password")
async def test_smtp_auth_plain_username_and_password(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority), "AUTH PLAIN", *EXTENSIONS, replies=ACCEPTED))
    node = await start(mock_clock, nursery, server, **LOGIN)
    for _ in range(2):
        await node.send()
    await node.done(2)
    assert node.log.kinds == ["Delivery"] * 2
    (commands,) = server.commands
    assert commands[:8] == [HELLO, "STARTTLS", HELLO, AUTH, *TRANSACTION]
    assert commands.count(AUTH) == 1


async def test_smtp_auth_plain_password_of_a_file(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "password").write_bytes(b"tiger")
    server = Server(offering(context_for(authority), replies=ACCEPTED))
    password = KeySource(path=str(tmp_path / "password"))
    node = await start(mock_clock, nursery, server, **USER, smtp_auth_plain_password=password)
    await node.send()
    await node.done(1)
    assert server.commands[0][3] == AUTH


async def test_no_password_is_an_empty_one(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority), replies=ACCEPTED))
    node = await start(mock_clock, nursery, server, **USER)
    await node.send()
    await node.done(1)
    assert server.commands[0][3] == f"AUTH PLAIN {b64encode(b'|daniel|'.replace(b'|', bytes(1))).decode()}"


@pytest.mark.parametrize(
    ("password", "text"),
    [
        (KeySource(path="/nowhere/password"), "smtp_auth_plain_password cannot be loaded: "),
        (KeySource(key_data=(0x74, 0, 0x74)), "neither username nor password may hold NUL"),
    ],
)
async def test_a_password_that_cannot_be_used(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, password: KeySource, text: str
) -> None:
    server = Server(offering(context_for(authority), replies=ACCEPTED))
    node = await start(mock_clock, nursery, server, **USER, smtp_auth_plain_password=password)
    msg = await node.send()
    await node.done(1)
    assert node.log.kinds == ["TransientFailure"]
    assert text in node.log.records[0].content
    assert node.in_spool(msg)
    assert server.commands == [[HELLO, "STARTTLS", HELLO]]


@pytest.mark.parametrize(
    "reply", ["535 5.7.8 who?", "334 go on", "250 ok", "454 4.7.0 later", "421 4.3.2 bye"]
)
async def test_a_refused_login_fails_the_connection(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, reply: str
) -> None:
    bad = Server(offering(context_for(authority), replies={"AUTH": reply}))
    good = Server(offering(context_for(authority), replies=ACCEPTED))
    node = await start(mock_clock, nursery, bad, good, **LOGIN)
    await node.send()
    await node.done(1)
    assert node.log.kinds == ["Delivery"]
    assert bad.commands == [[HELLO, "STARTTLS", HELLO, AUTH]]
    assert len(good.messages) == 1


async def test_the_password_is_not_in_the_record(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    server = Server(offering(context_for(authority), replies={"AUTH": "535 5.7.8 who?"}))
    node = await start(mock_clock, nursery, server, **LOGIN)
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert "AUTH PLAIN as daniel: 535 5.7.8 who?" in record.content
    assert AUTH.split()[2] not in record.content + (record.response.command or "")
    assert "tiger" not in record.content


@pytest.mark.option("make_egress_path.auth_timeout")
async def test_auth_timeout(mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA) -> None:
    server = Server(offering(context_for(authority), replies={"AUTH": "silence"}))
    node = await start(mock_clock, nursery, server, **LOGIN, auth_timeout=Duration(9))
    await node.send()
    await node.done(1)
    (record,) = node.log.records
    assert "timed out after 9s waiting for AUTH PLAIN" in record.content
    assert record.at == pytest.approx(9, abs=2)
    assert AUTH.split()[2] not in record.content


# -- allow_smtp_auth_plain_without_tls, ..._without_valid_certificate ---------------------------------------
@pytest.mark.option("make_egress_path.allow_smtp_auth_plain_without_tls")
@pytest.mark.parametrize("mode", ["Opportunistic", "OpportunisticInsecure", "Disabled"])
@pytest.mark.parametrize("allowed", [False, True])
async def test_allow_smtp_auth_plain_without_tls(
    mock_clock: MockClock, nursery: trio.Nursery, mode: str, allowed: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("AUTH PLAIN", "PIPELINING")
        await peer.converse(ACCEPTED)

    server = Server(script)
    node = await start(
        mock_clock,
        nursery,
        server,
        mode=mode,
        **LOGIN,
        allow_smtp_auth_plain_without_tls=allowed,
        allow_smtp_auth_plain_without_valid_certificate=True,
    )
    await node.send()
    await node.done(1)
    if allowed:
        assert node.log.kinds == ["Delivery"]
        assert server.commands == [[HELLO, AUTH, *TRANSACTION, "QUIT"]]
    else:
        assert node.log.kinds == ["TransientFailure"]
        assert server.commands == [[HELLO]]
        assert "allow_smtp_auth_plain_without_tls" in node.log.records[0].content


@pytest.mark.option("make_egress_path.allow_smtp_auth_plain_without_valid_certificate")
@pytest.mark.parametrize("mode", ["OpportunisticInsecure", "RequiredInsecure"])
@pytest.mark.parametrize("allowed", [False, True])
async def test_allow_smtp_auth_plain_without_valid_certificate(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA, mode: str, allowed: bool
) -> None:
    """Even a certificate that happens to be valid does not count where nobody looked."""
    server = Server(offering(context_for(authority), replies=ACCEPTED))
    node = await start(
        mock_clock,
        nursery,
        server,
        mode=mode,
        **LOGIN,
        allow_smtp_auth_plain_without_tls=True,
        allow_smtp_auth_plain_without_valid_certificate=allowed,
    )
    await node.send()
    await node.done(1)
    if allowed:
        assert node.log.kinds == ["Delivery"]
        assert server.commands[0][3] == AUTH
    else:
        assert node.log.kinds == ["TransientFailure"]
        assert server.commands == [[HELLO, "STARTTLS", HELLO]]
        assert "allow_smtp_auth_plain_without_valid_certificate" in node.log.records[0].content


async def test_without_a_username_nobody_logs_in(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    server = Server(plain)
    node = await start(
        mock_clock, nursery, server, mode="Disabled", smtp_auth_plain_password=KeySource(key_data="x")
    )
    await node.send()
    await node.done(1)
    assert server.commands == [[HELLO, *TRANSACTION, "QUIT"]]


# -- use_lmtp ----------------------------------------------------------------------------------------------
async def test_use_lmtp_after_tls_and_auth(
    mock_clock: MockClock, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    context = context_for(authority)

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.line()
        await peer.send("220 go")
        await peer.start_tls(context)
        await peer.line()
        await peer.ehlo("8BITMIME")
        for reply in ("235 ok", "250 ok", "250 ok", "550 5.1.1 no", "250 ok", "354 go"):
            await peer.line()
            await peer.send(reply)
        await peer.content()
        await peer.send("250 first", "452 4.2.2 full")
        await peer.line()

    server = Server(script)
    node = await start(mock_clock, nursery, server, **LOGIN, use_lmtp=True)
    await node.send("a@b.test", "b@b.test", "c@b.test")
    await node.done(3)
    assert server.commands[0][:4] == ["LHLO me.test", "STARTTLS", "LHLO me.test", AUTH]
    by_recipient = {record.recipients: (record.kind, record.code) for record in node.log.records}
    assert by_recipient == {
        ("a@b.test",): ("Delivery", 250),
        ("b@b.test",): ("Bounce", 550),
        ("c@b.test",): ("TransientFailure", 452),
    }


async def test_use_lmtp_keeps_what_was_answered_before_the_server_went(
    mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Who has the message must not get it once more."""

    async def script(peer: Peer) -> None:
        await peer.greet("8BITMIME")
        for reply in ("250 ok", "250 ok", "550 5.1.1 no", "250 ok", "354 go"):
            await peer.line()
            await peer.send(reply)
        await peer.content()
        await peer.send("250 first")

    node = await start(mock_clock, nursery, Server(script), mode="Disabled", use_lmtp=True)
    msg = await node.send("a@b.test", "b@b.test", "c@b.test")
    await node.done(3)
    by_recipient = {record.recipients: (record.kind, record.code) for record in node.log.records}
    assert by_recipient == {
        ("a@b.test",): ("Delivery", 250),
        ("b@b.test",): ("Bounce", 550),
        ("c@b.test",): ("TransientFailure", 400),
    }
    await node.spool.load_meta(msg)
    assert msg.recipients == ("c@b.test",)
