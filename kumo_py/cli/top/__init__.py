"""`kumo-py top`: what a node does, live in a terminal. One request to the node per interval."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from kumo_py.cli.endpoint import endpoint_option

if TYPE_CHECKING:
    from kumo_py.cli.endpoint import Endpoint


@click.command()
@click.option(
    "--update-interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the node is asked.",
)
@click.option("--once", is_flag=True, help="Print one frame, with the rates of one interval, and end.")
@endpoint_option
def top(endpoint: Endpoint, update_interval: float, once: bool) -> None:
    """Show what the node does: rates, queues, sites, errors and tenants. Press ? for its keys."""
    from kumo_py.cli.top.live import show_live, show_once

    if once:
        show_once(endpoint, update_interval)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        raise click.ClickException("top needs a terminal to draw on; --once prints one frame wherever it is")
    with suppress(KeyboardInterrupt):
        show_live(endpoint, update_interval)
