"""Answers from name servers over UDP and TCP (RFC 1035, RFC 7766), the way to the real DNS.

One lookup asks the servers in turn. A server that errs is followed by the next at once,
a silent one after `_PATIENCE` while its answer is still awaited, so that a lost datagram
costs a second and not the whole `timeout`; at most `num_concurrent_reqs` are under way.
Silent servers are asked again, `attempts` times; one that answered with an error isn't.

Every question has its own connected socket, hence its own port, and a random id: an
answer must match id, question and sender (RFC 5452). Nothing is read or opened before
the first lookup. dnspython does the messages; its own exchange functions are not used
because they leak the socket if cancelled while connecting and keep time by the wall clock.
"""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import trio
from dns.message import QueryMessage

from kumo_py.dns.answer import MAX_ALIASES, Answer, RecordType, decode, dns_name
from kumo_py.dns.config import NameServer, ResolverConfig, load_resolv_conf, parse_socket_address
from kumo_py.dns.errors import DnsError

_PATIENCE = 1.0
_PAYLOAD = 1232
"""EDNS0 datagram size (octets) that needs no fragments on any path of the Internet."""

_LONGEST_REPLY = 16384
"""Octets. Real record sets have a tenth; parsing the 64 KiB that a hostile zone can send takes 0.1 s."""

_DEFAULT_SERVER = "127.0.0.1:53"
"""What resolv.conf(5) means when it names none."""

_LOCAL_TTL = 3600.0
_WORST_ROUND_TRIP = 60.0
_FORGETTING = 0.98
"""What a server's round trip shrinks by when another was preferred: it gets its next chance some day."""


class _ServerError(Exception):
    """A server's reply is of no use, and asking it again within this lookup won't be either."""


class _Server:
    """A name server with what has been learnt about it."""

    __slots__ = (
        "address", "bind", "family", "is_loopback", "label", "round_trip", "tcp", "trusts_denial", "udp",
    )  # fmt: skip

    def __init__(self, server: NameServer) -> None:
        self.label = server.socket_addr
        self.family, self.address = parse_socket_address(server.socket_addr)
        self.bind = parse_socket_address(server.bind_addr)[1] if server.bind_addr is not None else None
        self.udp = server.protocol != "tcp"
        self.tcp = server.protocol != "udp"
        self.trusts_denial = server.trust_negative_responses
        self.is_loopback = ip_address(str(self.address[0])).is_loopback
        self.round_trip = 0.0
        """Smoothed, in seconds."""

    def answered(self, seconds: float) -> None:
        self.round_trip += 0.3 * (seconds - self.round_trip)

    def failed(self, seconds: float) -> None:
        self.round_trip = min(2 * max(seconds, self.round_trip), _WORST_ROUND_TRIP)


class _Lookup:
    """One question under way, shared by the tries that ask it."""

    __slots__ = ("answer", "denial", "ended", "problems", "running", "spent")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.denial: Answer | None = None
        """From a server whose denials aren't trusted: it counts if nobody knows better."""
        self.problems: dict[str, str] = {}
        self.spent: set[_Server] = set()
        self.running = 0
        self.ended = trio.Event()
        """Set, and replaced, whenever a try ends."""


class UpstreamBackend:
    """A Backend that asks the name servers of its configuration."""

    def __init__(
        self, config: ResolverConfig, *, resolv_conf: str = "/etc/resolv.conf", hosts: str = "/etc/hosts"
    ) -> None:
        self._config = config
        self._resolv_conf = resolv_conf
        self._hosts_file = hosts
        self._servers: list[_Server] | None = None
        self._hosts: dict[tuple[str, RecordType], tuple[str, ...]] | None = None
        self._turn = 0

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        local = self._local_answer(name, rdtype)
        if local is not None:
            return local
        options = self._config.options
        most = max(1, options.num_concurrent_reqs)
        lookup = _Lookup()
        async with trio.open_nursery() as nursery:
            for server in self._ordered_servers() * (1 + options.attempts):
                if server in lookup.spent:
                    continue
                lookup.running += 1
                nursery.start_soon(self._try, lookup, server, name, rdtype)
                with trio.move_on_after(_PATIENCE) as patience:
                    await lookup.ended.wait()
                if patience.cancelled_caught:
                    # It may never be seen to time out: the next one's answer ends the lookup.
                    server.failed(_PATIENCE)
                while lookup.answer is None and lookup.running >= most:
                    await lookup.ended.wait()
                if lookup.answer is not None:
                    break
            while lookup.answer is None and lookup.running:
                await lookup.ended.wait()
            nursery.cancel_scope.cancel()
        answer = lookup.answer or lookup.denial
        if answer is None:
            problems = (f"{label}: {problem}" for label, problem in lookup.problems.items())
            raise DnsError(name, rdtype, "; ".join(problems))
        return answer

    async def _try(self, lookup: _Lookup, server: _Server, name: str, rdtype: RecordType) -> None:
        """Ask one server once, and leave the outcome in `lookup`."""
        started = trio.current_time()
        try:
            answer = await self._ask(server, name, rdtype)
        except _ServerError as error:
            lookup.problems[server.label] = str(error)
            lookup.spent.add(server)
        except trio.TooSlowError:
            lookup.problems[server.label] = f"no answer within {self._config.options.timeout:g} seconds"
            server.failed(trio.current_time() - started)
        except OSError as error:
            lookup.problems[server.label] = os.strerror(error.errno).lower() if error.errno else str(error)
            server.failed(self._config.options.timeout)
        else:
            server.answered(trio.current_time() - started)
            if answer.records or server.trusts_denial:
                lookup.answer = answer
            else:
                lookup.denial = answer
                lookup.spent.add(server)
        lookup.running -= 1
        lookup.ended.set()
        lookup.ended = trio.Event()

    async def _ask(self, server: _Server, name: str, rdtype: RecordType) -> Answer:
        """Raises _ServerError, OSError, trio.TooSlowError."""
        target = dns_name(name)
        ttl = float("inf")
        is_secure = self._config.options.validate and server.is_loopback
        for _ in range(MAX_ALIASES):
            reply = await self._exchange(server, self._question(target, rdtype))
            rcode = reply.rcode()
            if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                raise _ServerError(dns.rcode.to_text(rcode))
            try:
                chain = reply.resolve_chaining()
            except dns.exception.DNSException as error:
                raise _ServerError(f"unusable answer: {error}") from None
            ttl = min(ttl, chain.minimum_ttl)
            is_secure = is_secure and bool(reply.flags & dns.flags.AD)
            if chain.answer is not None:
                return Answer(decode(chain.answer), ttl, is_secure)
            is_denial = any(rrset.rdtype == dns.rdatatype.SOA for rrset in reply.authority)
            if rcode == dns.rcode.NXDOMAIN or is_denial or not chain.cnames:
                return Answer((), ttl, is_secure, rcode == dns.rcode.NXDOMAIN)
            # The server stopped at an alias: ask where it leads.
            target = chain.canonical_name
        raise _ServerError(f"its CNAME chain is longer than {MAX_ALIASES}")

    def _question(self, name: dns.name.Name, rdtype: RecordType) -> QueryMessage:
        options = self._config.options
        flags = dns.flags.RD if options.recursion_desired else 0
        if options.validate:
            flags |= dns.flags.AD
        if options.edns0:
            return dns.message.make_query(name, rdtype, use_edns=0, payload=_PAYLOAD, flags=flags)
        return dns.message.make_query(name, rdtype, flags=flags)

    async def _exchange(self, server: _Server, question: QueryMessage) -> QueryMessage:
        """Over UDP, and over TCP if the answer doesn't fit. Raises as `_ask` does."""
        options = self._config.options
        if server.udp:
            try:
                with trio.fail_after(options.timeout):
                    reply = await _ask_by_udp(server, question)
                if not reply.flags & dns.flags.TC:
                    return reply
                if not server.tcp:
                    raise _ServerError("the answer is truncated, and protocol = 'udp' forbids TCP")
            except (OSError, trio.TooSlowError):
                if not (server.tcp and options.try_tcp_on_error):
                    raise
        with trio.fail_after(options.timeout):
            return await _ask_by_tcp(server, question)

    def _ordered_servers(self) -> list[_Server]:
        """The servers, best first."""
        if self._servers is None:
            self._servers = self._configured_servers()
        servers = self._servers
        match self._config.options.server_ordering_strategy:
            case "QueryStatistics":
                servers = sorted(servers, key=lambda server: server.round_trip)
                for server in servers[1:]:
                    server.round_trip *= _FORGETTING
            case "RoundRobin":
                turn = self._turn
                self._turn = (turn + 1) % len(servers)
                servers = servers[turn:] + servers[:turn]
        return servers

    def _configured_servers(self) -> list[_Server]:
        given = self._config.name_servers
        if not given:
            try:
                given = load_resolv_conf(self._resolv_conf).name_servers
            except OSError:
                given = []
        return [
            _Server(NameServer(socket_addr=server) if isinstance(server, str) else server)
            for server in given or [_DEFAULT_SERVER]
        ]

    def _local_answer(self, name: str, rdtype: RecordType) -> Answer | None:
        """What no server is asked: special names (RFC 6761 sections 6.3, 6.4) and the hosts file."""
        top = name.rpartition(".")[2]
        if top == "localhost":
            address = {"A": ("127.0.0.1",), "AAAA": ("::1",)}.get(rdtype, ())
            return Answer(address, _LOCAL_TTL)
        if top == "invalid":
            return Answer((), _LOCAL_TTL, nxdomain=True)
        if rdtype not in ("A", "AAAA") or self._config.options.use_hosts_file == "Never":
            return None
        if self._hosts is None:
            self._hosts = _read_hosts(self._hosts_file)
        addresses = self._hosts.get((name, rdtype))
        return None if addresses is None else Answer(addresses, _LOCAL_TTL)


async def _ask_by_udp(server: _Server, question: QueryMessage) -> QueryMessage:
    """The reply; of a truncated one (TC flag) only the question is read."""
    with trio.socket.socket(server.family, socket.SOCK_DGRAM) as sock:
        if server.bind is not None:
            await sock.bind(server.bind)
        await sock.connect(server.address)
        wire = question.to_wire()
        await sock.send(wire)
        while True:
            reply = await sock.recv(_LONGEST_REPLY)
            # Anything but our answer is a forgery: keep listening.
            if len(reply) > 2 and reply[:2] == wire[:2]:
                message = _parsed(reply, question, is_truncated=bool(reply[2] & 2))
                if message is not None:
                    return message


async def _ask_by_tcp(server: _Server, question: QueryMessage) -> QueryMessage:
    with trio.socket.socket(server.family, socket.SOCK_STREAM) as sock:
        if server.bind is not None:
            await sock.bind(server.bind)
        await sock.connect(server.address)
        stream = trio.SocketStream(sock)
        await stream.send_all(question.to_wire(prepend_length=True))
        received = bytearray()
        length = 0
        while len(received) < 2 + length:
            chunk = await stream.receive_some()
            if not chunk:
                raise ConnectionError("connection closed before the answer")
            received += chunk
            length = int.from_bytes(received[:2], "big")
            if length > _LONGEST_REPLY:
                raise _ServerError(f"the answer has {length} octets, more than {_LONGEST_REPLY}")
    message = _parsed(bytes(received[2 : 2 + length]), question)
    if message is None:
        raise _ServerError("it answered another question")
    return message


def _parsed(wire: bytes, question: QueryMessage, *, is_truncated: bool = False) -> QueryMessage | None:
    """The message if it is a reply to the question. Raises _ServerError if it cannot be read."""
    try:
        message = dns.message.from_wire(wire, question_only=is_truncated)
    except dns.exception.DNSException as error:
        raise _ServerError(f"unusable answer: {error}") from None
    return message if isinstance(message, QueryMessage) and question.is_response(message) else None


def _read_hosts(path: str) -> dict[tuple[str, RecordType], tuple[str, ...]]:
    """The addresses of each name in a hosts(5) file; none if there is no such file."""
    found: dict[tuple[str, RecordType], tuple[str, ...]] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        try:
            rdtype: RecordType = "A" if ip_address(address).version == 4 else "AAAA"
        except ValueError:
            continue
        for name in names:
            key = (name.lower().rstrip("."), rdtype)
            found[key] = (*found.get(key, ()), address)
    return found
