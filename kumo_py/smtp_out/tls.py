"""TLS contexts for outgoing sessions, by `enable_tls` mode.

The two insecure modes encrypt without asking who the peer is (RFC 7435); the others verify its certificate
against the system's authorities and its name.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kumo_py.queue.config import TlsMode


def wants_tls(mode: TlsMode, *, offered: bool) -> bool | None:
    """Whether to start TLS; None when it is required and not offered."""
    if mode == "Disabled":
        return False
    if offered:
        return True
    return None if mode in ("Required", "RequiredInsecure") else False


class ClientContexts:
    """The TLS contexts of a node, made once: reading the authorities is slow."""

    def __init__(self) -> None:
        self._verifying: ssl.SSLContext | None = None
        self._trusting: ssl.SSLContext | None = None

    def get(self, mode: TlsMode) -> ssl.SSLContext:
        if mode in ("Opportunistic", "Required"):
            if self._verifying is None:
                self._verifying = ssl.create_default_context()
            return self._verifying
        if self._trusting is None:
            self._trusting = ssl.create_default_context()
            self._trusting.check_hostname = False
            self._trusting.verify_mode = ssl.CERT_NONE
        return self._trusting
