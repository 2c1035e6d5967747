"""A signature field as it was read: DKIM's (RFC 6376 §3.5), ARC-Message-Signature and ARC-Seal (RFC 8617 §4.1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from kumo_py.auth.canonical import relaxed_field
from kumo_py.auth.dkim_keys import LARGEST_RSA, KeyRecords, PublicKey, key_name, public_keys
from kumo_py.auth.errors import Invalid, shown

if TYPE_CHECKING:
    from kumo_py.auth.canonical import Fields
    from kumo_py.auth.tags import TagList
    from kumo_py.message.headers import Field

GRACE = 15 * 60
"""Seconds for which a signature counts after it has expired: clocks differ."""

_ALGORITHMS = ("rsa-sha256", "ed25519-sha256")
_CANONICALIZATIONS = {"simple": False, "relaxed": True}


class Seal:
    """What all three have: who signed how, and the signature."""

    __slots__ = ("algorithm", "domain", "field", "selector", "signature", "tags", "unsigned")

    def __init__(self, field: Field, tags: TagList) -> None:
        """Raises Invalid."""
        tags.required("a", "b", "d", "s")
        self.field = field
        self.tags = tags
        self.algorithm = tags.values["a"]
        self.domain = tags.values["d"]
        self.selector = tags.values["s"]
        self.signature = tags.octets("b")
        if self.algorithm == "rsa-sha1":
            raise Invalid("rsa-sha1 proves nothing any more (RFC 8301)")
        if self.algorithm not in _ALGORITHMS:
            raise Invalid(f"the algorithm {shown(self.algorithm)} is not known")
        if not (self.domain and self.selector and 0 < len(self.signature) <= LARGEST_RSA // 8):
            raise Invalid("the tag d= or s= is empty, or b= has no possible length")
        self.unsigned = tags.without("b")
        """The field without the signature: its value, or all of it to be hashed in simple form."""

    @property
    def key_name(self) -> str:
        """Where the DNS has the key."""
        return key_name(self.selector, self.domain)

    def relaxed_unsigned(self) -> bytes:
        """The field as it ends what is hashed, in relaxed form."""
        return relaxed_field(self.field.name, self.unsigned)[:-2]

    def verify_digest(self, digest: bytes, records: KeyRecords) -> PublicKey:
        """The key that has signed the digest. Raises Invalid or Unavailable."""
        keys = public_keys(records, self.algorithm)
        for key in keys:
            if key.verifies(self.signature, digest):
                return key
        testing = " (the key is in test mode)" if any(key.testing for key in keys) else ""
        raise Invalid(f"the signature does not match the header{testing}")


class Signature(Seal):
    """A signature of header and body."""

    __slots__ = ("body_hash", "length", "names", "relaxed_body", "relaxed_header")

    def __init__(self, fields: Fields, field: Field, tags: TagList, now: float) -> None:
        """Raises Invalid."""
        super().__init__(field, tags)
        tags.required("bh", "h")
        values = tags.values
        self.names = tuple(values["h"].lower().encode().split(b":"))
        if b"from" not in self.names:
            raise Invalid("the From header is not signed")
        if "dns/txt" not in values.get("q", "dns/txt").split(":"):
            raise Invalid("the tag q= has no dns/txt")
        header, _, body = values.get("c", "simple").partition("/")
        try:
            self.relaxed_header = _CANONICALIZATIONS[header]
            self.relaxed_body = _CANONICALIZATIONS[body or "simple"]
        except KeyError:
            raise Invalid(f"the canonicalization {shown(values['c'])} is not known") from None
        self.body_hash = tags.octets("bh")
        self.length = tags.number("l", 76)
        signed, expires = tags.number("t"), tags.number("x")
        if expires is not None:
            if signed is not None and expires < signed:
                raise Invalid("the signature expired before it was made")
            if expires + GRACE < now:
                raise Invalid("the signature has expired")
        if not self.relaxed_header:
            raw = fields.raw(field)
            self.unsigned = raw[: len(raw) - len(field.value)] + self.unsigned

    def verify(self, fields: Fields, records: KeyRecords) -> PublicKey:
        """The key that it was made with. Raises Invalid or Unavailable."""
        body_hash, size = fields.body_hash(relaxed=self.relaxed_body, limit=self.length)
        if self.length is not None and size < self.length:
            raise Invalid("the body is shorter than what was signed")
        if body_hash != self.body_hash:
            raise Invalid("the body is not what was signed")
        relaxed = self.relaxed_header
        hashed = [fields.canonical(field, relaxed=relaxed) for field in fields.chosen(self.names)]
        hashed.append(self.relaxed_unsigned() if relaxed else self.unsigned)
        return self.verify_digest(hashlib.sha256(b"".join(hashed)).digest(), records)


class DkimSignature(Signature):
    """A DKIM-Signature."""

    __slots__ = ()

    def __init__(self, fields: Fields, field: Field, tags: TagList, now: float) -> None:
        tags.required("v", "a", "b", "bh", "d", "h", "s")
        if tags.values["v"] != "1":
            raise Invalid("the signature is not of version 1")
        super().__init__(fields, field, tags, now)
        identity = self._identity_domain
        if identity != self.domain.lower() and not identity.endswith(f".{self.domain.lower()}"):
            raise Invalid("the domain of i= is not below that of d=")

    @property
    def _identity_domain(self) -> str:
        return self.tags.values.get("i", f"@{self.domain}").rpartition("@")[2].lower()

    def verify(self, fields: Fields, records: KeyRecords) -> PublicKey:
        key = super().verify(fields, records)
        if key.exact_identity and self._identity_domain != self.domain.lower():
            raise Invalid("the key is for an i= of its own domain only")
        return key
