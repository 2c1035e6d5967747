"""The line of a delivery log record: KumoMTA's fields in KumoMTA's order, one JSON object, LF at its end.

The line is put together from stretches that are constant over the process, the kind or the connection, and a
few values that differ; to encode a dict of it all costs half as much again. Values from outside are always
encoded by orjson, so that none can break the line.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from kumo_py.core.spool_id import created
from kumo_py.logs.json_text import to_json
from kumo_py.logs.record_type import RecordType
from kumo_py.message.message import NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kumo_py.logs.context import LogContext
    from kumo_py.message.message import Message
    from kumo_py.proto.reply import Response

EMPTY_OBJECT = b"{}"
UNCATEGORIZED = b'"Uncategorized"'
"""The bounce classification that fits what no rule matches."""

_START = {kind: b'{"type":"%b","id":"' % kind.encode() for kind in RecordType}
_NO_EGRESS = b'"egress_pool":null,"egress_source":null,"source_address":null'


class RecordEncoder:
    """Encodes the records of one node. nodeid: text of a UUID."""

    __slots__ = ("_node", "_second")

    def __init__(self, nodeid: str) -> None:
        self._node = b',"nodeid":' + to_json(nodeid)
        self._second = lru_cache(1024)(_second)

    def message(
        self,
        kind: RecordType,
        msg: Message,
        response: Response,
        context: LogContext,
        recipients: Sequence[str],
        queue: str | None,
        now: float,
        meta: bytes,
        headers: bytes,
        feedback_report: object,
        label: bytes = UNCATEGORIZED,
    ) -> bytes:
        """A record about a message. now: Unix seconds. meta, headers: JSON objects; label: JSON string."""
        if queue is None:
            try:
                queue = msg.queue_name
            except (ValueError, NotLoaded) as err:
                queue = str(err)
        protocol = msg.meta.get("reception_protocol")
        if not isinstance(protocol, str):
            protocol = None
        json = context.json
        record = response.to_record()
        recipient = recipients[0] if len(recipients) == 1 else recipients
        times = self._times(now, created(msg.id))
        dumps: Callable[[object], bytes] = orjson.dumps
        while True:
            try:
                return b"".join(
                    (
                        _START[kind],
                        msg.id.hex().encode(),
                        b'","sender":',
                        dumps(msg.sender),
                        b',"recipient":',
                        dumps(recipient),
                        b',"queue":',
                        dumps(queue),
                        b',"site":',
                        json.site,
                        b',"size":%d,"response":' % msg.size,
                        dumps(record),
                        b',"peer_address":',
                        json.peer,
                        times,
                        b',"num_attempts":%d,"bounce_classification":%b,' % (msg.attempts, label),
                        json.egress,
                        b',"feedback_report":',
                        b"null" if feedback_report is None else dumps(feedback_report),
                        b',"meta":',
                        meta,
                        b',"headers":',
                        headers,
                        b',"delivery_protocol":',
                        json.delivery_protocol,
                        b',"reception_protocol":',
                        b"null" if protocol is None else dumps(protocol),
                        self._node,
                        json.end,
                        b"\n",
                    )
                )
            except orjson.JSONEncodeError:
                dumps = to_json  # rare: something that is no JSON; once more, piece by piece

    def rejection(
        self,
        sender: str,
        recipient: str,
        response: Response,
        context: LogContext,
        now: float,
        meta: bytes,
        label: bytes = UNCATEGORIZED,
    ) -> bytes:
        """A Rejection: there is no message, and of the connection only the peer and the session are named."""
        json = context.json
        return b"".join(
            (
                _START[RecordType.Rejection],
                b'","sender":',
                to_json(sender),
                b',"recipient":',
                to_json(recipient),
                b',"queue":"","site":"","size":0,"response":',
                to_json(response.to_record()),
                b',"peer_address":',
                json.peer,
                self._times(now, now),
                b',"num_attempts":0,"bounce_classification":%b,' % label,
                _NO_EGRESS,
                b',"feedback_report":null,"meta":',
                meta,
                b',"headers":{},"delivery_protocol":null,"reception_protocol":null',
                self._node,
                json.session_end,
                b"\n",
            )
        )

    def _times(self, now: float, born: float) -> bytes:
        """Rounded, as a float does not hold every microsecond exactly."""
        now_s, now_us = divmod(int(now * 1e6 + 0.5), 1_000_000)
        born_s, born_us = divmod(int(born * 1e6 + 0.5), 1_000_000)
        return b',"timestamp":%d,"event_time":"%b.%06dZ","created":%d,"created_time":"%b.%06dZ"' % (
            now_s,
            self._second(now_s),
            now_us,
            born_s,
            self._second(born_s),
            born_us,
        )


def _second(seconds: int) -> bytes:
    """RFC 3339 to the second, without the zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()
