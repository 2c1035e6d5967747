"""KumoMTA's throttle grammar and a generic cell rate algorithm (GCRA).

Grammar: ``[local:]QUANTITY/[N]PERIOD[,max_burst=B]``; QUANTITY and B may hold ``,`` and ``_``;
PERIOD is one of s sec second m min minute h hr hour d day.  B defaults to QUANTITY: so many may
go at once, after which they are spaced by period / quantity.  ``local:`` changes nothing here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPEC = re.compile(
    r"(?:local:)?(?P<quantity>[0-9_,]*[0-9][0-9_,]*)/(?P<scale>[0-9]*)(?P<unit>[a-z]+)"
    r"(?:,max_burst=(?P<burst>[0-9_,]*[0-9][0-9_,]*))?",
    re.ASCII,
)
_UNITS = {
    **dict.fromkeys(("s", "sec", "second"), 1),
    **dict.fromkeys(("m", "min", "minute"), 60),
    **dict.fromkeys(("h", "hr", "hour"), 3600),
    **dict.fromkeys(("d", "day"), 86400),
}


@dataclass(frozen=True, slots=True)
class ThrottleSpec:
    """`limit` messages per `period` seconds, `burst` of them at once."""

    limit: int
    period: int
    burst: int


def parse_throttle(text: str) -> ThrottleSpec:
    """Read a throttle spec such as ``1_000/hr`` or ``10/s,max_burst=1``; ValueError if it is none."""
    match = _SPEC.fullmatch(text)
    if match is None or match["unit"] not in _UNITS:
        raise ValueError(
            f"{text!r} is not a throttle: write QUANTITY/PERIOD[,max_burst=N], where PERIOD is "
            "one of s, min, hr, day with an optional number before it, e.g. 100/s or 1_000/30min"
        )
    limit = _number(match["quantity"])
    period = int(match["scale"] or 1) * _UNITS[match["unit"]]
    burst = limit if match["burst"] is None else _number(match["burst"])
    if not (limit and period and burst):
        raise ValueError(f"{text!r} lets nothing pass: quantity, period and max_burst must be above zero")
    return ThrottleSpec(limit, period, burst)


def _number(text: str) -> int:
    return int(text.replace(",", "").replace("_", ""))


class Gate:
    """A GCRA: says how long the next messages have to wait.

    `share` workers that run side by side divide the rate and the burst among them.
    """

    __slots__ = ("_burst", "_interval", "_next")

    def __init__(self, spec: ThrottleSpec, share: int = 1) -> None:
        self._interval = spec.period / spec.limit * share
        self._burst = max(1, spec.burst // share)
        self._next = 0.0  # the theoretical arrival time

    def wait(self, now: float, quantity: int = 1) -> float:
        """Let `quantity` messages pass at once, or say in how many seconds to ask again.

        Returns 0.0 when they may go now (and are counted).
        """
        arrival = max(self._next, now) + quantity * self._interval
        wait = arrival - max(self._burst, quantity) * self._interval - now
        if wait > 1e-9:
            return wait
        self._next = arrival
        return 0.0
