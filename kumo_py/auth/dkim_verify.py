"""Verifying the DKIM signatures of a message (RFC 6376 §6), in two steps with the DNS between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.auth.canonical import Fields
from kumo_py.auth.errors import Invalid, Unavailable
from kumo_py.auth.signature import DkimSignature
from kumo_py.auth.tags import TagList
from kumo_py.message.authentication_results import AuthenticationResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.auth.dkim_keys import KeyRecords
    from kumo_py.message.headers import Field

MAX_SIGNATURES = 10
"""Signatures of a message that are looked at, from the top."""

MAX_VALUE = 400
"""Octets of a property: results are written into headers, whose lines have an end."""

_PROPS = ("a", "c", "d", "i", "s", "t", "x")


class DkimCheck:
    """The signatures of a message: ask `key_names` of the DNS, then give the answers to `results`.

    Results are those of KumoMTA: `pass`, `permerror` for whatever is wrong with message, signature or key,
    `temperror` if the DNS fails.
    """

    __slots__ = ("_fields", "_found")

    def __init__(self, data: bytes, now: float) -> None:
        """`now` is in Unix seconds."""
        self._fields = Fields(data)
        self._found: list[DkimSignature | AuthenticationResult] = []
        """By signature, from the top: what is to be verified, or why it needn't be."""
        if self._fields.has_bare_lf:
            self._found.append(_result("permerror", "a header line of the message ends with LF alone", {}))
            return
        for field in self._fields.named.get(b"dkim-signature", ())[:MAX_SIGNATURES]:
            self._found.append(self._read(field, now))

    def _read(self, field: Field, now: float) -> DkimSignature | AuthenticationResult:
        props: dict[str, str] = {}
        try:
            tags = TagList(field.value)
            props = _props(tags.values)
            return DkimSignature(self._fields, field, tags, now)
        except Invalid as err:
            return _result("permerror", str(err), props)

    @property
    def _signatures(self) -> list[DkimSignature]:
        return [one for one in self._found if isinstance(one, DkimSignature)]

    @property
    def key_names(self) -> set[str]:
        """The names whose TXT records hold the keys."""
        return {signature.key_name for signature in self._signatures}

    def work(self, keys: Mapping[str, KeyRecords]) -> int:
        """What `results` may cost, in octets that could be hashed meanwhile."""
        return sum(self._fields.body_size + keys[one.key_name].work for one in self._signatures)

    def results(self, keys: Mapping[str, KeyRecords]) -> list[AuthenticationResult]:
        """One for each signature, from the top of the message."""
        return [
            self._verified(one, keys[one.key_name]) if isinstance(one, DkimSignature) else one
            for one in self._found
        ]

    def _verified(self, signature: DkimSignature, records: KeyRecords) -> AuthenticationResult:
        props = _props(signature.tags.values) | {"header.b": self._distinct(signature.tags.values["b"])}
        try:
            signature.verify(self._fields, records)
        except Invalid as err:
            return _result("permerror", str(err), props)
        except Unavailable as err:
            return _result("temperror", str(err), props)
        size = signature.length
        return _result("pass", None if size is None else f"only {size} octets of the body are signed", props)

    def _distinct(self, text: str) -> str:
        """The first octets of a signature, enough of them to tell it from the others (RFC 6008 §4)."""
        others = [other for one in self._signatures if (other := one.tags.values["b"]) != text]
        length = 8
        while length < min(len(text), MAX_VALUE) and any(other.startswith(text[:length]) for other in others):
            length += 2
        return text[:length]


def _result(result: str, reason: str | None, props: dict[str, str]) -> AuthenticationResult:
    return AuthenticationResult(method="dkim", result=result, reason=reason, props=props)


def _props(tags: Mapping[str, str]) -> dict[str, str]:
    found = {name: tags[name] for name in _PROPS if name in tags}
    if "d" in found:
        found.setdefault("i", f"@{found['d']}")
    return {f"header.{name}": value for name, value in found.items() if len(value.encode()) <= MAX_VALUE}
