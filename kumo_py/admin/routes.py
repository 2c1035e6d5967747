"""All endpoints of the HTTP API in one table: method, path, who may use it, and what answers.

An endpoint gets a Call and may raise Refusal. Who may not use it is refused before anything of a body is read.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
import trio

from kumo_py.admin.access import Access, authorize
from kumo_py.admin.browser import refuse_foreign
from kumo_py.admin.call import Call
from kumo_py.admin.endpoint import endpoint, json_of
from kumo_py.admin.exchange import JSON, Refusal, Response
from kumo_py.admin.health import check_liveness
from kumo_py.admin.injection import inject
from kumo_py.admin.inspection import (
    inspect_message,
    inspect_ready_queue,
    inspect_scheduled_queue,
    ready_queue_states,
    resolve_egress_path,
)
from kumo_py.admin.intervention import abort_dispatcher, compact_spool, rebind
from kumo_py.admin.machine import machine_info, memory_stats, task_dump
from kumo_py.admin.messages import delete, flush, hold, messages, operation, release
from kumo_py.admin.metrics_pages import metrics, metrics_json
from kumo_py.admin.openapi import describe
from kumo_py.admin.operations import (
    bounce,
    bounce_cancel,
    bounce_list,
    bump_config_epoch,
    set_diagnostic_log_filter,
    suspend,
    suspend_cancel,
    suspend_list,
    suspend_ready,
    suspend_ready_cancel,
    suspend_ready_list,
)
from kumo_py.admin.overview import overview
from kumo_py.admin.pages import EXPLORER_NAMES, NAMES, explorer, file, page
from kumo_py.admin.policy_status import policy_reload, policy_status
from kumo_py.admin.traces import trace_smtp_client, trace_smtp_server
from kumo_py.core.acl import http_resource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kumo_py.admin.exchange import Request
    from kumo_py.admin.node import Node
    from kumo_py.admin.shared import Shared
    from kumo_py.policy.params import HttpListenerParams

_MOST_PARAMETERS = 32
_ABSOLUTE = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
"""What may stand before a target's path (RFC 9112 §3.2.2)."""


class Route(NamedTuple):
    """An endpoint."""

    method: str
    path: str
    access: Access
    endpoint: Callable[[Call], Awaitable[Response]]
    while_starting: bool = False
    """Whether it works before the node is ready."""


@endpoint(gives=json_of(dict[str, Any]))
async def openapi(call: Call) -> Response:
    """GET /api-docs/openapi.json: this description."""
    if not described.cache_info().currsize:
        await trio.to_thread.run_sync(described)  # reads our sources
    return Response(described(), content_type=JSON)


@cache
def described() -> bytes:
    """The API's description, as an OpenAPI document."""
    return orjson.dumps(describe(ROUTES))


ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/check-liveness/v1", Access.ANYBODY, check_liveness, while_starting=True),
    Route("POST", "/api/inject/v1", Access.AUTHENTICATED, inject),
    Route("GET", "/metrics", Access.TRUSTED, metrics, while_starting=True),
    Route("GET", "/metrics.json", Access.TRUSTED, metrics_json, while_starting=True),
    Route("POST", "/api/admin/bounce/v1", Access.TRUSTED, bounce),
    Route("GET", "/api/admin/bounce/v1", Access.TRUSTED, bounce_list),
    Route("DELETE", "/api/admin/bounce/v1", Access.TRUSTED, bounce_cancel),
    Route("POST", "/api/admin/suspend/v1", Access.TRUSTED, suspend),
    Route("GET", "/api/admin/suspend/v1", Access.TRUSTED, suspend_list),
    Route("DELETE", "/api/admin/suspend/v1", Access.TRUSTED, suspend_cancel),
    Route("POST", "/api/admin/suspend-ready-q/v1", Access.TRUSTED, suspend_ready),
    Route("GET", "/api/admin/suspend-ready-q/v1", Access.TRUSTED, suspend_ready_list),
    Route("DELETE", "/api/admin/suspend-ready-q/v1", Access.TRUSTED, suspend_ready_cancel),
    Route("POST", "/api/admin/rebind/v1", Access.TRUSTED, rebind),
    Route("GET", "/api/admin/inspect-message/v1", Access.TRUSTED, inspect_message),
    Route("GET", "/api/admin/inspect-sched-q/v1", Access.TRUSTED, inspect_scheduled_queue),
    Route("GET", "/api/admin/inspect-ready-q/v1", Access.TRUSTED, inspect_ready_queue),
    Route("GET", "/api/admin/ready-q-states/v1", Access.TRUSTED, ready_queue_states),
    Route("GET", "/api/admin/resolve-egress-path/v1", Access.TRUSTED, resolve_egress_path),
    Route("POST", "/api/admin/abort-ready-q-conn/v1", Access.TRUSTED, abort_dispatcher),
    Route("POST", "/api/admin/spool-compact/v1", Access.TRUSTED, compact_spool),
    Route("GET", "/api/machine-info", Access.TRUSTED, machine_info, while_starting=True),
    Route("GET", "/api/admin/memory/stats", Access.TRUSTED, memory_stats, while_starting=True),
    Route("GET", "/api/admin/task-dump", Access.TRUSTED, task_dump, while_starting=True),
    Route("POST", "/api/admin/bump-config-epoch", Access.TRUSTED, bump_config_epoch),
    Route("POST", "/api/admin/set_diagnostic_log_filter/v1", Access.TRUSTED, set_diagnostic_log_filter),
    Route("GET", "/api-docs/openapi.json", Access.ANYBODY, openapi, while_starting=True),
    Route("GET", "/rapidoc", Access.ANYBODY, explorer("explorer.html"), while_starting=True),
    *(
        Route("GET", f"/rapidoc/{name}", Access.ANYBODY, explorer(name), while_starting=True)
        for name in EXPLORER_NAMES
    ),
    Route("GET", "/", Access.TRUSTED, page, while_starting=True),
    *(Route("GET", f"/console/{name}", Access.TRUSTED, file(name), while_starting=True) for name in NAMES),
    Route("GET", "/api/admin/trace-smtp-server/v1", Access.TRUSTED, trace_smtp_server, while_starting=True),
    Route("GET", "/api/admin/trace-smtp-client/v1", Access.TRUSTED, trace_smtp_client, while_starting=True),
    Route("GET", "/api/kumo-py/messages/v1", Access.TRUSTED, messages),
    Route("POST", "/api/kumo-py/flush/v1", Access.TRUSTED, flush),
    Route("POST", "/api/kumo-py/hold/v1", Access.TRUSTED, hold),
    Route("POST", "/api/kumo-py/release/v1", Access.TRUSTED, release),
    Route("POST", "/api/kumo-py/delete/v1", Access.TRUSTED, delete),
    Route("GET", "/api/kumo-py/operations/v1", Access.TRUSTED, operation),
    Route("GET", "/api/kumo-py/overview/v1", Access.TRUSTED, overview),
    Route("GET", "/api/kumo-py/policy/v1", Access.TRUSTED, policy_status),
    Route("POST", "/api/kumo-py/policy/v1/reload", Access.TRUSTED, policy_reload),
)

_BY_PATH = {
    path: {route.method: route for route in ROUTES if route.path == path}
    for path in {route.path for route in ROUTES}
}


class Api:
    """Answers the requests of one listener."""

    def __init__(self, node: Node, shared: Shared, params: HttpListenerParams, address: str) -> None:
        """`address` is where it listens."""
        self._node = node
        self._shared = shared
        self._params = params
        self._resources = {path: http_resource(address, path) for path in _BY_PATH}
        self._names = {name.lower() for name in (node.hostname, params.hostname) if name is not None}

    def trusts(self, peer_ip: str) -> bool:
        return peer_ip in self._params.trusted_hosts

    async def answer(self, request: Request) -> Response:
        """Raises Refusal."""
        refuse_foreign(request, self._names)
        path, _, query = _ABSOLUTE.sub("", request.target).partition("?")
        methods = _BY_PATH.get(path)
        if methods is None:
            raise Refusal(404, "there is no such endpoint")
        # HEAD is GET without the content (RFC 9110 §9.3.2), which the connection leaves out.
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allowed = ", ".join(sorted(methods)).encode()
            raise Refusal(405, f"use {allowed.decode()} for {path}", [(b"allow", allowed)])
        trusted = self.trusts(request.peer_ip)
        request.auth = await self._shared.authentication.identify(request, trusted=trusted)
        await authorize(self._node, request.auth, route.method, self._resources[path])
        if not route.while_starting and not self._node.ready:
            raise Refusal(503, "waiting for spool startup")
        try:
            parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS))
        except ValueError:
            raise Refusal(400, f"more than {_MOST_PARAMETERS} parameters") from None
        return await route.endpoint(Call(request, parameters, self._node, self._shared, self._params))
