"""Live traces of SMTP sessions, over WebSocket: what a client asks for, and what it gets (KumoMTA's JSON).

    GET /api/admin/trace-smtp-server/v1     sessions that come in
    GET /api/admin/trace-smtp-client/v1     sessions that go out

A client that does not keep up loses events and is told how many: a trace never holds mail up. An allow-list is heeded
as soon as the session has the property that it is about, and until then everything passes.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
import orjson
import trio

from kumo_py.admin.endpoint import endpoint
from kumo_py.admin.exchange import Refusal
from kumo_py.admin.websocket import websocket_response
from kumo_py.core.cidr import CidrSet
from kumo_py.core.options import OptionError, convert
from kumo_py.logs.json_text import to_json
from kumo_py.logs.trace import Event, diagnostic
from kumo_py.message.rfc3339 import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.admin.call import Call
    from kumo_py.admin.exchange import Response
    from kumo_py.logs.trace import Meta, Trace

MOST_TRACERS = 32
"""Of a node."""
QUEUE_SIZE = 4 * 1024 * 1024
"""Octets of events that wait for one of them, as far as they can be counted."""
_EVENT_SIZE = 1024
"""Octets that an event takes beside its data."""
_PIECE = 64 * 1024
"""Octets of an event's data; more becomes several events, and that much is sent at once."""
_SNIPPET = 1024
"""Octets of a first line that stand for the whole."""


class ServerRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a client that traces incoming sessions."""

    source_addr: CidrSet | None = None
    """The peer's address."""
    terse: bool = False
    """Only the first line of message data."""

    def wants(self, meta: Meta) -> bool:
        return _may_hold(self.source_addr, meta.get("received_from"))

    def shortened(self, kind: str, data: bytes) -> tuple[str, bytes | Meta]:
        """An event's kind and data as `terse` has them."""
        content = data.rstrip()
        if kind != "Read" or b"\r" not in content:
            return kind, data
        snippet = content[: content.index(b"\r")]
        return "AbbreviatedRead", {"snippet": _text(snippet[:_SNIPPET]), "len": len(data)}


class ClientRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a client that traces outgoing sessions."""

    campaign: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    domain: tuple[str, ...] = ()
    routing_domain: tuple[str, ...] = ()
    egress_pool: tuple[str, ...] = ()
    egress_source: tuple[str, ...] = ()
    mail_from: tuple[str, ...] = ()
    rcpt_to: tuple[str, ...] = ()
    """Any of the message's recipients."""
    source_addr: CidrSet | None = None
    mx_host: tuple[str, ...] = ()
    ready_queue: tuple[str, ...] = ()
    mx_addr: CidrSet | None = None
    terse: bool = False
    """Only the first line of message data."""

    def wants(self, meta: Meta) -> bool:
        return (
            _may_hold(self.source_addr, meta.get("source_address"))
            and _may_hold(self.mx_addr, meta.get("mx_address"))
            and all(_may_be(getattr(self, option), meta.get(key)) for option, key in _CLIENT_KEYS)
        )

    def shortened(self, kind: str, data: bytes) -> tuple[str, bytes | Meta]:
        """An event's kind and data as `terse` has them."""
        end = data.find(b"\n")
        if kind != "Write" or end < 0 or end + 1 == len(data):
            return kind, data
        snippet = data[: min(end, _SNIPPET)].removesuffix(b"\r")
        return "AbbreviatedWrite", {"snippet": _text(snippet), "len": len(data)}


_CLIENT_KEYS: Final = (
    ("campaign", "campaign"),
    ("domain", "domain"),
    ("egress_pool", "egress_pool"),
    ("egress_source", "egress_source"),
    ("mx_host", "mx_host"),
    ("ready_queue", "ready_queue_name"),
    ("rcpt_to", "recipient"),
    ("routing_domain", "routing_domain"),
    ("mail_from", "sender"),
    ("tenant", "tenant"),
)
"""Each allow-list, and the property that it is about."""

_FAILS: Final = {426: "It is no WebSocket request.", 503: "Too many traces are going on already."}


@endpoint(upgrades=ServerRequest, fails=_FAILS)
async def trace_smtp_server(call: Call) -> Response:
    """GET /api/admin/trace-smtp-server/v1: what happens in incoming sessions, over WebSocket, as JSON."""
    return _trace(call, call.node.traces.server, ServerRequest)


@endpoint(upgrades=ClientRequest, fails=_FAILS)
async def trace_smtp_client(call: Call) -> Response:
    """GET /api/admin/trace-smtp-client/v1: what happens in outgoing sessions, over WebSocket, as JSON."""
    return _trace(call, call.node.traces.client, ClientRequest)


def _trace(call: Call, trace: Trace, kind: type[ServerRequest | ClientRequest]) -> Response:
    """Raises Refusal."""
    response = websocket_response(call.request, Tracer(trace, kind))
    if call.node.traces.watchers >= MOST_TRACERS:
        raise Refusal(503, f"{MOST_TRACERS} traces are going on already")
    return response


class Tracer:
    """One client's events: a Watcher of the trace, and a Stream for its WebSocket.

    It watches before the client has said what it wants, so that the client misses nothing that follows on its
    being connected.
    """

    def __init__(self, trace: Trace, kind: type[ServerRequest | ClientRequest]) -> None:
        self._trace = trace
        self._kind = kind
        self._request: ServerRequest | ClientRequest | None = None
        """Until it is there, all events wait."""
        self._queue: deque[Event] = deque()
        self._size = 0
        self._lost = 0
        """Events that did not fit. While there are some, none is taken until half of the queue is empty."""
        self._arrived = trio.Event()

    # -- for the trace -----------------------------------------------------------------------------
    def note(self, event: Event) -> None:
        request, data = self._request, event.data
        if request is not None and event.meta is not None and not request.wants(event.meta):
            return
        if request is None or not isinstance(data, bytes):
            self._put(event)
            return
        if request.terse:
            kind, short = request.shortened(event.kind, data)
            self._put(event._replace(kind=kind, data=short))
            return
        start = 0
        while len(data) - start > _PIECE and not self._lost:
            end = data.rfind(b"\n", start, start + _PIECE) + 1 or start + _PIECE
            self._put(event._replace(data=data[start:end]))
            start = end
        self._put(event._replace(data=data[start:]) if start else event)

    def _put(self, event: Event) -> None:
        size = _size(event)
        if self._size + size > (QUEUE_SIZE // 2 if self._lost else QUEUE_SIZE):
            self._lost += 1
            return
        if self._lost:
            self._queue.append(self._loss())
            self._size += _EVENT_SIZE
        self._queue.append(event)
        self._size += size
        self._arrived.set()

    def _loss(self) -> Event:
        lost, self._lost = self._lost, 0
        text = f"Tracer Lagged behind and missed {lost} events"
        return self._trace.event(None, "Diagnostic", diagnostic("ERROR", text))

    # -- for the WebSocket -------------------------------------------------------------------------
    @contextmanager
    def open(self) -> Iterator[None]:
        with self._trace.watching(self):
            yield

    def begin(self, request: bytes) -> None:
        try:
            self._request = convert(orjson.loads(request), self._kind, "request")
        except (orjson.JSONDecodeError, OptionError) as err:
            raise ValueError(f"not a request for a trace: {err}") from None
        early, self._queue, self._size = self._queue, deque(), 0
        lost, self._lost = self._lost, 0
        for event in early:
            self.note(event)
        self._lost += lost

    async def wait(self) -> None:
        if not self._queue and not self._lost:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def take(self) -> list[bytes]:
        texts: list[bytes] = []
        size = 0
        while self._queue and size < _PIECE:
            event = self._queue.popleft()
            self._size -= _size(event)
            texts.append(_json(event))
            size += len(texts[-1])
        if not self._queue and self._lost:
            texts.append(_json(self._loss()))
        return texts


def _size(event: Event) -> int:
    if isinstance(event.data, bytes):
        return _EVENT_SIZE + len(event.data)
    recipients = None if event.data is None else event.data.get("recipient")
    return _EVENT_SIZE * (1 + (len(recipients) if isinstance(recipients, list) else 0))


def _json(event: Event) -> bytes:
    payload: object = event.kind
    if isinstance(event.data, bytes):
        payload = {event.kind: _text(event.data)}
    elif event.data is not None:
        payload = {event.kind: event.data}
    when = rfc3339(datetime.fromtimestamp(event.when, UTC))
    return to_json({"conn_meta": event.meta, "payload": payload, "when": when})


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _may_hold(networks: CidrSet | None, address: object) -> bool:
    return networks is None or not isinstance(address, str) or address in networks


def _may_be(allowed: tuple[str, ...], value: object) -> bool:
    if not allowed:
        return True
    if isinstance(value, list):
        return not value or any(one in allowed for one in value)
    return not isinstance(value, str) or value in allowed
