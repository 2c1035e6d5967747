"""What a lookup gives, and who gives it: plain values that hold nothing of the DNS library's.

An answer is cached for hours, so its records are decoded once: A and AAAA to address
text, TXT to one text per record (its strings joined, RFC 7208 section 3.3), PTR and
CNAME to names. Names are lower case without the trailing dot; the root is ".".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from dns.name import Name
from dns.rdatatype import RdataType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import dns.rdata

RecordType = Literal["A", "AAAA", "CNAME", "MX", "PTR", "TLSA", "TXT"]

MAX_ALIASES = 8
"""Longest CNAME chain that is followed; a loop ends there."""


class MxRecord(NamedTuple):
    preference: int
    host: str


class TlsaRecord(NamedTuple):
    """RFC 6698 section 2.1; the numbers are the registry's."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


Record = str | MxRecord | TlsaRecord


@dataclass(slots=True, frozen=True)
class Answer:
    """A name's records of one type. No records: the name has none (NODATA), or doesn't exist."""

    records: tuple[Record, ...] = ()
    ttl: float = 60.0
    """Seconds: the least of the records and of the CNAMEs that led there, for a denial RFC 2308's."""
    is_secure: bool = False
    """DNSSEC-validated, all the way."""
    nxdomain: bool = False


class Backend(Protocol):
    """Where answers come from."""

    async def query(self, name: str, rdtype: RecordType) -> Answer:
        """Ask for an absolute name (lower case, A-labels, no trailing dot). Raises DnsError."""


def name_text(name: Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def dns_name(text: str) -> Name:
    """The DNS library's form of an absolute name. Nothing in it is an escape or a short form."""
    return Name([*(label.encode() for label in text.split(".")), b""])


def decode(records: Iterable[dns.rdata.Rdata]) -> tuple[Record, ...]:
    """The values of an RRset of a `RecordType`, in its order."""
    return tuple(_DECODERS[record.rdtype](record) for record in records)


_DECODERS: dict[RdataType, Callable[[Any], Record]] = {
    RdataType.A: lambda record: str(record.address),
    RdataType.AAAA: lambda record: str(record.address),
    RdataType.CNAME: lambda record: name_text(record.target),
    RdataType.MX: lambda record: MxRecord(record.preference, name_text(record.exchange)),
    RdataType.PTR: lambda record: name_text(record.target),
    RdataType.TLSA: lambda record: TlsaRecord(record.usage, record.selector, record.mtype, record.cert),
    RdataType.TXT: lambda record: b"".join(record.strings).decode("utf-8", "replace"),
}
