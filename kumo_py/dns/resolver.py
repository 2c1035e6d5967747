"""The resolver: cached lookups, and a domain's mail hosts.

What is cached answers at once, without a checkpoint. Concurrent identical lookups share
one query: the first caller asks, the others wait for it, and if it is cancelled one of
them asks in its place; so a lookup lives exactly as long as somebody wants it, and needs
no task of its own. Answers keep their TTL within the bounds of the options, denials that
of RFC 2308, failures `FAILURE_TTL`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import trio

from kumo_py.dns import exchanger
from kumo_py.dns.answer import Answer, Backend, RecordType
from kumo_py.dns.cache import ExpiringCache
from kumo_py.dns.config import IpLookupStrategy, ResolverConfig
from kumo_py.dns.errors import DnsError, NoSuchDomain
from kumo_py.dns.exchanger import HostAddress, MailExchanger
from kumo_py.dns.names import absolute_name, join_port, parse_literal, reverse_name, split_port
from kumo_py.dns.upstream import UpstreamBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.core.lruttl import LruTtl
    from kumo_py.dns.mta_sts import MtaSts

FAILURE_TTL = 30.0
"""Seconds for which a failed lookup isn't tried again (RFC 9520 section 3.2: 1 to 300)."""

_POSITIVE_MAX_TTL = 86400.0
_NEGATIVE_MAX_TTL = 3 * 3600.0
"""RFC 2308 section 5: one to three hours work well."""

_MAX_ADDRESSES = 32
"""Addresses of one family that a host may have; the rest is ignored."""

_Question = tuple[str, RecordType]

_ORDER: dict[IpLookupStrategy, tuple[RecordType, ...]] = {
    "Ipv4Only": ("A",),
    "Ipv6Only": ("AAAA",),
    "Ipv4ThenIpv6": ("A", "AAAA"),
    "Ipv6ThenIpv4": ("AAAA", "A"),
}


@dataclass(slots=True, frozen=True)
class _Outcome:
    """How a lookup ended: with an answer, or the problem that prevented one."""

    expires: float
    answer: Answer
    problem: str | None = None

    def checked(self, name: str, rdtype: RecordType) -> Answer:
        """Raises DnsError, a new one each time: a cached exception would gather tracebacks."""
        if self.problem is not None:
            raise DnsError(name, rdtype, self.problem)
        return self.answer


@dataclass(slots=True, frozen=True)
class _Addresses:
    expires: float
    addresses: tuple[HostAddress, ...]


class _Flight:
    """A query that one caller has under way, and others may wait for."""

    __slots__ = ("landed", "outcome")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.outcome: _Outcome | None = None
        """Still None when landed: the caller was cancelled, and somebody has to ask again."""


class Resolver:
    """A cached view of the DNS. Nothing is read or asked before the first lookup.

    The MX limits are KumoMTA's kumo.dns.set_mx_*, and may be set at any time.
    """

    def __init__(
        self,
        config: ResolverConfig | None = None,
        clock: Callable[[], float] = trio.current_time,
        backend: Backend | None = None,
    ) -> None:
        self._clock = clock
        self.mx_capacity = 65536
        self.address_capacity = 8192
        self.reconfigure(config or ResolverConfig(), backend)
        self.concurrency = trio.CapacityLimiter(128)
        """Queries of any type under way at the same time: each holds a socket. Others wait for their turn."""
        self.mx_timeout = 5.0
        """Seconds that an MX query may take, all retries included."""
        self.mx_negative_ttl: float | None = None
        """Seconds to remember a failed or denied MX lookup, instead of FAILURE_TTL or the denial's."""
        self.mx_cache_hits = 0
        self.mx_cache_misses = 0
        self.mx_failures = 0
        self.mx_found = 0
        """Lookups that were not answered from the cache, and did not fail."""
        self.mx_in_progress = 0
        self.mta_sts_exclusions = 0
        """Lookups that failed because an enforced policy permits none of the hosts."""
        self.mta_sts: MtaSts | None = None
        """Whose policies restrict a domain's mail hosts; None: no policy is looked for."""

    def reconfigure(self, config: ResolverConfig, backend: Backend | None = None) -> None:
        """Ask elsewhere from now on. What was learnt is forgotten; lookups under way end as they began."""
        self._options = config.options
        self._backend = backend or UpstreamBackend(config)
        self.forget_exchangers()
        self._addresses: ExpiringCache[tuple[str, IpLookupStrategy], _Addresses] = ExpiringCache(
            "dns_resolver_ip", self.address_capacity
        )
        self._outcomes: ExpiringCache[_Question, _Outcome] = ExpiringCache(
            "kumo_py_dns_answers", config.options.cache_size
        )
        self._flights: dict[_Question, _Flight] = {}

    @property
    def caches(self) -> tuple[LruTtl[Any, Any], ...]:
        """All that it remembers, by KumoMTA's names where there are some."""
        return self._exchangers, self._addresses, self._outcomes

    def forget_exchangers(self) -> None:
        """Find the mail hosts of every domain anew: what restricts them has changed."""
        self._exchangers: ExpiringCache[str, MailExchanger] = ExpiringCache(
            "dns_resolver_mx", self.mx_capacity
        )

    def resize_mx_cache(self, capacity: int) -> None:
        """Remember the mail hosts of so many domains."""
        self.mx_capacity = self._exchangers.capacity = capacity

    def resize_address_cache(self, capacity: int) -> None:
        """Remember the addresses of so many hosts."""
        self.address_capacity = self._addresses.capacity = capacity

    async def lookup_mx(self, domain: str) -> MailExchanger:
        """The hosts that take the domain's mail; without MX records that is the domain itself.

        The domain may be an address literal, in Unicode, and have a `:port`, which its
        hosts then have too. Raises NoSuchDomain, DnsError.
        """
        known = self._exchangers.get(domain, self._clock())
        if known is not None:
            self.mx_cache_hits += 1
            return known
        self.mx_cache_misses += 1
        self.mx_in_progress += 1
        try:
            found = await self._resolve_mx(domain)
        except DnsError:
            self.mx_failures += 1
            raise
        else:
            self.mx_found += 1
            return found
        finally:
            self.mx_in_progress -= 1

    async def lookup_addresses(
        self, host: str, strategy: IpLookupStrategy = "Ipv4AndIpv6"
    ) -> tuple[HostAddress, ...]:
        """A host's addresses, IPv4 first; empty if it has none, or doesn't exist.

        The host may be an address or an address literal. One family's failure doesn't
        count if the other has addresses. Raises DnsError.
        """
        addresses = self.cached_addresses(host, strategy)
        if addresses is None:
            addresses = await self._resolve_addresses(host, strategy)
        return addresses

    def cached_addresses(self, host: str, strategy: IpLookupStrategy) -> tuple[HostAddress, ...] | None:
        """What `lookup_addresses` would give at once, or None."""
        found = self._addresses.get((host, strategy), self._clock())
        return None if found is None else found.addresses

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        """A name's records of one type, or the denial that it has any. Raises DnsError."""
        absolute = absolute_name(name, rdtype)
        return (await self._outcome(absolute, rdtype)).checked(absolute, rdtype)

    async def lookup_a(self, host: str) -> tuple[str, ...]:
        """IPv4 addresses; none if there is no such name. Raises DnsError."""
        return _texts(await self.query(host, "A"))

    async def lookup_aaaa(self, host: str) -> tuple[str, ...]:
        """IPv6 addresses; none if there is no such name. Raises DnsError."""
        return _texts(await self.query(host, "AAAA"))

    async def lookup_txt(self, name: str) -> tuple[str, ...]:
        """Each TXT record as one text; none if there is no such name. Raises DnsError."""
        return _texts(await self.query(name, "TXT"))

    async def lookup_ptr(self, address: str) -> tuple[str, ...]:
        """The names of an IP address, often none. Raises DnsError, and ValueError for what is no address."""
        return _texts(await self.query(reverse_name(address), "PTR"))

    async def lookup_tlsa(self, host: str, port: int) -> Answer:
        """A host's TLSA records (RFC 7672); none unless the answer is secure. Raises DnsError."""
        answer = await self.query(f"_{port}._tcp.{host}", "TLSA")
        return answer if answer.is_secure else replace(answer, records=())

    async def _resolve_mx(self, domain: str) -> MailExchanger:
        host, port = split_port(domain)
        if host.startswith("["):
            return self._literal_mx(domain, host, port)
        name = absolute_name(host, "MX")
        key = join_port(name, port)
        if key != domain:
            known = self._exchangers.get(key, self._clock())
            if known is not None:
                return known
        exchangers = self._exchangers
        outcome = await self._outcome(name, "MX")
        answer = outcome.checked(name, "MX")
        if answer.nxdomain:
            raise NoSuchDomain(name, "MX", "NXDOMAIN")
        mx = exchanger.from_answer(name, port, answer, outcome.expires)
        if self.mta_sts is not None and mx.is_mx and not mx.is_null:
            verdict = await self.mta_sts.verdict(name, self.lookup_txt)
            try:
                mx = exchanger.restricted(mx, verdict)
            except DnsError:
                self.mta_sts_exclusions += 1
                raise
        exchangers.keep(key, mx)
        return mx

    def _literal_mx(self, domain: str, host: str, port: int | None) -> MailExchanger:
        if port is None:
            # KumoMTA also takes the port inside: [192.0.2.1:25].
            inner, port = split_port(host.removeprefix("[").removesuffix("]"))
            host = host if port is None else f"[{inner}]"
        try:
            mx = exchanger.from_literal(domain, parse_literal(host), port)
        except ValueError as error:
            raise NoSuchDomain(domain, "MX", str(error)) from None
        self._exchangers.keep(domain, mx)
        return mx

    async def _resolve_addresses(self, host: str, strategy: IpLookupStrategy) -> tuple[HostAddress, ...]:
        if host.startswith("[") or ":" in host or host[-1:].isdigit():
            try:
                return (HostAddress(host, parse_literal(host), is_secure=False),)
            except ValueError as error:
                if host.startswith("["):
                    raise NoSuchDomain(host, "A", str(error)) from None
        name = absolute_name(host, "A")
        cache = self._addresses
        outcomes = await self._family_outcomes(name, strategy)
        with_records = [outcome.answer for outcome in outcomes.values() if outcome.answer.records]
        if not with_records:
            for rdtype, outcome in outcomes.items():
                outcome.checked(name, rdtype)
        is_secure = all(answer.is_secure for answer in with_records)
        addresses = tuple(
            HostAddress(host, address, is_secure)
            for answer in with_records
            for address in _texts(answer)[:_MAX_ADDRESSES]
        )
        expires = min(outcome.expires for outcome in outcomes.values())
        cache.keep((host, strategy), _Addresses(expires, addresses))
        return addresses

    async def _family_outcomes(self, name: str, strategy: IpLookupStrategy) -> dict[RecordType, _Outcome]:
        outcomes: dict[RecordType, _Outcome] = {}

        async def ask(rdtype: RecordType) -> None:
            outcomes[rdtype] = await self._outcome(name, rdtype)

        if strategy == "Ipv4AndIpv6":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "AAAA")
                await ask("A")
            return {"A": outcomes["A"], "AAAA": outcomes["AAAA"]}
        for rdtype in _ORDER[strategy]:
            await ask(rdtype)
            if outcomes[rdtype].answer.records:
                break
        return outcomes

    async def _outcome(self, name: str, rdtype: RecordType) -> _Outcome:
        """How the lookup ends, or ended; one query serves all who ask at the same time."""
        key = (name, rdtype)
        outcomes, flights = self._outcomes, self._flights
        while True:
            outcome = outcomes.get(key, self._clock())
            if outcome is not None:
                return outcome
            flight = flights.get(key)
            if flight is None:
                break
            await flight.landed.wait()
            if flight.outcome is not None:
                return flight.outcome
        flight = flights[key] = _Flight()
        try:
            flight.outcome = outcome = await self._ask(name, rdtype)
        finally:
            del flights[key]
            flight.landed.set()
        outcomes.keep(key, outcome)
        return outcome

    async def _ask(self, name: str, rdtype: RecordType) -> _Outcome:
        is_mx = rdtype == "MX"
        answer = Answer()
        problem = None
        async with self.concurrency:
            with trio.move_on_after(self.mx_timeout if is_mx else math.inf) as limit:
                try:
                    answer = await self._backend.query(name, rdtype)
                except DnsError as error:
                    problem = error.problem
        if limit.cancelled_caught:
            problem = f"no answer within {self.mx_timeout:g} seconds"
        options = self._options
        if answer.records:
            ttl = _bounded(answer.ttl, options.positive_min_ttl, options.positive_max_ttl, _POSITIVE_MAX_TTL)
        elif is_mx and self.mx_negative_ttl is not None and (problem is not None or answer.nxdomain):
            ttl = self.mx_negative_ttl
        elif problem is not None:
            ttl = FAILURE_TTL
        else:
            ttl = _bounded(answer.ttl, options.negative_min_ttl, options.negative_max_ttl, _NEGATIVE_MAX_TTL)
        return _Outcome(self._clock() + ttl, answer, problem)


def _bounded(ttl: float, least: float | None, most: float | None, default_most: float) -> float:
    return min(max(ttl, least or 0.0), default_most if most is None else most)


def _texts(answer: Answer) -> tuple[str, ...]:
    return tuple(record for record in answer.records if isinstance(record, str))
