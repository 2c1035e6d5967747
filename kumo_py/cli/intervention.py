"""`kumo-py rebind`, `abort-ready-q-conn` and `spool-compact`, as kcli has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kumo_py.cli.endpoint import endpoint_option, printable

if TYPE_CHECKING:
    from uuid import UUID

    from kumo_py.cli.endpoint import Endpoint


def _pairs(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and key and value):
            raise click.BadParameter(f"'{text}' is not KEY=VALUE")
        pairs[key] = value
    return pairs


def _data(ctx: click.Context, param: click.Parameter, given: str | None) -> dict[str, str]:
    if given is None:
        return {}
    try:
        data = json.loads(given)
    except ValueError as err:
        raise click.ClickException(f"--data is not JSON: {err}") from None
    if not (isinstance(data, dict) and all(isinstance(value, str) for value in data.values())):
        raise click.ClickException(
            '--data must be an object with strings as values, such as {"queue": "b.example"}'
        )
    return data


@click.command()
@click.option("--domain", help="Only queues of this domain.")
@click.option("--routing-domain", help="Only queues of this routing domain.")
@click.option("--campaign", help="Only queues of this campaign.")
@click.option("--tenant", help="Only queues of this tenant.")
@click.option("--everything", is_flag=True, help="All queues.")
@click.option("--reason", required=True, help="Goes into the log.")
@click.option("--always-flush", is_flag=True, help="Make messages due now even if they keep their queue.")
@click.option("--suppress-logging", is_flag=True, help="Write no AdminRebind records.")
@click.option(
    "--trigger-rebind-event", is_flag=True, help="Give the data to the policy's rebind_message event instead."
)
@click.option("--data", callback=_data, metavar="JSON", help="An object: metadata to set.")
@click.option(
    "--set",
    "pairs",
    callback=_pairs,
    multiple=True,
    metavar="KEY=VALUE",
    help="One more pair; may be repeated.",
)
@endpoint_option
def rebind(
    endpoint: Endpoint,
    everything: bool,
    reason: str,
    always_flush: bool,
    suppress_logging: bool,
    trigger_rebind_event: bool,
    data: dict[str, str],
    pairs: dict[str, str],
    **criteria: str | None,
) -> None:
    """Move messages that wait to other scheduled queues, by changing their metadata or by the policy's event.

    \b
    kumo-py rebind --domain example.com --reason 'by the other way' --set routing_domain=relay.example
    """
    given = {name: value for name, value in criteria.items() if value is not None}
    if not given and not everything:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in criteria)
        raise click.ClickException(f"say which queues: {names}, or --everything")
    endpoint.post(
        "/api/admin/rebind/v1",
        {
            **given,
            "reason": reason,
            "suppress_logging": suppress_logging,
            "data": data | pairs,
            "always_flush": always_flush,
            "trigger_rebind_event": trigger_rebind_event,
        },
    )
    click.echo("the rebind goes on in the background; errors are in the diagnostic log", err=True)


@click.command()
@click.argument("queue_name")
@click.argument("session_id", type=click.UUID)
@endpoint_option
def abort_ready_q_conn(endpoint: Endpoint, queue_name: str, session_id: UUID) -> None:
    """End a connection of a ready queue at once, as inspect-ready-q --connections names it.

    What it was sending is tried again.
    """
    body = {"queue_name": queue_name, "session_id": str(session_id)}
    click.echo(printable(endpoint.text("POST", "/api/admin/abort-ready-q-conn/v1", body)))


@click.command()
@click.option("--name", required=True, help="The spool's name, such as data or meta.")
@endpoint_option
def spool_compact(endpoint: Endpoint, name: str) -> None:
    """Give back the space that removed messages take in a spool; done when it ends."""
    endpoint.text("POST", "/api/admin/spool-compact/v1", {"name": name})
