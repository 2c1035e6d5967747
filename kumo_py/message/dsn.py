"""Delivery status notifications read: `msg:parse_rfc3464` (RFC 3464; RFC 6533 for addresses in UTF-8).

The field names are KumoMTA's. Gentler than KumoMTA where real reports are careless and their meaning is clear: a
date that is none, an address that is none, `Failed` for `failed`, empty lines too many.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, cast

import msgspec

from kumo_py.message.mime import parse
from kumo_py.message.report_fields import (
    Fields,
    ReportError,
    TypedName,
    as_text,
    bare_address,
    original_message,
    split_typed,
)

MAX_RECIPIENTS = 10_000
"""More groups in one report are an error."""

_ACTIONS = ("failed", "delayed", "delivered", "relayed", "expanded")
_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_match_status = re.compile(
    r"(\d{1,3})\.(\d{1,5})\.(\d{1,5})(?:\.\d+)*(?: (.*))?", re.ASCII | re.DOTALL
).fullmatch
_split_groups = re.compile(rb"\n(?:[ \t]*+\n)++").split


class Status(msgspec.Struct, frozen=True):
    """An enhanced status code (RFC 3463) and what stands behind it."""

    class_: int = msgspec.field(name="class")
    subject: int
    detail: int
    comment: str | None = None


class Recipient(msgspec.Struct, frozen=True):
    """A recipient and the type of its address, most often rfc822."""

    recipient_type: str
    recipient: str


class Diagnostic(msgspec.Struct, frozen=True):
    """What the remote side said, and in which language: most often smtp."""

    diagnostic_type: str
    diagnostic: str


class PerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 3464 §2.2. `extensions`: the other fields, by lower-case name."""

    original_envelope_id: str | None
    reporting_mta: TypedName
    dsn_gateway: TypedName | None
    received_from_mta: TypedName | None
    arrival_date: datetime | None
    extensions: dict[str, list[str]]


class PerRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 3464 §2.3."""

    final_recipient: Recipient
    action: str
    status: Status
    original_recipient: Recipient | None
    remote_mta: TypedName | None
    diagnostic_code: Diagnostic | None
    last_attempt_date: datetime | None
    final_log_id: str | None
    will_retry_until: datetime | None
    extensions: dict[str, list[str]]


class DeliveryReport(msgspec.Struct, frozen=True):
    """A whole notification. original_message: with LF line ends, perhaps only its headers."""

    per_message: PerMessage
    per_recipient: list[PerRecipient]
    original_message: str | None

    def to_table(self) -> dict[str, Any]:
        """As plain data; times are RFC 3339 in UTC."""
        return cast("dict[str, Any]", msgspec.to_builtins(self))


def parse_dsn(data: bytes) -> DeliveryReport | None:
    """The report that a message is; None if it is none.

    Raises ValueError if it claims to be one but cannot be understood: ReportError, or MimeError.
    """
    message = parse(data)
    type_ = message.content_type
    if type_ is None or type_.media_type != "multipart/report":
        return None
    for part in message.parts:
        if part.media_type in _STATUS_TYPES:
            return _read(part.content, as_text(original_message(message.parts)))
    if (type_.get("report-type") or "delivery-status").lower() != "delivery-status":
        return None  # a report of another kind
    raise ReportError("delivery-status part missing")


def _read(body: bytes, original: str | None) -> DeliveryReport:
    first, *others = _split_groups(body.replace(b"\r\n", b"\n").strip(), MAX_RECIPIENTS + 1)
    if len(others) > MAX_RECIPIENTS:
        raise ReportError(f"the report is about more than {MAX_RECIPIENTS} recipients")
    return DeliveryReport(_per_message(first), [_per_recipient(group) for group in others], original)


def _per_message(group: bytes) -> PerMessage:
    fields = Fields(group)
    return PerMessage(
        reporting_mta=fields.require("reporting-mta", TypedName.parse),
        original_envelope_id=fields.take("original-envelope-id", str),
        dsn_gateway=fields.take("dsn-gateway", TypedName.parse),
        received_from_mta=fields.take("received-from-mta", TypedName.parse),
        arrival_date=fields.take_date("arrival-date"),
        extensions=fields.rest,
    )


def _per_recipient(group: bytes) -> PerRecipient:
    fields = Fields(group)
    return PerRecipient(
        original_recipient=fields.take("original-recipient", _recipient),
        final_recipient=fields.require("final-recipient", _recipient),
        remote_mta=fields.take("remote-mta", TypedName.parse),
        last_attempt_date=fields.take_date("last-attempt-date"),
        will_retry_until=fields.take_date("will-retry-until"),
        final_log_id=fields.take("final-log-id", str),
        action=fields.require("action", _action),
        status=fields.require("status", _status),
        diagnostic_code=fields.take("diagnostic-code", _diagnostic),
        extensions=fields.rest,
    )


def _recipient(text: str) -> Recipient:
    kind, address = split_typed(text, "recipient-type; recipient")
    return Recipient(kind, bare_address(address) if kind.lower() == "rfc822" else address)


def _diagnostic(text: str) -> Diagnostic:
    return Diagnostic(*split_typed(text, "diagnostic-type; diagnostic"))


def _action(text: str) -> str:
    action = text.lower().partition(" ")[0]  # a comment may follow
    if action not in _ACTIONS:
        raise ReportError(f"invalid action type '{text[:200]}'")
    return action


def _status(text: str) -> Status:
    match = _match_status(text)
    if match is None:
        raise ReportError(f"invalid status '{text[:200]}': it is not class.subject.detail")
    return Status(int(match[1]), int(match[2]), int(match[3]), match[4])
