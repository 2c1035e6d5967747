"""What a TLS session tells of its peer: for log records, and for DANE."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

from cryptography import x509
from cryptography.x509.oid import NameOID

from kumo_py.core.tls_options import registered_name
from kumo_py.logs import Tls

if TYPE_CHECKING:
    from kumo_py.net.transport import Transport

_SHORT_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.STREET_ADDRESS: "street",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
}
"""OpenSSL's, as KumoMTA's records have them; others are shown by number."""


def describe(transport: Transport) -> Tls:
    """What log records say of the TLS session, whether the peer's certificate was verified or not."""
    layer = transport.tls
    assert layer is not None
    cipher = layer.cipher()
    der = layer.getpeercert(binary_form=True)
    return Tls(
        registered_name(cipher[0]) if cipher else "",
        layer.version() or "",
        [] if der is None else subject(der),
    )


def subject(der: bytes) -> list[str]:
    """A certificate's subject as `CN=...`, `O=...`, ...; nothing of one that cannot be read."""
    try:
        name = x509.load_der_x509_certificate(der).subject
        return [f"{_SHORT_NAMES.get(item.oid, item.oid.dotted_string)}={_text(item.value)}" for item in name]
    except ValueError:
        return []


def peer_chain(transport: Transport) -> list[bytes]:
    """The certificates (DER) that the peer sent, its own first; not verified."""
    layer = transport.tls
    assert layer is not None
    found = getattr(layer, "get_unverified_chain", None)
    if found is not None:  # Python 3.13
        return cast("list[bytes]", found())
    # Until then only the C object below has it.
    chain = layer._sslobj.get_unverified_chain() or ()  # type: ignore[union-attr]
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()
