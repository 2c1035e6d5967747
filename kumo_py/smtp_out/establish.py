"""How a connection comes to stand: greeting, STARTTLS as far as it is demanded, AUTH.

A handshake that fails ends the connection, with one exception: OpportunisticInsecure goes on in the clear, as KumoMTA
does, because it promises nothing. What is remembered of broken TLS makes opportunistic sessions do without it.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
import trio

from kumo_py.core.lruttl import LruTtl
from kumo_py.smtp_out.certificates import describe, peer_chain, subject
from kumo_py.smtp_out.connection import ConnectionFailed, TlsFailed
from kumo_py.smtp_out.dane import DaneFinding, DaneMismatch, DaneResult, find_records, verify
from kumo_py.smtp_out.demand import Demand, Destination, demand, is_host_of
from kumo_py.smtp_out.tls import ClientContexts, TlsUnusable

if TYPE_CHECKING:
    from kumo_py.core.policy import Policy
    from kumo_py.dns import HostAddress
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.smtp_out.connection import Connection

log = structlog.get_logger("kumo_py.smtp_out")

RECONNECT_MEMORY = 900.0
"""Seconds for which broken TLS is remembered where a path reconnects in the clear and says nothing else."""


class ClearAgain(ConnectionFailed):
    """TLS is broken there: the same host is to be tried once more, in the clear."""


class BrokenStartTls(ConnectionFailed):
    """After an OpportunisticInsecure STARTTLS the host does not go on."""

    advice = "every attempt failed after STARTTLS; consider enable_tls = 'Disabled' for this site: "


class ClientTls:
    """What a node knows of TLS as a client."""

    def __init__(self, policy: Policy) -> None:
        self.contexts = ClientContexts(policy)
        self.broken: LruTtl[str, bool] = LruTtl("smtp_dispatcher_broken_tls", 64 * 1024)
        """Ready queues whose hosts offer TLS that does not work."""
        self.dane: Counter[DaneResult] = Counter()
        """KumoMTA's metric `dane_result_count`."""

    @property
    def caches(self) -> tuple[LruTtl[Any, Any], ...]:
        """All that it remembers."""
        return self.contexts.kept, self.contexts.keys, self.broken


class Establishment:
    """The handshakes of one session with the hosts of its site."""

    __slots__ = ("_after_tls", "_broken", "_ehlo_domain", "_queues", "_ready", "_tls")

    def __init__(self, queues: Queues, ready: ReadyQueue, tls: ClientTls, ehlo_domain: str) -> None:
        self._queues = queues
        self._ready = ready
        self._tls = tls
        self._ehlo_domain = ehlo_domain
        self._broken = False
        """Whether TLS failed in this session, and that counts."""
        self._after_tls: tuple[Demand, ConnectionFailed | None] | None = None
        """While EHLO is repeated after STARTTLS: what was demanded, and why TLS does not stand."""

    async def run(self, connection: Connection, host: HostAddress, destination: Destination) -> None:
        """Make the connection ready for mail to a destination. Raises ConnectionFailed."""
        path = self._ready.path
        if not is_host_of(host.name, destination):
            raise ConnectionFailed("MTA-STS, DANE: it is none of the domain's hosts")
        await connection.greet(self._ehlo_domain, path)
        traced = connection.traced
        dane = None
        if path.enable_dane:
            dane = await self._dane(host, destination)
            traced.diagnostic("INFO", f"DANE for {host.name}: {dane.result.value} {dane.problem}".rstrip())
        if destination.mta_sts != "None":
            traced.diagnostic("INFO", f"MTA-STS: the domain's policy is {destination.mta_sts}")
        wanted = demand(path, destination, dane)
        if self._starts_tls(connection, wanted):
            await self._start_tls(connection, host, wanted)
        if destination.mta_sts == "Testing" and connection.tls is None:
            log.info("MTA-STS: under the tested policy no mail would be sent here, TLS fails", host=host.name)
        if path.smtp_auth_plain_username is not None:
            await self._authenticate(connection, path.smtp_auth_plain_username)

    async def _dane(self, host: HostAddress, destination: Destination) -> DaneFinding:
        ready = self._ready
        port = ready.source.remote_port or host.port or ready.path.smtp_port
        found = await find_records(self._queues.resolver, host, port, mx_is_secure=destination.mx_is_secure)
        self._tls.dane[found.result] += 1
        return found

    def _starts_tls(self, connection: Connection, wanted: Demand) -> bool:
        """Raises TlsFailed when TLS is demanded and cannot be had."""
        if wanted.mode == "Disabled":
            return False
        offered = "STARTTLS" in connection.extensions
        if not wanted.is_opportunistic:
            if not offered:
                raise TlsFailed(f"{wanted.because}, and STARTTLS is not offered")
            return True
        return offered and not self._is_broken()

    async def _start_tls(self, connection: Connection, host: HostAddress, wanted: Demand) -> None:
        """Raises ConnectionFailed."""
        path = self._ready.path
        name = host.name.strip("[]")
        try:
            context = await self._tls.contexts.get(
                path, verify=wanted.verifies and not wanted.tlsa, dane=bool(wanted.tlsa)
            )
        except TlsUnusable as err:
            raise ConnectionFailed(str(err)) from err
        insecure = wanted.mode == "OpportunisticInsecure"
        problem: ConnectionFailed | None = None
        try:
            await connection.start_tls(context, name, path)
            await self._judge(connection, name, wanted)
        except TlsFailed as err:
            problem = self._failed(err, wanted)
            connection.traced.diagnostic("INFO", f"STARTTLS handshake failed: {err}")
            if not insecure or isinstance(problem, ClearAgain):
                raise problem from err
        self._after_tls = (wanted, problem)
        try:
            await connection.ehlo(self._ehlo_domain, path)
        except ConnectionFailed as err:
            raise self._ehlo_failed(err) from err
        self._after_tls = None

    def timed_out(self, connection: Connection) -> ConnectionFailed:
        """Why `run` was cancelled."""
        what, seconds = connection.waiting_for
        err = ConnectionFailed(f"timed out after {seconds:g}s waiting for {what}")
        return err if self._after_tls is None else self._ehlo_failed(err)

    def _failed(self, err: ConnectionFailed, wanted: Demand) -> ConnectionFailed:
        """Remember that TLS is broken there; what to raise."""
        self._remember_broken()
        if wanted.is_opportunistic and self._ready.path.opportunistic_tls_reconnect_on_failed_handshake:
            return ClearAgain(f"{err}; connecting again in the clear")
        return err

    def _ehlo_failed(self, err: ConnectionFailed) -> ConnectionFailed:
        """The same where TLS stood, or had been given up, and EHLO failed."""
        assert self._after_tls is not None
        (wanted, problem), self._after_tls = self._after_tls, None
        text = "after STARTTLS" if problem is None else f"after STARTTLS, which failed ({problem})"
        kind = BrokenStartTls if wanted.mode == "OpportunisticInsecure" else type(err)
        return self._failed(kind(f"{text}: {err}"), wanted)

    async def _judge(self, connection: Connection, name: str, wanted: Demand) -> None:
        """Note who the peer is; with DANE, check it. Raises TlsFailed."""
        transport = connection.transport
        tls = describe(transport)
        if wanted.tlsa:
            now = datetime.fromtimestamp(self._queues.wall(), UTC)
            try:
                chain = peer_chain(transport)
                matched = await trio.to_thread.run_sync(verify, chain, wanted.tlsa, name, now)
            except DaneMismatch as err:
                raise TlsFailed(f"TLS handshake with {name}: {err}") from err
            tls.subject_name = subject(matched)
        connection.traced.diagnostic("INFO", f"STARTTLS handshake -> {tls.protocol_version}:{tls.cipher}")
        connection.tls = tls
        connection.authenticated = wanted.verifies

    def _is_broken(self) -> bool:
        return self._broken or self._tls.broken.get(self._ready.name, trio.current_time()) is not None

    def _remember_broken(self) -> None:
        """For `remember_broken_tls`, and in any case as long as a session lasts that reconnects in the clear."""
        path = self._ready.path
        duration: float | None = path.remember_broken_tls
        if duration is None and path.opportunistic_tls_reconnect_on_failed_handshake:
            duration = RECONNECT_MEMORY
        if duration is not None:
            self._broken = True
            self._tls.broken.put(self._ready.name, True, trio.current_time() + duration)

    async def _authenticate(self, connection: Connection, username: str) -> None:
        """AUTH PLAIN (RFC 4954, RFC 4616), if nobody else can read the password. Raises ConnectionFailed."""
        path = self._ready.path
        if connection.tls is None:
            if not path.allow_smtp_auth_plain_without_tls:
                raise ConnectionFailed(
                    "AUTH PLAIN is required, and TLS is not in use: see allow_smtp_auth_plain_without_tls"
                )
        elif not connection.authenticated and not path.allow_smtp_auth_plain_without_valid_certificate:
            raise ConnectionFailed(
                "AUTH PLAIN is required, and the peer's certificate was not verified: "
                "see allow_smtp_auth_plain_without_valid_certificate"
            )
        password = b""
        if path.smtp_auth_plain_password is not None:
            try:
                password = await self._queues.policy.load_key(path.smtp_auth_plain_password)
            except (OSError, ValueError, KeyError) as err:
                raise ConnectionFailed(f"smtp_auth_plain_password cannot be loaded: {err}") from err
        await connection.authenticate(username, password, path.auth_timeout)
