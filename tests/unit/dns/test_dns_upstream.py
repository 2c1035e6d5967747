"""The real backend against name servers of our own, on loopback."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio

from kumo_py.core.options import convert
from kumo_py.dns import Answer, DnsError, MxRecord, Resolver, ResolverConfig, TlsaRecord, UpstreamBackend
from kumo_py.dns import upstream as upstream_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

Reply = dns.message.Message | bytes | None
"""What a server sends back. None: it stays silent; b"": it closes the connection."""


class NameServer:
    """A name server on a free port, UDP and TCP, whose behaviour is a function of the query."""

    def __init__(self, behave: Callable[[dns.message.Message, bool], Reply], host: str = "127.0.0.1") -> None:
        self.behave = behave
        self.host = host
        self.queries: list[tuple[dns.message.Message, bool]] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.udp = trio.socket.socket(family, socket.SOCK_DGRAM)
        self.tcp = trio.socket.socket(family, socket.SOCK_STREAM)
        self.peers: list[tuple[str, int]] = []

    @property
    def label(self) -> str:
        port = self.udp.getsockname()[1]
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @property
    def asked(self) -> list[str]:
        return ["tcp" if is_tcp else "udp" for _, is_tcp in self.queries]

    async def bind(self) -> None:
        for _ in range(20):
            await self.tcp.bind((self.host, 0))
            try:
                await self.udp.bind((self.host, self.tcp.getsockname()[1]))
            except OSError:
                self.tcp.close()
                self.tcp = trio.socket.socket(self.udp.family, socket.SOCK_STREAM)
                continue
            self.tcp.listen()
            return
        raise AssertionError("no port is free for both UDP and TCP")

    def reply(self, wire: bytes, is_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        self.queries.append((query, is_tcp))
        reply = self.behave(query, is_tcp)
        return reply.to_wire(max_size=65535) if isinstance(reply, dns.message.Message) else reply

    async def serve_udp(self) -> None:
        while True:
            wire, peer = await self.udp.recvfrom(65535)
            self.peers.append(peer[:2])
            reply = self.reply(wire, False)
            if reply is not None:
                await self.udp.sendto(reply, peer)

    async def serve_tcp(self) -> None:
        while True:
            connection, peer = await self.tcp.accept()
            self.peers.append(peer[:2])
            with connection:
                stream = trio.SocketStream(connection)
                data = b""
                while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                    data += await stream.receive_some()
                reply = self.reply(data[2:], True)
                if reply is None:
                    await trio.sleep_forever()
                elif reply:
                    await stream.send_all(len(reply).to_bytes(2, "big")[:1])
                    await stream.send_all(len(reply).to_bytes(2, "big")[1:] + reply)


@asynccontextmanager
async def serving(*servers: NameServer) -> AsyncIterator[list[str]]:
    async with trio.open_nursery() as nursery:
        for server in servers:
            await server.bind()
            nursery.start_soon(server.serve_udp)
            nursery.start_soon(server.serve_tcp)
        try:
            yield [server.label for server in servers]
        finally:
            nursery.cancel_scope.cancel()
            for server in servers:
                server.udp.close()
                server.tcp.close()


def backend(servers: list[object], **options: object) -> UpstreamBackend:
    given = {"timeout": 0.5, "server_ordering_strategy": "UserProvidedOrder", **options}
    config = convert({"name_servers": servers, "options": given}, ResolverConfig, "configure_resolver")
    return UpstreamBackend(config, resolv_conf="/nonexistent", hosts="/nonexistent")


def answering(
    *records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0
) -> dns.message.Message:
    """A reply to be completed by `to`: records as `SECTION NAME TTL TYPE DATA`."""
    message = dns.message.QueryMessage()
    message.set_rcode(rcode)
    message.flags |= flags
    for record in records:
        section, name, ttl, rdtype, data = record.split(None, 4)
        rrset = dns.rrset.from_text(name, int(ttl), "IN", rdtype, data)
        (message.answer if section == "answer" else message.authority).append(rrset)
    return message


def to(query: dns.message.Message, reply: dns.message.Message) -> dns.message.Message:
    complete = dns.message.make_response(query, recursion_available=True)
    complete.flags |= reply.flags
    complete.set_rcode(reply.rcode())
    complete.answer = reply.answer
    complete.authority = reply.authority
    return complete


def always(*records: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0) -> NameServer:
    return NameServer(lambda query, is_tcp: to(query, answering(*records, rcode=rcode, flags=flags)))


ADDRESS = "answer h.example. 300 A 192.0.2.1"


async def test_an_answer_over_udp() -> None:
    server = always("answer example.com. 300 MX 10 A.Example.com.")
    async with serving(server) as servers:
        answer = await backend([*servers]).query("example.com", "MX")
    assert answer == Answer((MxRecord(10, "a.example.com"),), 300)
    ((query, is_tcp),) = server.queries
    assert not is_tcp
    assert query.question[0].name.to_text() == "example.com."
    assert (query.edns, query.payload) == (0, 1232)
    assert query.flags == dns.flags.RD


async def test_query_options() -> None:
    server = always(ADDRESS)
    async with serving(server) as servers:
        await backend([*servers], edns0=False, recursion_desired=False, validate=True).query("h.example", "A")
    query = server.queries[0][0]
    assert query.edns == -1
    assert query.flags == dns.flags.AD


async def test_over_ipv6() -> None:
    server = NameServer(lambda query, is_tcp: to(query, answering(ADDRESS)), host="::1")
    try:
        async with serving(server) as servers:
            assert (await backend([*servers]).query("h.example", "A")).records == ("192.0.2.1",)
    except* OSError as group:
        if all(isinstance(e, OSError) and e.errno == errno.EADDRNOTAVAIL for e in group.exceptions):
            pytest.skip("this machine has no IPv6 loopback")
        raise


async def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    many = " ".join(["x" * 200] * 20)
    text = f"answer t.example. 300 TXT {many}"

    def behave(query: dns.message.Message, is_tcp: bool) -> Reply:
        if is_tcp:
            return to(query, answering(text))
        # Cut in the middle of a record, as a careless server does.
        return to(query, answering("answer t.example. 300 TXT cut", flags=dns.flags.TC)).to_wire()[:-2]

    server = NameServer(behave)
    async with serving(server) as servers:
        answer = await backend([*servers]).query("t.example", "TXT")
        assert answer.records == ("x" * 4000,)
        assert server.asked == ["udp", "tcp"]
        only_udp = {"socket_addr": servers[0], "protocol": "udp"}
        with pytest.raises(DnsError, match="the answer is truncated, and protocol = 'udp' forbids TCP"):
            await backend([only_udp]).query("t.example", "TXT")


async def test_tcp_alone() -> None:
    server = always(ADDRESS)
    async with serving(server) as servers:
        tcp = {"socket_addr": servers[0], "protocol": "tcp", "bind_addr": "127.0.0.1:0"}
        assert (await backend([tcp]).query("h.example", "A")).records == ("192.0.2.1",)
    assert server.asked == ["tcp"]


@pytest.mark.parametrize(
    "rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.FORMERR]
)
async def test_a_server_that_errs_is_followed_by_the_next_at_once(rcode: dns.rcode.Rcode) -> None:
    broken, good = always(rcode=rcode), always(ADDRESS)
    async with serving(broken, good) as servers:
        start = trio.current_time()
        assert (await backend([*servers], timeout=5).query("h.example", "A")).records == ("192.0.2.1",)
        assert trio.current_time() - start < 0.9
    assert len(broken.queries) == 1


async def test_all_servers_err() -> None:
    first, second = always(rcode=dns.rcode.SERVFAIL), always(rcode=dns.rcode.REFUSED)
    async with serving(first, second) as servers:
        with pytest.raises(DnsError) as raised:
            await backend([*servers]).query("h.example", "A")
    assert raised.value.problem == f"{servers[0]}: SERVFAIL; {servers[1]}: REFUSED"
    # An error is an answer: nobody is asked twice.
    assert (len(first.queries), len(second.queries)) == (1, 1)


async def test_a_silent_server_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "_PATIENCE", 0.05)
    silent, good = NameServer(lambda query, is_tcp: None), always(ADDRESS)
    async with serving(silent, good) as servers:
        start = trio.current_time()
        assert (await backend([*servers], timeout=5).query("h.example", "A")).records == ("192.0.2.1",)
        assert trio.current_time() - start < 1
    assert (len(silent.queries), len(good.queries)) == (1, 1)


async def test_a_timeout_is_retried_at_the_second_server() -> None:
    silent, good = NameServer(lambda query, is_tcp: None), always(ADDRESS)
    async with serving(silent, good) as servers:
        asking = backend([*servers], timeout=0.2, num_concurrent_reqs=1)
        assert (await asking.query("h.example", "A")).records == ("192.0.2.1",)
    assert (len(silent.queries), len(good.queries)) == (1, 1)


async def test_attempts() -> None:
    silent = NameServer(lambda query, is_tcp: None)
    async with serving(silent) as servers:
        with pytest.raises(DnsError, match=r"no answer within 0\.05 seconds"):
            await backend([*servers], timeout=0.05, attempts=2).query("h.example", "A")
        assert len(silent.queries) == 3
        # Each try has a port and an id of its own.
        assert (
            len({(query.id, *peer) for (query, _), peer in zip(silent.queries, silent.peers, strict=True)})
            == 3
        )


async def test_a_lost_datagram_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "_PATIENCE", 0.05)
    replies: list[bool] = []

    def behave(query: dns.message.Message, is_tcp: bool) -> Reply:
        replies.append(is_tcp)
        return None if len(replies) == 1 else to(query, answering(ADDRESS))

    async with serving(NameServer(behave)) as servers:
        start = trio.current_time()
        assert (await backend([*servers], timeout=5).query("h.example", "A")).records == ("192.0.2.1",)
        assert trio.current_time() - start < 1


async def test_a_late_answer_of_the_first_server_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "_PATIENCE", 0.01)

    async with trio.open_nursery() as nursery:
        slow, silent = always(ADDRESS), NameServer(lambda query, is_tcp: None)
        await slow.bind()
        await silent.bind()
        nursery.start_soon(silent.serve_udp)

        async def wake_up() -> None:
            await trio.sleep(0.05)
            await slow.serve_udp()

        nursery.start_soon(wake_up)
        answer = await backend([slow.label, silent.label], timeout=5).query("h.example", "A")
        nursery.cancel_scope.cancel()
    for server in (slow, silent):
        server.udp.close()
        server.tcp.close()
    assert answer.records == ("192.0.2.1",)
    assert len(silent.queries) == 1


async def test_a_closed_port_is_known_at_once_and_named() -> None:
    closed = NameServer(lambda query, is_tcp: None)
    await closed.bind()
    closed.udp.close()
    label = f"127.0.0.1:{closed.tcp.getsockname()[1]}"
    closed.tcp.close()
    for protocol in ("udp", "tcp"):
        start = trio.current_time()
        with pytest.raises(DnsError, match=f"A lookup for h.example failed: {label}: connection refused"):
            await backend([{"socket_addr": label, "protocol": protocol}], timeout=5).query("h.example", "A")
        assert trio.current_time() - start < 1


async def test_try_tcp_on_error() -> None:
    server = NameServer(lambda query, is_tcp: to(query, answering(ADDRESS)) if is_tcp else None)
    async with serving(server) as servers:
        asking = backend([*servers], timeout=0.05, try_tcp_on_error=True, attempts=0)
        assert (await asking.query("h.example", "A")).records == ("192.0.2.1",)
        with pytest.raises(DnsError):
            await backend([*servers], timeout=0.05, attempts=0).query("h.example", "A")


async def test_an_answer_of_absurd_length_is_refused() -> None:
    hosts = (f"answer h.example. 300 MX {number} h{number}.example." for number in range(1000))
    server = always(*hosts)
    async with serving(server) as servers:
        with pytest.raises(DnsError, match=r"the answer has \d{5} octets, more than 16384"):
            await backend([{"socket_addr": servers[0], "protocol": "tcp"}]).query("h.example", "MX")


async def test_a_connection_closed_without_an_answer() -> None:
    async with serving(NameServer(lambda query, is_tcp: b"")) as servers:
        with pytest.raises(DnsError, match="connection closed before the answer"):
            await backend([{"socket_addr": servers[0], "protocol": "tcp"}]).query("h.example", "A")


async def test_forged_answers_are_ignored() -> None:
    """An answer must have our id and our question (RFC 5452 section 9.1)."""

    class Forging(NameServer):
        async def serve_udp(self) -> None:
            wire, peer = await self.udp.recvfrom(65535)
            query = dns.message.from_wire(wire)
            right = to(query, answering(ADDRESS)).to_wire()
            other = to(query, answering("answer evil.example. 300 A 192.0.2.66"))
            other.question = dns.message.make_query("evil.example", "A").question
            other_id = bytes([wire[0] ^ 1]) + right[1:]
            for forged in (b"", b"\0", other_id, other.to_wire(), wire, right):
                await self.udp.sendto(forged, peer)

    async with serving(Forging(lambda query, is_tcp: None)) as servers:
        answer = await backend([*servers], attempts=0).query("h.example", "A")
    assert answer.records == ("192.0.2.1",)


@pytest.mark.parametrize("cut", [1, 3, 5])
async def test_a_malformed_answer_is_the_servers_error(cut: int) -> None:
    server = NameServer(lambda query, is_tcp: to(query, answering(ADDRESS)).to_wire()[:-cut])
    async with serving(server) as servers:
        with pytest.raises(DnsError, match="unusable answer"):
            await backend([*servers]).query("h.example", "A")
    assert len(server.queries) == 1


async def test_an_answer_to_another_question_over_tcp() -> None:
    wrong = dns.message.make_query("evil.example", "A")
    server = NameServer(lambda query, is_tcp: to(wrong, answering()))
    async with serving(server) as servers:
        with pytest.raises(DnsError, match="it answered another question"):
            await backend([{"socket_addr": servers[0], "protocol": "tcp"}]).query("h.example", "A")


SOA = "authority example. 900 SOA ns.example. who.example. 1 2 3 4 120"


async def test_denials_have_the_soas_ttl() -> None:
    async with serving(always(SOA), always(SOA, rcode=dns.rcode.NXDOMAIN), always()) as (
        nodata,
        nxdomain,
        bare,
    ):
        assert await backend([nodata]).query("h.example", "MX") == Answer(ttl=120)
        assert await backend([nxdomain]).query("h.example", "MX") == Answer(ttl=120, nxdomain=True)
        assert not (await backend([bare]).query("h.example", "MX")).nxdomain


async def test_a_denial_that_isnt_trusted_is_checked_with_the_others() -> None:
    denying, knowing = always(rcode=dns.rcode.NXDOMAIN), always(ADDRESS)
    async with serving(denying, knowing) as servers:
        distrusted = {"socket_addr": servers[0], "trust_negative_responses": False}
        assert (await backend([distrusted, servers[1]]).query("h.example", "A")).records == ("192.0.2.1",)
        assert (await backend([*servers]).query("h.example", "A")).nxdomain
        assert (await backend([distrusted]).query("h.example", "A")).nxdomain
    assert len(denying.queries) == 3


async def test_aliases_in_the_answer() -> None:
    server = always(
        "answer w.example. 300 CNAME x.example.",
        "answer x.example. 20 CNAME h.example.",
        ADDRESS,
    )
    async with serving(server) as servers:
        assert await backend([*servers]).query("w.example", "A") == Answer(("192.0.2.1",), 20)
    assert len(server.queries) == 1


async def test_an_answer_that_stops_at_an_alias_is_followed() -> None:
    def behave(query: dns.message.Message, is_tcp: bool) -> Reply:
        name = query.question[0].name.to_text()
        return to(
            query, answering("answer w.example. 20 CNAME h.example." if name == "w.example." else ADDRESS)
        )

    server = NameServer(behave)
    async with serving(server) as servers:
        assert await backend([*servers]).query("w.example", "A") == Answer(("192.0.2.1",), 20)
    assert len(server.queries) == 2


async def test_an_alias_to_nowhere_isnt_asked_for_again() -> None:
    server = always("answer w.example. 300 CNAME h.example.", SOA)
    async with serving(server) as servers:
        assert await backend([*servers]).query("w.example", "A") == Answer(ttl=120)
    assert len(server.queries) == 1


async def test_alias_loops_end() -> None:
    def around(query: dns.message.Message, is_tcp: bool) -> Reply:
        name = query.question[0].name.to_text()
        other = "y.example." if name == "x.example." else "x.example."
        return to(query, answering(f"answer {name} 300 CNAME {other}"))

    whole = always("answer x.example. 300 CNAME y.example.", "answer y.example. 300 CNAME x.example.")
    stepwise = NameServer(around)
    async with serving(whole, stepwise) as (first, second):
        with pytest.raises(DnsError, match="CNAME chain"):
            await backend([first]).query("x.example", "A")
        with pytest.raises(DnsError, match="CNAME chain is longer than 8"):
            await backend([second]).query("x.example", "A")
    assert len(stepwise.queries) == 8


async def test_the_ad_bit_counts_from_a_loopback_validator_only_if_asked_for() -> None:
    digest = "ab" * 32
    server = always(f"answer _25._tcp.h.example. 60 TLSA 3 1 1 {digest}", flags=dns.flags.AD)
    plain = always(f"answer _25._tcp.h.example. 60 TLSA 3 1 1 {digest}")
    async with serving(server, plain) as (signed, unsigned):
        answer = await backend([signed], validate=True).query("_25._tcp.h.example", "TLSA")
        assert answer == Answer((TlsaRecord(3, 1, 1, bytes.fromhex(digest)),), 60, is_secure=True)
        assert not (await backend([signed]).query("_25._tcp.h.example", "TLSA")).is_secure
        assert not (await backend([unsigned], validate=True).query("_25._tcp.h.example", "TLSA")).is_secure


async def test_round_robin() -> None:
    first, second = always(ADDRESS), always(ADDRESS)
    async with serving(first, second) as servers:
        asking = backend([*servers], server_ordering_strategy="RoundRobin")
        for _ in range(4):
            await asking.query("h.example", "A")
    assert (len(first.queries), len(second.queries)) == (2, 2)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_statistics_prefer_the_server_that_answers(
    parallel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parallel > 1:
        monkeypatch.setattr(upstream_module, "_PATIENCE", 0.05)
    silent, good = NameServer(lambda query, is_tcp: None), always(ADDRESS)
    async with serving(silent, good) as servers:
        asking = backend(
            [*servers], server_ordering_strategy="QueryStatistics", timeout=0.2, num_concurrent_reqs=parallel
        )
        for _ in range(5):
            await asking.query("h.example", "A")
    assert (len(silent.queries), len(good.queries)) == (1, 5)


async def test_special_names_are_answered_here() -> None:
    asking = backend(["127.0.0.1:1"])
    assert (await asking.query("localhost", "A")).records == ("127.0.0.1",)
    assert (await asking.query("mail.localhost", "AAAA")).records == ("::1",)
    assert not (await asking.query("localhost", "MX")).nxdomain
    assert (await asking.query("example.invalid", "MX")).nxdomain


async def test_the_hosts_file(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "192.0.2.7 Mail.Example.com mail # ours\n192.0.2.8 mail\n\n2001:db8::7 mail\nnonsense x\n"
    )
    for use, records in (("Auto", ("192.0.2.7", "192.0.2.8")), ("Never", None)):
        options = {"use_hosts_file": use, "timeout": 0.5, "attempts": 0}
        config = convert({"name_servers": ["127.0.0.1:1"], "options": options}, ResolverConfig, "test")
        asking = UpstreamBackend(config, hosts=str(hosts))
        if records is None:
            with pytest.raises(DnsError, match="connection refused"):
                await asking.query("mail", "A")
        else:
            assert (await asking.query("mail", "A")).records == records
            assert (await asking.query("mail.example.com", "A")).records == ("192.0.2.7",)
            assert (await asking.query("mail", "AAAA")).records == ("2001:db8::7",)
            with pytest.raises(DnsError, match="connection refused"):
                await asking.query("mail", "MX")


async def test_without_name_servers_resolv_conf_is_read_at_the_first_lookup(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    asking = UpstreamBackend(ResolverConfig(), resolv_conf=str(path), hosts="/nonexistent")
    path.write_text("nameserver 127.0.0.77\noptions edns0\n")
    resolver = Resolver(backend=asking)
    with pytest.raises(DnsError, match=r"127\.0\.0\.77:53: "):
        await resolver.lookup_a("h.example")


async def test_cancellation_leaves_no_socket_open() -> None:
    async with serving(NameServer(lambda query, is_tcp: None)) as servers:
        for protocol in ("udp", "tcp"):
            with trio.move_on_after(0.05) as scope:
                await backend([{"socket_addr": servers[0], "protocol": protocol}], timeout=5).query(
                    "h.example", "A"
                )
            assert scope.cancelled_caught


async def test_a_whole_resolver_over_sockets() -> None:
    def behave(query: dns.message.Message, is_tcp: bool) -> Reply:
        question = query.question[0]
        if question.rdtype == dns.rdatatype.MX:
            return to(query, answering("answer example.com. 300 MX 10 h.example.", flags=dns.flags.AD))
        if question.rdtype == dns.rdatatype.A:
            return to(query, answering(ADDRESS, flags=dns.flags.AD))
        return to(query, answering(SOA))

    server = NameServer(behave)
    async with serving(server) as servers:
        config = convert({"name_servers": servers, "options": {"validate": True}}, ResolverConfig, "test")
        resolver = Resolver(config)
        mx = await resolver.lookup_mx("example.com")
        (address,) = await resolver.lookup_addresses(mx.hosts[0])
        assert (mx.hosts, mx.is_secure) == (("h.example",), True)
        assert (address.addr, address.is_secure) == ("192.0.2.1", True)
        await resolver.lookup_mx("example.com")
    assert len(server.queries) == 3


async def test_names_and_texts_over_sockets() -> None:
    def behave(query: dns.message.Message, is_tcp: bool) -> Reply:
        match query.question[0].to_text():
            case "1.2.0.192.in-addr.arpa. IN PTR":
                return to(query, answering("answer 1.2.0.192.in-addr.arpa. 300 PTR Mx.Example.com."))
            case "example.com. IN TXT":
                return to(query, answering('answer example.com. 300 TXT "v=spf1 " "-all"'))
            case "missing.example.com. IN TXT":
                return to(query, answering(SOA, rcode=dns.rcode.NXDOMAIN))
        return to(query, answering(rcode=dns.rcode.SERVFAIL))

    server = NameServer(behave)
    async with serving(server) as servers:
        resolver = Resolver(convert({"name_servers": servers}, ResolverConfig, "test"))
        assert await resolver.lookup_ptr("192.0.2.1") == ("mx.example.com",)
        assert await resolver.lookup_txt("example.com") == ("v=spf1 -all",)
        assert await resolver.lookup_txt("missing.example.com") == ()
        with pytest.raises(DnsError, match="TXT lookup for broken"):
            await resolver.lookup_txt("broken.example.com")
