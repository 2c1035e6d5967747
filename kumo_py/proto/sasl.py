"""AUTH PLAIN (RFC 4954, RFC 4616): what a client sends after it, read and written."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import NamedTuple

from kumo_py.proto.command import CommandError


class PlainCredentials(NamedTuple):
    """Who it acts as, who it is, and the proof. authz is authc if the client named none."""

    authz: str
    authc: str
    password: str


def decode_plain(response: str) -> PlainCredentials:
    """Read an initial response or the line after 334. Raises CommandError with the reply to give.

    The line may be "*", by which the client takes AUTH back.
    """
    if response == "*":
        raise CommandError(501, "5.5.0 AUTH cancelled by client")
    try:
        fields = b64decode(response, validate=True).split(b"\0")
    except ValueError:
        raise CommandError(501, "5.5.2 Invalid base64 response") from None
    if len(fields) != 3:
        raise CommandError(501, "5.5.2 Invalid decoded PLAIN response")
    try:
        authz, authc, password = (field.decode() for field in fields)
    except UnicodeDecodeError:
        raise CommandError(501, "5.5.2 Invalid UTF8 in decoded PLAIN response") from None
    return PlainCredentials(authz or authc, authc, password)


def encode_plain(authc: str, password: bytes, authz: str = "") -> bytes:
    """Write an initial response. Raises ValueError for a NUL in a field: it would shift the others."""
    fields = (authz.encode(), authc.encode(), password)
    if any(b"\0" in field for field in fields):
        raise ValueError("neither username nor password may hold NUL")
    return b64encode(b"\0".join(fields))
