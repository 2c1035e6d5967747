"""GET /metrics and /metrics.json: the node's metrics, for Prometheus and for kcli."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kumo_py.admin.endpoint import Parameter, endpoint, json_of
from kumo_py.admin.exchange import JSON, Refusal, Response
from kumo_py.admin.exposition import stream_json, stream_text
from kumo_py.admin.metrics import collect

if TYPE_CHECKING:
    from kumo_py.admin.call import Call

_PREFIX = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")


@endpoint(query=(Parameter("prefix", "Goes before each name."),), fails={422: "That is no prefix of a name."})
async def metrics(call: Call) -> Response:
    """All metrics, in the text format of Prometheus."""
    prefix = call.query.get("prefix", "")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise Refusal(422, "prefix: use letters, digits, '_' and ':', and begin with no digit")
    families = await collect(call.node, call.shared)
    return Response(stream_text(families, prefix), content_type=b"text/plain; charset=utf-8")


@endpoint(gives=json_of(dict[str, Any]))
async def metrics_json(call: Call) -> Response:
    """All metrics, in KumoMTA's JSON: for each name its help, its type, and its value or values by label."""
    return Response(stream_json(await collect(call.node, call.shared)), content_type=JSON)
