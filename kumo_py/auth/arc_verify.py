"""Validating an Authenticated Received Chain (RFC 8617 §5.2), in two steps with the DNS between them.

Only the newest ARC-Message-Signature has to match: those before it break when a mailing list does its work, which is
what the chain is for. All seals have to.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kumo_py.auth.canonical import Fields
from kumo_py.auth.errors import Invalid, Unavailable, shown
from kumo_py.auth.signature import Seal, Signature
from kumo_py.auth.tags import TagList
from kumo_py.message.authentication_results import AuthenticationResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kumo_py.auth.dkim_keys import KeyRecords
    from kumo_py.message.headers import Field

MAX_SETS = 50
"""RFC 8617 §4.2.1."""

Status = Literal["none", "pass", "fail"]

_HEADERS = ("ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal")
_AAR, _AMS, _SEAL = (name.lower().encode() for name in _HEADERS)
_match_instance = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*(?:;|\Z)").match


class ArcSet(NamedTuple):
    """What one sealer added."""

    results: Field
    signature: Signature
    seal: Seal


@dataclass(slots=True)
class ArcVerdict:
    """What became of a chain."""

    status: Status
    reason: str | None = None
    oldest_pass: int = 0
    """The oldest instance from which on all message signatures match; 0 if all do, or nobody knows."""
    sets: int = 0

    @property
    def result(self) -> AuthenticationResult:
        props = {"header.oldest-pass": str(self.oldest_pass)} if self.sets else {}
        return AuthenticationResult(method="arc", result=self.status, reason=self.reason, props=props)


class ArcCheck:
    """The chain of a message: ask `key_names` of the DNS, then give the answers to `verdict`."""

    __slots__ = ("_now", "_problem", "fields", "sets")

    def __init__(self, data: bytes, now: float) -> None:
        """`now` is in Unix seconds."""
        self.fields = Fields(data)
        self._now = now
        self._problem: str | None = None
        self.sets: list[ArcSet] = []
        """By instance, from 1."""
        try:
            self.sets = self._read()
        except Invalid as err:
            self._problem = str(err)

    def _read(self) -> list[ArcSet]:
        """Raises Invalid."""
        fields = self.fields
        found = [fields.named.get(name, ()) for name in (_AAR, _AMS, _SEAL)]
        count = max(map(len, found))
        if not count:
            return []
        if fields.has_bare_lf:
            raise Invalid("a header line of the message ends with LF alone")
        if count > MAX_SETS:
            raise Invalid(f"the chain has more than {MAX_SETS} sets")
        by_instance: dict[tuple[int, int], Field] = {}
        for kind, several in enumerate(found):
            for field in several:
                key = _instance(field), kind
                if key in by_instance:
                    raise Invalid(f"there are two {_name(field)} headers of instance {key[0]}")
                by_instance[key] = field
        for instance in range(1, count + 1):
            for kind, name in enumerate(_HEADERS):
                if (instance, kind) not in by_instance:
                    raise Invalid(f"instance {instance} has no {name}")
        return [
            ArcSet(
                by_instance[instance, 0],
                self._signature(by_instance[instance, 1], instance, newest=instance == count),
                _seal(by_instance[instance, 2], instance),
            )
            for instance in range(1, count + 1)
        ]

    def _signature(self, field: Field, instance: int, *, newest: bool) -> Signature:
        where = f"the ARC-Message-Signature of instance {instance}"
        try:
            tags = TagList(field.value)
            tags.required("a", "b", "bh", "d", "h", "s", "i")
            # Older ones may have expired since they were sealed.
            signature = Signature(self.fields, field, tags, self._now if newest else 0)
        except Invalid as err:
            raise Invalid(f"{where}: {err}") from None
        if _SEAL in signature.names:
            raise Invalid(f"{where} signs ARC-Seal")
        return signature

    @property
    def key_names(self) -> set[str]:
        """The names whose TXT records hold the keys."""
        return {one.key_name for set_ in self.sets for one in (set_.signature, set_.seal)}

    def work(self, keys: Mapping[str, KeyRecords]) -> int:
        """What `verdict` may cost, in octets that could be hashed meanwhile."""
        names = [one.key_name for set_ in self.sets for one in (set_.signature, set_.seal)]
        return self.fields.body_size * len(self.sets) + sum(keys[name].work for name in names)

    def verdict(self, keys: Mapping[str, KeyRecords]) -> ArcVerdict:
        """Whether the chain holds."""
        if self._problem is not None:
            return ArcVerdict("fail", self._problem)
        count = len(self.sets)
        if not count:
            return ArcVerdict("none")
        try:
            self._check_signature(count, keys)
            self._check_seals(keys)
        except (Invalid, Unavailable) as err:
            return ArcVerdict("fail", str(err), 0, count)
        return ArcVerdict("pass", None, self._oldest_pass(keys), count)

    def _check_signature(self, instance: int, keys: Mapping[str, KeyRecords]) -> None:
        """Raises Invalid or Unavailable."""
        signature = self.sets[instance - 1].signature
        try:
            signature.verify(self.fields, keys[signature.key_name])
        except (Invalid, Unavailable) as err:
            raise Invalid(f"the ARC-Message-Signature of instance {instance}: {err}") from None

    def _check_seals(self, keys: Mapping[str, KeyRecords]) -> None:
        """Raises Invalid. Each seal signs all sets before it (§5.1.1)."""
        hashed = hashlib.sha256()
        for instance, set_ in enumerate(self.sets, 1):
            seal = set_.seal
            for field in (set_.results, set_.signature.field):
                hashed.update(self.fields.canonical(field, relaxed=True))
            digest = hashed.copy()
            digest.update(seal.relaxed_unsigned())
            try:
                seal.verify_digest(digest.digest(), keys[seal.key_name])
            except (Invalid, Unavailable) as err:
                raise Invalid(f"the ARC-Seal of instance {instance}: {err}") from None
            hashed.update(self.fields.canonical(seal.field, relaxed=True))

    def _oldest_pass(self, keys: Mapping[str, KeyRecords]) -> int:
        for instance in range(len(self.sets) - 1, 0, -1):
            try:
                self._check_signature(instance, keys)
            except Invalid:
                return instance + 1
        return 0


def _seal(field: Field, instance: int) -> Seal:
    where = f"the ARC-Seal of instance {instance}"
    try:
        tags = TagList(field.value)
        tags.required("i", "cv")
        seal = Seal(field, tags)
    except Invalid as err:
        raise Invalid(f"{where}: {err}") from None
    if "h" in tags.values:
        raise Invalid(f"{where} has a tag h= (RFC 8617 §5.1.1)")
    validation = tags.values["cv"].lower()
    if validation == "fail":
        raise Invalid(f"{where} says that the chain was broken already")
    if validation != ("none" if instance == 1 else "pass"):
        raise Invalid(f"{where} cannot have cv={shown(validation)}")
    return seal


def _instance(field: Field) -> int:
    if field.name.lower() == _AAR:
        match = _match_instance(field.value)
        number = None if match is None else int(match[1])
    else:
        try:
            number = TagList(field.value).number("i", 3)
        except Invalid as err:
            raise Invalid(f"an {_name(field)} header: {err}") from None
    if number is None or not 1 <= number <= MAX_SETS:
        raise Invalid(f"an {_name(field)} header has no instance from 1 to {MAX_SETS}")
    return number


def _name(field: Field) -> str:
    return field.name.decode()
