"""A delivery log record as one line for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kumo_py.cli.endpoint import printable
from kumo_py.cli.logs.fields import as_text

if TYPE_CHECKING:
    from kumo_py.cli.logs.fields import Record

_COLOURS = {
    "Reception": "cyan",
    "Delivery": "green",
    "TransientFailure": "yellow",
    "Delayed": "yellow",
    "Bounce": "red",
    "Expiration": "red",
    "AdminBounce": "red",
    "OOB": "red",
    "Rejection": "red",
    "Feedback": "magenta",
}
_LEAST = 24
"""Columns that a response has, however narrow the terminal."""


def one_line(record: Record, width: int | None = None) -> str:
    """Time, type, id, sender → recipient, site or queue, code and response; that is cut to a terminal's width."""
    kind = as_text(record.get("type"))
    parts = [
        _time(record.get("timestamp")),
        kind.ljust(16),
        as_text(record.get("id")) or "-",
        f"<{as_text(record.get('sender'))}> → <{as_text(record.get('recipient'))}>",
        as_text(record.get("site") or record.get("queue")) or "-",
    ]
    head = _flat(" ".join(parts))
    response = _flat(_response(record.get("response")))
    if width is not None:
        response = _cut(response, max(_LEAST, width - len(head) - 1))
    before, found, after = head.partition(kind)
    return (
        before + (click.style(found, fg=_COLOURS.get(kind, "blue")) if found else "") + after + " " + response
    )


def _time(timestamp: object) -> str:
    """Here, to the second."""
    if not isinstance(timestamp, int | float):
        return "-".ljust(19)
    try:
        return f"{datetime.fromtimestamp(timestamp):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "-".ljust(19)


def _response(response: Any) -> str:  # noqa: ANN401  JSON
    if not isinstance(response, dict):
        return ""
    code = response.get("enhanced_code")
    enhanced = (
        "{class}.{subject}.{detail}".format_map(code) if isinstance(code, dict) and len(code) == 3 else ""
    )
    return " ".join(filter(None, (as_text(response.get("code")), enhanced, as_text(response.get("content")))))


def _flat(text: str) -> str:
    return printable(text.replace("\n", " ").replace("\t", " "))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
