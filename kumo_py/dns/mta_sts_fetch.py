"""Getting a domain's MTA-STS policy over HTTPS (RFC 8461 section 3.3).

The certificate must be good for `mta-sts.` and the domain; redirects are not followed; anything but a 200 with
text/plain is no policy.
"""

from __future__ import annotations

import ssl

import trio

from kumo_py.core.url import parse_url
from kumo_py.dns.mta_sts import MAX_POLICY, MtaStsError
from kumo_py.net.http import HttpError, HttpPool, HttpRequest

PATIENCE = 20.0
"""Seconds."""


async def default_tls() -> ssl.SSLContext:
    """The system's certificate authorities; reading them takes some 15 ms (measured)."""
    return await trio.to_thread.run_sync(ssl.create_default_context)


class PolicyFetcher:
    """`MtaSts.fetch` for real. Each policy is a connection of its own: they are days apart."""

    def __init__(self, template: str = "https://mta-sts.{}/.well-known/mta-sts.txt") -> None:
        """`template` is the address, with `{}` for the domain."""
        self._template = template
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, domain: str) -> str:
        """The policy's text. Raises MtaStsError."""
        try:
            url = parse_url(self._template.format(domain))
            pool = HttpPool(self.tls)
            try:
                with trio.fail_after(PATIENCE):
                    response = await pool.send(HttpRequest("GET", url, []), max_body=MAX_POLICY)
            finally:
                pool.close()
        except trio.TooSlowError:
            raise MtaStsError(f"{url}: no policy within {PATIENCE:g} seconds") from None
        except (HttpError, ValueError) as error:
            raise MtaStsError(str(error)) from None
        if response.status != 200:
            raise MtaStsError(f"{url}: status {response.status}")
        kind = next((value for name, value in response.headers if name == b"content-type"), b"")
        if kind.partition(b";")[0].strip().lower() != b"text/plain":
            raise MtaStsError(f"{url}: not text/plain")
        return response.body.decode("utf-8", "replace")

    async def tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await default_tls()
        return self._tls
