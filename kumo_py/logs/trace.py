"""Live traces of SMTP sessions: what sessions tell, and to whom.

A node has two traces, of the sessions that come in and of those that go out. A session asks `trace.watchers` before it
says anything, and that is all that a trace costs while nobody watches. What is told, and its JSON, is KumoMTA's
(crates/kumo-api-types: TraceSmtpV1Payload, TraceSmtpClientV1Payload).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Meta: TypeAlias = "Mapping[str, object]"
Level: TypeAlias = Literal["INFO", "ERROR"]

HIDDEN = "[hidden]"
"""Stands where a client's password was."""


class Event(NamedTuple):
    """Something that happened in a session."""

    meta: Meta | None
    """What is known of the session (`conn_meta`), never changed afterwards; None: it is about no session."""
    kind: str
    data: bytes | Meta | None
    """The octets of a Read or Write, the fields of other kinds; None: it has none."""
    when: float
    """Unix time."""


class Watcher(Protocol):
    """Somebody who wants to know."""

    def note(self, event: Event) -> None:
        """Called in the middle of a session: must not wait, nor raise."""
        ...


class Trace:
    """Hands events to its watchers."""

    __slots__ = ("_wall", "watchers")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self.watchers: tuple[Watcher, ...] = ()

    @contextmanager
    def watching(self, watcher: Watcher) -> Iterator[None]:
        """While it lasts the watcher gets all events."""
        self.watchers += (watcher,)
        try:
            yield
        finally:
            self.watchers = tuple(other for other in self.watchers if other is not watcher)

    def event(self, meta: Meta | None, kind: str, data: bytes | Meta | None = None) -> Event:
        """An event that happens now."""
        return Event(meta, kind, data, self._wall())

    def tell(self, event: Event) -> None:
        for watcher in self.watchers:
            watcher.note(event)


@dataclass(frozen=True, slots=True)
class Traces:
    """A node's."""

    server: Trace
    """Of the sessions that come in."""
    client: Trace
    """Of those that go out."""

    @property
    def watchers(self) -> int:
        """How many there are."""
        return len(self.server.watchers) + len(self.client.watchers)


def diagnostic(level: Level, message: str) -> Meta:
    """The fields of a Diagnostic."""
    return {"level": level, "message": message}
