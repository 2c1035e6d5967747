"""Keys: private ones from PEM or DER, public ones from TXT records (RFC 6376 §3.6, RFC 8301, RFC 8463)."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
)

from kumo_py.auth.errors import Invalid, Unavailable, shown
from kumo_py.auth.tags import TagList

SMALLEST_RSA = 1024
LARGEST_RSA = 8192
"""Bits. Smaller ones prove nothing (RFC 8301 §3.2), larger ones cost more than anybody needs to pay."""
MAX_RECORDS = 10
"""TXT records of one name that are tried."""
KEY_WORK = 1 << 13
"""What a key costs at the most, in octets of the body that takes longest: 190 µs with 8192 bits (measured)."""

_PADDING = PKCS1v15()
_HASH = Prehashed(SHA256())
# OneAsymmetricKey of version 2 carries the public key too (RFC 5958); OpenSSL reads version 1 only.
_find_ed25519_v2 = re.compile(
    rb"\A\x30.\x02\x01\x01\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20(.{32})", re.DOTALL
).match
_find_pem = re.compile(rb"-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END").search


class PrivateKey:
    """What signs. It may be used by several threads at once."""

    __slots__ = ("_key", "algorithm", "is_slow")

    def __init__(self, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
        """Raises ValueError."""
        self._key = key
        bits = key.key_size if isinstance(key, RSAPrivateKey) else 0
        if 0 < bits < SMALLEST_RSA:
            raise ValueError(
                f"an RSA key of {bits} bits is refused by all receivers; "
                f"use at least {SMALLEST_RSA}, better 2048 (RFC 8301)"
            )
        self.algorithm = "rsa-sha256" if bits else "ed25519-sha256"
        self.is_slow = bits > SMALLEST_RSA
        """Whether a thread is worth its price: Ed25519 takes 20 µs, RSA 65 with 1024 bits, 210 with 2048 (measured)."""

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest; RSA lets go of the GIL meanwhile."""
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, _PADDING, _HASH)
        return self._key.sign(digest)


def load_private_key(data: bytes) -> PrivateKey:
    """An RSA (PKCS#1 or PKCS#8) or Ed25519 (PKCS#8) key in PEM or DER. Raises ValueError."""
    is_pem = b"-----BEGIN" in data
    try:
        key = load_pem_private_key(data, None) if is_pem else load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        seed = _ed25519_seed(data, is_pem)
        if seed is None:
            problem = "it is encrypted" if isinstance(err, TypeError) else str(err).splitlines()[0]
            raise ValueError(
                f"this is not a private key in PEM or DER (PKCS#1 or PKCS#8): {problem}"
            ) from None
        key = Ed25519PrivateKey.from_private_bytes(seed)
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError(f"DKIM has RSA and Ed25519 keys, this one is a {type(key).__name__}")
    return PrivateKey(key)


def _ed25519_seed(data: bytes, is_pem: bool) -> bytes | None:
    if is_pem:
        text = _find_pem(data)
        if text is None:
            return None
        try:
            data = binascii.a2b_base64(text[1])
        except ValueError:
            return None
    match = _find_ed25519_v2(data)
    return None if match is None else match[1]


# -- public keys -----------------------------------------------------------------------------------------------
@dataclass(slots=True, frozen=True)
class KeyRecords:
    """What the DNS says of a selector: the texts of its TXT records, or the problem that kept it from saying."""

    texts: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def work(self) -> int:
        """What it may cost to try all of them, in octets that could be hashed meanwhile."""
        return KEY_WORK * min(len(self.texts), MAX_RECORDS)


def key_name(selector: str, domain: str) -> str:
    """Where the DNS has the keys."""
    return f"{selector}._domainkey.{domain}"


@dataclass(slots=True, frozen=True)
class PublicKey:
    """A key record."""

    key: RSAPublicKey | Ed25519PublicKey
    testing: bool
    """t=y: a failure is not to be held against the domain."""
    exact_identity: bool
    """t=s: i= must be of the signing domain itself."""

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, _PADDING, _HASH)
            else:
                self.key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


def public_keys(records: KeyRecords, algorithm: str) -> list[PublicKey]:
    """The keys that a signature of that algorithm may have been made with. Raises Invalid if there is none, or
    Unavailable."""
    if records.problem is not None:
        raise Unavailable(f"the key cannot be looked up: {records.problem}")
    keys = []
    problem = "there is no key in the DNS"
    for text in records.texts[:MAX_RECORDS]:
        try:
            keys.append(parse_key_record(text, algorithm))
        except Invalid as err:
            problem = str(err)
    if not keys:
        raise Invalid(problem)
    return keys


def parse_key_record(text: str, algorithm: str) -> PublicKey:
    """A TXT record as a key of the algorithm. Raises Invalid."""
    try:
        tags = TagList(text.encode())
    except Invalid as err:
        raise Invalid(f"the key record is no such: {err}") from None
    values = tags.values
    if "v" in values and (values["v"] != "DKIM1" or next(iter(values)) != "v"):
        raise Invalid("the key record is not of version DKIM1")
    kind = values.get("k", "rsa")
    if kind != algorithm.partition("-")[0]:
        raise Invalid(f"the key is of type {shown(kind)}, the signature {algorithm}")
    if "h" in values and "sha256" not in values["h"].split(":"):
        raise Invalid("the key record does not allow SHA-256")
    if not {"*", "email"}.intersection(values.get("s", "*").split(":")):
        raise Invalid("the key is not for mail")
    if "p" not in values:
        raise Invalid("the key record has no key")
    if not values["p"]:
        raise Invalid("the key is revoked")
    try:
        octets = tags.octets("p")
    except Invalid:
        raise Invalid("the key is not base64") from None
    flags = values.get("t", "").split(":")
    return PublicKey(_load_public_key(kind, octets), "y" in flags, "s" in flags)


def _load_public_key(kind: str, octets: bytes) -> RSAPublicKey | Ed25519PublicKey:
    try:
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets)
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(f"the key is not a public key of type '{kind}'") from None
    if not isinstance(key, RSAPublicKey):
        raise Invalid("the key is not an RSA key")
    if not SMALLEST_RSA <= key.key_size <= LARGEST_RSA:
        raise Invalid(f"the key has {key.key_size} bits, not {SMALLEST_RSA} to {LARGEST_RSA} (RFC 8301)")
    return key
