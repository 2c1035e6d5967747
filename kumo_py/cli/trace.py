"""`kumo-py trace-smtp-server` and `trace-smtp-client`: kcli's commands of these names, with its options and output."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click
import trio

from kumo_py.cli.endpoint import TIMEOUT, endpoint_option, no_url, printable, refused, unreachable
from kumo_py.core.cidr import CidrSet
from kumo_py.core.url import parse_url
from kumo_py.message.rfc3339 import parse_rfc3339
from kumo_py.net.websocket import UpgradeRefused, open_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from kumo_py.cli.endpoint import Endpoint
    from kumo_py.core.url import Url
    from kumo_py.net.websocket import WebSocket

F = TypeVar("F", bound="Callable[..., Any]")

_MOST_SESSIONS = 10_000
"""Sessions whose beginning is remembered."""
_ESCAPES = {"\t": "\\t", "\r": "\\r", "\n": "\\n", "\0": "\\0", "'": "\\'", '"': '\\"', "\\": "\\\\"}


class _Kind(NamedTuple):
    """How the two commands differ."""

    path: str
    first: str
    """What a session begins with."""
    read: tuple[str, str]
    """The colour of what the node reads, and the arrow before it."""
    write: tuple[str, str]
    """Of what it writes."""


_SERVER = _Kind("/api/admin/trace-smtp-server/v1", "Connected", ("green", " -> "), ("cyan", "<-  "))
_CLIENT = _Kind("/api/admin/trace-smtp-client/v1", "BeginSession", ("cyan", " <- "), ("green", "->  "))


@dataclass(slots=True)
class _Session:
    opened: datetime
    meta: dict[str, object] = field(default_factory=dict)


class _Printer:
    """Shows events, each as it comes."""

    def __init__(self, kind: _Kind, *, color: str, only_new: bool, only_one: bool) -> None:
        self._kind = kind
        self._color = {"tty": None, "yes": True, "no": False}[color]
        self._only_new = only_new
        self._only_one = only_one
        self._wanted: str | None = None
        """The one session to show."""
        self._sessions: dict[str, _Session] = {}
        self._prefix = ""

    def show(self, event: Mapping[str, Any]) -> bool:
        """Whether that was all that is wanted. Raises KeyError, TypeError or ValueError for what is no event."""
        meta, payload, when = event["conn_meta"], event["payload"], parse_rfc3339(event["when"])
        [(kind, data)] = [(payload, None)] if isinstance(payload, str) else payload.items()
        if meta is None:
            self._prefix = f"[] {'':5}"
            self._payload(kind, data, when)
            return False
        key = _lasting_key(meta)
        session = self._sessions.get(key)
        if self._wanted not in (None, key) or (
            session is None and self._only_new and kind != self._kind.first
        ):
            return False
        elapsed = ""
        if session is not None:
            elapsed = _elapsed((when - session.opened).total_seconds())
        else:
            if self._only_one:
                self._wanted = key
            if len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            session = self._sessions[key] = _Session(when)
        self._prefix = f"[{printable(_shown_key(meta))}] {elapsed:>5}"
        self._payload(kind, data, when)
        if kind == "Closed":
            # An outgoing session may go on with the next host.
            if self._kind is _SERVER:
                del self._sessions[key]
            return self._only_one
        self._changes(session.meta, meta)
        session.meta = meta
        return False

    def _payload(self, kind: str, data: Any, when: datetime) -> None:  # noqa: ANN401  JSON
        match kind, data:
            case "Read", str():
                self._lines(self._kind.read, data.rstrip() if self._kind is _SERVER else data)
            case "Write", str():
                self._lines(self._kind.write, data if self._kind is _SERVER else data.rstrip())
            case "AbbreviatedRead", {"snippet": str(snippet), "len": int(octets)}:
                self._lines(self._kind.read, snippet)
                self._note(f"bytes read={octets}")
            case "AbbreviatedWrite", {"snippet": str(snippet), "len": int(octets)}:
                self._lines(self._kind.write, snippet)
                self._note(f"bytes written={octets}")
            case "Diagnostic", {"level": str(level), "message": str(message)}:
                text = printable(f"{level}: {message}")
                self._note(click.style(text, fg="red") if level == "ERROR" else text)
            case "Callback", {"name": str(name), "error": None, **rest}:
                result = rest.get("result")
                self._note(printable(f"{name}: Ok" if result is None else f"{name}: Ok: {_json(result)}"))
            case "Callback", {"name": str(name), "error": str(error)}:
                self._note(f"{printable(name)}: " + click.style(f"Error: {printable(error)}", fg="red"))
            case "MessageDisposition", dict():
                self._disposition(data)
            case _ if kind == self._kind.first:
                self._note(f"{kind} {when:%Y-%m-%d %H:%M:%S.%f} UTC")
            case _:
                self._note(printable(kind if data is None else f"{kind} {_json(data)}"))

    def _disposition(self, data: Mapping[str, Any]) -> None:
        recipient = data["recipient"]
        recipients = recipient if isinstance(recipient, str) else ", ".join(recipient)
        self._note(printable(f"Message from=<{data['sender']}> to=<{recipients}> id={data['id']}"))
        names = ("queue", "relay", "log_arf", "log_oob", "was_arf_or_oob", "will_enqueue")
        self._note(printable(f"Message {' '.join(f'{name}={_plain(data.get(name))}' for name in names)}"))
        for name, value in sorted(data["meta"].items()):
            self._note(printable(f"Message meta: {name}={_json(value)}"))

    def _changes(self, before: dict[str, object], now: dict[str, object]) -> None:
        """What has come to be known of the session."""
        for name in sorted(before.keys() - now.keys()):
            self._note(printable(f"conn_meta deleted {name}"))
        for name, value in sorted(now.items()):
            if name not in before or before[name] != value:
                self._note(printable(f"conn_meta {name}={_json(value)}"))

    def _lines(self, direction: tuple[str, str], text: str) -> None:
        color, arrow = direction
        if not text:
            return
        for line in text.removesuffix("\n").split("\n"):
            self._echo(click.style(f"{arrow}{_escaped(line.removesuffix(chr(13)))}", fg=color))

    def _note(self, text: str) -> None:
        self._echo(f"=== {text}")

    def _echo(self, text: str) -> None:
        click.echo(f"{self._prefix} {text}", color=self._color)


def _lasting_key(meta: Mapping[str, Any]) -> str:
    """Which session it is, whatever a proxy says of its addresses."""
    if "id" in meta:
        return str(meta["id"])
    ends = (meta.get(f"orig_{name}", meta[name]) for name in ("received_from", "received_via"))
    return "->".join(map(str, ends))


def _shown_key(meta: Mapping[str, Any]) -> str:
    return str(meta["id"]) if "id" in meta else f"{meta['received_from']}->{meta['received_via']}"


def _elapsed(seconds: float) -> str:
    """Three digits at most, as Rust shows a Duration."""
    nanoseconds = max(0, round(seconds * 1e9))
    for unit, size in (("s", 10**9), ("ms", 10**6), ("µs", 1000)):
        if nanoseconds >= size:
            return f"{round(nanoseconds / size)}{unit}"
    return f"{nanoseconds}ns"


def _escaped(text: str) -> str:
    """As Rust's escape_debug: nothing of it does anything to a terminal."""
    return "".join(
        _ESCAPES.get(char) or (char if char.isprintable() else f"\\u{{{ord(char):x}}}") for char in text
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


async def _follow(url: Url, request: Mapping[str, object], show: Callable[[Mapping[str, Any]], bool]) -> None:
    """Show what the node tells until that is enough. Raises click.ClickException."""
    what = f"GET {replace(url, username=None, password=None)}"
    tls = ssl.create_default_context() if url.is_secure else None
    try:
        with trio.fail_after(TIMEOUT):
            websocket, _ = await open_websocket(url, tls, _authorization(url))
            await websocket.send_texts([_json(request).encode()])
    except UpgradeRefused as err:
        raise refused(what, err.status, err.text) from None
    except trio.TooSlowError:
        raise click.ClickException(f"{what}: no answer within {TIMEOUT:g}s") from None
    except OSError as err:
        raise unreachable(what, err) from None
    with closing(websocket):
        while (message := await _next(websocket, what)) is not None:
            try:
                if show(json.loads(message)):
                    return
            except (KeyError, TypeError, ValueError, AttributeError) as err:
                text = f"{what}: this is no event of a trace: {printable(message[:200].decode(errors='replace'))}"
                raise click.ClickException(text) from err
    reason = f": {printable(websocket.close_reason)}" if websocket.close_reason else ""
    raise click.ClickException(f"the node has closed the connection{reason}")


async def _next(websocket: WebSocket, what: str) -> bytes | None:
    """Raises click.ClickException. (An OSError of stdout is something else.)"""
    try:
        return await websocket.receive()
    except OSError as err:
        raise click.ClickException(f"{what}: {err}") from None


def _authorization(url: Url) -> list[tuple[bytes, bytes]]:
    if url.username is None:
        return []
    return [(b"authorization", b"Basic " + b64encode(f"{url.username}:{url.password or ''}".encode()))]


def _run(endpoint: Endpoint, kind: _Kind, request: Mapping[str, object], printer: _Printer) -> None:
    try:
        url = parse_url(endpoint.url + kind.path)
    except ValueError as err:
        raise no_url(endpoint.url, err) from None
    try:
        trio.run(_follow, url, {name: value for name, value in request.items() if value}, printer.show)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


# -- the commands ----------------------------------------------------------------------------------------------
def _networks(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        CidrSet(value)
    except ValueError as err:
        raise click.BadParameter(str(err)) from None
    return value


def _network_option(*names: str, help: str) -> Callable[[F], F]:
    return click.option(
        *names, multiple=True, metavar="CIDR", callback=_networks, help=f"{help} May be given several times."
    )


def _name_option(name: str, what: str) -> Callable[[F], F]:
    return click.option(name, multiple=True, help=f"Only {what}. May be given several times.")


def _shared_options(command: F) -> F:
    options = (
        click.option(
            "--color", type=click.Choice(("tty", "yes", "no")), default="tty", help="tty: on a terminal only."
        ),
        click.option("--only-new", is_flag=True, help="Only sessions that begin from now on."),
        click.option("--only-one", is_flag=True, help="Only the first session that is seen, to its end."),
        click.option(
            "--terse", is_flag=True, help="Of message data only the first line, and how much it is."
        ),
        endpoint_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_network_option("--source", help="Only clients with these addresses.")
@_shared_options
def trace_smtp_server(
    endpoint: Endpoint, source: tuple[str, ...], color: str, only_new: bool, only_one: bool, terse: bool
) -> None:
    """Show what happens in SMTP sessions that come in, until Ctrl-C.

    On a busy node, say of which clients: what is too much to show is left out.
    """
    printer = _Printer(_SERVER, color=color, only_new=only_new, only_one=only_one)
    _run(endpoint, _SERVER, {"source_addr": source, "terse": terse}, printer)


@click.command()
@_network_option("--source", help="Only connections from these addresses of ours.")
@_network_option("--mx-addr", help="Only connections to hosts with these addresses.")
@_name_option("--mx-host", "connections to the host of this name")
@_name_option("--domain", "messages of this domain")
@_name_option("--routing-domain", "messages of this routing domain")
@_name_option("--campaign", "messages of this campaign")
@_name_option("--tenant", "messages of this tenant")
@_name_option("--egress-pool", "sessions of this egress pool")
@_name_option("--egress-source", "sessions of this egress source")
@_name_option("--mail-from", "messages from this envelope sender")
@_name_option("--rcpt-to", "messages to this envelope recipient")
@_name_option("--ready-queue", "sessions of this ready queue")
@_shared_options
def trace_smtp_client(
    endpoint: Endpoint,
    color: str,
    only_new: bool,
    only_one: bool,
    terse: bool,
    source: tuple[str, ...],
    **allowed: tuple[str, ...],
) -> None:
    """Show what happens in SMTP sessions that go out, until Ctrl-C.

    A session is shown until it is known not to be meant: pool, source and ready queue are known when it begins, its
    host and addresses when it is connected, and what a message has once there is one.

    On a busy node, say which sessions: what is too much to show is left out.
    """
    printer = _Printer(_CLIENT, color=color, only_new=only_new, only_one=only_one)
    request = allowed | {"source_addr": source, "terse": terse}
    _run(endpoint, _CLIENT, request, printer)
