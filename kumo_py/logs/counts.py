"""What became of the messages of a ready queue, in numbers: KumoMTA's `total_messages_delivered` and its like.

They are counted where the delivery log records, so that each way in which an attempt can end is counted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kumo_py.logs.record_type import RecordType

if TYPE_CHECKING:
    from kumo_py.proto.reply import Response

LastError: TypeAlias = "tuple[float, str]"
"""Unix time, and the response as one line."""
_LENGTH = 1000
"""Characters of a response that are kept."""

_DELIVERED = (RecordType.Delivery, RecordType.DeferredInjectionRebind)
_FAILED = RecordType.Bounce
_TRANSFAILED = RecordType.TransientFailure
FAILURES = (_FAILED, _TRANSFAILED)


class DeliveryCounts:
    """Counts recipients: a message to three that is refused has failed three times."""

    __slots__ = ("delivered", "failed", "last_error", "transfailed")

    def __init__(self) -> None:
        self.delivered = 0
        self.failed = 0
        self.transfailed = 0
        self.last_error: LastError | None = None

    def add(self, other: DeliveryCounts) -> None:
        """Count what another one has counted, too."""
        self.delivered += other.delivered
        self.failed += other.failed
        self.transfailed += other.transfailed
        if other.last_error is not None:
            self.last_error = max(self.last_error or other.last_error, other.last_error)

    def note(self, kind: RecordType, recipients: int) -> None:
        """Count what a record says; records of other kinds count nothing."""
        if kind in _DELIVERED:
            self.delivered += recipients
        elif kind is _TRANSFAILED:
            self.transfailed += recipients
        elif kind is _FAILED:
            self.failed += recipients


def last_error(now: float, response: Response) -> LastError:
    """Of a failure at this Unix time."""
    return now, response.to_single_line()[:_LENGTH]
