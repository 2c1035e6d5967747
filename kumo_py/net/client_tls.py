"""How clients of brokers do TLS, and how what goes wrong with a connection is put into words."""

from __future__ import annotations

import os
import re
import ssl

import trio


async def client_context(
    authority: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Trust the authorities of a PEM file, or the system's, and show a certificate if one is given.

    Raises OSError, which names the file (ssl.SSLError is one).
    """
    return await trio.to_thread.run_sync(_context, authority, certificate, key)


def _context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as err:
        raise OSError(f"{authority}: {problem(err)}") from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as err:
            raise OSError(f"{certificate} with {key}: {problem(err)}") from None
    return context


def problem(err: BaseException) -> str:
    """What went wrong, of an error or of the several that one connection attempt per address gave."""
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"TLS: {err.verify_message}"
    if isinstance(err, ssl.SSLError):
        return f"TLS: {err.reason or err}"
    if isinstance(err, OSError) and err.errno is not None and err.errno > 0:
        return os.strerror(err.errno)
    if isinstance(err, OSError) and err.strerror:  # of a name that was not found
        return err.strerror
    if isinstance(err.__cause__, BaseExceptionGroup):
        return problem(err.__cause__.exceptions[0])
    return problem(err.__cause__) if isinstance(err.__cause__, OSError) else str(err)


def without_login(url: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r"//[^/@]*@", "//…@", url)
