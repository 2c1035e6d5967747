"""The value of Authentication-Results and ARC-Authentication-Results (RFC 8601 §2.2, RFC 8617 §4.1.1)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from kumo_py.message.cfws import octets_of, quote, quoted_string, refuse_controls, skip_cfws, text_of
from kumo_py.message.headers import HeaderError

_match_token = re.compile(r"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f]++").match
_match_keyword = re.compile(r"[A-Za-z0-9_-]++").match
_match_number = re.compile(r"[0-9]{1,9}").match
_match_none = re.compile(r"none(?![A-Za-z0-9_-])", re.IGNORECASE).match
_match_property_value = re.compile(r"[^\x00-\x20;\"()\x7f]++").match
_is_bare = re.compile(r"[^\x00-\x20()<>,;:\\\"/\[\]?=\x7f]+").fullmatch
_is_keyword = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_is_property = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch


class AuthenticationResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one method found; `props` has `ptype.property` as keys."""

    method: str
    method_version: int | None = None
    result: str
    reason: str | None = None
    props: dict[str, str] = {}


class AuthenticationResults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an authentication service found about a message."""

    serv_id: str
    version: int | None = None
    results: list[AuthenticationResult] = []

    @classmethod
    def parse(cls, raw: bytes) -> AuthenticationResults:
        """Read a raw header value. Raises HeaderError."""
        text = text_of(raw)
        return _read(text, 0)

    def encode(self) -> bytes:
        """The raw header value: a line for each result and each property. Raises HeaderError."""
        lines = [_value(self.serv_id) + ("" if self.version is None else f" {self.version}")]
        if not self.results:
            return octets_of(f"{lines[0]}; none")
        for result in self.results:
            lines[-1] += ";"
            lines.append(_result_line(result))
            for key, value in sorted(result.props.items()):
                if not _is_property(key):
                    raise HeaderError(f"'{key[:60]}' is not ptype.property, such as header.d")
                lines.append(f"{key}={_value(value)}")
        return octets_of("\r\n\t".join(lines))


class ARCAuthenticationResults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same of one instance of an ARC set."""

    instance: int
    serv_id: str
    version: int | None = None
    results: list[AuthenticationResult] = []

    @classmethod
    def parse(cls, raw: bytes) -> ARCAuthenticationResults:
        """Read a raw header value. Raises HeaderError."""
        text = text_of(raw)
        at = _expect(text, 0, "i")
        at = skip_cfws(text, _expect(text, at, "="))
        match = _match_number(text, at)
        if match is None or not 1 <= int(match[0]) <= 50:
            raise HeaderError(f"an instance from 1 to 50 is wanted instead of {text[at : at + 20]!r}")
        found = _read(text, _expect(text, match.end(), ";"))
        return cls(
            instance=int(match[0]), serv_id=found.serv_id, version=found.version, results=found.results
        )

    def encode(self) -> bytes:
        """The raw header value. Raises HeaderError."""
        rest = AuthenticationResults(serv_id=self.serv_id, version=self.version, results=self.results)
        return b"i=%d; %s" % (self.instance, rest.encode())


def _read(text: str, at: int) -> AuthenticationResults:
    serv_id, at = _token_or_string(text, skip_cfws(text, at))
    at = skip_cfws(text, at)
    version = None
    if match := _match_number(text, at):
        version, at = int(match[0]), skip_cfws(text, match.end())
    results: list[AuthenticationResult] = []
    while at < len(text):
        at = skip_cfws(text, _expect(text, at, ";"))
        if at == len(text):
            break
        if not results and (match := _match_none(text, at)) and skip_cfws(text, match.end()) == len(text):
            break
        result, at = _result(text, at)
        results.append(result)
    return AuthenticationResults(serv_id=serv_id, version=version, results=results)


def _result(text: str, at: int) -> tuple[AuthenticationResult, int]:
    found: dict[str, Any] = {"props": {}}
    found["method"], at = _keyword(text, at)
    at = skip_cfws(text, at)
    if text.startswith("/", at):
        at = skip_cfws(text, at + 1)
        match = _match_number(text, at)
        if match is None:
            raise HeaderError(f"a version is wanted instead of {text[at : at + 20]!r}")
        found["method_version"], at = int(match[0]), match.end()
    found["result"], at = _keyword(text, skip_cfws(text, _expect(text, at, "=")))
    while (at := skip_cfws(text, at)) < len(text) and text[at] != ";":
        name, after = _keyword(text, at)
        after = skip_cfws(text, after)
        if name == "reason" and text.startswith("=", after):
            found["reason"], at = _token_or_string(text, skip_cfws(text, after + 1))
            continue
        property_, at = _keyword(text, skip_cfws(text, _expect(text, after, ".")))
        value, at = _property_value(text, skip_cfws(text, _expect(text, at, "=")))
        found["props"][f"{name}.{property_}"] = value
    found["props"] = dict(sorted(found["props"].items()))
    return AuthenticationResult(**found), at


def _property_value(text: str, at: int) -> tuple[str, int]:
    value = ""
    if quoted := quoted_string(text, at):
        value, at = quoted
        if not text.startswith("@", at):
            return value, at
    match = _match_property_value(text, at)
    if match is None:
        raise HeaderError(f"a value is wanted instead of {text[at : at + 20]!r}")
    return value + match[0], match.end()


def _token_or_string(text: str, at: int) -> tuple[str, int]:
    if quoted := quoted_string(text, at):
        return quoted
    match = _match_token(text, at)
    if match is None:
        raise HeaderError(f"a token or quoted string is wanted instead of {text[at : at + 20]!r}")
    return match[0], match.end()


def _keyword(text: str, at: int) -> tuple[str, int]:
    match = _match_keyword(text, at)
    if match is None:
        raise HeaderError(f"a keyword is wanted instead of {text[at : at + 20]!r}")
    return match[0], match.end()


def _expect(text: str, at: int, mark: str) -> int:
    at = skip_cfws(text, at)
    if not text.startswith(mark, at):
        raise HeaderError(f"'{mark}' is wanted instead of {text[at : at + 20]!r}")
    return at + len(mark)


def _result_line(result: AuthenticationResult) -> str:
    for word in (result.method, result.result):
        if not _is_keyword(word):
            raise HeaderError(f"'{word[:60]}' is not a keyword: letters, digits and '-'")
    version = "" if result.method_version is None else f"/{result.method_version}"
    reason = "" if result.reason is None else f" reason={_value(result.reason)}"
    return f"{result.method}{version}={result.result}{reason}"


def _value(text: str) -> str:
    refuse_controls(text, "a value")
    return text if _is_bare(text) else quote(text)
