"""HTTP clients of a node's policies: handles over pools of connections that all contexts share.

A policy file runs once per context, and so does what it does at its top level. Clients with the same options
therefore share one pool: thirty contexts keep one connection to a server, not thirty. A pool lives as long as one of
its clients is neither closed nor garbage; then its connections are closed.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from weakref import finalize

import msgspec
import trio

from kumo_py.core.duration import Duration
from kumo_py.net.http import HttpPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAX_RESPONSE_SIZE = 64 * 1024 * 1024
"""Octets of a response's body, unless the policy says otherwise."""


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kumo.http.build_client`."""

    user_agent: str | None = None
    connection_verbose: bool = False
    pool_idle_timeout: Duration = Duration(90)
    timeout: Duration = Duration(60)
    """Of a whole request, connecting and the response's body included."""
    accept_invalid_certs: bool = False
    danger_accept_invalid_certs: bool = False
    """The name that some policies use for it."""
    max_response_size: int = MAX_RESPONSE_SIZE
    """Octets (kumo-py)."""


class TlsContexts:
    """What https connections are made with; loading the system's certificates takes some 15 ms (measured)."""

    def __init__(self) -> None:
        self._made: dict[bool, ssl.SSLContext] = {}

    async def context(self, *, verify: bool) -> ssl.SSLContext:
        """Without `verify` any certificate will do."""
        if verify not in self._made:
            self._made[verify] = await trio.to_thread.run_sync(_tls_context, verify)
        return self._made[verify]

    def when_needed(self, *, verify: bool) -> Callable[[], Awaitable[ssl.SSLContext]]:
        return lambda: self.context(verify=verify)


def _tls_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class HttpClient:
    """A policy's handle on a pool."""

    def __init__(self, pools: HttpPools, options: ClientOptions) -> None:
        self.options = options
        self.pool = pools.join(options)
        self._leave = finalize(self, pools.leave, options)

    @property
    def is_open(self) -> bool:
        return self._leave.alive

    def close(self) -> None:
        """Requests that were made before can still be sent."""
        self._leave()


class HttpPools:
    """The pools of a node."""

    def __init__(self) -> None:
        self.tls = TlsContexts()
        self._pools: dict[tuple[object, ...], tuple[HttpPool, int]] = {}

    def join(self, options: ClientOptions) -> HttpPool:
        """The pool for these options, with one client more."""
        key = _key(options)
        pool, clients = self._pools.get(key) or (self._make(options), 0)
        self._pools[key] = pool, clients + 1
        return pool

    def leave(self, options: ClientOptions) -> None:
        """One client less; the pool of the last one is closed."""
        key = _key(options)
        pool, clients = self._pools[key]
        if clients > 1:
            self._pools[key] = pool, clients - 1
        else:
            del self._pools[key]
            pool.close()

    def _make(self, options: ClientOptions) -> HttpPool:
        return HttpPool(
            self.tls.when_needed(verify=_verifies(options)),
            idle_timeout=options.pool_idle_timeout,
            verbose=options.connection_verbose,
        )


def _verifies(options: ClientOptions) -> bool:
    return not (options.accept_invalid_certs or options.danger_accept_invalid_certs)


def _key(options: ClientOptions) -> tuple[object, ...]:
    return _verifies(options), options.pool_idle_timeout, options.connection_verbose
