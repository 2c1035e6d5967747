"""The figures of a run, as text for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .histogram import Histogram

_MOST_REFUSALS = 10
_DISTINCT_REFUSALS = 200


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of a run (or, while it runs, what became of it so far).

    sent = accepted + failed + unfinished.  A message is accepted by the 2xx reply to its body; a
    message that any reply refused, or whose connection broke after its body began, has failed and
    is not tried again; an unfinished one was still waiting for its reply when the run was cut off.

    elapsed: seconds from the start to the last reply.  opening: those of them until the connections were
    open and the first message went out.  cpu: user + system seconds of this program.
    max_rss: bytes, all workers together.  peak_connections: connections past their greeting at once.
    refusals: what the peer said, by number of messages (or connections) it said it to.
    stopped_by: "count", "duration", "signal" or "error".  error: what ended the run, if anything did.
    """

    run: str
    target: str
    protocol: str
    workers: int
    concurrency: int
    message_bytes: int
    keep_going: bool
    started: float
    elapsed: float = 0.0
    opening: float = 0.0
    sent: int = 0
    accepted: int = 0
    failed: int = 0
    connections: int = 0
    connections_now: int = 0
    peak_connections: int = 0
    connection_errors: int = 0
    reconnects: int = 0
    cpu: float = 0.0
    max_rss: int = 0
    stopped_by: str = ""
    error: str | None = None
    accept: Histogram = field(default_factory=Histogram)
    connect: Histogram = field(default_factory=Histogram)
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def unfinished(self) -> int:
        """Messages offered whose fate is not known."""
        return self.sent - self.accepted - self.failed

    @property
    def rate(self) -> float:
        """Accepted messages per second, from the first message sent to the last reply."""
        sending = self.elapsed - self.opening
        return self.accepted / sending if sending > 0 else 0.0

    @property
    def mmh(self) -> float:
        """Accepted messages per hour, in millions."""
        return self.rate * 3600 / 1e6

    @property
    def cpu_per_message(self) -> float:
        """Own CPU seconds per accepted message."""
        return self.cpu / self.accepted if self.accepted else 0.0

    @property
    def exit_code(self) -> int:
        """0: all was accepted, or failures were to be tolerated; 130: interrupted; else 1."""
        if self.stopped_by == "signal":
            return 130
        if self.error is not None:
            return 1
        return 0 if self.keep_going or self.accepted == self.sent else 1

    def refuse(self, said: str, messages: int = 1) -> None:
        """Count what the peer said; past a number of distinct texts only the reply codes are kept."""
        if said not in self.refusals and len(self.refusals) >= _DISTINCT_REFUSALS:
            said = said[:3] + " (other texts)"
        self.refusals[said] += messages

    def add(self, other: Summary) -> None:
        """Take in the figures of another worker of the same run."""
        for name in (
            "sent",
            "accepted",
            "failed",
            "connections",
            "connections_now",
            "peak_connections",
            "connection_errors",
            "reconnects",
            "cpu",
            "max_rss",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.elapsed = max(self.elapsed, other.elapsed)
        self.opening = max(self.opening, other.opening)
        self.accept.add(other.accept)
        self.connect.add(other.connect)
        self.refusals.update(other.refusals)
        self.error = self.error or other.error
        reasons = ("error", "signal", "duration", "count", "")
        self.stopped_by = min(self.stopped_by, other.stopped_by, key=reasons.index)

    def as_json(self) -> dict[str, Any]:
        """The figures under their documented names."""
        return {
            "run": self.run,
            "target": self.target,
            "protocol": self.protocol,
            "workers": self.workers,
            "concurrency": self.concurrency,
            "message_bytes": self.message_bytes,
            "started": round(self.started, 6),
            "elapsed_s": round(self.elapsed, 6),
            "opening_s": round(self.opening, 6),
            "sent": self.sent,
            "accepted": self.accepted,
            "failed": self.failed,
            "unfinished": self.unfinished,
            "messages_per_second": round(self.rate, 3),
            "mmh": round(self.mmh, 6),
            "bytes_per_second": round(self.rate * self.message_bytes),
            "accept_latency_ms": _latency_json(self.accept),
            "connect_latency_ms": _latency_json(self.connect),
            "connections": self.connections,
            "peak_connections": self.peak_connections,
            "connection_errors": self.connection_errors,
            "reconnects": self.reconnects,
            "cpu_s": round(self.cpu, 6),
            "cpu_us_per_message": round(self.cpu_per_message * 1e6, 3),
            "max_rss_mb": round(self.max_rss / 1e6, 1),
            "refusals": dict(self.refusals.most_common(_MOST_REFUSALS)),
            "stopped_by": self.stopped_by,
            "error": self.error,
            "exit_code": self.exit_code,
        }

    def as_text(self) -> str:
        """A few lines for a person."""
        lines = [
            f"run {self.run} to {self.target} ({self.protocol}), ended by {self.stopped_by}",
            f"sent {self.sent:,}: accepted {self.accepted:,}, failed {self.failed:,}, "
            f"unfinished {self.unfinished:,} in {self.elapsed:.2f} s ({self.opening:.2f} s of it to connect)",
            f"rate {self.rate:,.0f} msg/s, {self.mmh:.2f} MMH (million messages per hour), "
            f"{self.rate * self.message_bytes / 1e6:,.1f} MB/s",
            f"accept latency  {_latency_text(self.accept)}",
            f"connect latency {_latency_text(self.connect)}",
            f"connections {self.connections:,} (at most {self.peak_connections:,} at once, "
            f"{self.connection_errors:,} broken, {self.reconnects:,} closed by the peer between messages)",
            f"own CPU {self.cpu_per_message * 1e3:.4f} ms per message, {self.cpu:.2f} s in all; "
            f"memory at most {self.max_rss / 1e6:,.0f} MB",
        ]
        if self.failed:
            lines.append("failed messages were not tried again")
        lines += [f"  {count:,} x {said}" for said, count in self.refusals.most_common(_MOST_REFUSALS)]
        if self.error is not None:
            lines.append(f"error: {self.error}")
        return "\n".join(lines)


def _latency_json(latency: Histogram) -> dict[str, float]:
    p50, p95, p99 = latency.percentiles(50, 95, 99)
    values = {"p50": p50, "p95": p95, "p99": p99, "max": latency.largest, "mean": latency.mean}
    return {"count": latency.count} | {name: round(value * 1e3, 3) for name, value in values.items()}


def _latency_text(latency: Histogram) -> str:
    figures = _latency_json(latency)
    return "  ".join(f"{name} {figures[name]:,.3f} ms" for name in ("p50", "p95", "p99", "max"))
