"""Who may send which message next, and what became of it.

Every message is claimed once.  A claimed one is accepted, failed, or given back because its body
was never begun; what is left at the end is unfinished.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .payload import envelopes
from .throttle import Gate

if TYPE_CHECKING:
    from .options import Options
    from .payload import Envelope
    from .summary import Summary

_WITHOUT_END = 1 << 62


class Ledger:
    """The messages of one worker.

    Sequences begin at `first` and are `step` apart, so that `step` workers share a run.
    `replied` is the monotonic time of the last reply to a message.
    """

    __slots__ = (
        "_envelopes",
        "_gate",
        "_given_back",
        "_left",
        "gate_wait",
        "keep_going",
        "replied",
        "summary",
    )

    def __init__(self, options: Options, summary: Summary, first: int = 0, step: int = 1) -> None:
        self.summary = summary
        self.keep_going = options.keep_going
        self.replied = 0.0
        self.gate_wait = 0.0  # seconds, of the last claim that the throttle refused
        self._left = _WITHOUT_END if options.message_count is None else options.message_count
        self._gate = None if options.throttle is None else Gate(options.throttle, step)
        self._envelopes = envelopes(options, first, step)
        self._given_back: deque[Envelope] = deque()

    @property
    def has_work(self) -> bool:
        """Whether any message remains to be claimed, now or when the throttle allows."""
        return self._left > 0 or bool(self._given_back)

    @property
    def unclaimed(self) -> int:
        """How many of a counted run's messages nobody has taken."""
        return self._left + len(self._given_back)

    def claim(self, now: float) -> Envelope | None:
        """The next message to send; None if there is none, or none before `gate_wait` seconds."""
        if self._given_back:
            self.summary.sent += 1
            return self._given_back.popleft()
        if self._left <= 0:
            return None
        if self._gate is not None:
            self.gate_wait = self._gate.wait(now)
            if self.gate_wait:
                return None
        self._left -= 1
        self.summary.sent += 1
        return next(self._envelopes)

    def claim_batch(self, now: float, size: int) -> list[Envelope]:
        """Up to `size` messages for one request, counted by the throttle together; may be empty."""
        batch: list[Envelope] = []
        while self._given_back and len(batch) < size:
            batch.append(self._given_back.popleft())
        fresh = min(size - len(batch), self._left)
        if fresh > 0 and self._gate is not None:
            self.gate_wait = self._gate.wait(now, fresh)
            if self.gate_wait:
                fresh = 0
        batch += [next(self._envelopes) for _ in range(fresh)]
        self._left -= fresh
        self.summary.sent += len(batch)
        return batch

    def give_back(self, envelope: Envelope) -> None:
        """Take a claimed message back: its body was never begun."""
        self.summary.sent -= 1
        if not self.summary.stopped_by:
            self._given_back.append(envelope)

    def accepted(self, now: float, latency: float) -> None:
        """The peer took the message, `latency` seconds after it was offered."""
        self.summary.accepted += 1
        self.summary.accept.record(latency)
        self.replied = now

    def failed(self, now: float, said: str, messages: int = 1) -> None:
        """The peer refused messages; `said` tells where and how.  Ends the run unless it keeps going."""
        self.summary.failed += messages
        self.summary.refuse(said, messages)
        self.replied = now
        if not self.keep_going:
            self.stop("error", said)

    def broken(self, reason: str) -> None:
        """A connection failed.  Ends the run unless it keeps going."""
        self.summary.connection_errors += 1
        self.summary.refuse(reason)
        if not self.keep_going:
            self.stop("error", reason)

    def stop(self, by: str, error: str | None = None) -> None:
        """Hand out no more messages; the first reason stays."""
        if not self.summary.stopped_by:
            self.summary.stopped_by = by
            self.summary.error = error
            self._left = 0
            self._given_back.clear()
