"""`kumo-py doctor`: whether this host is fit for a node, as KumoMTA's guide prepares one; and what would mend it.

Nothing is changed, and nobody outside is asked: the DNS only with --dns.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from kumo_py.cli.doctor.host import Host
from kumo_py.cli.doctor.kernel import check_kernel
from kumo_py.cli.doctor.machine import check_clock, check_machine
from kumo_py.cli.doctor.names import ask_name_servers, check_hostname, check_resolvers
from kumo_py.cli.doctor.processes import check_limits, check_other_servers, check_ports, processes
from kumo_py.cli.doctor.storage import check_logs, check_spool
from kumo_py.cli.endpoint import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kumo_py.cli.doctor.finding import Finding, Mark

_PORTS = (25, 587, 8000)
_STYLES: dict[Mark, str] = {"ok": "green", "warn": "yellow", "bad": "red"}


class Layout(msgspec.Struct, frozen=True):
    """Where a node keeps what it must not lose and what it tells, and where it listens."""

    spools: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    ports: tuple[int, ...] = _PORTS


@click.command()
@click.option(
    "--policy", type=click.Path(path_type=Path), help="Look at the spools, logs and ports of this policy."
)
@click.option("--spool", "spools", multiple=True, metavar="DIR", help="A spool's directory.")
@click.option(
    "--dns", "name", metavar="NAME", help="Ask the DNS for this domain's MX, and for the host's own name."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(
    ctx: click.Context, policy: Path | None, spools: tuple[str, ...], name: str | None, as_json: bool
) -> None:
    """Check whether this host is fit for a node, and say what would mend it.

    A small file is written to each spool directory, to see how long its disk takes, and is gone at once. The exit
    status is 1 if something is bad.
    """
    where = Layout() if policy is None else _layout(policy)
    where = msgspec.structs.replace(where, spools=_real((*where.spools, *spools)))
    host = ctx.find_object(Host) or Host()
    findings = list(examine(host, where, name))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2))
    else:
        _print(findings)
    sys.exit(any(one.mark == "bad" for one in findings))


def examine(host: Host, where: Layout, name: str | None = None) -> Iterator[Finding]:
    """All checks. `name` is a domain to ask the DNS for."""
    from kumo_py.cli.doctor.software import check_software

    running = processes(host)
    yield from check_machine(host)
    yield from check_clock(host, where.spools)
    yield from check_other_servers(running)
    yield from check_limits(host, running)
    yield from check_kernel(host)
    for directory in where.spools:
        yield from check_spool(host, directory)
    for directory in where.logs:
        yield from check_logs(host, directory)
    yield from check_resolvers(host)
    yield from check_hostname(host)
    if name is not None:
        yield from ask_name_servers(host, name)
    yield from check_ports(host, running, where.ports)
    yield from check_software()


def _layout(policy: Path) -> Layout:
    """What the policy's init asks for; it runs without effect. Raises click.ClickException."""
    import trio

    from kumo_py.core.policy import PolicyError, Rejection
    from kumo_py.daemon import Node

    node = Node(policy)
    try:
        trio.run(node.load_to_ask)
    except (PolicyError, Rejection, ValueError, OSError) as err:
        raise click.ClickException(str(err)) from None
    given: dict[str, list[object]] = {}
    for call in node.policy.configured:
        for option in ("path", "log_dir", "listen"):
            if option in call.options:
                given.setdefault(f"{call.label} {option}", []).append(call.options[option])
    ports = [
        int(port)
        for kind in ("esmtp", "http")
        for listen in given.get(f"kumo.start_{kind}_listener listen", [])
        if (port := str(listen).rpartition(":")[2]).isdigit() and port != "0"
    ]
    return Layout(
        _real(map(str, given.get("kumo.define_spool path", []))),
        _real(map(str, given.get("kumo.configure_local_logs log_dir", []))),
        tuple(dict.fromkeys(ports)) or _PORTS,
    )


def _real(directories: Iterable[str]) -> tuple[str, ...]:
    """Without links, by which a file system would be mistaken; each once."""
    return tuple(dict.fromkeys(map(os.path.realpath, directories)))


def _print(findings: Iterable[Finding]) -> None:
    """Grouped by topic; what is not ok with what it should be, why, and what mends it."""
    by_topic: dict[str, list[Finding]] = {}
    for finding in findings:
        by_topic.setdefault(finding.topic, []).append(finding)
    counts = dict.fromkeys(_STYLES, 0)
    for topic, some in by_topic.items():
        click.echo(click.style(topic, bold=True))
        width = min(40, max(len(one.name) for one in some))
        for one in some:
            counts[one.mark] += 1
            mark = click.style(f"{one.mark:<4}", fg=_STYLES[one.mark])
            click.echo(f"  {mark} {printable(one.name):<{width}}  {printable(one.found)}")
            for what, text in (("wanted", one.wanted), ("why", one.why), ("mend", one.mend)):
                if text:
                    click.echo(f"         {what + ':':<8}{printable(text)}")
    click.echo(", ".join(f"{count} {mark}" for mark, count in counts.items()))
