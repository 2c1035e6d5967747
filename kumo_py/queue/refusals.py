"""Why a ready queue has no more connections, noted where one is refused (KumoMTA's `QueueState`).

A note holds as long as the refusal does, and a little longer: who wants a connection asks again about once a second.
"""

from __future__ import annotations

from dataclasses import dataclass

_ASKED_AGAIN = 2.0
"""Seconds after which who still wants a connection has asked again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Of a connection."""

    context: str
    """What refused it, in KumoMTA's words."""
    since: float
    """Unix time of the first of those that have followed each other."""
    until: float
    """When it may be asked for again, on trio's clock."""

    def holds(self, now: float) -> bool:
        """Whether that is still so, as far as anybody knows (trio time)."""
        return now <= self.until + _ASKED_AGAIN


def refused(before: Refusal | None, context: str, *, wall: float, now: float, until: float) -> Refusal:
    """A refusal after the one before it; times as for Refusal."""
    since = before.since if before is not None and before.holds(now) else wall
    return Refusal(context, since, until)
