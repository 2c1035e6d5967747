"""A request of the HTTP API and its response, as the endpoints see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from kumo_py.core.acl import AuthInfo
    from kumo_py.net.transport import Transport

Headers: TypeAlias = list[tuple[bytes, bytes]]

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"

_LONGEST_REFUSAL = 2000
"""Characters: it may quote what the client sent."""


class Refusal(Exception):
    """A request is answered with this status, and a text for whoever sent it."""

    def __init__(self, status: int, text: str, headers: Headers | None = None) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text if len(text) <= _LONGEST_REFUSAL else f"{text[:_LONGEST_REFUSAL]}…"
        self.headers = headers or []


@dataclass(slots=True)
class Request:
    """Header names are in lower case. `read` gives the body, as it was sent; it raises Refusal."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    headers: Headers
    peer_ip: str
    local_ip: str
    read: Callable[[], Awaitable[bytes]]
    auth: AuthInfo = field(init=False)
    """Who sent it; there when an endpoint is called."""

    def header(self, name: bytes) -> bytes | None:
        """Its value. Raises Refusal if it is there more than once."""
        values = [value for known, value in self.headers if known == name]
        if len(values) > 1:
            raise Refusal(400, f"more than one {name.decode()} header")
        return values[0] if values else None


@dataclass(slots=True)
class Response:
    """`body` in one piece, or as it is made.

    With `take_over` none is sent: the connection is that function's, from the response on, and ends with it. It gets
    what the client has sent behind its request, and is cancelled when the node stops.
    """

    body: bytes | AsyncGenerator[bytes, None] = b""
    status: int = 200
    content_type: bytes = TEXT
    headers: Headers = field(default_factory=list)
    take_over: Callable[[Transport, bytes], Awaitable[None]] | None = None


def text_response(text: str, status: int = 200) -> Response:
    return Response(text.encode("utf-8", "replace"), status)


def json_response(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, JSON)
