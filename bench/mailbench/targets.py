"""How little CPU kumo-py wants to take beside each peer, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

from .load import CONN, PERSIST
from .peer import RELAY, SINK


@dataclass(frozen=True, slots=True)
class Target:
    """The peer's CPU per message must be `ratio` times ours, at least. is_goal: wished for, not demanded."""

    workload: str
    size: int
    mode: str
    peer: str
    ratio: float
    is_goal: bool = False

    def describe(self) -> str:
        if self.ratio > 1:
            bound = f"1/{self.ratio:g} of {self.peer}"
        elif self.ratio == 1:
            bound = self.peer
        else:
            bound = f"{1 / self.ratio:g}x {self.peer}"
        kind = "goal" if self.is_goal else "target"
        return f"{self.workload} {size_text(self.size):>6} {self.mode:7} {kind:6} CPU ≤ {bound}"


TARGETS = (
    *(Target(RELAY, 1024, mode, "postfix", 8) for mode in (PERSIST, CONN)),
    *(Target(RELAY, 1024, mode, "postfix", 12, is_goal=True) for mode in (PERSIST, CONN)),
    *(Target(RELAY, 102_400, mode, "postfix", 4) for mode in (PERSIST, CONN)),
    *(Target(RELAY, 102_400, mode, "postfix", 6, is_goal=True) for mode in (PERSIST, CONN)),
    Target(SINK, 1024, PERSIST, "aiosmtpd", 4),
    Target(SINK, 1024, PERSIST, "smtp-server", 1, is_goal=True),
    Target(SINK, 1024, PERSIST, "smtp-sink", 0.5, is_goal=True),
    Target(SINK, 102_400, PERSIST, "smtp-sink", 1),
)


def size_text(size: int) -> str:
    """1024 → 1 KB."""
    return f"{size // 1024} KB" if size % 1024 == 0 else f"{size} B"
