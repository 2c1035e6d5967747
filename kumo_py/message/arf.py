"""Feedback reports read: `msg:parse_rfc5965` (RFC 5965), and the trace header that we put into our own mail.

The field names are KumoMTA's, `original_rcpto_to` included.
"""

from __future__ import annotations

import binascii
from datetime import datetime
from typing import Any, cast

import msgspec
import orjson

from kumo_py.message import headers
from kumo_py.message.mime import parse
from kumo_py.message.report_fields import (
    Fields,
    ReportError,
    TypedName,
    as_text,
    bare_address,
    original_message,
)

_TRACE_MARKER = "_@_"
_TRACE_VALUE = "\\_/"


class FeedbackReport(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint, most often. original_message: with LF line ends, perhaps only its headers."""

    feedback_type: str
    user_agent: str
    version: str
    arrival_date: datetime | None
    incidents: int | None
    original_envelope_id: str | None
    original_mail_from: str | None
    reporting_mta: TypedName | None
    source_ip: str | None
    authentication_results: list[str]
    original_rcpto_to: list[str]
    reported_domain: list[str]
    reported_uri: list[str]
    extensions: dict[str, list[str]]
    """The other fields, by lower-case name."""
    original_message: str | None
    supplemental_trace: dict[str, Any] | None
    """What our own trace header says: the recipient, and the metadata that was put there."""

    def to_table(self) -> dict[str, Any]:
        """As plain data; times are RFC 3339 in UTC."""
        return cast("dict[str, Any]", msgspec.to_builtins(self))


def parse_arf(data: bytes) -> FeedbackReport | None:
    """The feedback report that a message is; None if it is none.

    Raises ValueError if it claims to be one but cannot be understood: ReportError, or MimeError.
    """
    message = parse(data)
    type_ = message.content_type
    if type_ is None or type_.media_type != "multipart/report":
        return None
    if (type_.get("report-type") or "").lower() != "feedback-report":
        return None
    for part in message.parts:
        if part.media_type == "message/feedback-report":
            return _read(part.content, original_message(message.parts))
    raise ReportError("feedback-report part missing")


def supplemental_trace(data: bytes) -> dict[str, Any] | None:
    """What the trace header of a message of ours says, whatever the header is called; None without one."""
    for field in headers.fields(data):
        if field.name[:2].lower() != b"x-":
            continue
        try:
            payload = orjson.loads(binascii.a2b_base64(b"".join(field.value.split()), strict_mode=True))
        except ValueError:  # no base64; no JSON
            continue
        if isinstance(payload, dict) and payload.pop(_TRACE_MARKER, None) == _TRACE_VALUE:
            return payload
    return None


def _read(body: bytes, original: bytes | None) -> FeedbackReport:
    fields = Fields(body.lstrip())
    received = fields.take_date("received-date") if "arrival-date" not in fields.rest else None
    return FeedbackReport(
        feedback_type=fields.require("feedback-type", str),
        user_agent=fields.require("user-agent", str),
        version=fields.require("version", str),
        arrival_date=received or fields.take_date("arrival-date"),
        incidents=fields.take("incidents", _count),
        original_envelope_id=fields.take("original-envelope-id", str),
        original_mail_from=fields.take("original-mail-from", bare_address),
        reporting_mta=fields.take("reporting-mta", TypedName.parse),
        source_ip=fields.take("source-ip", str),
        authentication_results=fields.take_all("authentication-results", str),
        original_rcpto_to=fields.take_all("original-rcpt-to", bare_address),
        reported_domain=fields.take_all("reported-domain", str),
        reported_uri=fields.take_all("reported-uri", str),
        extensions=fields.rest,
        original_message=as_text(original),
        supplemental_trace=None if original is None else supplemental_trace(original),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ReportError(f"'{text[:200]}' is not a number")
    return int(text)
