"""What was found out: one line of JSON each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Session(msgspec.Struct, tag="session", frozen=True):
    """A run of the program: where, when (RFC 3339), and how it was called."""

    machine: str
    time: str
    arguments: list[str]


class Run(msgspec.Struct, tag="run", frozen=True):
    """One run of one peer.

    size: bytes of body. cpu_us, generator_us, sink_us: microseconds of CPU per message, user and system, of the peer's
    whole process tree, of what sent, and of what a relay delivered to. msgs_s: from the first to the last delivery
    (relay) or answer (sink); accepted_s: to the last answer. probe_ns: speed of the cores meanwhile (`machine`).
    other_cores: how many cores all other programs used. error: why it does not count, or empty.
    """

    workload: str
    size: int
    mode: str
    sessions: int
    generator: str
    peer: str
    version: str
    round: int
    count: int
    cpu_us: float
    user_share: float
    msgs_s: float
    accepted_s: float
    generator_us: float
    sink_us: float
    probe_ns: float
    other_cores: float
    error: str = ""


class Absent(msgspec.Struct, tag="absent", frozen=True):
    """A peer that could not be measured."""

    workload: str
    peer: str
    reason: str


class Idle(msgspec.Struct, tag="idle", frozen=True):
    """Connections that have got as far as the answer to EHLO and wait.

    opened, alive: how many there were, and how many still answered NOOP. rss_mb, pss_mb: of the whole process tree with
    them open; *_kb: what one connection added. open_us: CPU of the server for opening one.
    """

    peer: str
    version: str
    opened: int
    alive: int
    rss_mb: float
    pss_mb: float
    rss_kb: float
    pss_kb: float
    open_us: float


Line = Session | Run | Absent | Idle


class Results:
    """Collects lines and appends them to a file, if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.lines: list[Line] = []
        self._path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")


def read(paths: Iterable[Path]) -> list[Line]:
    """The lines of some files. Raises OSError, or ValueError if one isn't ours."""
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for path in paths for line in path.read_bytes().splitlines()]
