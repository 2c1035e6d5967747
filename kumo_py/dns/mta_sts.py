"""MTA-STS (RFC 8461): which hosts a domain lets its mail be sent to, by its own published policy.

A domain that has a `_mta-sts` TXT record also has a policy at an HTTPS address. Fetching it is the business of
the node, which hands in `fetch`; here policies are read, kept as long as they say, and renewed when the record's
id changes. A policy that cannot be renewed stays in force until its time is over (section 5.1); one that cannot
be had in the first place counts as none, and is asked for again after `RETRY` seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from kumo_py.dns.cache import ExpiringCache
from kumo_py.dns.errors import DnsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Mode = Literal["Enforce", "Testing", "None"]
"""KumoMTA's spelling of a policy's mode; "None" is also what a domain without a policy has."""

RETRY = 300.0
"""Seconds until a policy that could not be had is asked for again."""
MAX_POLICY = 64 * 1024
"""Octets of a policy's text (section 3.3 leaves the limit to the sender)."""

_MAX_AGE = 31557600
"""Seconds: the year that section 3.2 allows."""
_MODES: dict[str, Mode] = {"enforce": "Enforce", "testing": "Testing", "none": "None"}
_RECORD = re.compile(r"v=STSv1[ \t]*;(.*)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")


class MtaStsError(Exception):
    """A policy cannot be had; the text says why."""


@dataclass(slots=True, frozen=True)
class Policy:
    mode: Mode
    mx: tuple[str, ...] = ()
    """Lower-case host names, or `*.` and the name below which one label may stand (section 4.1)."""
    max_age: int = 0
    """Seconds."""

    def permits(self, host: str) -> bool:
        """Whether mail may go to a host (lower case, no trailing dot, no port)."""
        parent = "*." + host.partition(".")[2]
        return any(pattern in (host, parent) for pattern in self.mx)


NO_POLICY = Policy("None")


@dataclass(slots=True, frozen=True)
class Verdict:
    """What counts for a domain, and until when (on the clock of `MtaSts`) at most."""

    policy: Policy
    expires: float = float("inf")


@dataclass(slots=True, frozen=True)
class _Kept:
    expires: float
    id: str
    policy: Policy


class MtaSts:
    """The policies of one node. Without `fetch`, only those that `use_fixed` gave are known."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self.kept: ExpiringCache[str, _Kept] = ExpiringCache("mta_sts_policy", 8192)
        self._under_way: dict[str, trio.Event] = {}
        self._fixed: Mapping[str, Policy] | None = None
        self.enabled = True
        """KumoMTA's kumo.dns.set_mta_sts_enabled."""
        self.fetch: Callable[[str], Awaitable[str]] | None = None
        """Gets the text of a domain's policy, `MAX_POLICY` octets at most; raises MtaStsError."""

    def resize(self, capacity: int) -> None:
        """Remember the policies of so many domains."""
        self.kept.capacity = capacity

    def use_fixed(self, policies: Mapping[str, str]) -> None:
        """From now on know these policies, by domain, and no others. Raises ValueError for one that is wrong."""
        fixed = {}
        for domain, text in policies.items():
            try:
                fixed[domain.lower().removesuffix(".")] = parse_policy(text)
            except ValueError as error:
                raise ValueError(f"the policy of {domain}: {error}") from None
        self._fixed = fixed

    async def verdict(self, domain: str, lookup_txt: Callable[[str], Awaitable[tuple[str, ...]]]) -> Verdict:
        """What the domain (lower case, no trailing dot) says; concurrent calls share one fetch."""
        if not self.enabled:
            return Verdict(NO_POLICY)
        if self._fixed is not None:
            return Verdict(self._fixed.get(domain, NO_POLICY))
        if self.fetch is None:
            return Verdict(NO_POLICY)
        while (under_way := self._under_way.get(domain)) is not None:
            await under_way.wait()
        done = self._under_way[domain] = trio.Event()
        try:
            return await self._verdict(domain, lookup_txt, self.fetch)
        finally:
            del self._under_way[domain]
            done.set()

    async def _verdict(
        self,
        domain: str,
        lookup_txt: Callable[[str], Awaitable[tuple[str, ...]]],
        fetch: Callable[[str], Awaitable[str]],
    ) -> Verdict:
        kept = self.kept.get(domain, self._clock())
        try:
            published = policy_id(await lookup_txt(f"_mta-sts.{domain}"))
        except DnsError:
            return Verdict(NO_POLICY, self._clock() + RETRY) if kept is None else _verdict(kept)
        if kept is not None and published in (kept.id, None):
            return _verdict(kept)
        if published is None:
            return Verdict(NO_POLICY)
        try:
            policy = parse_policy(await fetch(domain))
        except (MtaStsError, ValueError):
            if kept is None or kept.policy is NO_POLICY:
                kept = _Kept(self._clock() + RETRY, published, NO_POLICY)
        else:
            kept = _Kept(self._clock() + policy.max_age, published, policy)
        self.kept.keep(domain, kept)
        return _verdict(kept)


def _verdict(kept: _Kept) -> Verdict:
    return Verdict(kept.policy, kept.expires)


def policy_id(records: tuple[str, ...]) -> str | None:
    """The id in the TXT records at `_mta-sts`; None if no policy is announced (section 3.1)."""
    announced = [found for record in records if (found := _RECORD.fullmatch(record)) is not None]
    if len(announced) != 1:
        return None
    for field in announced[0][1].split(";"):
        key, _, value = field.partition("=")
        if key.strip() == "id" and _ID.fullmatch(value.strip()):
            return value.strip()
    return None


def parse_policy(text: str) -> Policy:
    """Read a policy (section 3.2). Raises ValueError."""
    if len(text) > MAX_POLICY:
        raise ValueError(f"a policy has at most {MAX_POLICY} octets")
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip():
            key, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"'{line[:60]}' is no line like 'mode: enforce'")
            fields.setdefault(key.strip(), []).append(value.strip())

    def single(key: str) -> str:
        # Of a repeated field other than mx the first counts.
        if key not in fields:
            raise ValueError(f"it has no '{key}'")
        return fields[key][0]

    if single("version") != "STSv1":
        raise ValueError(f"its version is '{single('version')[:60]}', not 'STSv1'")
    mode = _MODES.get(single("mode"))
    if mode is None:
        raise ValueError(f"its mode is '{single('mode')[:60]}', not one of enforce, testing, none")
    age = single("max_age")
    if not (age.isascii() and age.isdecimal() and len(age) <= 10):
        raise ValueError(f"its max_age is '{age[:60]}', not a number of seconds")
    mx = tuple(dict.fromkeys(pattern.lower().removesuffix(".") for pattern in fields.get("mx", ())))
    if not mx and mode != "None":
        raise ValueError("it has no 'mx'")
    return Policy(mode, mx, min(int(age), _MAX_AGE))
