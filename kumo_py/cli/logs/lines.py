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
    at = _time(record.get("timestamp"))
    kind = _flat(as_text(record.get("type")) or "-").ljust(16)
    parts = (
        as_text(record.get("id")) or "-",
        f"<{as_text(record.get('sender'))}> → <{as_text(record.get('recipient'))}>",
        as_text(record.get("site") or record.get("queue")) or "-",
    )
    what = _flat(" ".join(parts))
    response = _flat(_response(record.get("response")))
    if width is not None:
        response = _cut(response, max(_LEAST, width - len(f"{at} {kind} {what} ")))
    coloured = click.style(kind, fg=_COLOURS.get(kind.rstrip(), "blue"))
    return f"{at} {coloured} {what} {response}".rstrip()


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
