"""DANE's verdict on certificates (RFC 6698 §2.1, RFC 7671 §5, RFC 7672 §3)."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.dns import TlsaRecord
from kumo_py.smtp_out.dane import DANE_EE, DANE_TA, DaneMismatch, is_usable, public_key_info, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOST = "mx.b.test"


class Authority:
    """Signs certificates; one below another if it has an issuer."""

    def __init__(self, name: str, issuer: Authority | None = None, **options: Any) -> None:
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = make(name, self.key, issuer or self, is_ca=True, **options)

    def leaf(self, host: str = HOST, **options: Any) -> x509.Certificate:
        return make(host, ec.generate_private_key(ec.SECP256R1()), self, host=host, **options)


def make(
    name: str,
    key: CertificateIssuerPrivateKeyTypes,
    issuer: Authority,
    *,
    is_ca: bool = False,
    host: str | None = None,
    begins: timedelta = timedelta(days=-10),
    ends: timedelta = timedelta(days=10),
    server: bool | None = None,
    signs: bool | None = None,
    constraint: bool = True,
    signed_by: Authority | None = None,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer.name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
    )
    if constraint:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    if server is not None:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if signs is not None:
        usage = x509.KeyUsage(True, *[False] * 4, signs, *[False] * 3)
        builder = builder.add_extension(usage, critical=True)
    return builder.sign((signed_by or issuer).key, hashes.SHA256())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def tlsa(certificate: x509.Certificate, usage: int, selector: int = 1, matching: int = 1) -> TlsaRecord:
    data = der(certificate)
    if selector == 1:
        data = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if matching:
        data = (hashlib.sha256 if matching == 1 else hashlib.sha512)(data).digest()
    return TlsaRecord(usage, selector, matching, data)


ROOT = Authority("root")
BETWEEN = Authority("between", ROOT)
STRANGER = Authority("root")
LEAF = BETWEEN.leaf()
CHAIN = [LEAF, BETWEEN.certificate, ROOT.certificate]


def check(chain: list[x509.Certificate], *records: TlsaRecord, name: str = HOST) -> bytes:
    return verify([der(item) for item in chain], records, name, NOW)


def refused(chain: list[x509.Certificate], *records: TlsaRecord, name: str = HOST) -> str:
    with pytest.raises(DaneMismatch) as caught:
        check(chain, *records, name=name)
    return str(caught.value)


COMBINATIONS = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


# -- DANE-EE -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("selector", "matching"), COMBINATIONS)
def test_dane_ee(selector: int, matching: int) -> None:
    record = tlsa(LEAF, DANE_EE, selector, matching)
    assert check(CHAIN, record) == der(LEAF)
    refused([BETWEEN.leaf(), *CHAIN[1:]], record)


def test_dane_ee_asks_for_neither_name_nor_date_nor_issuer() -> None:
    """RFC 7672 §3.1.1."""
    old = STRANGER.leaf("else.test", ends=timedelta(days=-1), server=False)
    assert check([old], tlsa(old, DANE_EE)) == der(old)


def test_dane_ee_is_about_the_peers_own_certificate() -> None:
    refused(CHAIN, tlsa(BETWEEN.certificate, DANE_EE), tlsa(ROOT.certificate, DANE_EE))


def test_one_record_of_several_is_enough() -> None:
    other = BETWEEN.leaf()
    assert check(CHAIN, tlsa(other, DANE_EE), tlsa(STRANGER.certificate, DANE_TA), tlsa(LEAF, DANE_EE))


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ed448.Ed448PrivateKey.generate()], ids=["RSA", "Ed448"]
)
def test_public_keys_of_other_kinds(key: CertificateIssuerPrivateKeyTypes) -> None:
    leaf = make(HOST, key, ROOT)
    assert check([leaf], tlsa(leaf, DANE_EE)) == der(leaf)


# -- DANE-TA -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("authority", [BETWEEN, ROOT], ids=["between", "root"])
@pytest.mark.parametrize(("selector", "matching"), COMBINATIONS)
def test_dane_ta(selector: int, matching: int, authority: Authority) -> None:
    record = tlsa(authority.certificate, DANE_TA, selector, matching)
    assert check(CHAIN, record) == der(authority.certificate)
    refused([STRANGER.leaf(), STRANGER.certificate], record)


def test_dane_ta_whose_record_holds_the_authority_needs_it_not_sent() -> None:
    assert check(CHAIN[:2], tlsa(ROOT.certificate, DANE_TA, 0, 0))
    refused(CHAIN[:2], tlsa(ROOT.certificate, DANE_TA, 0, 1))


def test_dane_ta_is_not_about_the_peers_own_certificate() -> None:
    refused(CHAIN, tlsa(LEAF, DANE_TA))


def test_dane_ta_demands_the_hosts_name() -> None:
    """RFC 7672 §3.2."""
    record = tlsa(ROOT.certificate, DANE_TA)
    assert "does not follow" in refused([ROOT.leaf("else.test"), ROOT.certificate], record)
    refused([make("x", ec.generate_private_key(ec.SECP256R1()), ROOT), ROOT.certificate], record)
    assert check([ROOT.leaf("*.b.test"), ROOT.certificate], record)


@pytest.mark.parametrize(
    ("problem", "leaf"),
    [
        ("expired", ROOT.leaf(ends=timedelta(days=-1))),
        ("not yet valid", ROOT.leaf(begins=timedelta(days=1))),
        ("for clients", ROOT.leaf(server=False)),
        ("signed by somebody else", ROOT.leaf(signed_by=STRANGER)),
    ],
)
def test_dane_ta_demands_a_valid_certificate(problem: str, leaf: x509.Certificate) -> None:
    refused([leaf, ROOT.certificate], tlsa(ROOT.certificate, DANE_TA))


def test_dane_ta_takes_what_private_authorities_make() -> None:
    for leaf in (ROOT.leaf(server=True), ROOT.leaf(constraint=False)):
        assert check([leaf, ROOT.certificate], tlsa(ROOT.certificate, DANE_TA))


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("no authority", {"constraint": False}),
        ("may not sign", {"signs": False}),
        ("expired", {"ends": timedelta(days=-1)}),
    ],
)
def test_a_certificate_in_between_must_be_an_authoritys(problem: str, options: dict[str, Any]) -> None:
    between = Authority("b", ROOT, **options)
    refused([between.leaf(), between.certificate, ROOT.certificate], tlsa(ROOT.certificate, DANE_TA))


def test_somebody_with_a_certificate_of_the_authority_is_no_authority() -> None:
    mallory = Authority("mallory", ROOT)
    mallory.certificate = make("mallory", mallory.key, ROOT, is_ca=False, host="mallory.test")
    record = tlsa(ROOT.certificate, DANE_TA)
    refused([mallory.leaf(), mallory.certificate, ROOT.certificate], record)
    assert check([mallory.certificate, ROOT.certificate], record, name="mallory.test")


def test_who_shows_the_authority_without_being_signed_by_it_is_refused() -> None:
    refused([STRANGER.leaf(), ROOT.certificate], tlsa(ROOT.certificate, DANE_TA))


# -- input of strangers ------------------------------------------------------------------------------------
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_octets_for_certificates_are_a_mismatch(chain: list[bytes]) -> None:
    with pytest.raises(DaneMismatch):
        verify(chain, [tlsa(ROOT.certificate, DANE_TA), tlsa(LEAF, DANE_EE)], HOST, NOW)


@given(st.binary(max_size=300), st.integers(0, 1), st.integers(0, 2))
def test_any_octets_for_a_record_are_a_mismatch(data: bytes, selector: int, matching: int) -> None:
    records = [TlsaRecord(usage, selector, matching, data) for usage in (DANE_TA, DANE_EE)]
    with pytest.raises(DaneMismatch):
        verify([der(item) for item in CHAIN], records, HOST, NOW)


@given(st.text(max_size=80))
def test_any_text_for_a_name_is_a_mismatch_or_the_name(name: str) -> None:
    if name.lower() != HOST:
        refused(CHAIN, tlsa(ROOT.certificate, DANE_TA), name=name)


def test_a_flipped_octet_is_a_mismatch() -> None:
    good = der(LEAF)
    for at in range(0, len(good), 7):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(DaneMismatch):
            verify([bad, *map(der, CHAIN[1:])], [tlsa(ROOT.certificate, DANE_TA)], HOST, NOW)


# -- records -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("record", "usable"),
    [
        (TlsaRecord(3, 1, 1, b"x" * 32), True),
        (TlsaRecord(2, 0, 2, b"x" * 64), True),
        (TlsaRecord(2, 0, 0, b"x"), True),
        (TlsaRecord(0, 1, 1, b"x" * 32), False),
        (TlsaRecord(1, 1, 1, b"x" * 32), False),
        (TlsaRecord(255, 1, 1, b"x" * 32), False),
        (TlsaRecord(3, 2, 1, b"x" * 32), False),
        (TlsaRecord(3, 1, 3, b"x" * 32), False),
        (TlsaRecord(3, 1, 1, b"x" * 31), False),
        (TlsaRecord(3, 1, 2, b"x" * 32), False),
        (TlsaRecord(3, 1, 0, b""), False),
    ],
)
def test_usable_records(record: TlsaRecord, usable: bool) -> None:
    assert is_usable(record) == usable


def test_the_public_key_info_is_what_the_certificate_holds() -> None:
    for certificate in CHAIN:
        expected = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert public_key_info(certificate.tbs_certificate_bytes) == expected


def test_a_maze_of_authorities_costs_little() -> None:
    """They all have one name and one key, so that each could have signed each, and none leads to the record's."""
    maze = Authority("maze")
    others = [make("maze", maze.key, maze, is_ca=True) for _ in range(14)]
    goal = Authority("goal").certificate
    began = time.process_time()
    refused([maze.leaf(), *others, goal], tlsa(goal, DANE_TA))
    assert time.process_time() - began < 0.5
