"""Whether the node takes mail: for load balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.admin.endpoint import endpoint
from kumo_py.admin.exchange import Refusal, text_response
from kumo_py.admin.node import not_accepting

if TYPE_CHECKING:
    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response


@endpoint(fails={503: "Why no mail is taken just now."})
async def check_liveness(call: Call) -> Response:
    """GET /api/check-liveness/v1: whether the node takes mail: OK, or 503 and why."""
    reason = not_accepting(call.node)
    if reason is not None:
        raise Refusal(503, reason)
    return text_response("OK")
