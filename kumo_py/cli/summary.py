"""`kumo-py queue-summary` and `provider-summary`: kcli's commands of these names, from the node's metrics.

What is printed is for people, as with kcli: machines read /metrics.json. A queue's counts begin anew when the node
forgets it, a while after its last message; what was delivered in all is in the delivery logs.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kumo_py.cli.endpoint import endpoint_option
from kumo_py.cli.rules import BOUNCE, SUSPEND, SUSPEND_READY
from kumo_py.cli.table import natural_key, print_table
from kumo_py.message.queue_name import QueueName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kumo_py.cli.endpoint import Endpoint
    from kumo_py.dns import Resolver

METRICS = "/metrics.json"
STATES = "/api/admin/ready-q-states/v1"


@dataclass(slots=True)
class Counts:
    """Of a ready queue, or of a provider."""

    delivered: int = 0
    transfailed: int = 0
    failed: int = 0
    connections: int = 0
    queued: int = 0


_READY = {
    "total_messages_delivered": "delivered",
    "total_messages_transfail": "transfailed",
    "connection_count": "connections",
    "ready_count": "queued",
}
_PROVIDER = {
    "total_messages_delivered_by_provider": "delivered",
    "total_messages_transfail_by_provider": "transfailed",
    "total_messages_fail_by_provider": "failed",
    "connection_count_by_provider": "connections",
    "queued_count_by_provider": "queued",
}
_POOL = {
    f"{name}_{'and_pool' if 'count' in name else 'and_source'}": attribute
    for name, attribute in _PROVIDER.items()
}

_limit_option = click.option(
    "--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows in each table."
)


# -- queue-summary -----------------------------------------------------------------------------------------------
@click.command()
@_limit_option
@click.option("--by-volume", is_flag=True, help="The busiest first, instead of by name.")
@click.option("--domain", help="Only queues of this domain's site; asks the DNS for the MX hosts.")
@endpoint_option
def queue_summary(endpoint: Endpoint, limit: int | None, by_volume: bool, domain: str | None) -> None:
    """Show the queues: first the ready queues, then the scheduled ones.

    \b
    D  messages delivered
    T  transient failures
    C  connections that are open
    Q  messages in the ready queue

    The counts of a ready queue begin anew when it has been idle for some minutes.
    """
    with endpoint.connected():
        suspensions, bounces = endpoint.get(SUSPEND), endpoint.get(BOUNCE)
        suspended = {one["name"]: one["reason"] for one in endpoint.get(SUSPEND_READY)}
        states = _states(endpoint)
        metrics = endpoint.get(METRICS)
    ready = _sum(metrics, _READY, lambda labels: labels.get("service", "").partition(":")[2])
    scheduled = {labels["queue"]: int(value) for labels, value in samples(metrics, "scheduled_count")}
    if domain is not None:
        ready, scheduled = _of_site(domain, ready, scheduled)

    def ready_order(name: str) -> tuple[object, ...]:
        one = ready[name]
        volume = one.delivered + one.transfailed + one.connections + one.queued
        return (-volume if by_volume else 0, natural_key(name))

    rows = []
    for name in sorted(ready, key=ready_order)[:limit]:
        one = ready[name]
        notes = [f"🛑suspend: {suspended[name]}"] if name in suspended else []
        notes += [f"{kind}: {state}" for kind, state in states.get(name, {}).items()]
        row = *split_ready_name(name), one.delivered, one.transfailed, one.connections, one.queued
        rows.append((*row, ", ".join(notes)))
    print_table(("SITE", "SOURCE", "PROTO", "D", "T", "C", "Q", ""), rows)

    def scheduled_order(name: str) -> tuple[object, ...]:
        return (-scheduled[name] if by_volume else 0, natural_key(name))

    click.echo()
    print_table(
        ("SCHEDULED QUEUE", "COUNT", ""),
        [
            (name, scheduled[name], _rule(name, bounces, suspensions))
            for name in sorted(scheduled, key=scheduled_order)[:limit]
        ],
    )


def _states(endpoint: Endpoint) -> dict[str, dict[str, str]]:
    """By ready queue, what keeps it from sending, and since when. A node of an older version has none to tell."""
    response = endpoint.request("GET", STATES, accept=(404,))
    if response.status_code == 404:
        return {}
    return {
        name: {
            kind: f"{state['context']} @ {state['since'].replace('T', ' ').replace('Z', ' UTC')}"
            for kind, state in states.items()
        }
        for name, states in response.json()["states_by_ready_queue"].items()
    }


def split_ready_name(name: str) -> tuple[str, str, str]:
    """Site, source and protocol; the last two are empty if the name has none."""
    source, arrow, rest = name.partition("->")
    if not arrow:
        source, rest = "", name
    if rest.endswith("@smtp_client"):
        return rest.removesuffix("@smtp_client"), source, "smtp_client"
    for mark in ("@lua:", "@maildir:"):
        site, found, protocol = rest.rpartition(mark)
        if found:
            return site, source, mark[1:] + protocol
    return rest, source, ""


def _rule(name: str, bounces: list[dict[str, Any]], suspensions: list[dict[str, Any]]) -> str:
    """What an operator has put in the way of a scheduled queue; bounces go before suspensions."""
    parts = QueueName.parse(name)
    for mark, rules in (("🗑️ bounce", bounces), ("🛑suspend", suspensions)):
        for rule in rules:
            if names := rule.get("queue_names"):
                if name in names:
                    return f"{mark}: {rule['reason']}"
                continue
            criteria = {kind: rule.get(kind) for kind in QueueName._fields}
            if all(value in (None, getattr(parts, kind)) for kind, value in criteria.items()):
                return f"{mark}: {rule['reason']}"
    return ""


def _of_site(
    domain: str, ready: dict[str, Counts], scheduled: dict[str, int]
) -> tuple[dict[str, Counts], dict[str, int]]:
    """Those whose messages go to the site of the domain."""
    routes = {name: QueueName.parse(name).route for name in scheduled}
    sites = resolve_sites({domain, *routes.values()})
    if domain not in sites:
        raise click.ClickException(f"the DNS knows no mail hosts of {domain}: its site cannot be told")
    site = sites[domain]
    return (
        {name: one for name, one in ready.items() if split_ready_name(name)[0] == site},
        {name: count for name, count in scheduled.items() if sites.get(routes[name]) == site},
    )


# -- provider-summary --------------------------------------------------------------------------------------------
@click.command()
@click.option("--by-pool", is_flag=True, help="A row for each egress pool of a provider.")
@click.option(
    "--show-domains",
    is_flag=True,
    help="The domains of a site that has no provider, as far as messages wait for them; asks the DNS.",
)
@_limit_option
@endpoint_option
def provider_summary(endpoint: Endpoint, by_pool: bool, show_domains: bool, limit: int | None) -> None:
    """Show the traffic of each provider, or site where the policy names no provider; the busiest first.

    \b
    D  messages delivered
    T  transient failures
    F  messages that failed
    C  connections that are open
    Q  messages in ready and scheduled queues
    """
    metrics = endpoint.get(METRICS)
    key = ("provider", "pool") if by_pool else ("provider",)
    rows = _sum(
        metrics, _POOL if by_pool else _PROVIDER, lambda labels: tuple(labels.get(name, "") for name in key)
    )

    def order(names: tuple[str, ...]) -> tuple[object, ...]:
        one = rows[names]
        volume = one.queued + one.delivered + one.transfailed + one.failed
        return (-volume, *map(natural_key, names))

    domains = _domains_by_site(metrics) if show_domains else {}
    print_table(
        (*(name.upper() for name in key), "D", "T", "F", "C", "Q", *(["DOMAINS"] if domains else [])),
        [
            (
                *names,
                *(one.delivered, one.transfailed, one.failed, one.connections, one.queued),
                *([", ".join(sorted(domains.get(names[0], ())))] if domains else []),
            )
            for names in sorted(rows, key=order)[:limit]
            for one in [rows[names]]
        ],
    )


def _domains_by_site(metrics: dict[str, Any]) -> dict[str, set[str]]:
    """Of the domains for which messages wait."""
    routes = {QueueName.parse(labels["queue"]).route for labels, _ in samples(metrics, "scheduled_count")}
    found: dict[str, set[str]] = {}
    for domain, site in resolve_sites(routes).items():
        found.setdefault(site, set()).add(domain)
    return found


# -- metrics and the DNS -----------------------------------------------------------------------------------------
def samples(metrics: dict[str, Any], name: str) -> Iterator[tuple[dict[str, str], float]]:
    """The labels and numbers of a metric in /metrics.json; none if it is not there."""
    value = metrics.get(name, {}).get("value")
    if isinstance(value, list):
        for row in value:
            yield {label: text for label, text in row.items() if label != "@"}, row["@"]
    elif isinstance(value, dict):
        for label, numbers in value.items():
            for text, number in numbers.items():
                yield {label: text}, number
    elif value is not None:
        yield {}, value


K = TypeVar("K", str, "tuple[str, ...]")


def _sum(
    metrics: dict[str, Any], attributes: Mapping[str, str], key: Callable[[dict[str, str]], K]
) -> dict[K, Counts]:
    """By what `key` makes of the labels; what has an empty key is a sum of the others."""
    rows: dict[K, Counts] = {}
    for metric, attribute in attributes.items():
        for labels, value in samples(metrics, metric):
            if name := key(labels):
                counts = rows.setdefault(name, Counts())
                setattr(counts, attribute, getattr(counts, attribute) + int(value))
    return rows


def resolve_sites(domains: Iterable[str]) -> dict[str, str]:
    """The site of each domain whose MX hosts the DNS knows."""
    import trio

    from kumo_py.dns import DnsError

    sites: dict[str, str] = {}

    async def resolve(domain: str, resolver: Resolver) -> None:
        with contextlib.suppress(DnsError):
            sites[domain] = (await resolver.lookup_mx(domain)).site_name

    async def resolve_all() -> None:
        resolver = system_resolver()
        async with trio.open_nursery() as nursery:
            for domain in domains:
                nursery.start_soon(resolve, domain, resolver)

    trio.run(resolve_all)
    return sites


def system_resolver() -> Resolver:
    """Asks the name servers of /etc/resolv.conf, as a node whose policy says nothing else."""
    from kumo_py.dns import Resolvers

    return Resolvers().default
