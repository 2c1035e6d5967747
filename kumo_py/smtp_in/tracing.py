"""What an incoming session tells its trace (logs/trace.py), while somebody watches.

A Read holds what was taken of the input for one answer: a command with its line end, or what has come of a content.
So a command is told whole, however it arrived, and the password of an AUTH exchange never is. A Write holds a line of
a reply. KumoMTA's Read is what one system call gave, passwords included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from kumo_py.core.cidr import CidrSet
from kumo_py.core.key_source import KeySource
from kumo_py.logs.trace import HIDDEN, diagnostic
from kumo_py.smtp_in.auth import read_response
from kumo_py.smtp_in.verbs import VERBS, read_command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from kumo_py.logs.trace import Event, Level, Meta
    from kumo_py.message.message import Message
    from kumo_py.smtp_in.relay import Relaying
    from kumo_py.smtp_in.session import Answer, Mode, Session


class SessionTrace:
    """Of one session; made when it is first needed."""

    __slots__ = ("_held", "_hiding", "_line_open", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held: list[Event] | None = None
        """What happens while input is being taken: the Read of that input goes first."""
        self._hiding = False
        """After an AUTH command: what is no command may be a password of a client that does not heed our reply."""
        self._line_open = False
        """The last command line is not over, as it was too long to be taken at once; `_hiding` holds for its rest."""

    def tell(self, kind: str, data: bytes | Meta | None = None) -> None:
        trace = self._session.trace
        event = trace.event(dict(self._session.meta.values), kind, data)
        if self._held is None:
            trace.tell(event)
        else:
            self._held.append(event)

    def diagnostic(self, level: Level, message: str) -> None:
        self.tell("Diagnostic", diagnostic(level, message))

    def write(self, replies: bytes) -> None:
        for line in replies.splitlines(keepends=True):
            self.tell("Write", line)

    # -- what arrives ------------------------------------------------------------------------------
    def answer(self) -> Answer:
        """The answer of the session's mode, which may raise; tells what it took of the input."""
        session = self._session
        mode = session.mode
        octets, start = session.receiver.unread
        held: list[Event] = []
        self._held = held
        try:
            return mode(session)
        finally:
            self._held = None
            after, position = session.receiver.unread
            self._read(mode, octets[start : len(octets) - (len(after) - position)])
            for event in held:
                session.trace.tell(event)

    def abandoned(self) -> None:
        """What is there is not going to be answered."""
        octets, start = self._session.receiver.unread
        self._read(self._session.mode, octets[start:])

    def _read(self, mode: Mode, octets: bytes) -> None:
        """The mode took so much of the input."""
        if not octets:
            return
        if mode is read_response:
            octets = _hidden(b"", octets)
        elif mode is read_command:
            octets = self._without_password(octets)
        self.tell("Read", octets)

    def _without_password(self, line: bytes) -> bytes:
        """A command line, or what has come of one."""
        goes_on, self._line_open = self._line_open, not line.endswith(b"\n")
        if goes_on:
            return _hidden(b"", line) if self._hiding else line
        words = line.split(None, 2) or [b""]
        verb = words[0].upper()
        if not verb.startswith(b"AUTH"):
            self._hiding = self._hiding and verb.decode("ascii", "replace") not in VERBS
            return _hidden(b"", line) if self._hiding else line
        self._hiding = True
        if verb != b"AUTH":
            return _hidden(b"AUTH", line)
        return line if len(words) < 3 else _hidden(b" ".join(words[:2]), line)

    # -- what the policy says ----------------------------------------------------------------------
    def ask(self, name: str, event: str, args: tuple[Any, ...]) -> Awaitable[Any]:
        """`Policy.ask`."""
        return self._awaited(name, self._session.services.policy.ask(event, *args))

    def start(self, event: str, args: tuple[Any, ...]) -> Awaitable[Any] | None:
        """`Policy.start`."""
        try:
            rest = self._session.services.policy.start(event, *args)
        except Exception as err:
            self._failed(event, err)
            raise
        if rest is not None:
            return _Rest(self._awaited, event, rest)
        self._returned(event, None)
        return None

    async def _awaited(self, name: str, answer: Awaitable[Any]) -> Any:  # noqa: ANN401  the policy's
        try:
            result = await answer
        except Exception as err:
            self._failed(name, err)
            raise
        self._returned(name, result)
        return result

    def _returned(self, name: str, result: object) -> None:
        self.tell("Callback", {"name": name, "result": _plain(result), "error": None})

    def _failed(self, name: str, err: Exception) -> None:
        self.tell("Callback", {"name": name, "result": None, "error": str(err)})

    # -- what becomes of a message -----------------------------------------------------------------
    def disposition(
        self, msg: Message, queue: str, relaying: Relaying, *, enqueued: bool, is_report: bool
    ) -> None:
        recipients = list(msg.recipients)
        self.tell(
            "MessageDisposition",
            {
                "relay": relaying.allowed,
                "log_arf": _report(relaying.log_arf, relaying.relay_arf),
                "log_oob": _report(relaying.log_oob, relaying.relay_oob),
                "queue": queue,
                "meta": dict(msg.meta),
                "sender": msg.sender,
                "recipient": recipients[0] if len(recipients) == 1 else recipients,
                "id": msg.id.hex(),
                "was_arf_or_oob": is_report,
                "will_enqueue": enqueued,
            },
        )


class _Rest:
    """What is left of an event. A coroutine would complain if the session ends before it is awaited."""

    __slots__ = ("_args", "_run")

    def __init__(self, run: Callable[..., Coroutine[Any, Any, Any]], *args: object) -> None:
        self._run = run
        self._args = args

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run(*self._args).__await__()


def _hidden(shown: bytes, line: bytes) -> bytes:
    """A line of which only that much may be seen."""
    end = b"\r\n" if line.endswith(b"\n") else b""
    return b" ".join(filter(None, (shown, HIDDEN.encode()))) + end


def _plain(value: object) -> object:
    """JSON of what an event returns, without keys."""
    match value:
        case KeySource():
            return HIDDEN
        case CidrSet():
            return value.to_option()
        case msgspec.Struct():
            given = msgspec.structs.asdict(value)
            return {name: _plain(option) for name, option in given.items() if option is not None}
        case Mapping():
            return {str(name): _plain(entry) for name, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
    return value


def _report(logged: bool, relayed: bool) -> str:
    """KumoMTA's LogReportDisposition."""
    return "Ignore" if not logged else "LogThenRelay" if relayed else "LogThenDrop"
