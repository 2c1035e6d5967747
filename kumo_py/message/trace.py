"""Trace headers: Received (RFC 5321 §4.4) and KumoMTA's supplemental header, X-KumoRef.

Both are made as complete header lines, CRLF included, for `Message.prepend`. What goes into them has been
through a grammar before (an EHLO argument, an envelope address, a host name), so it holds no line break.
"""

from __future__ import annotations

from binascii import b2a_base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FOLD = 75
"""Characters of base64 on one line of the supplemental header, as in KumoMTA."""
_LONGEST_FOR = 512
"""A longer recipient is left out of Received, whose lines must stay below 998 octets (RFC 5322 §2.1.1)."""


def rfc5322_date(unix_time: float) -> str:
    """The date-time of RFC 5322 §3.3, in UTC, whatever the locale."""
    at = datetime.fromtimestamp(unix_time, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} +0000"
    )


def received_start(
    helo: str | None, peer_ip: str, hostname: str, local_ip: str, protocol: str, tls: str | None
) -> bytes:
    """The part of Received that a session's messages share; protocol: RFC 3848, tls: `version:cipher`."""
    tls_clause = f" ({tls}) " if tls else ""
    return (
        f"Received: from {helo or 'unspecified'} ({peer_ip})\r\n"
        f"  by {hostname} (KumoMTA {local_ip}) \r\n"
        f"  with {protocol}{tls_clause} id "
    ).encode()


def received(start: bytes, id: bytes, recipient: str, date: str) -> bytes:
    """A whole Received header; RFC 5321 §4.4 allows one path in its FOR clause, however many recipients."""
    clause = f" for <{recipient}>" if len(recipient) <= _LONGEST_FOR else ""
    return start + f"{id.hex()}{clause};\r\n  {date}\r\n".encode()


def supplemental(
    name: str, recipients: Sequence[str], meta: Mapping[str, object], include: Sequence[str]
) -> bytes:
    """KumoMTA's header that a feedback report brings back: base64 of JSON with the recipients and some metadata."""
    payload = orjson.dumps(recipients[0] if len(recipients) == 1 else recipients)
    payload = b'{"_@_":"\\\\_/","recipient":%b}' % payload
    if include:
        extra = {key: meta[key] for key in include if key in meta}
        payload = orjson.dumps(orjson.loads(payload) | extra, option=orjson.OPT_SORT_KEYS)
    text = b2a_base64(payload, newline=False)
    if len(text) > _FOLD:
        text = b"\r\n\t".join(text[at : at + _FOLD] for at in range(0, len(text), _FOLD))
    return b"%b: %b\r\n" % (name.encode(), text)
