"""The API's description, as OpenAPI 3.1: made of the table of routes and of what their endpoints declare.

Schemas come from the msgspec structs that requests are checked against, their descriptions from the texts below the
fields, so that no word is written twice. What every endpoint may answer (who may not use it, a body that is too
large) is added here.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import msgspec
import orjson
from msgspec import inspect as shapes

from kumo_py.admin.access import Access
from kumo_py.admin.endpoint import Endpoint
from kumo_py.core.cidr import CidrSet
from kumo_py.core.duration import Duration
from kumo_py.core.options import is_option_value, to_builtins
from kumo_py.policy.type_names import field_docs
from kumo_py.queue.admin import Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.admin.endpoint import Answer
    from kumo_py.admin.routes import Route

_ABOUT = """\
The HTTP API of a kumo-py node: KumoMTA's endpoints, and below /api/kumo-py those of kumo-py itself.

Who may use what is up to the policy's access control lists. Without any, clients among a listener's `trusted_hosts`
may use everything, whoever logs in may inject, and anybody may ask whether the node is alive and read this
description. Errors are plain text. Bodies may be compressed with gzip, deflate or zstd.
"""

_VALUES: dict[type, dict[str, object]] = {
    Duration: {
        "description": "A span of time: a number of seconds, or text such as `5m` or `1h 30m`.",
        "oneOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^(\s*\d+(\.\d+)?\s*[A-Za-zµμ]+)+$"},
        ],
        "examples": ["5m"],
    },
    CidrSet: {
        "description": "Networks and addresses.",
        "type": "array",
        "items": {"type": "string"},
        "examples": [["10.0.0.0/8", "::1"]],
    },
    Timestamp: {
        "description": "A point in time, as RFC 3339 has it.",
        "type": "string",
        "format": "date-time",
        "examples": ["2027-01-15T18:00:00Z"],
    },
}
"""What is written for the types that are our own."""

_REF = "#/components/schemas/{name}"


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document. Raises TypeError for a route whose endpoint declares nothing."""
    described = [(route, _endpoint(route)) for route in routes]
    types = [
        type_
        for _, one in described
        for type_ in (one.takes, one.gives.type, one.upgrades)
        if type_ is not None
    ]
    types = list({id(one): one for one in types}.values())
    schemas, components = msgspec.json.schema_components(types, schema_hook=_schema, ref_template=_REF)
    for struct in _structs(types):
        _add_docs(components, struct)
    schema_of = {id(type_): schema for type_, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, object]] = {}
    for route, one in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, one, schema_of)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "kumo-py",
            "version": version("kumo-py"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }
    return cast("dict[str, Any]", orjson.loads(orjson.dumps(document)))  # defaults may be tuples and the like


_TAGS = {
    "mail": "Injection, and messages that wait.",
    "queues": "What suspends, bounces and moves mail, and what is inside of queues.",
    "node": "Health, metrics, configuration.",
    "traces": "SMTP sessions as they happen, over WebSocket.",
    "console": "For people.",
}
_ABOUT_QUEUES = (
    "bounce", "suspend", "rebind", "ready-q", "sched-q", "egress", "xfer", "flush", "delete", "hold", "release",
)  # fmt: skip


def tag_of(path: str) -> str:
    """The part of the API that a path belongs to."""
    if "trace" in path:
        return "traces"
    if path == "/" or path.startswith(("/console", "/rapidoc", "/api-docs")):
        return "console"
    if "inject" in path or "message" in path:
        return "mail"
    return "queues" if any(word in path for word in _ABOUT_QUEUES) else "node"


def _endpoint(route: Route) -> Endpoint:
    if not isinstance(route.endpoint, Endpoint):
        raise TypeError(f"{route.method} {route.path}: declare what it takes and gives with @endpoint")
    return route.endpoint


def _operation(route: Route, one: Endpoint, schema_of: dict[int, dict[str, Any]]) -> dict[str, object]:
    summary, _, rest = one.doc.partition("\n\n")
    operation: dict[str, object] = {
        "operationId": _name(route),
        "tags": [tag_of(route.path)],
        "summary": " ".join(summary.split()),
        "description": f"{rest}\n\nFor {route.access.value}.".strip(),
        "responses": _responses(route, one, schema_of),
    }
    if route.access is Access.ANYBODY:
        operation["security"] = [{}]
    else:
        operation["security"] = [{}, {"basic": []}, {"bearer": []}]
    if one.query:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.doc,
                "required": parameter.required,
                "schema": {"type": parameter.type} | ({"minimum": 0} if parameter.type == "integer" else {}),
                **({} if parameter.example is None else {"example": parameter.example}),
            }
            for parameter in one.query
        ]
    if one.upgrades is not None:
        operation["x-websocket-request"] = schema_of[id(one.upgrades)]
    if one.takes is not None:
        content: dict[str, object] = {"schema": schema_of[id(one.takes)]}
        if one.example is not None:
            content["example"] = one.example
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _name(route: Route) -> str:
    words = route.path.strip("/").replace("/", "_").replace("-", "_").replace(".", "_") or "console"
    return f"{words}_{route.method.lower()}"


def _responses(route: Route, one: Endpoint, schema_of: dict[int, dict[str, Any]]) -> dict[str, object]:
    texts = dict(one.fails)
    if route.access is not Access.ANYBODY:
        texts.setdefault(401, "Wrong credentials, or no right to do this.")
    texts.setdefault(400, "What cannot be read: the query, the credentials, the headers.")
    texts.setdefault(403, "A browser sent it from a page of somebody else's.")
    if one.takes is not None:
        texts.setdefault(408, "The body took too long.")
        texts.setdefault(413, "The body is larger than the listener's `request_body_limit`.")
        texts.setdefault(415, "The body is not JSON, or compressed in another way.")
        texts.setdefault(422, "The body is JSON, but not what is wanted; the text says where.")
    if not route.while_starting:
        texts.setdefault(503, "The node is still starting.")
    found: dict[str, object] = {}
    if one.upgrades is None:
        found["200"] = {"description": "OK", "content": _content(one.gives, schema_of)}
    else:
        found["101"] = {"description": "WebSocket from here on."}
    for status, text in sorted(texts.items()):
        content = {"text/plain": {"schema": {"type": "string"}}}
        found[str(status)] = {"description": text or HTTPStatus(status).phrase, "content": content}
    return found


def _content(answer: Answer, schema_of: dict[int, dict[str, Any]]) -> dict[str, object]:
    schema = {"type": "string"} if answer.type is None else schema_of[id(answer.type)]
    example = {} if answer.example is None else {"example": answer.example}
    found: dict[str, object] = {answer.media_type: {"schema": schema, **example}}
    if answer.also is not None:
        found[answer.also] = {"schema": {"type": "string"}}
    return found


# -- schemas ---------------------------------------------------------------------------------------------------
def _schema(type_: type) -> dict[str, object]:
    return dict(_VALUES[type_])  # msgspec adds to it


def _structs(types: Iterable[object]) -> Iterator[type[msgspec.Struct]]:
    """All structs that types are made of."""
    seen: set[type] = set()
    waiting = [shapes.type_info(cast("type", one)) for one in types]
    while waiting:
        one = waiting.pop()
        if isinstance(one, shapes.StructType) and one.cls not in seen:
            seen.add(one.cls)
            waiting += [field.type for field in one.fields]
            if not is_option_value(one):
                yield one.cls
        waiting += getattr(one, "types", ())
        waiting += [
            getattr(one, part) for part in ("item_type", "key_type", "value_type") if hasattr(one, part)
        ]


def _add_docs(components: dict[str, dict[str, Any]], struct: type[msgspec.Struct]) -> None:
    schema = components[struct.__name__]
    docs = field_docs(struct)
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    for name, shown in names:
        field = schema["properties"][shown]
        if isinstance(field.get("default"), msgspec.Struct):
            field["default"] = to_builtins(field["default"])
        if name in docs:
            of_type = field.get("description", "")
            field["description"] = " ".join(f"{docs[name]} {of_type}".split())
