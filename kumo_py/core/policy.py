"""What every room may ask of the policy, without knowing that it is written in Lua.

A room asks an event by its KumoMTA name with plain Python arguments; the policy room turns
them into Lua values, runs the handler and turns the result back, as its event registry declares.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kumo_py.core.key_source import KeySource


class Disconnect(enum.Enum):
    """What becomes of an SMTP session after a rejection (`kumo.disconnect`)."""

    NO = "no"
    FORCE_DISCONNECT = "ForceDisconnect"
    FOLLOW_WITH_421 = "FollowWith421"


class Rejection(Exception):
    """A handler called `kumo.reject` or `kumo.disconnect`: its code and text are the answer.

    A code of 421 always closes an SMTP session (RFC 5321 §3.8).
    """

    def __init__(self, code: int, text: str, disconnect: Disconnect = Disconnect.NO) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.disconnect = disconnect

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class PolicyError(Exception):
    """A handler failed; the text holds the event, the policy's file and line, and the traceback."""


class PolicyObject(Protocol):
    """An object that a handler made, with the state it lives in: nobody else runs there meanwhile."""

    async def call(self, method: str, *args: Any, optional: bool = False) -> str:
        """Call a method; the text that it returned. An optional one may be missing, and may return nothing.

        Raises Rejection or PolicyError. One call at a time.
        """
        ...

    def discard(self) -> None:
        """Let go of it; it must not be called any more."""
        ...


class Policy(Protocol):
    """The questions; see the event registry for each event's arguments and result."""

    def handles(self, event: str) -> bool:
        """Whether the current policy registered a handler: lets the hot path skip building arguments."""
        ...

    async def ask(self, event: str, *args: Any) -> Any:
        """Run the event's handler(s); None if there is none, or if it returned no value.

        Raises Rejection or PolicyError.
        """
        ...

    def start(self, event: str, *args: Any) -> Awaitable[Any] | None:
        """`ask`, as far as it goes without waiting: None if that was all, else await the rest.

        For those who are not in a task. Raises Rejection or PolicyError.
        """
        ...

    async def construct(self, event: str, *args: Any) -> PolicyObject:
        """Run the event's handler and keep the object that it returns. Raises Rejection or PolicyError."""
        ...

    async def load_key(self, source: KeySource) -> bytes:
        """The key, certificate or password that a source describes, read anew.

        Raises OSError, ValueError or KeyError, with a text for people.
        """
        ...


class SilentPolicy:
    """A policy without handlers: for tests, and before the first one is loaded."""

    def handles(self, event: str) -> bool:
        return False

    async def ask(self, event: str, *args: Any) -> Any:
        return None

    def start(self, event: str, *args: Any) -> Awaitable[Any] | None:
        return None

    async def construct(self, event: str, *args: Any) -> PolicyObject:
        raise PolicyError(no_handler(event))

    async def load_key(self, source: KeySource) -> bytes:
        """Only what the source carries itself. Raises ValueError."""
        inline = source.inline_bytes()
        if inline is None:
            raise ValueError("without a policy, a key source must carry its key_data")
        return inline


def no_handler(event: str) -> str:
    return f"there is no handler for '{event}': register one with kumo.on('{event}', function(...) … end)"
