"""Delivery status notifications written: `kumo.generate_rfc3464_message` (RFC 3464, RFC 6522, RFC 6533).

What KumoMTA writes, with what the RFCs ask for besides: Date, Auto-Submitted (RFC 3834), a Status without comment,
and a delivery-status part that is folded instead of quoted-printable (RFC 3464 §2.1).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kumo_py.message import headers
from kumo_py.message.mime import HeaderMap, Part, new_multipart, new_text
from kumo_py.message.report_fields import TypedName
from kumo_py.message.trace import rfc5322_date


class ReportParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `kumo.generate_rfc3464_message`."""

    include_original_message: Literal["No", "HeadersOnly", "FullContent"]
    reporting_mta: TypedName
    enable_expiration: bool = False
    enable_bounce: bool = False
    stable_content: bool = False
    """Constant boundary, Message-ID and Date, for tests."""


class _EnhancedCode(msgspec.Struct, frozen=True):
    class_: int = msgspec.field(name="class")
    subject: int
    detail: int


class _Response(msgspec.Struct, frozen=True):
    code: int
    content: str = ""
    enhanced_code: _EnhancedCode | None = None

    @property
    def status(self) -> str:
        if self.enhanced_code is not None:
            return f"{self.enhanced_code.class_}.{self.enhanced_code.subject}.{self.enhanced_code.detail}"
        return f"{self.code // 100 if self.code // 100 in (2, 4, 5) else 4}.0.0"

    @property
    def line(self) -> str:
        enhanced = f"{self.status} " if self.enhanced_code is not None else ""
        return " ".join(f"{self.code} {enhanced}{self.content}".split())


class _Peer(msgspec.Struct, frozen=True):
    name: str
    addr: str


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a report needs of a delivery log record; times are Unix seconds."""

    type: str
    sender: str
    recipient: str | list[str]
    created: float
    timestamp: float
    response: _Response
    peer_address: _Peer | None = None
    delivery_protocol: str | None = None

    @property
    def recipients(self) -> list[str]:
        return [self.recipient] if isinstance(self.recipient, str) else self.recipient


def generate_dsn(
    params: ReportParams, record: FailureRecord, original: bytes | None, *, id: str, now: float
) -> bytes | None:
    """The message that tells a sender of a failure; None if the options ask for none.

    original: the message that failed. id: left side of the Message-ID. now: Unix seconds. Nobody is told of what
    has the null sender, nor of bounces that no SMTP server gave. Raises HeaderError.
    """
    if not record.sender or not _is_wanted(params, record):
        return None
    parts = [
        new_text("text/plain", _explanation(record)),
        _raw("message/delivery-status", _delivery_status(params, record)),
    ]
    if original is not None and params.include_original_message == "FullContent":
        parts.append(_raw("message/rfc822", original))
    elif original is not None and params.include_original_message == "HeadersOnly":
        parts.append(_raw("text/rfc822-headers", original[: headers.header_end(original)]))
    report = new_multipart("multipart/report", parts, "report-boundary" if params.stable_content else None)
    type_ = report.headers.content_type
    assert type_ is not None
    type_.set("report-type", "delivery-status")
    host = params.reporting_mta.name
    for name, value in (
        ("Content-Type", type_),
        ("Subject", "Returned mail"),
        ("Mime-Version", "1.0"),
        ("Message-ID", f"<{'UUID' if params.stable_content else id}@{host}>"),
        ("Date", rfc5322_date(record.timestamp if params.stable_content else now)),
        ("Auto-Submitted", "auto-replied"),
        ("To", record.sender),
        ("From", f"Mail Delivery Subsystem <mailer-daemon@{host}>"),
    ):
        report.headers.set(name, value)
    return report.to_bytes()


def _is_wanted(params: ReportParams, record: FailureRecord) -> bool:
    if record.type == "Bounce":
        return params.enable_bounce and record.delivery_protocol == "ESMTP"
    return record.type == "Expiration" and params.enable_expiration


def _explanation(record: FailureRecord) -> str:
    lines = [
        f"The message was received at {rfc5322_date(record.created)}",
        f"from {record.sender} and addressed to {', '.join(record.recipients)}.",
    ]
    if record.type == "Bounce" and record.peer_address is not None:
        peer = record.peer_address
        lines.append(f"While communicating with {peer.name} ({peer.addr}):")
        lines.append(f"Response: {record.response.line}")
    else:
        lines.append(f"Status: {record.response.line}")
    lines += [
        "",
        "The message will be deleted from the queue.",
        "No further attempts will be made to deliver it.",
        "",
    ]
    return "\r\n".join(lines)


def _delivery_status(params: ReportParams, record: FailureRecord) -> bytes:
    mta = params.reporting_mta
    lines = [
        _field("Reporting-MTA", f"{mta.mta_type}; {mta.name}"),
        _field("Arrival-Date", rfc5322_date(record.created)),
        b"\r\n",
    ]
    for recipient in record.recipients:
        lines += [
            _field("Final-Recipient", _typed_address(recipient)),
            _field("Action", "failed"),
            _field("Status", record.response.status),
        ]
        if record.peer_address is not None:
            lines.append(_field("Remote-MTA", f"dns; {record.peer_address.name}"))
        lines += [
            _field("Diagnostic-Code", f"smtp; {record.response.line}"),
            _field("Last-Attempt-Date", rfc5322_date(record.timestamp)),
            b"\r\n",
        ]
    return b"".join(lines)


def _field(name: str, value: str) -> bytes:
    return headers.header_line(name.encode(), value.encode("utf-8", "replace"), encode=True)


def _typed_address(address: str) -> str:
    if address.isascii():
        return f"rfc822;{address}"
    escaped = "".join(char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in address)
    return f"utf-8;{escaped}"  # RFC 6533 §3: utf-8-addr-xtext


def _raw(content_type: str, body: bytes) -> Part:
    part_headers = HeaderMap()
    part_headers.set("Content-Type", content_type)
    return Part(part_headers, body)
