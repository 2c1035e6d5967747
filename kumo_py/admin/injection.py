"""POST /api/inject/v1: messages from a request (KumoMTA's InjectV1Request)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kumo_py.admin.endpoint import endpoint, json_of
from kumo_py.admin.exchange import Refusal, json_response
from kumo_py.admin.node import not_accepting
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.inject import InjectRequest, InjectResult, Origin
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response


_EXAMPLE = {
    "envelope_sender": "news@a.example",
    "recipients": [{"email": "jo@b.example", "name": "Jo", "substitutions": {"city": "Ghent"}}],
    "content": {
        "from": {"email": "news@a.example", "name": "The news"},
        "subject": "Hello {{ name }}",
        "text_body": "What is new in {{ city }}",
    },
}


@endpoint(
    takes=InjectRequest,
    example=_EXAMPLE,
    gives=json_of(InjectResult),
    fails={422: "Nobody can be served by this request.", 503: "No mail is taken just now."},
)
async def inject(call: Call) -> Response:
    """Make a message for each recipient and queue it.

    The answer is 200 even if some recipients failed: it says for whom, and why. With `deferred_generation` the request
    itself is queued, and all counts are zero.
    """
    reason = not_accepting(call.node)
    if reason is not None:
        raise Refusal(503, f"Error: {reason}")
    request = await call.json(InjectRequest)
    injector = call.node.injector
    await injector.wait_for_rate(len(request.recipients))
    peer = call.request.peer_ip
    origin = Origin(
        call.request.auth, peer, call.request.local_ip, call.params.hostname or call.node.hostname
    )
    try:
        result = await injector.inject(request, origin)
    except ValueError as err:
        raise Refusal(422, f"Error: {err}") from None
    except (PolicyError, Rejection, SpoolError) as err:  # of the queue of a deferred request
        raise Refusal(503, f"Error: {err}") from None
    call.shared.injected += result.success_count
    return json_response(msgspec.structs.asdict(result))
