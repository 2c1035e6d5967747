"""`kumo-py policy`: which policy a node runs, and reloading it. `bump-config-epoch`, `set-log-filter`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kumo_py.cli.endpoint import endpoint_option, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kumo_py.cli.endpoint import Endpoint

STATUS = "/api/kumo-py/policy/v1"
RELOAD_TIMEOUT = 150.0
"""Seconds: an edited policy is tried for up to 60, perhaps after one that is being tried already."""


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@endpoint_option
@click.pass_context
def policy(ctx: click.Context, endpoint: Endpoint, as_json: bool) -> None:
    """Show which policy the node runs, since when, and what became of the last edit."""
    if ctx.invoked_subcommand is None:
        status = endpoint.get(STATUS)
        click.echo(json.dumps(status, indent=2) if as_json else "\n".join(_described(status)))


@policy.command()
@endpoint_option
def reload(endpoint: Endpoint) -> None:
    """Let the policy as it is on disk take over, if it is sound; else say what is wrong, and exit with 1."""
    response = endpoint.request("POST", f"{STATUS}/reload", accept=(409,), timeout=RELOAD_TIMEOUT)
    status = response.json()
    if response.status_code == 409:
        raise click.ClickException(
            f"the policy is refused; epoch {status['epoch']} goes on: {printable(status['error'])}"
        )
    click.echo(f"the policy was reloaded: epoch {status['epoch']} has begun")
    for change in status["restart_needed"]:
        click.echo(f"takes effect at the next start only: {printable(change)}")


@click.command()
@endpoint_option
def bump_config_epoch(endpoint: Endpoint) -> None:
    """Begin a new config epoch soon: the policy is read again, and what depends on it is refreshed."""
    click.echo(endpoint.text("POST", "/api/admin/bump-config-epoch"))


@click.command()
@click.argument("filter_", metavar="FILTER")
@endpoint_option
def set_log_filter(endpoint: Endpoint, filter_: str) -> None:
    """Set which diagnostics are logged from now on, such as kumod=info,lua=debug."""
    click.echo(endpoint.text("POST", "/api/admin/set_diagnostic_log_filter/v1", {"filter": filter_}))


def _described(status: dict[str, Any]) -> Iterator[str]:
    yield f"policy   {printable(status['policy'])}"
    yield f"epoch    {status['epoch']}, since {_when(status['since'])}"
    yield f"reloads  {status['reloads']} taken, {status['failures']} refused"
    others = [file for file in status["files"] if file != status["policy"]]
    for number, file in enumerate(others):
        yield f"{'' if number else 'reads':8} {printable(file)}"
    if status["error"] is not None:
        yield f"\nThe last edit was refused at {_when(status['failed_at'])}:\n{printable(status['error'])}"
    if status["restart_needed"]:
        yield "\nTakes effect at the next start only:"
        yield from map(printable, status["restart_needed"])


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
