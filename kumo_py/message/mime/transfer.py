"""Content-Transfer-Encoding: base64 and quoted-printable, both ways, in linear time (RFC 2045 §6)."""

from __future__ import annotations

import base64
import binascii
import re

from kumo_py.message.mime.errors import MimeError

IDENTITY = ("7bit", "8bit", "binary")
ENCODINGS = (*IDENTITY, "quoted-printable", "base64")

# White space at the end of a line is not part of it (§6.7 rule 3). A run of it is looked at once.
_sub_trailing = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)").sub
_sub_dashes = re.compile(rb"^--[^\r\n]*+", re.MULTILINE).sub
_sub_lone_lf = re.compile(rb"(?<!\r)\n").sub


def decode(data: bytes, encoding: str) -> bytes:
    """The content of a body. Raises MimeError for base64 that is none; quoted-printable always decodes.

    As in KumoMTA, lines of quoted-printable end with CRLF when decoded.
    """
    if encoding == "base64":
        try:
            return binascii.a2b_base64(data.translate(None, b" \t\r\n"), strict_mode=True)
        except binascii.Error as err:
            raise MimeError(f"parsing body: base64 decode: {err}") from None
    if encoding == "quoted-printable":
        if data.endswith((b" ", b"\t")) or any(end in data for end in (b" \r", b" \n", b"\t\r", b"\t\n")):
            data = _sub_trailing(b"", data)
        if data.count(b"\n") != data.count(b"\r\n"):
            data = _sub_lone_lf(b"\r\n", data)
        return binascii.a2b_qp(data)
    return data


def encode_base64(data: bytes) -> bytes:
    """Lines of 76 columns, each with CRLF at its end; at least one."""
    return base64.encodebytes(data).replace(b"\n", b"\r\n") or b"\r\n"


def encode_text(data: bytes) -> tuple[bytes, str | None]:
    """The body of a text, and its encoding if it needs one: whichever is shorter, quoted-printable if equal.

    Line ends are CRLF; a CR or LF alone is encoded. The body ends with CRLF. No line of it starts as a boundary
    does, so that no text can end the part it is in.
    """
    if _is_plain(data):
        return data if data.endswith(b"\r\n") else data + b"\r\n", None
    quoted = b"\r\n".join([binascii.b2a_qp(line, istext=False) for line in data.split(b"\r\n")])
    quoted = _sub_dashes(_without_dashes, quoted.replace(b"=\n", b"=\r\n"))
    if quoted == data:
        body, encoding = quoted, None
    elif len(quoted) <= len(in_base64 := encode_base64(data)):
        body, encoding = quoted, "quoted-printable"
    else:
        body, encoding = in_base64, "base64"
    return body if body.endswith(b"\r\n") else body + b"\r\n", encoding


def _is_plain(data: bytes) -> bool:
    """Whether nothing of it would be encoded; some texts of which that is true are not recognized."""
    ends = data.count(b"\r\n")
    return (
        data.count(b"\n") == ends == data.count(b"\r")
        and b"\n--" not in data
        and not data.startswith(b"--")
        and binascii.b2a_qp(data) == data
    )


def _without_dashes(match: re.Match[bytes]) -> bytes:
    line = b"=2D" + match[0][1:]
    lines = []
    while len(line) > 76:
        cut = 72
        if (escape := line.rfind(b"=", cut - 2, cut)) >= 0:
            cut = escape
        lines.append(line[:cut] + b"=")
        line = line[cut:]
        if line.startswith(b"--"):
            line = b"=2D" + line[1:]
    return b"\r\n".join((*lines, line))
