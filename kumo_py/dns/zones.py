"""Answers from zone texts: KumoMTA's `Test` resolver, for policies under test and for our own tests.

As there, a name is NXDOMAIN only if it is outside of all zones; inside one it merely has no
records. A zone may be declared secure: its answers then count as DNSSEC-validated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import dns.exception
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
import dns.zone
import dns.zonefile
import trio

from kumo_py.dns.answer import MAX_ALIASES, Answer, RecordType, decode, dns_name, name_text
from kumo_py.dns.config import Options
from kumo_py.dns.errors import DnsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Failure = Literal["NXDOMAIN", "SERVFAIL", "TIMEOUT"]

_DEFAULT_TTL = 60
_TIMEOUT = 5.0


class ZoneText(Options, frozen=True):
    """A master file (RFC 1035 section 5) that names its `$ORIGIN`."""

    zone: str
    secure: bool = False


@dataclass(slots=True, frozen=True)
class _Zone:
    records: dns.zone.Zone
    is_secure: bool


class ZoneBackend:
    """A Backend that knows the zones it was given, and fails for the names it is told to fail for.

    Raises ValueError for a zone text that cannot be read.
    """

    def __init__(
        self, zones: Iterable[str | ZoneText] = (), failures: Mapping[str, Failure] | None = None
    ) -> None:
        self._zones: dict[str, _Zone] = {}
        self._failures = {name.rstrip(".").lower(): failure for name, failure in (failures or {}).items()}
        for number, zone in enumerate(zones, 1):
            text, is_secure = (zone, False) if isinstance(zone, str) else (zone.zone, zone.secure)
            try:
                origin, records = _read(text)
            except dns.zonefile.UnknownOrigin:
                raise ValueError(f"zone {number}: begin it with a line like '$ORIGIN example.com.'") from None
            except dns.exception.DNSException as error:
                raise ValueError(f"zone {number}: {error}") from None
            self._zones[origin] = _Zone(records, is_secure)

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        ttl = float("inf")
        is_secure = True
        target = name
        for _ in range(MAX_ALIASES + 1):
            match self._failures.get(target):
                case "NXDOMAIN":
                    return Answer(nxdomain=True)
                case "SERVFAIL":
                    raise DnsError(name, rdtype, "SERVFAIL from the test zones")
                case "TIMEOUT":
                    await trio.sleep(_TIMEOUT)
                    raise DnsError(name, rdtype, f"no answer within {_TIMEOUT:g} seconds")
            zone = self._zone_of(target)
            if zone is None:
                return Answer(nxdomain=True)
            owner = dns_name(target)
            is_secure = is_secure and zone.is_secure
            found = zone.records.get_rdataset(owner, rdtype)
            if found is not None:
                return Answer(decode(found), min(ttl, found.ttl), is_secure)
            alias = zone.records.get_rdataset(owner, "CNAME")
            if alias is None:
                return Answer(is_secure=is_secure)
            ttl = min(ttl, alias.ttl)
            target = str(decode(alias)[0])
        raise DnsError(name, rdtype, f"its CNAME chain is longer than {MAX_ALIASES}")

    def _zone_of(self, name: str) -> _Zone | None:
        """The zone with the longest origin that is the name or a parent of it."""
        while name:
            zone = self._zones.get(name)
            if zone is not None:
                return zone
            name = name.partition(".")[2]
        return self._zones.get(".")


def _read(text: str) -> tuple[str, dns.zone.Zone]:
    # What dns.zone.from_text does, but the first record may lack a TTL, as test zones' often do.
    zone = dns.zone.Zone(None, relativize=False)
    with zone.writer(replacement=True) as transaction:
        tokenizer = dns.tokenizer.Tokenizer(text, "near line")
        reader = dns.zonefile.Reader(tokenizer, dns.rdataclass.IN, transaction)
        reader.last_ttl, reader.last_ttl_known = _DEFAULT_TTL, True
        reader.read()
    if zone.origin is None:
        raise dns.zonefile.UnknownOrigin
    return name_text(zone.origin), zone
