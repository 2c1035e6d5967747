"""What an operator may do to a node: suspend, bounce, begin a config epoch, set the diagnostic filter."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from kumo_py.admin.answers import Bounce, BounceMade, Made, ReadySuspension, Suspension
from kumo_py.admin.endpoint import endpoint, json_of
from kumo_py.admin.exchange import Refusal, json_response, text_response
from kumo_py.queue.admin import BounceRequest, SuspendReadyRequest, SuspendRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class CancelRequest(_Options, frozen=True):
    """By the id that the rule's making returned."""

    id: UUID


class FilterRequest(_Options, frozen=True):
    """KumoMTA's filter syntax: `kumod=info,lua=debug`."""

    filter: str


@endpoint(
    takes=BounceRequest,
    example={"domain": "b.example", "reason": "list was bought"},
    gives=json_of(BounceMade),
)
async def bounce(call: Call) -> Response:
    """POST /api/admin/bounce/v1: bounce messages, for a while. Those that wait bounce too, after the response."""
    request = await call.json(BounceRequest)
    queues = call.node.queues
    rule = call.node.admin.bounce(request)
    if queues.running:
        queues.spawn(queues.sweep.delayed, rule)
    return json_response({"id": rule.id, "bounced": {}, "total_bounced": 0})


@endpoint(gives=json_of(list[Bounce]))
async def bounce_list(call: Call) -> Response:
    """GET /api/admin/bounce/v1: the rules by which messages bounce now."""
    return json_response(call.node.admin.list_bounces())


@endpoint(takes=CancelRequest, fails={404: "There is no rule of this id."})
async def bounce_cancel(call: Call) -> Response:
    """DELETE /api/admin/bounce/v1: end such a rule."""
    return await _cancel(call, call.node.admin.bounces.remove, "bounce")


@endpoint(
    takes=SuspendRequest,
    example={"tenant": "acme", "reason": "invoice", "duration": "1h"},
    gives=json_of(Made),
)
async def suspend(call: Call) -> Response:
    """POST /api/admin/suspend/v1: let scheduled queues try nothing, for a while."""
    return json_response({"id": call.node.admin.suspend(await call.json(SuspendRequest))})


@endpoint(gives=json_of(list[Suspension]))
async def suspend_list(call: Call) -> Response:
    """GET /api/admin/suspend/v1: which scheduled queues are suspended."""
    return json_response(call.node.admin.list_suspensions())


@endpoint(takes=CancelRequest, fails={404: "There is no rule of this id."})
async def suspend_cancel(call: Call) -> Response:
    """DELETE /api/admin/suspend/v1: end a suspension."""
    return await _cancel(call, call.node.admin.suspensions.remove, "suspend")


@endpoint(takes=SuspendReadyRequest, gives=json_of(Made))
async def suspend_ready(call: Call) -> Response:
    """POST /api/admin/suspend-ready-q/v1: let a ready queue send nothing, for a while."""
    return json_response({"id": call.node.admin.suspend_ready(await call.json(SuspendReadyRequest))})


@endpoint(gives=json_of(list[ReadySuspension]))
async def suspend_ready_list(call: Call) -> Response:
    """GET /api/admin/suspend-ready-q/v1: which ready queues are suspended."""
    return json_response(call.node.admin.list_ready_suspensions())


@endpoint(takes=CancelRequest, fails={404: "There is no rule of this id."})
async def suspend_ready_cancel(call: Call) -> Response:
    """DELETE /api/admin/suspend-ready-q/v1: end a suspension."""
    return await _cancel(call, call.node.admin.end_ready_suspension, "suspend-ready-q")


async def _cancel(call: Call, remove: Callable[[str], bool], what: str) -> Response:
    id = str((await call.json(CancelRequest)).id)
    if not remove(id):
        raise Refusal(404, f"{what} entry {id} not found")
    return text_response(f"removed {id}")


@endpoint()
async def bump_config_epoch(call: Call) -> Response:
    """POST /api/admin/bump-config-epoch: the policy is read again, soon."""
    call.node.bump_config_epoch()
    return text_response("")


@endpoint(takes=FilterRequest, example={"filter": "kumod=info,lua=debug"})
async def set_diagnostic_log_filter(call: Call) -> Response:
    """POST /api/admin/set_diagnostic_log_filter/v1: which diagnostic lines are logged from now on."""
    request = await call.json(FilterRequest)
    try:
        call.node.set_diagnostic_filter(request.filter)
    except ValueError as err:
        raise Refusal(422, f"Error: {err}") from None
    return text_response("")
