"""`kumo-py bounce`, `suspend` and their lists and cancellations: kcli's commands of these names, with its options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kumo_py.cli.duration import checked_duration
from kumo_py.cli.endpoint import endpoint_option
from kumo_py.cli.table import print_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from kumo_py.cli.endpoint import Endpoint

F = TypeVar("F", bound="Callable[..., Any]")

BOUNCE, SUSPEND, SUSPEND_READY = (
    f"/api/admin/{kind}/v1" for kind in ("bounce", "suspend", "suspend-ready-q")
)

_CRITERIA = ("domain", "routing_domain", "campaign", "tenant")


def _rule_options(*criteria: str) -> Callable[[F], F]:
    """Options that say which scheduled queues, why, and for how long."""

    def add(command: F) -> F:
        options = [
            *(
                click.option(
                    f"--{name.replace('_', '-')}", help=f"Only queues of this {name.replace('_', ' ')}."
                )
                for name in criteria
            ),
            click.option(
                "--queue", multiple=True, help="A queue by its exact name; may be given several times."
            ),
            click.option("--everything", is_flag=True, help="All queues."),
            _reason_option,
            _duration_option,
            endpoint_option,
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return add


_reason_option = click.option("--reason", required=True, help="Goes into the log, and into the list.")
_duration_option = click.option(
    "--duration", callback=checked_duration, help="For how long, such as 20m; 5m unless given."
)
_id_option = click.option("--id", "rule", type=click.UUID, required=True, help="The id, as the list has it.")


def _selection(
    queue: tuple[str, ...], everything: bool, criteria: dict[str, str | None]
) -> dict[str, object]:
    """Which queues, as the API takes it."""
    given = {name: value for name, value in criteria.items() if value is not None}
    if sum((bool(given), bool(queue), everything)) > 1:
        raise click.UsageError("--queue, --everything and the other criteria exclude each other")
    if not (given or queue or everything):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in (*criteria, "queue"))
        raise click.UsageError(f"say which queues: {names}, or --everything")
    return {**given, "queue_names": list(queue)} if queue else dict(given)


def _print(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


# -- bounce ----------------------------------------------------------------------------------------------------
@click.command()
@_rule_options(*_CRITERIA)
@click.option("--suppress-logging", is_flag=True, help="Write no AdminBounce records.")
def bounce(
    endpoint: Endpoint,
    queue: tuple[str, ...],
    everything: bool,
    reason: str,
    duration: str | None,
    suppress_logging: bool,
    **criteria: str | None,
) -> None:
    """Bounce the messages of scheduled queues: those that wait, and those that come.

    There is no way back. It prints the id and does not wait for the end.
    """
    rule = _selection(queue, everything, criteria)
    rule |= {"reason": reason, "duration": duration, "suppress_logging": suppress_logging}
    id = endpoint.post(BOUNCE, rule)["id"]
    click.echo("the bounce goes on in the background: kumo-py bounce-list shows how far it is", err=True)
    click.echo(id)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@endpoint_option
def bounce_list(endpoint: Endpoint, as_json: bool) -> None:
    """List the bounces that have not ended."""
    entries = endpoint.get(BOUNCE)
    if as_json:
        _print(entries)
        return
    print_table(
        ("ID", "REASON", "REMAIN", "BOUNCED", "CRITERIA"),
        [
            (entry["id"], entry["reason"], entry["duration"], entry["total_bounced"], _criteria(entry))
            for entry in entries
        ],
    )


def _criteria(entry: dict[str, Any]) -> str:
    given = [f"{name}={entry[name]}" for name in _CRITERIA if entry[name] is not None]
    given += [f"queue={name}" for name in entry.get("queue_names", ())]
    return ", ".join(given) or "everything"


@click.command()
@_id_option
@endpoint_option
def bounce_cancel(endpoint: Endpoint, rule: UUID) -> None:
    """End a bounce; what it has bounced stays so."""
    click.echo(endpoint.text("DELETE", BOUNCE, {"id": str(rule)}))


# -- suspend ---------------------------------------------------------------------------------------------------
@click.command()
@_rule_options("domain", "campaign", "tenant")
def suspend(
    endpoint: Endpoint,
    queue: tuple[str, ...],
    everything: bool,
    reason: str,
    duration: str | None,
    **criteria: str | None,
) -> None:
    """Let scheduled queues try nothing for a while."""
    rule = _selection(queue, everything, criteria)
    _print(endpoint.post(SUSPEND, rule | {"reason": reason, "duration": duration}))


@click.command()
@endpoint_option
def suspend_list(endpoint: Endpoint) -> None:
    """List the suspensions of scheduled queues."""
    _print(endpoint.get(SUSPEND))


@click.command()
@_id_option
@endpoint_option
def suspend_cancel(endpoint: Endpoint, rule: UUID) -> None:
    """End a suspension of scheduled queues."""
    click.echo(endpoint.text("DELETE", SUSPEND, {"id": str(rule)}))


@click.command()
@click.option("--name", required=True, help="The ready queue's name.")
@_reason_option
@_duration_option
@endpoint_option
def suspend_ready_q(endpoint: Endpoint, name: str, reason: str, duration: str | None) -> None:
    """Let a ready queue send nothing for a while."""
    _print(endpoint.post(SUSPEND_READY, {"name": name, "reason": reason, "duration": duration}))


@click.command()
@endpoint_option
def suspend_ready_q_list(endpoint: Endpoint) -> None:
    """List the suspensions of ready queues."""
    _print(endpoint.get(SUSPEND_READY))


@click.command()
@_id_option
@endpoint_option
def suspend_ready_q_cancel(endpoint: Endpoint, rule: UUID) -> None:
    """End the suspension of a ready queue."""
    click.echo(endpoint.text("DELETE", SUSPEND_READY, {"id": str(rule)}))
