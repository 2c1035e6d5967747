"""DANE for SMTP (RFC 7672, RFC 6698): what a host's TLSA records demand, and whether a certificate meets it.

Records count only if the DNSSEC chain to the host is complete, and their name is the host's as its MX record has
it. A lookup that fails leaves the question open, and then nothing is sent to the host: an attacker could make it
fail. Of the usages DANE-TA(2) and DANE-EE(3) are usable (RFC 7672 §3.1.3).
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from kumo_py.dns import DnsError, TlsaRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kumo_py.dns import HostAddress, Resolver

DANE_TA = 2
DANE_EE = 3

MAX_CHAIN = 16
"""Certificates of a peer that are looked at; real chains have fewer than six."""
MAX_RECORDS = 32
"""TLSA records of a host that count; the rest is ignored."""
MAX_AUTHORITIES = 8
"""Authorities from which a chain is looked for; each may take 10 ms if the peer means harm."""

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


class DaneResult(enum.Enum):
    """What was found out about a host; KumoMTA's `dane_result_count` counts them."""

    OK = "ok"
    UNUSABLE = "unusable"
    NOT_APPLICABLE = "not_applicable"
    INSECURE_CHAIN = "insecure_chain"
    TEMPFAIL = "tempfail"


class DaneFinding(NamedTuple):
    result: DaneResult
    records: tuple[TlsaRecord, ...] = ()
    """The usable ones, if there are."""
    problem: str = ""
    """Of TEMPFAIL."""


class DaneMismatch(Exception):
    """The peer's certificate is not what its TLSA records say."""


# -- the records ----------------------------------------------------------------------------------------
async def find_records(
    resolver: Resolver, host: HostAddress, port: int, *, mx_is_secure: bool
) -> DaneFinding:
    """What DANE demands of a host that is about to be connected to at this port.

    `mx_is_secure`: the choice of this host can be trusted.
    """
    if not mx_is_secure or _is_address(host.name):
        return DaneFinding(DaneResult.INSECURE_CHAIN)
    try:
        if not host.is_secure and not await _is_secure_alias(resolver, host.name):
            return DaneFinding(DaneResult.INSECURE_CHAIN)
        answer = await resolver.lookup_tlsa(host.name, port)
    except DnsError as err:
        return DaneFinding(DaneResult.TEMPFAIL, problem=str(err))
    published = [item for item in answer.records if isinstance(item, TlsaRecord)][:MAX_RECORDS]
    if not published:
        return DaneFinding(DaneResult.NOT_APPLICABLE)
    usable = tuple(sorted(item for item in published if is_usable(item)))
    return DaneFinding(DaneResult.OK if usable else DaneResult.UNUSABLE, usable)


async def _is_secure_alias(resolver: Resolver, name: str) -> bool:
    """Whether a name is a securely published alias that leads into an unsigned zone (RFC 7672 §2.2.2)."""
    answer = await resolver.query(name, "CNAME")
    return answer.is_secure and bool(answer.records)


def is_usable(record: TlsaRecord) -> bool:
    """RFC 7672 §3.1.3, and digests of the right length (RFC 7671 §4.1)."""
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (0, 1):
        return False
    if record.matching_type == 0:
        return bool(record.data)
    digest = _DIGESTS.get(record.matching_type)
    return digest is not None and len(record.data) == digest().digest_size


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


# -- the certificate ------------------------------------------------------------------------------------
def verify(chain: Sequence[bytes], records: Sequence[TlsaRecord], name: str, now: datetime) -> bytes:
    """Check the certificates (DER) that a peer sent, its own first; the one that a record matched.

    DANE-EE binds a key to the host: names and dates of its certificate don't count (RFC 7672 §3.1.1). DANE-TA names
    an authority, from which a chain of valid certificates must lead to one for the host's name (§3.1.2). Raises
    DaneMismatch. `now` is aware of its zone. Takes about 0.1 ms a certificate.
    """
    certificates = _parse(chain)
    if not certificates:
        raise DaneMismatch("the peer has no certificate that can be read")
    leaf, above = certificates[0], certificates[1:]
    if any(item.usage == DANE_EE and _matches(item, leaf) for item in records):
        return leaf.public_bytes(Encoding.DER)
    problem = "no TLSA record matches it"
    authorities = {found: None for item in records if item.usage == DANE_TA for found in _meant(item, above)}
    for authority in list(authorities)[:MAX_AUTHORITIES]:
        try:
            _verify_chain(leaf, above, authority, name, now)
        except (VerificationError, ValueError) as err:
            problem = f"it does not follow from the authority of its TLSA record: {err}"
        else:
            return authority.public_bytes(Encoding.DER)
    raise DaneMismatch(f"DANE: the certificate is not valid: {problem}")


def _parse(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """As far as they can be read."""
    certificates: list[x509.Certificate] = []
    for der in chain[:MAX_CHAIN]:
        try:
            certificates.append(x509.load_der_x509_certificate(der))
        except ValueError:
            break
    return certificates


def _meant(record: TlsaRecord, above: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The authorities that the record means: of the peer's chain, or the one that the record itself holds."""
    found = [item for item in above if _matches(record, item)]
    if not found and (record.selector, record.matching_type) == (0, 0):
        found = _parse([record.data])
    return found


def _matches(record: TlsaRecord, certificate: x509.Certificate) -> bool:
    data = (
        certificate.public_bytes(Encoding.DER)
        if record.selector == 0
        else public_key_info(certificate.tbs_certificate_bytes)
    )
    if record.matching_type:
        data = _DIGESTS[record.matching_type](data).digest()
    return data == record.data


def public_key_info(tbs: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a TBSCertificate (DER, RFC 5280 §4.1) that has been parsed before."""
    at, _ = _inside(tbs, 0)
    if tbs[at] == 0xA0:  # version
        at = _inside(tbs, at)[1]
    for _ in ("serialNumber", "signature", "issuer", "validity", "subject"):
        at = _inside(tbs, at)[1]
    return tbs[at : _inside(tbs, at)[1]]


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins, and where it ends."""
    size = der[at + 1]
    start = at + 2
    if size >= 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[at + 2 : start])
    return start, start + size


def _verify_chain(
    leaf: x509.Certificate,
    above: Sequence[x509.Certificate],
    authority: x509.Certificate,
    name: str,
    now: datetime,
) -> None:
    """Raises VerificationError or ValueError.

    The authority may be anybody's: what the web's authorities must follow beyond RFC 5280 is not asked of it.
    """
    ca = ExtensionPolicy.permit_all()
    ca = ca.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    ca = ca.may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
    ee = ExtensionPolicy.permit_all()
    ee = ee.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    ee = ee.may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_be_a_server)
    builder = PolicyBuilder().store(Store([authority])).time(now)
    builder = builder.extension_policies(ca_policy=ca, ee_policy=ee)
    builder.build_server_verifier(x509.DNSName(name)).verify(leaf, list(above))


def _is_authority(policy: Policy, certificate: x509.Certificate, found: x509.BasicConstraints) -> None:
    if not found.ca:
        raise ValueError("a certificate in the chain is not that of an authority")


def _may_sign_certificates(
    policy: Policy, certificate: x509.Certificate, found: x509.KeyUsage | None
) -> None:
    if found is not None and not found.key_cert_sign:
        raise ValueError("an authority in the chain may not sign certificates")


def _may_be_a_server(
    policy: Policy, certificate: x509.Certificate, found: x509.ExtendedKeyUsage | None
) -> None:
    allowed = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if found is not None and not any(usage in allowed for usage in found):
        raise ValueError("the certificate is not one of a server")
