"""What the sessions of one listener share: options, clock, counters, and the sweeper that cuts late ones off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.smtp_in.clock import Clock
from kumo_py.smtp_in.params import SessionParams
from kumo_py.smtp_in.session import Session
from kumo_py.smtp_in.times import TransactionTimes

if TYPE_CHECKING:
    from kumo_py.net.transport import Transport
    from kumo_py.smtp_in.params import ListenerParams
    from kumo_py.smtp_in.services import Services

SWEEP_INTERVAL = 1.0
"""Seconds; how late a deadline may be noticed."""


class Counters:
    """Plain numbers for the metrics: what happened since the start."""

    __slots__ = ("connections", "denied", "receptions", "rejections")

    def __init__(self) -> None:
        self.connections = 0
        self.denied = 0
        """Refused because of load or limits."""
        self.receptions = 0
        """Contents received, whatever became of them."""
        self.rejections = 0


class Endpoint:
    """Runs sessions on transports that somebody else accepted."""

    def __init__(self, params: ListenerParams, services: Services) -> None:
        self.params = params
        self.services = services
        self.clock = Clock(services.wall)
        self.counters = Counters()
        self.times = TransactionTimes()
        self.sessions: set[Session] = set()
        self.stopping = False
        self._awake = trio.Event()
        self._plain: tuple[SessionParams, dict[str, object]] | None = None
        if not params.peer and not params.via:
            values: dict[str, object] = {}
            self._plain = (self._layered("", "", values), values)

    def session_params(self, local_ip: str, peer_ip: str, meta: dict[str, object]) -> SessionParams:
        """The options for a connection; adds the metadata that they set. Others may hold the same object."""
        if self._plain is None:
            return self._layered(local_ip, peer_ip, meta)
        params, values = self._plain
        meta.update(values)
        return params

    def _layered(self, local_ip: str, peer_ip: str, meta: dict[str, object]) -> SessionParams:
        hostname = self.services.hostname
        meta["hostname"] = hostname
        params = SessionParams(hostname)
        params.apply(self.params, local_ip, peer_ip, meta)
        return params

    def admit(self, transport: Transport) -> Session:
        """Make a session; it counts from now on, and `run` must follow."""
        if not self.sessions:
            self.clock.tick()
            self._awake.set()
        self.counters.connections += 1
        session = Session(self, transport)
        self.sessions.add(session)
        return session

    async def run(self, session: Session) -> None:
        """Run a session to its end."""
        try:
            await session.run()
        finally:
            self.sessions.discard(session)

    async def sweep(self) -> None:
        """Keep the clock and the deadlines while there are sessions; runs beside them."""
        while True:
            if not self.sessions:
                self._awake = trio.Event()
                await self._awake.wait()
            await trio.sleep(SWEEP_INTERVAL)
            self.clock.tick()
            now = self.clock.now
            for session in [session for session in self.sessions if session.deadline < now]:
                session.cut_off()

    def stop(self) -> None:
        """Answer each session's next command with 421, those that wait for one at once."""
        self.stopping = True
        for session in [session for session in self.sessions if session.waits_for_command]:
            session.cut_off()
