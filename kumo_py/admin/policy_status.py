"""Which policy runs, since when, and what became of the last edit; reloading it on demand. These are kumo-py's own."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from kumo_py.admin.answers import Policy
from kumo_py.admin.endpoint import endpoint, json_of
from kumo_py.admin.exchange import json_response

if TYPE_CHECKING:
    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response
    from kumo_py.admin.node import Node


@endpoint(gives=json_of(Policy))
async def policy_status(call: Call) -> Response:
    """GET /api/kumo-py/policy/v1: which policy runs, since when, and what became of the last edit."""
    return json_response(describe_policy(call.node))


@endpoint(gives=json_of(Policy), fails={409: "The policy as it is now is refused: the status says why."})
async def policy_reload(call: Call) -> Response:
    """POST /api/kumo-py/policy/v1/reload: read the policy again, at once; the status when that is over."""
    reloader = call.node.reloader
    assert reloader is not None
    await reloader.reload()
    return json_response(describe_policy(call.node), 200 if reloader.status.error is None else 409)


def describe_policy(node: Node) -> dict[str, object]:
    """For a node that is ready."""
    policy, reloader = node.policy, node.reloader
    assert reloader is not None
    files = {"policy": str(policy.path), "files": sorted(policy.source.digests)}
    return files | asdict(reloader.status)
