"""`kumo-py explain`: what a policy makes of a destination, and where each option was written.

The policy's own handlers are asked in a node that only validates: nothing is bound, sent or written, and no running
node is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec
import trio

from kumo_py.cli.asking import ask, policy_option
from kumo_py.core.options import to_builtins
from kumo_py.message.queue_name import QueueName
from kumo_py.policy.modules.shaping import LastAsked
from kumo_py.policy.type_names import lua_literal
from kumo_py.queue.config import EgressPath
from kumo_py.queue.egress import EgressDirectory
from kumo_py.queue.resolution import queue_config_of, site_of

if TYPE_CHECKING:
    from pathlib import Path

    from kumo_py.daemon import Node
    from kumo_py.policy import LuaPolicy
    from kumo_py.queue.config import EgressPool, EgressSource, Options
    from kumo_py.shaping import Origin, Settings

POLICY = "the policy's handler"
"""The origin of what no shaping data says."""


class Choice(msgspec.Struct, frozen=True):
    """An option that is not at its default. `file` and `block` are None for what the policy's handler set."""

    option: str
    value: object
    default: object
    file: str | None = None
    block: str | None = None

    @property
    def origin(self) -> str:
        return POLICY if self.file is None else f"{self.file}: {self.block}"


class ExplainedPath(msgspec.Struct, frozen=True):
    """From one source to the destination's site."""

    source: str
    weight: int | None
    """In the pool; None for a source that is not in it."""
    source_options: list[Choice]
    site_name: str
    ready_queue: str
    options: list[Choice]


class Explanation(msgspec.Struct, frozen=True):
    """What `explain path` finds; its JSON is what --json prints."""

    queue: str
    queue_options: list[Choice]
    pool: str
    paths: list[ExplainedPath]


@click.group()
def explain() -> None:
    """Say why a policy does what it does."""


@explain.command()
@click.option("--domain", required=True, help="The recipient's domain.")
@click.option("--source", help="Only this egress source, be it in the pool or not.")
@click.option("--tenant", help="The message's tenant.")
@click.option("--campaign", help="The message's campaign.")
@click.option("--routing-domain", help="Where the message is routed instead of to its domain.")
@click.option("--site", help="The site name; without it the policy's resolver is asked for the MX hosts.")
@policy_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def path(
    domain: str,
    source: str | None,
    tenant: str | None,
    campaign: str | None,
    routing_domain: str | None,
    site: str | None,
    policy_path: Path,
    as_json: bool,
) -> None:
    """Print the queue, pool, sources and path options for a destination, each with the file and block it is from."""
    name = QueueName(domain.lower(), tenant, campaign, routing_domain)
    found = ask(policy_path, lambda node: explain_path(node, name, source, site))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _print(found)


async def explain_path(node: Node, name: QueueName, source: str | None, site: str | None) -> Explanation:
    """Ask the node's policy. Raises PolicyError, Rejection or DnsError."""
    policy = node.policy
    config = await queue_config_of(policy, str(name))
    egress = EgressDirectory(policy, trio.current_time)
    pool = await egress.pool(config.egress_pool)
    if site is None:
        site, _ = await site_of(name.route, config.protocol, node.resolver)
    paths = []
    for chosen in [source] if source is not None else [entry.name for entry in pool.entries]:
        options = await _path_options(policy, name.route, chosen, site)
        paths.append(
            ExplainedPath(
                source=chosen,
                weight=_weight(pool, chosen),
                source_options=_source_options(await egress.source(chosen)),
                site_name=site,
                ready_queue=f"{chosen}->{site}@{config.protocol.name}",
                options=options,
            )
        )
    return Explanation(str(name), _choices(config, type(config)(), {}), pool.name, paths)


async def _path_options(policy: LuaPolicy, route: str, source: str, site: str) -> list[Choice]:
    last = policy.env.state(LastAsked)
    last.forget()
    asked = await policy.ask("get_egress_path_config", route, source, site)
    settings: Settings = {}
    if last.what is not None:
        shaping, *what = last.what
        settings = await shaping.settings(*what)
    origins = {name: setting.origin for name, setting in settings.items()}
    return _choices(EgressPath() if asked is None else asked, EgressPath(), origins)


def _weight(pool: EgressPool, source: str) -> int | None:
    return next((entry.weight for entry in pool.entries if entry.name == source), None)


def _source_options(source: EgressSource) -> list[Choice]:
    return _choices(source, type(source)(name=source.name), {})


def _choices(options: Options, defaults: Options, origins: dict[tuple[str, ...], Origin]) -> list[Choice]:
    """What differs from the defaults; tables of named limits are taken apart, since each has its own origin."""
    default_values = to_builtins(defaults)
    found = []
    for option, value in to_builtins(options).items():
        default = default_values[option]
        if value == default:
            continue
        parts: dict[tuple[str, ...], object] = {(option,): value}
        if isinstance(value, dict) and any(len(key) == 2 and key[0] == option for key in origins):
            parts = {(option, inner): item for inner, item in value.items()}
            default = None
        for key, item in parts.items():
            origin = origins.get(key)
            file, block = (None, None) if origin is None else origin
            found.append(Choice(".".join(key), item, default, file, block))
    return found


# -- for people --------------------------------------------------------------------------------------------------
def _print(found: Explanation) -> None:
    click.echo(f"queue {found.queue}")
    _print_choices(found.queue_options)
    click.echo(f"pool {found.pool}")
    for one in found.paths:
        weight = "not in the pool" if one.weight is None else f"weight {one.weight}"
        click.echo(f"\nsource {one.source}, {weight}")
        _print_choices(one.source_options)
        click.echo(f"ready queue {one.ready_queue}")
        _print_choices(one.options, with_origins=True)


def _print_choices(choices: list[Choice], *, with_origins: bool = False) -> None:
    """Lines in columns, as wide as they are: so that they can be searched, whatever the terminal."""
    rows = [(choice.option, lua_literal(choice.value)) for choice in choices]
    widths = [max((len(row[n]) for row in rows), default=0) for n in (0, 1)]
    for (option, value), choice in zip(rows, choices, strict=True):
        line = f"  {option:<{widths[0]}}  {value:<{widths[1]}}"
        click.echo(f"{line}  {choice.origin}" if with_origins else line.rstrip())
