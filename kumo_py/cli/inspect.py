"""`kumo-py inspect-message`, `inspect-sched-q`, `inspect-ready-q` and `resolve-egress-path`, as kcli has them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from kumo_py.cli.endpoint import endpoint_option, printable
from kumo_py.core.duration import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.cli.endpoint import Endpoint

_STALLED = 0.75
"""The share of the watchdog's time after which a dispatcher is marked."""


# -- messages and scheduled queues ---------------------------------------------------------------------------
@click.command()
@click.argument("id_", metavar="ID")
@click.option("--want-body", is_flag=True, help="With its content.")
@endpoint_option
def inspect_message(endpoint: Endpoint, id_: str, want_body: bool) -> None:
    """Print a message of the spool as JSON."""
    query = {"id": id_} | ({"want_body": "true"} if want_body else {})
    _print(endpoint.get(f"/api/admin/inspect-message/v1?{urlencode(query)}"))


@click.command()
@click.argument("queue_name")
@click.option("--want-body", is_flag=True, help="With the messages' content.")
@click.option(
    "--limit", type=click.IntRange(min=0), help="How many of its messages to print; 5 unless given."
)
@click.option("--no-limit", is_flag=True, help="Print all of its messages.")
@endpoint_option
def inspect_sched_q(
    endpoint: Endpoint, queue_name: str, want_body: bool, limit: int | None, no_limit: bool
) -> None:
    """Print a scheduled queue, its configuration and some of the messages that wait in it, as JSON."""
    if no_limit and limit is not None:
        raise click.UsageError("--limit and --no-limit exclude each other")
    query = {"queue_name": queue_name} | ({"want_body": "true"} if want_body else {})
    if not no_limit:
        query["limit"] = str(5 if limit is None else limit)
    _print(endpoint.get(f"/api/admin/inspect-sched-q/v1?{urlencode(query)}"))


# -- ready queues --------------------------------------------------------------------------------------------
@click.command()
@click.argument("queue_name")
@click.option("--connections", is_flag=True, help="Show what each of its dispatchers is doing.")
@click.option("--config", is_flag=True, help="Show the options of its egress path.")
@click.option("--sched-q", is_flag=True, help="Show the scheduled queues that lead to it.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@endpoint_option
def inspect_ready_q(
    endpoint: Endpoint, queue_name: str, connections: bool, config: bool, sched_q: bool, as_json: bool
) -> None:
    """Print a ready queue: where it leads, what keeps it back, and how busy it is."""
    if as_json and (connections or config or sched_q):
        raise click.UsageError("--json prints all: it excludes --connections, --config and --sched-q")
    query = {"queue_name": queue_name}
    if sched_q or as_json:
        query["include_scheduled_queues"] = "true"
    found = endpoint.get(f"/api/admin/inspect-ready-q/v1?{urlencode(query)}")
    if as_json:
        _print(found)
        return
    lines = [*_summary(found), "", *ceilings(found["constraints"])]
    if sched_q:
        names = found["scheduled_queue_names"]
        lines += ["", f"scheduled queues: {len(names)}", *(f"  {name}" for name in names)]
    lines += ["", f"connections: {found['state']['connection_count']:,}"]
    if connections and found["dispatchers"]:
        lines += _dispatchers(found)
    if config:
        lines += ["", "config:", *(f"  {line}" for line in _toml(found["path_config"]).splitlines())]
    _print_lines(lines)


def _summary(found: dict[str, Any]) -> Iterator[str]:
    state = found["state"]
    yield f"queue: {found['queue_name']}"
    yield ""
    yield f"egress pool:        {found['egress_pool']}"
    yield f"egress source:      {found['egress_source']}"
    yield f"protocol:           {found['protocol']}"
    yield f"watchdog threshold: {state['watchdog_threshold']}"
    if found["mx"] is not None:
        yield ""
        yield from _mx(found["mx"])
    yield ""
    yield f"ready: {state['ready_count']:,}"
    for kind in ("connection_rate_throttled", "connection_limited"):
        if state[kind] is not None:
            yield ""
            yield f"{kind.replace('_', ' ')}: {state[kind]['context']}"
            yield f"  since: {_time(state[kind]['since'])}"
    if state["suspended"] is not None:
        yield ""
        yield f"suspended: {state['suspended']['reason']}"
        yield f"  expires in: {state['suspended']['duration']}"


def _mx(mx: dict[str, Any]) -> Iterator[str]:
    flags = [
        text
        for text, holds in (
            ("synthesised", not mx["is_mx"]),
            ("domain literal", mx["is_domain_literal"]),
            ("dnssec verified", mx["is_secure"]),
        )
        if holds
    ]
    yield f"mx (site: {', '.join([mx['site_name'], *flags])}):"
    for preference, hosts in sorted(mx["by_preference"].items(), key=lambda item: int(item[0])):
        for host in hosts:
            yield f"  {preference:>4}  {host}"


def _dispatchers(found: dict[str, Any]) -> Iterator[str]:
    """The oldest first; below each what it is doing."""
    threshold = parse_duration(found["state"]["watchdog_threshold"])
    dispatchers = sorted(found["dispatchers"], key=lambda one: parse_duration(one["age"]), reverse=True)
    rows = [("SESSION", "DELIV", "TRANS", "FAIL", "AGE", "RATE", "")]
    below: list[list[str]] = []
    for one in dispatchers:
        stuck = parse_duration(one["time_in_current_phase"])
        mark = "⚠ STUCK" if stuck >= threshold else "⚠ STALL?" if stuck >= _STALLED * threshold else ""
        counts = (one[f"messages_{what}"] for what in ("delivered", "transfailed", "failed"))
        rate = f"{one['overall_rate_per_sec']:.1f}/s"
        rows.append((one["session_id"], *(f"{count:,}" for count in counts), one["age"], rate, mark))
        phase = f"{_phase(one['phase'])} for {one['time_in_current_phase']}"
        below.append([phase] if one["detail"] is None else [phase, one["detail"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max([widths[0], *(len(line) for lines in below for line in lines)])
    for row, lines in zip(rows, [[], *below], strict=True):
        session, *numbers, mark = (printable(cell) for cell in row)
        right = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
        yield f"  {' '.join([session.ljust(widths[0]), *right, mark])}".rstrip()
        yield from (f"  {line}" for line in lines)
        if lines:
            yield ""


def _phase(phase: str | dict[str, Any]) -> str:
    match phase:
        case {"AcquiringLease": {"label": label}}:
            return f"AcquiringLease({label})"
        case {"AccumulatingBatch": {"have": have, "want": want}}:
            return f"AccumulatingBatch({have}/{want})"
    return str(phase)


# -- paths ---------------------------------------------------------------------------------------------------
@click.command()
@click.argument("domain")
@click.argument("source", required=False)
@click.option("--config", is_flag=True, help="Print only the options of the egress path, as TOML.")
@click.option("--constraints", is_flag=True, help="Print only what they allow at most.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@endpoint_option
def resolve_egress_path(
    endpoint: Endpoint, domain: str, source: str | None, config: bool, constraints: bool, as_json: bool
) -> None:
    """Print what the node's policy makes of a domain and an egress source, `unspecified` unless given."""
    if sum((config, constraints, as_json)) > 1:
        raise click.UsageError("--config, --constraints and --json exclude each other")
    query = {"domain": domain} | ({} if source is None else {"source": source})
    found = endpoint.get(f"/api/admin/resolve-egress-path/v1?{urlencode(query)}")
    if as_json:
        _print(found)
    elif config:
        click.echo(printable(_toml(found["path_config"])), nl=False)
    elif constraints:
        _print_lines(ceilings(found["constraints"]))
    else:
        mx = ["mx: <not resolved>"] if found["mx"] is None else _mx(found["mx"])
        _print_lines(
            [
                f"domain: {found['domain']}",
                f"source: {found['source']}",
                f"queue:  {found['queue_name']}",
                "",
                *mx,
                "",
                "--- egress path config ---",
                "",
                *_toml(found["path_config"]).splitlines(),
                "",
                "--- effective ceilings ---",
                "",
                *ceilings(found["constraints"]),
            ]
        )


def ceilings(constraints: dict[str, Any]) -> list[str]:
    """What is possible at most, and which option says so."""
    from kumo_py.core.options import convert
    from kumo_py.queue.constraints import Constraints, describe

    if constraints["max_concurrent_dispatchers"]["value"] is None:
        constraints["max_concurrent_dispatchers"]["value"] = float("inf")  # for which JSON has no number
    return describe(convert(constraints, Constraints, "constraints")).splitlines()


def _toml(table: dict[str, object]) -> str:
    from kumo_py.core.compact_toml import compact_toml

    return compact_toml(table)


def _time(text: str) -> str:
    """As kcli prints it."""
    when = datetime.fromisoformat(text)
    return f"{when.replace(tzinfo=None)} UTC"


def _print(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(printable(line))
