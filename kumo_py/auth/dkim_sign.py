"""Signing messages (RFC 6376 §5): DKIM-Signature, and with other tags ARC-Message-Signature.

The work is in two parts, so that the second may be done by a thread: `draft` hashes header and body and writes the
field up to `b=`, `PrivateKey.sign` signs the digest, `Draft.signed` puts both together. What is written stays below
78 columns unless a domain or a header name alone is longer, and looks the same each time.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from kumo_py.auth.canonical import Fields, relaxed_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kumo_py.auth.dkim_keys import PrivateKey

WIDTH = 77
"""Columns of a line at most, counting a tab as one."""

# What may stand in a tag's value (§3.2), with UTF-8 (RFC 8616).
_match_value = re.compile(rb"[!-:<-~\x80-\xff]+").fullmatch
_match_name = re.compile(r"[!-9<-~]+").fullmatch


class Draft(NamedTuple):
    """A signature field that lacks the signature."""

    digest: bytes
    head: bytes
    """The field up to `b=`."""

    def signed(self, signature: bytes) -> bytes:
        """The complete field, with CRLF at its end."""
        text = binascii.b2a_base64(signature, newline=False)
        width = WIDTH - 3
        lines = [text[at : at + width] for at in range(0, len(text), width)]
        return b"%s%s\r\n" % (self.head, b"\r\n\t ".join(lines))


class Signer:
    """A domain's key and how to sign with it. It doesn't change, and may be used by several threads at once."""

    __slots__ = (
        "_arc_names",
        "_fixed",
        "_listed",
        "_names",
        "domain",
        "expiration",
        "identity",
        "key",
        "over_sign",
        "relaxed_body",
        "relaxed_header",
        "selector",
    )

    def __init__(
        self,
        key: PrivateKey,
        *,
        domain: str,
        selector: str,
        headers: Sequence[str],
        relaxed_header: bool = True,
        relaxed_body: bool = True,
        expiration: int | None = None,
        over_sign: bool = False,
    ) -> None:
        """`expiration` is in seconds from the time of signing. Raises ValueError."""
        for what, value in (("domain", domain), ("selector", selector)):
            if not _match_value(value.encode()):
                raise ValueError(
                    f"the {what} {value!r} cannot be in a signature: it is empty, or has spaces or a ';'"
                )
        for name in headers:
            if not _match_name(name):
                raise ValueError(
                    f"{name!r} in headers is not a header name: printable ASCII without ':', ';' and spaces"
                )
        names = tuple(name.lower().encode() for name in headers)
        if b"from" not in names:
            raise ValueError("headers must have From: it has to be signed (RFC 6376 §5.4)")
        self.key = key
        self.domain = domain
        self.selector = selector
        self.relaxed_header = relaxed_header
        self.relaxed_body = relaxed_body
        self.expiration = expiration
        self.over_sign = over_sign
        self._names = tuple(dict.fromkeys(names)) if over_sign else names
        self._arc_names = tuple(name for name in self._names if not name.startswith(b"arc-"))
        canonicalization = "/".join(
            "relaxed" if relaxed else "simple" for relaxed in (relaxed_header, relaxed_body)
        )
        self.identity = (f"d={domain};".encode(), f"s={selector};".encode())
        self._fixed = (f"a={key.algorithm};".encode(), f"c={canonicalization};".encode(), *self.identity)
        self._listed = _list(self._names)

    def sign(self, data: bytes, now: int) -> bytes:
        """A DKIM-Signature for the message, with CRLF at its end; Unix seconds. Raises ValueError."""
        draft = self.draft(fields_to_sign(data), now)
        return draft.signed(self.key.sign(draft.digest))

    def draft(self, fields: Fields, now: int, instance: int | None = None) -> Draft:
        """What to sign for a DKIM-Signature, or for the ARC-Message-Signature of that instance; Unix seconds."""
        if instance is None:
            name, first, names, listed = b"DKIM-Signature", b"v=1;", self._names, self._listed
        else:
            name, first, names = b"ARC-Message-Signature", b"i=%d;" % instance, self._arc_names
            listed = _list(names)
        if self.over_sign:
            named = fields.named
            names = tuple(name for name in names for _ in range(len(named.get(name, ())) + 1))
            listed = _list(names)
        body_hash = binascii.b2a_base64(fields.body_hash(relaxed=self.relaxed_body)[0], newline=False)
        expires = () if self.expiration is None else (b"x=%d;" % (now + self.expiration),)
        lines = [
            *packed(name + b":", [first, *self._fixed]),
            *packed(b"\tt=%d;" % now, [*expires, b"bh=%s;" % body_hash]),
            *listed,
            b"\tb=",
        ]
        head = b"\r\n".join(lines)
        relaxed = self.relaxed_header
        hashed = [fields.canonical(field, relaxed=relaxed) for field in fields.chosen(names)]
        hashed.append(relaxed_line(head)[:-2] if relaxed else head)
        return Draft(hashlib.sha256(b"".join(hashed)).digest(), head)


def fields_to_sign(data: bytes) -> Fields:
    """Raises ValueError if no two programs would agree on what the header is."""
    fields = Fields(data)
    if fields.has_bare_lf:
        raise ValueError("a header line ends with LF alone: what is signed must have CRLF line ends")
    return fields


def relaxed_line(line: bytes) -> bytes:
    """The relaxed form of a field that we write, with CRLF at its end."""
    name, _, value = line.partition(b":")
    return relaxed_field(name, value)


def packed(line: bytes, words: Iterable[bytes], glue: bytes = b" ", indent: bytes = b"\t") -> list[bytes]:
    """Lines: the first one given, with words after it as long as they fit."""
    lines = []
    for word in words:
        if len(line) + len(glue) + len(word) > WIDTH:
            lines.append(line)
            line = indent + word
        else:
            line += glue + word
    lines.append(line)
    return lines


def _list(names: Sequence[bytes]) -> list[bytes]:
    """The lines of the tag h=."""
    *names, last = names
    return packed(b"\th=", [*(name + b":" for name in names), last + b";"], glue=b"", indent=b"\t ")
