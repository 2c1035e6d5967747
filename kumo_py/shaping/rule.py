"""Automation rules: which responses of remote servers lead to which action (KumoMTA `automation` blocks)."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.core.options import convert, to_builtins
from kumo_py.core.regex import Regex
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.queue.config import EgressPath

INTERNAL = "KumoMTA internal: "
"""How responses begin that the node made up itself."""
_LONGEST = 8192
"""Octets of a response that a pattern with look-around or back references sees: those take more than
linear time."""


class Patterns:
    """One regular expression or several, of which one must be found: the type of a rule's `regex`."""

    __slots__ = ("_compiled", "texts")

    option_type = "string|string[]"

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Raises ValueError."""
        self.texts: Final = texts
        self._compiled = [_compiled(text) for text in texts]

    @classmethod
    def from_option(cls, value: object) -> Self:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError("must be a regular expression or a list of them")
        return cls(tuple(texts))

    def to_option(self) -> list[str]:
        return list(self.texts)

    def found_in(self, text: str) -> bool:
        subject = text.encode("utf-8", "replace")
        return any(_found(one, subject) for one in self._compiled)


def _found(pattern: Regex, subject: bytes) -> bool:
    try:
        return pattern.is_match(subject if pattern.is_linear else subject[:_LONGEST])
    except ValueError:
        return False  # it took too long


def _compiled(text: str) -> Regex:
    try:
        return Regex(text)
    except ValueError as err:
        raise ValueError(f"'{text}' is not a regular expression: {err}") from None


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class PathOption(_Table, frozen=True):
    """One option of an egress path, by name."""

    name: str
    value: Any

    def __post_init__(self) -> None:
        convert({self.name: self.value}, EgressPath, "value")


class SetConfig(_Table, frozen=True):
    """`action = {SetConfig={name=…, value=…}}`, or for the domain alone, whatever its MX hosts."""

    SetConfig: PathOption | None = None
    SetDomainConfig: PathOption | None = None

    def __post_init__(self) -> None:
        if (self.SetConfig is None) == (self.SetDomainConfig is None):
            raise ValueError("an action that is a table has either SetConfig or SetDomainConfig")


class Threshold(_Table, frozen=True):
    """`trigger = {Threshold="10/hr"}`."""

    Threshold: ThrottleSpec


Named = Literal["Suspend", "SuspendTenant", "SuspendCampaign", "Bounce", "BounceTenant", "BounceCampaign"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """See the module."""

    regex: Patterns
    action: Named | SetConfig | list[Named | SetConfig]
    duration: Duration
    trigger: Literal["Immediate"] | Threshold = "Immediate"
    match_internal: bool = False
    """Whether responses that the node made up itself may match."""

    @property
    def actions(self) -> list[Named | SetConfig]:
        return self.action if isinstance(self.action, list) else [self.action]

    def matches(self, response: str, *, internal: bool) -> bool:
        """Whether a response, on one line, asks for the actions."""
        return (self.match_internal or not internal) and self.regex.found_in(response)

    def to_table(self) -> dict[str, object]:
        """The rule as plain data, as Lua and a hash see it."""
        actions: list[object] = []
        for action in self.actions:
            if isinstance(action, SetConfig):
                chosen = {key: value for key, value in to_builtins(action).items() if value is not None}
                actions.append(chosen)
            else:
                actions.append(action)
        return {**to_builtins(self), "action": actions}
