"""Content-Type and its like: a value and parameters (RFC 2045 §5.1, RFC 2231).

Reading accepts what mail has: parameters without the semicolon before them, encoded words in values, a semicolon
at the end. Continuations are put together, charsets decoded; of a plain and an encoded form of one parameter
the encoded one counts. Time is linear in the size of the header, but for sorting continuations.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from kumo_py.message.cfws import (
    octets_of,
    quoted_string,
    refuse_controls,
    skip_cfws,
    text_of,
    without_controls,
)
from kumo_py.message.charset import decode_as, find_codec
from kumo_py.message.headers import HeaderError, decoded, encoded

_TOKEN = r"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f\ud800-\udfff]++"
_ATTRIBUTE = r"[!#$&+\-.0-9A-Z^_`a-z{|}~]++"  # RFC 2231 §7
_match_token = re.compile(_TOKEN).match
# Most types have no parameter or a plain one, and can be read at once.
_match_usual = re.compile(
    rf'({_TOKEN}/{_TOKEN})(?:;[ \t\r\n]*+({_ATTRIBUTE})=(?:"([\t\x20!\x23-\x5b\x5d-\x7e]*+)"|({_TOKEN})))?'
).fullmatch
_match_type = re.compile(rf"{_TOKEN}/{_TOKEN}").fullmatch
_match_name = re.compile(rf"({_ATTRIBUTE})(?:\*([0-9]{{1,9}}))?(\*)?").match
_match_attribute = re.compile(_ATTRIBUTE).fullmatch
_match_charset = re.compile(r"([^\x00-\x20'\"();=\x7f]*)'([^\x00-\x20'\"();=\x7f]*)'").match
_match_extended = re.compile(r"(?:%[0-9A-Fa-f]{2}|[!#$&+\-.0-9A-Z^_`a-z{|}~])*+").match
_match_encoded_word = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=").match
_match_encoded_words = re.compile(r"(?:=\?[^?\s]++\?[BbQq]\?[^?\s]*+\?=[ \t\r\n]*+)++").fullmatch
_match_quotable = re.compile(r"[\t\x20-\x7e]*").fullmatch
_match_plain = re.compile(r"[\t\x20!\x23-\x5b\x5d-\x7e]*").fullmatch

_LINE = 74


class Form(enum.Enum):
    """How a parameter was written, and will be."""

    PLAIN = enum.auto()
    """A token or quoted string, or RFC 2231 where those cannot say it."""
    EXTENDED = enum.auto()
    """RFC 2231: percent-encoded octets of a charset. Written as PLAIN is."""
    ENCODED_WORD = enum.auto()
    """RFC 2047, which should not be there, without quotes."""
    QUOTED_ENCODED_WORD = enum.auto()


_ENCODED_WORDS = (Form.ENCODED_WORD, Form.QUOTED_ENCODED_WORD)


class _Parameter(NamedTuple):
    name: str
    section: int | None
    form: Form
    charset: str
    value: str


class MimeParameters:
    """A value such as `text/plain` and its parameters; their names are compared without case."""

    __slots__ = ("_parameters", "value")

    def __init__(self, value: str, parameters: dict[str, str] | None = None) -> None:
        self.value = value
        self._parameters: dict[str, list[_Parameter]] = {}
        for name, text in (parameters or {}).items():
            self.set(name, text)

    def __repr__(self) -> str:
        return f"MimeParameters({self.value!r}, {self.parameters!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MimeParameters):
            return NotImplemented
        return self.value == other.value and self.parameters == other.parameters

    __hash__ = None  # type: ignore[assignment]

    @property
    def media_type(self) -> str:
        """The value for comparisons: types are compared without case (RFC 2045 §5.1)."""
        return self.value.lower()

    @property
    def is_text(self) -> bool:
        return self.media_type.startswith("text/")

    @property
    def is_multipart(self) -> bool:
        """Of a type that may have parts: message/… too, if it has a boundary, as in KumoMTA."""
        return self.media_type.startswith(("multipart/", "message/"))

    @property
    def parameters(self) -> dict[str, str]:
        """All parameters by the names they were given with."""
        return {found[0].name: without_controls(_joined(found)) for found in self._parameters.values()}

    def get(self, name: str) -> str | None:
        """The text of a parameter, without CR, LF and NUL."""
        found = self._parameters.get(name.lower())
        return None if found is None else without_controls(_joined(found))

    def set(self, name: str, value: str, form: Form = Form.PLAIN) -> None:
        """Give a parameter another text."""
        self._parameters[name.lower()] = [_Parameter(name, None, form, "", value)]

    def remove(self, name: str) -> None:
        """Drop a parameter, if it is there."""
        self._parameters.pop(name.lower(), None)

    # -- reading -----------------------------------------------------------------------------------
    @classmethod
    def parse(cls, raw: bytes) -> MimeParameters:
        """Read a Content-Disposition or Content-Transfer-Encoding: one token first. Raises HeaderError."""
        text = text_of(raw)
        value, at = _token(text, skip_cfws(text, 0))
        return cls(value)._read(text, at)

    @classmethod
    def parse_type(cls, raw: bytes) -> MimeParameters:
        """Read a Content-Type: `type/subtype` first. Raises HeaderError."""
        text = text_of(raw)
        if (usual := _match_usual(text)) and "=?" not in text:
            value, name, quoted, token = usual.groups()
            return cls(value, {name: quoted or token or ""} if name else None)
        main, at = _token(text, skip_cfws(text, 0))
        at = skip_cfws(text, at)
        if not text.startswith("/", at):
            raise HeaderError(f"'{main[:60]}' is not type/subtype")
        sub, at = _token(text, skip_cfws(text, at + 1))
        return cls(f"{main}/{sub}")._read(text, at)

    def _read(self, text: str, at: int) -> MimeParameters:
        while True:
            at = skip_cfws(text, at)
            while text.startswith(";", at):
                at = skip_cfws(text, at + 1)
            if at == len(text):
                return self
            parameter, at = _parameter(text, at)
            self._parameters.setdefault(parameter.name.lower(), []).append(parameter)

    # -- writing -----------------------------------------------------------------------------------
    def encode(self) -> bytes:
        """The header's raw value, folded, its parameters by name. Raises HeaderError."""
        refuse_controls(self.value, "the value")
        lines = [self.value]
        for _, found in sorted(self._parameters.items()):
            lines += _encoded_parameter(found[0].name, _joined(found), found[0].form)
        return octets_of(";\r\n\t".join(lines))


def check_media_type(value: str) -> None:
    """Raises HeaderError for what isn't type/subtype."""
    if not _match_type(value):
        raise HeaderError(f"'{value[:60]}' is not type/subtype")


def _token(text: str, at: int) -> tuple[str, int]:
    match = _match_token(text, at)
    if match is None:
        raise HeaderError(f"a token is wanted instead of {text[at : at + 20]!r}")
    return match[0], match.end()


def _parameter(text: str, start: int) -> tuple[_Parameter, int]:
    match = _match_name(text, start)
    at = skip_cfws(text, match.end()) if match else start
    if match is None or not text.startswith("=", at):
        raise HeaderError(f"{text[start : start + 40]!r} is not a parameter: name=value")
    name, section, star = match.groups()
    number = None if section is None else int(section)
    at = skip_cfws(text, at + 1)
    if found := quoted_string(text, at):
        value, end = found
        if _match_encoded_words(value) and (plain := _plain(value)) is not None:
            return _Parameter(name, number, Form.QUOTED_ENCODED_WORD, "", plain), end
        return _Parameter(name, number, Form.PLAIN, "", value), end
    if (match := _match_encoded_word(text, at)) and (plain := _plain(match[0])) is not None:
        return _Parameter(name, number, Form.ENCODED_WORD, "", plain), match.end()
    if star:
        charset = ""
        if match := _match_charset(text, at):
            charset, at = match[1], match.end()
        match = _match_extended(text, at)
        form = Form.EXTENDED
    else:
        charset, match, form = "", _match_token(text, at), Form.PLAIN
    return _Parameter(name, number, form, charset, match[0] if match else ""), match.end() if match else at


def _plain(words: str) -> str | None:
    """Encoded words as text; None if they cannot be decoded."""
    text = text_of(decoded(octets_of(words)))
    return None if text == words else text


def _joined(found: list[_Parameter]) -> str:
    """One text of all that was given for a name."""
    if len(found) == 1 and found[0].form is not Form.EXTENDED:
        return found[0].value
    whole = [one for one in found if one.section is None]
    if whole:
        found = [next((one for one in whole if one.form is Form.EXTENDED), whole[0])]
    texts: list[str] = []
    pending: list[str] = []
    charset = ""

    def flush() -> None:
        if pending:
            texts.append(_percent_decoded("".join(pending), charset))
            pending.clear()

    for one in sorted(found, key=lambda one: one.section or 0):
        if one.form is Form.EXTENDED:
            pending.append(one.value)
            charset = charset or one.charset
        else:
            flush()
            texts.append(one.value)
    flush()
    return "".join(texts)


def _percent_decoded(value: str, charset: str) -> str:
    """As it is if the charset is not known, or the octets are not of it."""
    try:
        return decode_as(unquote_to_bytes(value), find_codec(charset or "utf-8") or "")
    except (UnicodeError, LookupError):
        return value


def _encoded_parameter(name: str, value: str, form: Form) -> list[str]:
    """`name=value`, or several sections of it, in lines of 76 columns if the name lets them."""
    if not _match_attribute(name):
        raise HeaderError(f"'{name[:60]}' is not the name of a parameter")
    refuse_controls(value, f"parameter {name}")
    if form in _ENCODED_WORDS and _needs_encoded_words(value):
        mark = '"' if form is Form.QUOTED_ENCODED_WORD else ""
        return [f"{name}={mark}{text_of(encoded(octets_of(value)))}{mark}"]
    if _match_plain(value) and len(name) + len(value) < _LINE - 6:  # most are
        return [f'{name}="{value}"']
    if _match_quotable(value):
        return _in_sections(name, "", "", ["\\" + char if char in '"\\' else char for char in value], '"')
    pieces = [char if _match_attribute(char) else _percent_encoded(char) for char in value]
    return _in_sections(name, "*", "UTF-8''", pieces, "")


def _needs_encoded_words(value: str) -> bool:
    """Whether `encoded` makes encoded words of it, which hold no quotes."""
    try:
        return not value.encode().isascii()
    except UnicodeEncodeError:  # octets that are not UTF-8
        return False


def _in_sections(name: str, star: str, prefix: str, pieces: list[str], mark: str) -> list[str]:
    values: list[str] = []
    line: list[str] = []
    width = 0
    for piece in pieces:
        if width >= max(10, _LINE - len(name) - 4 - len(mark) - (0 if values else len(prefix))):
            values.append("".join(line))
            line, width = [], 0
        line.append(piece)
        width += len(piece)
    values.append("".join(line))
    if len(values) == 1:
        return [f"{name}{star}={prefix}{mark}{values[0]}{mark}"]
    return [f"{name}*{n}{star}={'' if n else prefix}{mark}{value}{mark}" for n, value in enumerate(values)]


def _percent_encoded(char: str) -> str:
    return "".join(f"%{octet:02X}" for octet in octets_of(char))
