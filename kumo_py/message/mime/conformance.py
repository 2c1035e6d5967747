"""What can be wrong with a message, by KumoMTA's names."""

from __future__ import annotations

import enum
import re

from kumo_py.core.suggest import nearest


class Conformance(enum.IntFlag):
    """Ways in which a message is not what RFC 5322 and RFC 2045 ask for (KumoMTA's MessageConformance)."""

    MISSING_COLON_VALUE = 0x001
    """A line between the headers has no colon, or is none of a header at all."""
    NON_CANONICAL_LINE_ENDINGS = 0x002
    """A CR or LF stands alone."""
    NAME_ENDS_WITH_SPACE = 0x004
    """White space stands between a header's name and its colon."""
    LINE_TOO_LONG = 0x008
    """A line has more than 76 octets before its CRLF."""
    NEEDS_TRANSFER_ENCODING = 0x010
    """There are octets above 127, or a text that is not of the charset it claims."""
    MISSING_DATE_HEADER = 0x020
    """There is no Date that can be understood."""
    MISSING_MESSAGE_ID_HEADER = 0x040
    """There is no Message-ID that can be understood."""
    MISSING_MIME_VERSION = 0x080
    """There is no Mime-Version, or it is not 1.0."""
    INVALID_MIME_HEADERS = 0x100
    """A Content-… header cannot be understood."""

    @classmethod
    def from_text(cls, text: str) -> Conformance:
        """Names joined by `|`; "" for none. Raises ValueError."""
        found = cls(0)
        for name in text.split("|"):
            if not name:
                continue
            if name not in cls.__members__:
                near = nearest(name, cls.__members__)
                hint = f", did you mean '{near}'?" if near else ","
                possible = ", ".join(f"'{known}'" for known in sorted(cls.__members__))
                raise ValueError(
                    f"invalid MessageConformance flag '{name}'{hint} possible values are {possible}"
                )
            found |= cls[name]
        return found

    def to_text(self) -> str:
        """The names in alphabetical order, joined by `|`, as KumoMTA writes them."""
        return "|".join(sorted(flag.name for flag in Conformance if flag in self and flag.name))


# A line counts from the LF before it, as in KumoMTA: 76 octets and a CRLF, or 77 and an LF.
_find_long_line = re.compile(rb"\n[^\n]{78,}+\n").search


def of_octets(data: bytes) -> Conformance:
    """The flags that need no parsing."""
    found = Conformance(0)
    if not data.isascii():
        found |= Conformance.NEEDS_TRANSFER_ENCODING
    if data.find(b"\n") > 78 or _find_long_line(data):
        found |= Conformance.LINE_TOO_LONG
    if not data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r"):
        found |= Conformance.NON_CANONICAL_LINE_ENDINGS
    return found
