"""`kumo-py mailq`, `flush`, `hold`, `release`, `delete`: what postqueue and postsuper are to Postfix, and look like.

| Postfix | kumo-py |
|---|---|
| mailq, postqueue -p, -j | mailq, mailq --json |
| postqueue -f, -s SITE, -i ID | flush, flush --site DOMAIN, flush ID |
| postsuper -h ID, -H ID, -d ID | hold ID, release ID, delete ID |
| ALL and - for ids | the same |
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kumo_py.cli.duration import checked_duration
from kumo_py.cli.endpoint import endpoint_option, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kumo_py.cli.endpoint import Endpoint

F = TypeVar("F", bound="Callable[..., Any]")
Row = dict[str, Any]

_API = "/api/kumo-py"
_IDS = 10_000
"""In one request."""
_WIDTH = 33
"""Of an id with its mark."""
_COLUMNS = f"{{:<{_WIDTH}}} {{:>8}} {{:>19}}  {{}}"
_HEAD = _COLUMNS.format(
    "-Queue ID-".ljust(_WIDTH, "-"), "--Size--", "---Arrival Time----", "-Sender/Recipient-------"
)
_INDENT = " " * (_WIDTH + 30)
_QUEUES = {"scheduled": "deferred", "ready": "active", "delivering": "active"}
"""Postfix's names of queues."""
_MARKS = {"active": "*", "hold": "!", "deferred": " "}
_NULL_SENDER = "MAILER-DAEMON"


# -- which messages ----------------------------------------------------------------------------------------------
def _criteria(command: F) -> F:
    """Options that say which messages; all that are given must hold."""
    for option in reversed(
        (
            click.option("--queue", help="A scheduled queue, by its exact name."),
            click.option("--domain", "--site", help="Messages to this domain."),
            click.option("--tenant", help="Messages of this tenant."),
            click.option("--campaign", help="Messages of this campaign."),
            click.option("--routing-domain", help="Messages that go by this routing domain."),
            click.option("--sender", help="An address, or @ and a domain; '' is the null sender."),
            click.option("--recipient", help="An address, or @ and a domain."),
            click.option("--older-than", callback=checked_duration, help="Such as 90m or 2d."),
        )
    ):
        command = option(command)
    return command


def _targets(command: F) -> F:
    """Ids, criteria, and how the result is shown."""
    command = endpoint_option(command)
    command = click.option("--json", "as_json", is_flag=True, help="Show the result as JSON.")(command)
    command = _criteria(command)
    return click.argument("ids", nargs=-1, metavar="[ID|-|ALL]...")(command)


def _given(criteria: dict[str, str | None]) -> dict[str, Any]:
    return {name: value for name, value in criteria.items() if value is not None}


def _requests(
    ids: tuple[str, ...], criteria: dict[str, str | None], *, all_by_default: bool
) -> Iterator[Row]:
    """The bodies of the requests that are needed. Raises click.UsageError."""
    given = _given(criteria)
    if "queue" in given:
        given["queue_names"] = [given.pop("queue")]
    if "ALL" in ids:
        if len(ids) > 1 or given:
            raise click.UsageError("ALL excludes ids and criteria")
        return iter([{"everything": True}])
    if not ids:
        if not given and not all_by_default:
            raise click.UsageError(
                "say which messages: ids, - for ids on the standard input, options, or ALL"
            )
        return iter([given or {"everything": True}])
    return _in_parts([id for one in ids for id in (_ids_of_stdin() if one == "-" else [one])], given)


def _in_parts(ids: list[str], given: dict[str, Any]) -> Iterator[Row]:
    for start in range(0, len(ids), _IDS):
        yield {**given, "ids": ids[start : start + _IDS]}


def _ids_of_stdin() -> list[str]:
    """The first word of each line, without the marks that mailq puts behind it."""
    return [words[0].rstrip("*!") for line in sys.stdin if (words := line.split())]


# -- mailq -------------------------------------------------------------------------------------------------------
@click.command()
@_criteria
@click.option("--held", is_flag=True, help="Only messages that are held.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--json", "as_json", is_flag=True, help="A line of JSON for each message, as postqueue -j writes it."
)
@endpoint_option
def mailq(endpoint: Endpoint, held: bool, limit: int | None, as_json: bool, **criteria: str | None) -> None:
    """List the messages that are not delivered yet, as Postfix's mailq does.

    An id with * is about to be sent or being sent, one with ! is held. The reason in parentheses is the last failure
    of the message's queue. Sizes that only the spool could tell are shown as -.
    """
    query = _given(criteria) | {"stream": "true"}
    if held:
        query["held"] = "true"
    if limit is not None:
        query["limit"] = str(limit)
    rows = map(_parsed, _read_ahead(endpoint.lines("GET", f"{_API}/messages/v1", query)))
    if as_json:
        for row in rows:
            click.echo(json.dumps(_as_postqueue(row), ensure_ascii=False))
        return
    count = size = 0
    for row in rows:
        if not count:
            click.echo(_HEAD)
        count += 1
        size += row["size"] or 0
        click.echo(_shown(row))
    if count:
        click.echo(f"-- {(size + 1023) // 1024} Kbytes in {count} Request{'s' * (count != 1)}.")
    else:
        click.echo("Mail queue is empty")


def _read_ahead(lines: Iterator[str]) -> Iterator[str]:
    """The same lines, read in a thread: a node does not wait for somebody who reads them in a pager."""
    waiting: SimpleQueue[str | BaseException | None] = SimpleQueue()

    def read() -> None:
        try:
            for line in lines:
                waiting.put(line)
        except BaseException as err:
            waiting.put(err)
        else:
            waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := waiting.get()) is not None:
        if isinstance(line, BaseException):
            raise line
        yield line


def _parsed(line: str) -> Row:
    try:
        row: Row = json.loads(line)
    except ValueError:
        raise click.ClickException(f"this is no answer of a node: {printable(line[:200])}") from None
    return row


def _queue(row: Row) -> str:
    return "hold" if row["held"] else _QUEUES[row["where"]]


def _reason(row: Row) -> str | None:
    if row["held"]:
        return f"held: {row['held']['reason']}"
    return row["last_error"]["text"] if row["last_error"] and row["attempts"] else None


def _arrival(row: Row) -> datetime:
    return datetime.fromisoformat(row["arrived"])


def _shown(row: Row) -> str:
    """A message, and an empty line."""
    size = "-" if row["size"] is None else str(row["size"])
    arrived = _arrival(row).astimezone().strftime("%a %b %e %H:%M:%S")
    lines = [_COLUMNS.format(row["id"] + _MARKS[_queue(row)], size, arrived, row["sender"] or _NULL_SENDER)]
    reason = _reason(row)
    if reason is not None:
        lines.append(f"({reason})".rjust(len(_HEAD)))
    lines += [_INDENT + recipient for recipient in row["recipients"]]
    return printable("\n".join(line.replace("\n", " ") for line in lines)) + "\n"


def _as_postqueue(row: Row) -> Row:
    """With `scheduled_queue`, `attempts` and `due` besides."""
    reason = _reason(row)
    delay = {} if reason is None else {"delay_reason": reason}
    return {
        "queue_name": _queue(row),
        "queue_id": row["id"],
        "arrival_time": int(_arrival(row).timestamp()),
        "message_size": row["size"],
        "forced_expire": False,
        "sender": row["sender"] or _NULL_SENDER,
        "recipients": [{"address": recipient, **delay} for recipient in row["recipients"]],
        "scheduled_queue": row["queue"],
        "attempts": row["attempts"],
        "due": row["due"],
    }


# -- what is done to messages ------------------------------------------------------------------------------------
_NUMBERS = ("matched", "changed", "in_flight", "unchanged", "held", "suspended", "scheduled", "failed")


def _operate(
    endpoint: Endpoint, verb: str, requests: Iterator[Row], done: str, *, as_json: bool, **options: object
) -> None:
    """Ask for it, wait for the end, and say what came of it; exits with 1 if that isn't all that was asked for."""
    total = dict.fromkeys(_NUMBERS, 0)
    not_found: list[str] = []
    error: str | None = None
    with endpoint.connected():
        for request in requests:
            state = endpoint.post(f"{_API}/{verb}/v1", request | options)
            while not state["done"]:
                _tell(state)
                state = endpoint.get(f"{_API}/operations/v1?id={state['id']}")
            for name in _NUMBERS:
                total[name] += state[name]
            not_found += state["not_found"]
            error = error or state["error"]
    if as_json:
        click.echo(json.dumps({**total, "not_found": not_found, "error": error}))
    else:
        _report(verb, done, total)
        for id in not_found:
            click.echo(f"{id}: there is no such message", err=True)
        if error is not None:
            click.echo(error, err=True)
    if not_found or error is not None or total["failed"]:
        raise SystemExit(1)


def _tell(state: Row) -> None:
    """Progress, for a terminal."""
    if sys.stderr.isatty():
        text = f"{state['examined']:,} of {state['total']:,} looked at, {state['changed']:,} done"
        click.echo(f"\r{text}\033[K", err=True, nl=False)


def _report(verb: str, done: str, total: dict[str, int]) -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    click.echo(f"{done} {_messages(total['changed'])}")
    if total["in_flight"]:
        click.echo(f"{_messages(total['in_flight'])} being tried now: {done} if not delivered")
    left = {
        "unchanged": "may go already"
        if verb == "flush"
        else f"{done} already"
        if verb == "hold"
        else "not held",
        "held": "held",
        "suspended": "in suspended queues",
        "scheduled": "not to be sent yet by their own schedule",
        "failed": "not readable: see the diagnostic log",
    }
    for name, why in left.items():
        if total[name]:
            click.echo(f"left {_messages(total[name])}: {why}")


def _messages(count: int) -> str:
    return f"{count:,} message{'s' * (count != 1)}"


@click.command()
@_targets
@click.option(
    "--id", "more_ids", multiple=True, help="A message, as an argument; may be given several times."
)
@click.option("--force", is_flag=True, help="Also before the time that a message's own schedule allows.")
def flush(
    endpoint: Endpoint,
    ids: tuple[str, ...],
    more_ids: tuple[str, ...],
    force: bool,
    as_json: bool,
    **criteria: str | None,
) -> None:
    """Try messages that wait now; all of them, if none are named.

    They keep their attempts, and expire when they would have. Held and suspended ones stay.
    """
    requests = _requests((*ids, *more_ids), criteria, all_by_default=True)
    _operate(endpoint, "flush", requests, "flushed", as_json=as_json, force=force)


@click.command()
@_targets
@click.option("--reason", default="held by an operator", show_default=True, help="Is shown by mailq.")
def hold(
    endpoint: Endpoint, ids: tuple[str, ...], reason: str, as_json: bool, **criteria: str | None
) -> None:
    """Keep messages until they are released: they are neither tried nor do they expire."""
    requests = _requests(ids, criteria, all_by_default=False)
    _operate(endpoint, "hold", requests, "held", as_json=as_json, reason=reason)


@click.command()
@_targets
def release(endpoint: Endpoint, ids: tuple[str, ...], as_json: bool, **criteria: str | None) -> None:
    """Let held messages go on, now."""
    requests = _requests(ids, criteria, all_by_default=False)
    _operate(endpoint, "release", requests, "released", as_json=as_json)


@click.command()
@_targets
@click.option("--reason", default="deleted by an operator", show_default=True, help="Goes into the log.")
@click.option("--suppress-logging", is_flag=True, help="Write no AdminBounce records.")
@click.option("-f", "--yes", is_flag=True, help="Do not ask whether ALL is meant.")
def delete(
    endpoint: Endpoint,
    ids: tuple[str, ...],
    reason: str,
    suppress_logging: bool,
    yes: bool,
    as_json: bool,
    **criteria: str | None,
) -> None:
    """Remove messages. There is no way back, and no report to their senders."""
    requests = _requests(ids, criteria, all_by_default=False)
    if "ALL" in ids and not yes:
        click.confirm("Delete all messages of this node?", abort=True, err=True)
    _operate(
        endpoint,
        "delete",
        requests,
        "deleted",
        as_json=as_json,
        reason=reason,
        suppress_logging=suppress_logging,
    )
