"""What the sending side writes: MAIL, RCPT and the content; and what it learns from EHLO.

Promise: nothing written here can hold a second command, and no content can end its own DATA: every CR and LF
that goes out is part of a CRLF, and every line that begins with "." gets another one (RFC 5321 §4.5.2).
"""

from __future__ import annotations

import re

from kumo_py.proto.address import ASCII_MAILBOX, AddressError, parse_address
from kumo_py.proto.content import END_OF_DATA, any_leading_dot, has_bare_cr_or_lf, to_crlf

_is_plain = re.compile(ASCII_MAILBOX).fullmatch


def mail_command(sender: str, *, body_8bitmime: bool = False, smtputf8: bool = False) -> bytes:
    """`MAIL FROM:<sender>`; "" is the null sender. Raises AddressError.

    Adds BODY=8BITMIME (RFC 6152) and SMTPUTF8 (RFC 6531) if asked to.
    """
    parameters = b" BODY=8BITMIME" if body_8bitmime else b""
    if smtputf8:
        parameters += b" SMTPUTF8"
    return b"MAIL FROM:<%b>%b\r\n" % (_wire_form(sender) if sender else b"", parameters)


def rcpt_command(addr: str) -> bytes:
    """`RCPT TO:<addr>`. Raises AddressError."""
    return b"RCPT TO:<%b>\r\n" % _wire_form(addr)


def stuff(
    data: bytes, has_leading_dots: bool | None = None, *, has_clean_endings: bool = False
) -> tuple[bytes, ...]:
    """The content as DATA sends it, with its end: chunks to be written one after the other.

    The first chunk is `data` itself where nothing had to be changed. What the caller knows of the content
    spares a scan of it: has_leading_dots as in DataResult (None: unknown), has_clean_endings if a check has
    found that each CR and LF is part of a CRLF, as in a content received under "Deny" or "Fix".
    """
    if not has_clean_endings and has_bare_cr_or_lf(data):
        data = to_crlf(data)
        has_leading_dots = None
    if any_leading_dot(data) if has_leading_dots is None else has_leading_dots:
        data = (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]
    if data and not data.endswith(b"\r\n"):
        return data, b"\r\n", END_OF_DATA
    return data, END_OF_DATA


def parse_ehlo(content: str) -> dict[str, str | None]:
    """The extensions an EHLO reply offers: upper-cased keyword to parameters, None if it has none."""
    extensions: dict[str, str | None] = {}
    for line in content.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword:
            extensions[keyword.upper()] = parameters or None
    return extensions


def _wire_form(addr: str) -> bytes:
    if _is_plain(addr) is None and not (addr := parse_address(addr)):
        raise AddressError("the null sender cannot be a recipient")
    return addr.encode()
