"""Names of TLS cipher suites and options, as policies write them (KumoMTA `make_egress_path`).

KumoMTA has two TLS implementations, each with options of its own; here is what those mean to OpenSSL, the only one
that we have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TLS13_SUITES: Mapping[str, str] = {
    "TLS13_AES_256_GCM_SHA384": "TLS_AES_256_GCM_SHA384",
    "TLS13_AES_128_GCM_SHA256": "TLS_AES_128_GCM_SHA256",
    "TLS13_CHACHA20_POLY1305_SHA256": "TLS_CHACHA20_POLY1305_SHA256",
}
"""rustls' names to OpenSSL's."""
TLS12_SUITES: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""rustls' names, which are the registry's, to OpenSSL's."""
_REGISTERED = {ours: registered for registered, ours in TLS12_SUITES.items()}

FLAGS: Mapping[str, int] = {
    "ALL": 0x80000850,
    "NO_TICKET": 1 << 14,
    "NO_COMPRESSION": 1 << 17,
    "ALLOW_UNSAFE_LEGACY_RENEGOTIATION": 1 << 18,
    "ENABLE_MIDDLEBOX_COMPAT": 1 << 20,
    "TLS_ROLLBACK_BUG": 1 << 23,
    "NO_RENEGOTIATION": 1 << 30,
    # Versions are no bits to Python, see smtp_out/tls.py. The others have no effect in OpenSSL 3, or on a client.
    "CIPHER_SERVER_PREFERENCE": 0,
    "COOKIE_EXCHANGE": 0,
    "NO_DTLSV1": 0,
    "NO_DTLSV1_2": 0,
    "NO_QUERY_MTU": 0,
    "NO_SESSION_RESUMPTION_ON_RENEGOTIATION": 0,
    "NO_SSLV2": 0,
    "NO_SSLV3": 0,
    "NO_TLSV1": 0,
    "NO_TLSV1_1": 0,
    "NO_TLSV1_2": 0,
    "NO_TLSV1_3": 0,
    "PRIORITIZE_CHACHA": 0,
    "SINGLE_DH_USE": 0,
    "SINGLE_ECDH_USE": 0,
}
"""`openssl_options`, and OpenSSL's bits (SSL_OP_*), which are part of its ABI."""


def parse_openssl_options(text: str) -> frozenset[str]:
    """Names joined by `|`. Raises ValueError."""
    names = text.split("|")
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"'{name}' is none of OpenSSL's options{_meant(name, list(FLAGS))}")
    return frozenset(names)


def check_rustls_suites(names: Sequence[str]) -> None:
    """Raises ValueError for one that rustls does not have."""
    known = [*TLS13_SUITES, *TLS12_SUITES]
    for name in names:
        if name not in known:
            raise ValueError(f"'{name}' is none of rustls' cipher suites{_meant(name, known)}")


def registered_name(cipher: str) -> str:
    """The name that the IANA registry, and so a log record, has for OpenSSL's name of a cipher suite."""
    return _REGISTERED.get(cipher, cipher)


def _meant(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f": write one of {', '.join(known)}" if near is None else f"; did you mean '{near}'?"
