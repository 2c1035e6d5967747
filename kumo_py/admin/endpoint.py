"""What an endpoint takes and gives, declared with the function that does it: the API's description is made of it.

    @endpoint(takes=SuspendRequest, gives=json_of(Made), fails={409: "it is suspended already"})
    async def suspend(call: Call) -> Response:
        \"\"\"POST /api/admin/suspend/v1: what this does, for the reader of the description.\"\"\"

`tests/daemon/test_openapi.py` holds endpoints to it: what they ask a request for, and what they answer.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response

_strip_place = re.compile(r"\A(?:GET|POST|DELETE|PUT) /\S*(?::\s+|\s*\Z)").sub


class Parameter(NamedTuple):
    """Of a query."""

    name: str
    doc: str
    type: Literal["string", "integer", "boolean"] = "string"
    required: bool = False
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The content of a 200."""

    media_type: str
    type: Any = None
    """Of JSON: what msgspec can make a schema of."""
    example: object = None
    also: str | None = None
    """Another media type, which a parameter asks for."""


TEXT = Answer("text/plain")


def json_of(type_: Any, example: object = None, also: str | None = None) -> Answer:  # noqa: ANN401
    """JSON, as msgspec writes that type."""
    return Answer("application/json", type_, example, also)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that answers, and what is to be known of it."""

    run: Callable[[Call], Awaitable[Response]]
    doc: str
    takes: Any = None
    """The type of the JSON body; None for none."""
    example: object = None
    """Of such a body."""
    query: tuple[Parameter, ...] = ()
    gives: Answer = TEXT
    fails: Mapping[int, str] = field(default_factory=dict)
    """What it refuses by itself, by status."""
    upgrades: Any = None
    """The type of what a client says first over WebSocket; None without WebSocket."""

    def __call__(self, call: Call) -> Awaitable[Response]:
        return self.run(call)


def endpoint(
    *,
    takes: Any = None,  # noqa: ANN401
    example: object = None,
    query: tuple[Parameter, ...] = (),
    gives: Answer = TEXT,
    fails: Mapping[int, str] | None = None,
    upgrades: Any = None,  # noqa: ANN401
) -> Callable[[Callable[[Call], Awaitable[Response]]], Endpoint]:
    """Declare the decorated function; its docstring is the description, without the method and path before it."""

    def declare(run: Callable[[Call], Awaitable[Response]]) -> Endpoint:
        doc = _strip_place("", inspect.getdoc(run) or "")
        return Endpoint(run, doc[:1].upper() + doc[1:], takes, example, query, gives, fails or {}, upgrades)

    return declare
