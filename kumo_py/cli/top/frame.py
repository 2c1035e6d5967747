"""Draws a frame of `kumo-py top`: a head, rates, and one of four tables, as far as the terminal has room."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from kumo_py.cli.endpoint import printable
from kumo_py.cli.top.history import RATES, History
from kumo_py.cli.top.wishes import HELP, VIEWS, Wishes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kumo_py.cli.top.overview import LastError, Overview, Policy, Queue, ReadyQueue, Tenant, Totals

    Row = tuple[Text | str, ...]

_BARS = " ▁▂▃▄▅▆▇█"
_RATE_STYLES = {"received": "cyan", "delivered": "green", "transfailed": "yellow", "failed": "red"}
_METER = 8
"""Columns of the bar of the memory."""
_TENANT_METER = 40
_LEAST_ROWS = 4
"""Of a table, for which the rates give way."""


@dataclass(slots=True)
class Scene:
    """All that a frame shows."""

    endpoint: str
    wishes: Wishes = field(default_factory=Wishes)
    history: History = field(default_factory=History)
    problem: str = ""
    """Why the node does not answer."""
    lost_at: float | None = None
    """Since when (Unix time)."""


def draw(scene: Scene, now: float, width: int, height: int | None) -> Group:
    """A frame; now: Unix time. height: lines, None for as many as there are."""
    overview, wishes = scene.history.last, scene.wishes
    lines = _head(scene, now)
    if overview is None:
        return Group(*lines[:height])
    rates = [_rate(scene.history, overview, name, width) for name in RATES]
    tabs = _tabs(overview, wishes)
    if height is None:
        return Group(*lines, *rates, tabs, _table(overview, scene.history, wishes, None))
    room = height - len(lines) - 2  # the tabs, and the keys at the end
    if room > len(rates) + _LEAST_ROWS:
        lines += rates
        room -= len(rates)
    if room < 2:
        return Group(*[*lines, tabs][:height])
    if wishes.help:
        return Group(
            *lines,
            tabs,
            *_padded([_line(f"  {keys:<10} {what}") for keys, what in HELP], room),
            _keys(wishes),
        )
    table = _table(overview, scene.history, wishes, room - 1)
    return Group(*lines, tabs, table, *_padded([], room - 1 - table.row_count), _keys(wishes))


def _padded(lines: list[Text], count: int) -> list[Text]:
    return (lines + [Text("")] * count)[: max(0, count)]


# -- head --------------------------------------------------------------------------------------------------------
def _head(scene: Scene, now: float) -> list[Text]:
    overview = scene.history.last
    lines = []
    if overview is not None:
        node = overview.node
        title = _line(("kumo-py top ", "bold"), (f" {node.hostname} ", "bold reverse"))
        if scene.wishes.paused:
            title.append(" PAUSED ", "bold black on yellow")
        title.append(_flat(f"  version {node.version}, up {span(node.uptime)}, {_clock(now)}"))
        at = overview.now.timestamp()
        lines += [title, _policy(overview.policy, at), _resources(overview.totals, scene.history.cpu)]
    if scene.lost_at is not None:
        since = f"since {_clock(scene.lost_at)} ({span(now - scene.lost_at)})"
        lines.append(_line((f" no answer {since}: {scene.problem} ", "bold white on red")))
    elif overview is None:
        lines.append(_line(f"asking {scene.endpoint} …"))
    return lines


def _policy(policy: Policy, now: float) -> Text:
    line = _line(f"policy epoch {policy.epoch}, for {span(now - policy.since)}")
    if policy.error is not None:
        line.append(", the last edit is refused: ", "bold red")
        line.append(_flat(policy.error), "red")
    elif policy.restart_needed:
        what = "; ".join(policy.restart_needed)
        line.append(f", takes effect at the next start only: {_flat(what)}", "yellow")
    else:
        line.append(f": {_flat(policy.policy)}")
    return line


def _resources(totals: Totals, cpu: float | None) -> Text:
    used, limit = totals.memory_usage, totals.memory_limit
    line = _line(f"cpu {'-' if cpu is None else format(cpu, '.0%')}  memory {size(used)}")
    if limit:
        share = used / limit
        style = "red" if share > 0.95 else "yellow" if share > 0.8 else "green"
        line.append(f"/{size(limit)} ")
        filled = min(_METER, round(share * _METER))
        line.append("█" * filled, style)
        line.append("░" * (_METER - filled), "dim")
    line.append(f"  connections {totals.connections_in:,} in {totals.connections_out:,} out")
    line.append(f"  scheduled {totals.scheduled:,} ready {totals.ready:,}")
    return line


def _rate(history: History, overview: Overview, name: str, width: int) -> Text:
    rates, style = history.rates[name], _RATE_STYLES[name]
    now = f"{rate(rates[-1])}/s" if rates else "-"
    room = max(0, width - 38)
    line = _line((f"{RATES[name]:<10}", style), f"{now:>11} ")
    line.append(sparkline(list(rates)[-room:] if room else [], room), style)
    line.append(f" {getattr(overview.totals, name):>15,}")
    return line


def sparkline(values: Sequence[float], width: int) -> str:
    """As wide as that; the highest of the values is the highest bar, and only nothing has no bar."""
    most = max(values, default=0.0)
    highest = len(_BARS) - 1
    bars = "".join(_BARS[max(1, round(value / most * highest)) if value > 0 else 0] for value in values)
    return bars.rjust(width)


# -- tables ------------------------------------------------------------------------------------------------------
def _tabs(overview: Overview, wishes: Wishes) -> Text:
    counts = {
        "queues": overview.scheduled_queues.count,
        "sites": overview.ready_queues.count,
        "tenants": len(overview.tenants),
    }
    line = _line()
    for number, view in enumerate(VIEWS, 1):
        count = f" {counts[view]:,}" if view in counts else ""
        line.append(f" {number} {view}{count} ", "reverse" if view == wishes.view else "")
        line.append(" ")
    if wishes.view in ("queues", "sites"):
        line.append(f" order: {wishes.order}")
    if wishes.match or wishes.typing:
        line.append(f"  find: {_flat(wishes.match)}", "bold")
        line.append("▏" if wishes.typing else "")
    return line


def _table(overview: Overview, history: History, wishes: Wishes, room: int | None) -> Table:
    """With so many rows at most, and a line above them."""
    rows: Iterable[Row]
    match wishes.view:
        case "queues":
            table = _columns(("QUEUE", 3), "MESSAGES", "OLDEST", ("LAST ERROR", 4))
            rows = (
                (
                    _text(one.name),
                    f"{one.messages:,}",
                    "-" if one.oldest is None else span(one.oldest),
                    _note(one),
                )
                for one in overview.scheduled_queues.shown
            )
        case "sites":
            numbers = "READY", "CONN", "OK/s", "DEFER/s", "FAIL/s"
            table = _columns(("SITE", 3), ("SOURCE", 1), *numbers, ("LAST ERROR", 4))
            rows = (_site(one, history) for one in overview.ready_queues.shown)
        case "errors":
            table = _columns(("SITE", 2), "DEFERRED", "FAILED", "AGO", ("LAST ERROR", 5))
            rows = _errors(overview)
        case _:
            table = _columns(("TENANT", 1), "MESSAGES", ("", 2))
            rows = _tenants(overview.tenants)
    for row in islice(rows, room):
        table.add_row(*row)
    return table


def _columns(*columns: str | tuple[str, int]) -> Table:
    """Those of texts have a share of the width, numbers what they need."""
    heads = [
        Column(one, justify="right", no_wrap=True)
        if isinstance(one, str)
        else Column(one[0], ratio=one[1], no_wrap=True, overflow="ellipsis")
        for one in columns
    ]
    return Table(*heads, box=None, expand=True, pad_edge=False, header_style="bold")


def _site(queue: ReadyQueue, history: History) -> Row:
    rates = history.of_queue(queue.name)
    limit = queue.connection_limit
    connections = Text(f"{queue.connections:,}" + ("" if limit is None else f"/{limit:,}"))
    if limit is not None and queue.connections >= limit:
        connections.stylize("bold yellow")
    return (
        _text(queue.site if queue.provider is None else f"{queue.provider}: {queue.site}"),
        _text(queue.source),
        f"{queue.messages:,}",
        connections,
        *(["-"] * 3 if rates is None else map(rate, rates)),
        _note(queue),
    )


def _note(queue: Queue) -> Text:
    """Why it stands still, or else its last error."""
    if queue.suspended is not None:
        return _text(f"suspended: {queue.suspended}", "bold magenta")
    error = queue.last_error
    return Text("") if error is None else _text(f"{_clock(error.when.timestamp())} {error.text}", "red")


@dataclass(slots=True)
class _SiteErrors:
    last: LastError
    transfailed: int = 0
    failed: int = 0


def _errors(overview: Overview) -> Iterator[Row]:
    """A row for each site: how often something went wrong, and what was the last."""
    sites: dict[str, _SiteErrors] = {}
    for queue in overview.ready_queues.shown:
        if (error := queue.last_error) is not None:
            site = sites.setdefault(queue.site, _SiteErrors(error))
            site.transfailed += queue.transfailed
            site.failed += queue.failed
            if error.when > site.last.when:
                site.last = error
    for name, site in sorted(sites.items(), key=lambda item: item[1].last.when, reverse=True):
        ago = span((overview.now - site.last.when).total_seconds())
        yield _text(name), f"{site.transfailed:,}", f"{site.failed:,}", ago, _text(site.last.text, "red")


def _tenants(tenants: list[Tenant]) -> Iterator[Row]:
    most = max((one.messages for one in tenants), default=0) or 1
    for one in tenants:
        bar = "█" * round(_TENANT_METER * one.messages / most)
        yield _text(one.tenant), f"{one.messages:,}", _text(bar, "cyan")


def _keys(wishes: Wishes) -> Text:
    if wishes.typing:
        return _line(("type a part of a queue's name; enter ends, escape takes it away", "dim"))
    return _line(("q quit  tab view  o order  / find  p pause  ? help", "dim"))


# -- texts -------------------------------------------------------------------------------------------------------
def _text(text: str, style: str = "") -> Text:
    return Text(_flat(text), style)


def _line(*parts: str | tuple[str, str]) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(_flat(text), style)
    return line


def _flat(text: str) -> str:
    """What others have chosen, in one line."""
    return printable(text.replace("\n", " ").replace("\t", " "))


def _clock(time: float) -> str:
    """Here, of Unix time."""
    return f"{datetime.fromtimestamp(time):%H:%M:%S}"


def span(seconds: float) -> str:
    """In the two largest units."""
    left = max(0, int(seconds))
    for unit, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if left >= unit:
            rest = left % unit // smaller
            return f"{left // unit}{name}" + (f" {rest}{smaller_name}" if rest else "")
    return f"{left}s"


def size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if octets >= 10 or unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"


def rate(per_second: float) -> str:
    return f"{per_second:,.1f}" if per_second < 100 else f"{per_second:,.0f}"
