"""Servers that offer STARTTLS, with certificates of an authority that the test trusts, or of others."""

from __future__ import annotations

import hashlib
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from smtp_out_harness import Closed, Server, egress, routed_to, start_delivery

from kumo_py.core.duration import Duration
from kumo_py.queue.config import NamedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from smtp_out_harness import DeliveryNode, Peer, Replies, Script
    from trio.testing import MockClock

NAME = "mx.b.test"
MAIL = "MAIL FROM:<from@a.test>"
RCPT = "RCPT TO:<to@b.test>"
TRANSACTION = [MAIL, RCPT, "DATA", "."]
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"
"""A fatal alert (RFC 8446 §6)."""
EXTENSIONS = ("PIPELINING", "8BITMIME")


@contextmanager
def trusted_by_the_system(authority: trustme.CA, path: Path) -> Iterator[None]:
    """This authority and no other."""
    authority.cert_pem.write_to_path(path / "ca.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path / "ca.pem"))
        yield


def context_for(authority: trustme.CA, name: str = NAME) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def offering(context: ssl.SSLContext, *after: str, replies: Replies | None = None) -> Script:
    """Takes STARTTLS if asked to, and mail either way."""

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS", *EXTENSIONS)
        if await peer.line() == "STARTTLS":
            await peer.send("220 go")
            try:
                await peer.start_tls(context)
            except trio.BrokenResourceError:
                raise Closed from None
            await peer.line()
            await peer.ehlo(*(after or EXTENSIONS))
        else:
            peer._buffer = f"{peer.commands.pop()}\r\n".encode() + peer._buffer
        try:
            await peer.converse(replies)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await peer.stream.aclose()

    return script


async def plain(peer: Peer) -> None:
    """Does not offer STARTTLS."""
    await peer.greet("PIPELINING")
    await peer.converse()


async def broken(peer: Peer) -> None:
    """Offers TLS, but every handshake fails; then it goes on in the clear."""
    await peer.greet("STARTTLS", *EXTENSIONS)
    if await peer.line() == "STARTTLS":
        await peer.send("220 go")
        await peer.stream.receive_some()  # ClientHello
        await peer.send(HANDSHAKE_FAILURE)
        await peer.line()
        await peer.ehlo(*EXTENSIONS)
    else:
        peer._buffer = f"{peer.commands.pop()}\r\n".encode() + peer._buffer
    await peer.converse()


class Identity:
    """A server's certificate, of an authority that nobody trusts, and the records that fit it."""

    def __init__(self, name: str = NAME) -> None:
        self.authority = trustme.CA(organization_name="Authority")
        self.leaf = self.authority.issue_cert(name, organization_name="Leaf")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # DANE-TA: the server sends its authority too (RFC 7671 §5.2).
        pem = self.leaf.private_key_and_cert_chain_pem.bytes() + self.authority.cert_pem.bytes()
        with trustme.Blob(pem).tempfile() as path:
            self.context.load_cert_chain(path)

    def record(self, usage: int, selector: int = 1, matching: int = 1) -> str:
        """As in a zone file."""
        pem = (self.leaf.cert_chain_pems[0] if usage == 3 else self.authority.cert_pem).bytes()
        certificate = x509.load_pem_x509_certificate(pem)
        data = certificate.public_bytes(Encoding.DER)
        if selector == 1:
            key = certificate.public_key()
            data = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if matching:
            data = (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()
        return f"{usage} {selector} {matching} {data.hex()}"


async def later(clock: MockClock, seconds: float) -> None:
    """Let time pass at once, whatever would have happened meanwhile."""
    clock.jump(seconds)
    await trio.sleep(1)


async def start(
    clock: MockClock, nursery: trio.Nursery, *servers: Server, mode: str = "Required", **options: Any
) -> DeliveryNode:
    """A node that sends to these servers, all named NAME."""
    hosts = [NamedHost(name=NAME, addr=f"127.0.0.1:{server.port}") for server in servers]
    path = egress(**{"enable_tls": mode, "starttls_timeout": Duration(3), **options})
    return await start_delivery(clock, nursery, *servers, queue=routed_to(*hosts), path=path)


def found(node: DeliveryNode) -> dict[str, int]:
    """What DANE found, and how often."""
    return {result.value: count for result, count in node.delivery.tls.dane.items()}
