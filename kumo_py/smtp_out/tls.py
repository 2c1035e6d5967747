"""TLS contexts for outgoing sessions: whom they believe, what they offer, and who they say we are.

All TLS is OpenSSL's. The `openssl_*` options count where KumoMTA would take OpenSSL, which is with
`tls_prefer_openssl` and for DANE; elsewhere `rustls_cipher_suites` does.
"""

from __future__ import annotations

import ssl
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from kumo_py.core.lruttl import LruTtl
from kumo_py.core.tls_options import FLAGS, TLS12_SUITES, TLS13_SUITES, parse_openssl_options

if TYPE_CHECKING:
    from kumo_py.core.key_source import KeySource
    from kumo_py.core.policy import Policy
    from kumo_py.queue.config import EgressPath

log = structlog.get_logger("kumo_py.smtp_out")

CONTEXT_TTL = 900.0
"""Seconds after which the system's authorities are read again, as KumoMTA does."""
KEY_TTL = 300.0
"""Seconds after which a client certificate and its key are loaded again."""


class TlsUnusable(Exception):
    """The path's TLS options cannot be used; the text says which one, and why."""


class Settings(NamedTuple):
    """What a context is made of; equal ones share it."""

    verify: bool
    """Whether the peer must have a valid certificate for its name. With DANE it is judged after the handshake."""
    pem: bytes | None
    """Client certificate with its chain, and key."""
    cipher_list: str | None
    cipher_suites: str | None
    options: str | None
    rustls_suites: tuple[str, ...]


class ClientContexts:
    """The TLS contexts of a node, and the client certificates in them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.kept: LruTtl[Settings, ssl.SSLContext] = LruTtl("rustls_client_config", 32)
        self.keys: LruTtl[str, bytes] = LruTtl("smtp_dispatcher_client_certificate", 1024)
        self._warned: set[str] = set()
        self._making = trio.Lock()
        """Held while a context is made, which takes some 20 ms: those who want the same one wait for it."""

    async def get(self, path: EgressPath, *, verify: bool, dane: bool) -> ssl.SSLContext:
        """Raises TlsUnusable."""
        openssl = path.tls_prefer_openssl or dane
        settings = Settings(
            verify,
            await self._client_certificate(path),
            path.openssl_cipher_list if openssl else None,
            path.openssl_cipher_suites if openssl else None,
            path.openssl_options if openssl else None,
            () if openssl else tuple(path.rustls_cipher_suites),
        )
        context = self.kept.get(settings, trio.current_time())
        if context is not None:
            return context
        async with self._making:
            context = self.kept.get(settings, trio.current_time())
            if context is None:
                self._warn(settings)
                context = await trio.to_thread.run_sync(make_context, settings)
                self.kept.put(settings, context, trio.current_time() + CONTEXT_TTL)
        return context

    def _warn(self, settings: Settings) -> None:
        """Name, once, the options that this Python's ssl cannot heed."""
        if hasattr(ssl.SSLContext, "set_ciphersuites"):
            return
        newer = {name for name in settings.rustls_suites if name in TLS13_SUITES}
        for option, given in (
            ("openssl_cipher_suites", settings.cipher_suites is not None),
            ("rustls_cipher_suites", bool(newer) and newer != set(TLS13_SUITES)),
        ):
            if given and option not in self._warned:
                self._warned.add(option)
                log.warning(f"{option}: before Python 3.15 all cipher suites of TLS 1.3 are offered, or none")

    async def _client_certificate(self, path: EgressPath) -> bytes | None:
        """Raises TlsUnusable."""
        if path.tls_certificate is None or path.tls_private_key is None:
            return None
        certificate = await self._key("tls_certificate", path.tls_certificate)
        return certificate + b"\n" + await self._key("tls_private_key", path.tls_private_key)

    async def _key(self, option: str, source: KeySource) -> bytes:
        name = repr(source)  # a source may hold a list, and is not hashable then
        key = self.keys.get(name, trio.current_time())
        if key is None:
            try:
                key = await self._policy.load_key(source)
            except (OSError, ValueError, KeyError) as err:
                raise TlsUnusable(f"{option} cannot be loaded: {err}") from err
            self.keys.put(name, key, trio.current_time() + KEY_TTL)
        return key


def make_context(settings: Settings) -> ssl.SSLContext:
    """Blocks on the disk: reads the system's authorities. Raises TlsUnusable."""
    context = ssl.create_default_context()
    if settings.verify:
        context.hostname_checks_common_name = False  # RFC 9525 §2, RFC 8461 §4.2
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.pem is not None:
        _use_certificate(context, settings.pem)
    if settings.options is not None:
        _set_options(context, parse_openssl_options(settings.options))
    if settings.cipher_list is not None:
        _set_ciphers(context, "openssl_cipher_list", settings.cipher_list)
    if settings.cipher_suites is not None:
        _set_tls13_suites(context, "openssl_cipher_suites", settings.cipher_suites)
    if settings.rustls_suites:
        _set_rustls_suites(context, settings.rustls_suites)
    return context


def _use_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # OpenSSL reads certificates from files only; the file holds a key, so it is ours alone and short-lived.
    try:
        with tempfile.NamedTemporaryFile(prefix="kumo-py-", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            # A password that is given keeps OpenSSL from asking the terminal for one.
            context.load_cert_chain(file.name, password="")
    except (OSError, ValueError) as err:
        raise TlsUnusable(f"tls_certificate and tls_private_key cannot be used: {err}") from err


def _set_options(context: ssl.SSLContext, names: frozenset[str]) -> None:
    """Exactly these options, but for what our transport relies on. Raises TlsUnusable."""
    flags = context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    for name in names:
        flags |= FLAGS.get(name, 0)
    context.options = ssl.Options(flags)
    # Python warns of the bits that forbid a version. Those before 1.2 are never offered.
    if {"NO_TLSV1_2", "NO_TLSV1_3"} <= names:
        raise TlsUnusable("openssl_options forbid TLS 1.2 and 1.3, and older versions are not offered")
    if "NO_TLSV1_2" in names:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if "NO_TLSV1_3" in names:
        context.maximum_version = ssl.TLSVersion.TLSv1_2


def _set_ciphers(context: ssl.SSLContext, option: str, ciphers: str) -> None:
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as err:
        raise TlsUnusable(f"{option} '{ciphers}' cannot be used: {err}") from err


def _set_tls13_suites(context: ssl.SSLContext, option: str, suites: str) -> None:
    """As far as this Python can: from 3.15 on."""
    choose = getattr(context, "set_ciphersuites", None)
    if choose is None:
        return
    try:
        choose(suites)
    except ssl.SSLError as err:
        raise TlsUnusable(f"{option} '{suites}' cannot be used: {err}") from err


def _set_rustls_suites(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    older = [TLS12_SUITES[name] for name in names if name in TLS12_SUITES]
    newer = [TLS13_SUITES[name] for name in names if name in TLS13_SUITES]
    if older:
        _set_ciphers(context, "rustls_cipher_suites", ":".join(older))
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if newer:
        _set_tls13_suites(context, "rustls_cipher_suites", ":".join(newer))
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
