"""GET /metrics and /metrics.json: the node's metrics, for Prometheus and for kcli."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kumo_py.admin.exchange import JSON, Refusal, Response
from kumo_py.admin.exposition import stream_json, stream_text
from kumo_py.admin.metrics import collect

if TYPE_CHECKING:
    from kumo_py.admin.call import Call

_PREFIX = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


async def metrics(call: Call) -> Response:
    """In the text format; `?prefix=` goes before each name."""
    prefix = call.query.get("prefix", "")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise Refusal(422, "prefix: use letters, digits, '_' and ':', and begin with no digit")
    families = await collect(call.node, call.shared)
    return Response(stream_text(families, prefix), content_type=b"text/plain; charset=utf-8")


async def metrics_json(call: Call) -> Response:
    """In KumoMTA's JSON."""
    return Response(stream_json(await collect(call.node, call.shared)), content_type=JSON)
