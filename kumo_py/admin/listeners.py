"""All HTTP listeners of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import trio

from kumo_py.admin.listener import HttpListener
from kumo_py.admin.metrics import as_plain
from kumo_py.admin.shared import Shared

if TYPE_CHECKING:
    from kumo_py.admin.node import Node
    from kumo_py.policy.params import HttpListenerParams

log = structlog.get_logger("kumo_py.admin")


class HttpListeners:
    """Opens listeners as soon as they are asked for: until the node is ready they say that it is not."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._shared = Shared(node)
        self._nursery: trio.Nursery | None = None
        self._listeners: list[HttpListener] = []

    def serve_in(self, nursery: trio.Nursery) -> None:
        """Where listeners run; without it they are bound only."""
        self._nursery = nursery

    async def start(self, params: HttpListenerParams) -> str:
        """Bind, and serve; the address. Raises ValueError or OSError, also for a certificate that cannot be used."""
        listener = HttpListener(self._node, self._shared, params)
        await listener.tls_context()
        listener.bind()
        self._listeners.append(listener)
        if self._nursery is not None:
            self._nursery.start_soon(listener.serve)
        log.info(f"{'https' if params.use_tls else 'http'} listener on {listener.address}")
        return listener.address

    async def stop(self) -> None:
        """Accept nothing more; returns when all requests in hand are answered."""
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(listener.stop)

    def close(self) -> None:
        """Give up what was bound and never served."""
        for listener in self._listeners:
            listener.close()

    async def metrics(self) -> dict[str, Any]:
        """As GET /metrics.json."""
        return await as_plain(self._node, self._shared)
