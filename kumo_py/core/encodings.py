"""Binary data as text: base64, base32 (RFC 4648) and hex, strict as KumoMTA is.

What is decoded must be what encoding would have made of it: the right alphabet and case, and no bits that belong
to no byte. Only about padding the padded encodings do not care: none, too little and too much of it are right. The
`nopad` ones have none.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Encoding(NamedTuple):
    """One way of writing bytes."""

    name: str
    to_text: Callable[[bytes], bytes]
    from_text: Callable[[bytes], bytes]
    alphabet: bytes
    padding: bool
    block: int
    """Characters that stand for whole bytes."""

    def encode(self, data: bytes) -> bytes:
        """The text, which is ASCII."""
        text = self.to_text(data)
        return text if self.padding else text.rstrip(b"=")

    def decode(self, text: bytes) -> bytes:
        """Raises ValueError that says where the text is wrong."""
        if self.padding:
            text = text.rstrip(b"=")
        strange = text.translate(None, self.alphabet)
        if strange:
            at = text.index(strange[:1])
            raise ValueError(f"is not {self.name}: byte {at + 1} is {strange[:1]!r}")
        try:
            data = self.from_text(text + b"=" * (-len(text) % self.block))
        except binascii.Error:
            raise ValueError(
                f"is not {self.name}: {len(text)} characters stand for no number of bytes"
            ) from None
        if self.to_text(data).rstrip(b"=") != text:
            raise ValueError(f"is not {self.name}: bits of its last character belong to no byte")
        return data


def _encodings() -> Mapping[str, Encoding]:
    letters = bytes(range(65, 91))
    digits = bytes(range(48, 58))
    base64_letters = letters + letters.lower() + digits
    padded = (
        ("base64", base64.standard_b64encode, base64.standard_b64decode, base64_letters + b"+/", 4),
        ("base64url", base64.urlsafe_b64encode, base64.urlsafe_b64decode, base64_letters + b"-_", 4),
        ("base32", base64.b32encode, base64.b32decode, letters + b"234567", 8),
        ("base32hex", base64.b32hexencode, base64.b32hexdecode, digits + letters[:22], 8),
    )
    found = {}
    for name, to_text, from_text, alphabet, block in padded:
        found[name] = Encoding(name, to_text, from_text, alphabet, True, block)
        nopad = f"{name}_nopad"
        found[nopad] = Encoding(nopad, to_text, from_text, alphabet, False, block)
    found["hex"] = Encoding("hex", binascii.hexlify, binascii.unhexlify, digits + b"abcdef", False, 1)
    return found


ENCODINGS: Mapping[str, Encoding] = _encodings()
