"""`kumo-py resolve-queue-config`, `resolve-shaping-domain`, `resolve-site-name`, `explain-throttle`.

KumoMTA has scripts of these names. They need no running node: the policy is asked as `kumo-py explain` asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import orjson

from kumo_py.cli.asking import ask, attempt, policy_option
from kumo_py.core.compact_toml import compact_toml
from kumo_py.dns import DnsError, PolicyFetcher, Resolvers, parse_unbound
from kumo_py.limits.spec import ThrottleSpec
from kumo_py.policy.modules.throttle import describe_throttle
from kumo_py.queue.constraints import describe
from kumo_py.queue.resolution import queue_config_of, resolve_path
from kumo_py.queue.shown import shown_constraints, shown_path, shown_queue

if TYPE_CHECKING:
    from pathlib import Path

    from kumo_py.daemon import Node
    from kumo_py.queue.config import QueueConfig
    from kumo_py.queue.resolution import ResolvedPath


@click.command()
@click.argument("queue_name")
@policy_option
def resolve_queue_config(queue_name: str, policy_path: Path) -> None:
    """Print what the policy's get_queue_config says of a queue, with all defaults, as JSON."""

    async def question(node: Node) -> QueueConfig:
        return await queue_config_of(node.policy, queue_name)

    click.echo(_json(shown_queue(ask(policy_path, question))))


@click.command()
@click.argument("domain")
@click.argument("source", default="unspecified")
@click.option("--json-config", is_flag=True, help="Print the egress path's options as JSON.")
@click.option("--json-queue-config", is_flag=True, help="Print the scheduled queue's options as JSON.")
@click.option("--json-constraints", is_flag=True, help="Print what both allow at most as JSON.")
@policy_option
def resolve_shaping_domain(
    domain: str,
    source: str,
    json_config: bool,
    json_queue_config: bool,
    json_constraints: bool,
    policy_path: Path,
) -> None:
    """Print what the policy makes of a domain and an egress source, `unspecified` unless given.

    As TOML, or those parts that are wanted as JSON, one document after the other.
    """

    async def question(node: Node) -> ResolvedPath:
        return await resolve_path(node.policy, node.resolver, domain, source)

    found = ask(policy_path, question)
    queue, path = shown_queue(found.queue_config), shown_path(found.path)
    wanted = (
        (json_queue_config, queue),
        (json_config, path),
        (json_constraints, shown_constraints(found.constraints)),
    )
    documents = [_json(value) for is_wanted, value in wanted if is_wanted]
    if documents:
        click.echo("\n\n".join(documents))
        return
    click.echo(f"--- scheduled queue config ---\n\n{compact_toml(queue)}")
    click.echo(f"--- egress path config ---\n\n{compact_toml(path)}")
    click.echo(f"--- effective ceilings ---\n\n{describe(found.constraints)}", nl=False)


@click.command()
@click.argument("domain")
@click.option("--unbound", is_flag=True, help="Ask as KumoMTA's Unbound resolver is asked.")
@click.option("--dnssec", is_flag=True, help="With --unbound: have answers validated.")
def resolve_site_name(domain: str, unbound: bool, dnssec: bool) -> None:
    """Print the site name that a domain's MX hosts make; the domain, if they cannot be had."""

    async def question() -> str:
        resolvers = Resolvers()
        resolvers.mta_sts.fetch = PolicyFetcher()
        if unbound:
            spec = {"options": {"validate": dnssec}}
            resolvers.configure(None, spec, parse_unbound(spec, "--unbound"))
        try:
            return (await resolvers.default.lookup_mx(domain)).site_name
        except DnsError:
            return domain

    click.echo(attempt(question))


@click.command()
@click.argument("spec")
def explain_throttle(spec: str) -> None:
    """Print the rates that a throttle amounts to, such as 100/s,max_burst=2."""
    try:
        click.echo(describe_throttle(ThrottleSpec.parse(spec)))
    except ValueError as err:
        raise click.ClickException(str(err)) from None


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
