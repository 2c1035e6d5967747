"""Verifying the DKIM signatures of a message (RFC 6376 §6), in two steps with the DNS between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.auth.canonical import Fields
from kumo_py.auth.errors import Invalid, Unavailable
from kumo_py.auth.result import AuthenticationResult
from kumo_py.auth.signature import DkimSignature
from kumo_py.auth.tags import TagList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.auth.dkim_keys import KeyRecords
    from kumo_py.message.headers import Field

MAX_SIGNATURES = 10
"""Signatures of a message that are looked at, from the top."""

_PROPS = ("d", "a", "s", "c", "t", "x")


class DkimCheck:
    """The signatures of a message: ask `key_names` of the DNS, then give the answers to `results`.

    Results are those of KumoMTA: `pass`, `permerror` for whatever is wrong with message, signature or key,
    `temperror` if the DNS fails.
    """

    __slots__ = ("_fields", "_results", "_signatures")

    def __init__(self, data: bytes, now: float) -> None:
        """`now` is in Unix seconds."""
        self._fields = Fields(data)
        self._results: list[AuthenticationResult] = []
        self._signatures: list[tuple[DkimSignature, AuthenticationResult]] = []
        if self._fields.has_bare_lf:
            self._results.append(_result("permerror", "a header line of the message ends with LF alone"))
            return
        for field in self._fields.named.get(b"dkim-signature", ())[:MAX_SIGNATURES]:
            self._read(field, now)
        for signature, result in self._signatures:
            result.props["header.b"] = self._distinct(signature.tags.values["b"])

    def _read(self, field: Field, now: float) -> None:
        result = _result("permerror")
        self._results.append(result)
        try:
            tags = TagList(field.value)
            result.props = _props(tags.values)
            self._signatures.append((DkimSignature(self._fields, field, tags, now), result))
        except Invalid as err:
            result.reason = str(err)

    @property
    def key_names(self) -> set[str]:
        """The names whose TXT records hold the keys."""
        return {signature.key_name for signature, _ in self._signatures}

    @property
    def body_size(self) -> int:
        """Octets that may have to be hashed."""
        return (len(self._fields.data) - self._fields.body_start) * len(self._signatures)

    def results(self, keys: Mapping[str, KeyRecords]) -> list[AuthenticationResult]:
        """One for each signature, from the top of the message. To be called once."""
        for signature, result in self._signatures:
            try:
                signature.verify(self._fields, keys[signature.key_name])
            except Invalid as err:
                result.reason = str(err)
            except Unavailable as err:
                result.result, result.reason = "temperror", str(err)
            else:
                result.result = "pass"
                if signature.length is not None:
                    result.reason = f"only the first {signature.length} octets of the body are signed"
        return self._results

    def _distinct(self, text: str) -> str:
        """The first octets of a signature, enough of them to tell it from the others (RFC 6008 §4)."""
        others = [other for one, _ in self._signatures if (other := one.tags.values["b"]) != text]
        length = 8
        while length < len(text) and any(other.startswith(text[:length]) for other in others):
            length += 2
        return text[:length]


def _result(result: str, reason: str | None = None) -> AuthenticationResult:
    return AuthenticationResult("dkim", result, reason=reason)


def _props(tags: Mapping[str, str]) -> dict[str, str]:
    props = {f"header.{name}": tags[name] for name in _PROPS if name in tags}
    identity = tags.get("i") or (f"@{tags['d']}" if "d" in tags else None)
    if identity is not None:
        props["header.i"] = identity
    return props
