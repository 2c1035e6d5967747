"""The listeners' TLS contexts: from the policy's key sources, or a self-signed certificate made on the spot.

Contexts are kept for five minutes, as KumoMTA keeps them, so that a renewed certificate is taken up without a
restart.
"""

from __future__ import annotations

import datetime
import ssl
import tempfile
from typing import TYPE_CHECKING

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kumo_py.core.lruttl import LruTtl

if TYPE_CHECKING:
    from kumo_py.core.key_source import KeySource
    from kumo_py.smtp_in.params import SessionParams

CONTEXT_TTL = 300.0
"""Seconds."""

_Key = tuple["str", "KeySource | None", "KeySource | None", "KeySource | None"]


class ServerContexts:
    """A node's server contexts, by hostname and key sources."""

    def __init__(self) -> None:
        self.kept: LruTtl[_Key, ssl.SSLContext] = LruTtl("smtp_server_tls_config", 128)

    async def get(self, params: SessionParams) -> ssl.SSLContext:
        """For an SMTP listener. Raises OSError (ssl.SSLError is one) or ValueError when a key cannot be used."""
        return await self.context(
            params.hostname, params.tls_certificate, params.tls_private_key, params.tls_required_client_ca
        )

    async def context(
        self,
        hostname: str,
        certificate: KeySource | None,
        private_key: KeySource | None,
        client_ca: KeySource | None = None,
    ) -> ssl.SSLContext:
        """Raises as `get` does."""
        key = (hostname, certificate, private_key, client_ca)
        context = self.kept.get(key, trio.current_time())
        if context is None:
            context = await trio.to_thread.run_sync(make_context, *key)
            self.kept.put(key, context, trio.current_time() + CONTEXT_TTL)
        return context


def make_context(
    hostname: str,
    certificate: KeySource | None,
    private_key: KeySource | None,
    client_ca: KeySource | None,
) -> ssl.SSLContext:
    """Blocks on disk and on making a key."""
    if certificate is None or private_key is None:
        pem = self_signed(hostname)
    else:
        pem = read_key(certificate) + b"\n" + read_key(private_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # OpenSSL reads certificates from files only; the file holds a key, so it is ours alone and short-lived.
    with tempfile.NamedTemporaryFile(prefix="kumo-py-", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    if client_ca is not None:
        context.load_verify_locations(cadata=read_key(client_ca).decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def read_key(source: KeySource) -> bytes:
    """The bytes of a key source. Raises OSError or ValueError."""
    inline = source.inline_bytes()
    if inline is not None:
        return inline
    if source.path is None:
        raise ValueError("only file paths and key_data can be used for TLS in this version of kumo-py")
    with open(source.path, "rb") as file:
        return file.read()


def self_signed(hostname: str) -> bytes:
    """Key and certificate (PEM) for a year, for opportunistic TLS."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name holds 64 characters at most (RFC 5280 appendix A).
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64] or "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname or "localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
