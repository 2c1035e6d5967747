"""`kumo-py serve`: run a node. Takes kumod's flags, so that a service file needs only another program name."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson
import trio

from kumo_py.admin.cache_list import definitions
from kumo_py.admin.metrics import metadata
from kumo_py.admin.openapi import describe
from kumo_py.admin.routes import ROUTES
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.daemon import Node, StartupError
from kumo_py.daemon.node import DEFAULT_GRACE
from kumo_py.daemon.privileges import PrivilegeError, become, raise_file_limit
from kumo_py.logs.diagnostics import DEFAULT_FILTER, configure_diagnostics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kumo_py.logs.diagnostics import DiagnosticFormat

DEFAULT_POLICY = Path("/opt/kumomta/etc/policy/init.lua")


@click.command()
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    default=DEFAULT_POLICY,
    show_default=True,
    help="The policy to run.",
)
@click.option(
    "--validate", is_flag=True, help="Load the policy, run its init events, bind nothing, and exit."
)
@click.option("--script", is_flag=True, help="Load the policy and run its `main` event with ARGS.")
@click.option("--user", metavar="NAME", help="Become this user; keeps the right to bind low ports.")
@click.option("--diag-log-dir", metavar="DIR", help="Write diagnostics there instead of stderr.")
@click.option(
    "--diag-format",
    type=click.Choice(["full", "compact", "pretty", "json"]),
    default="full",
    show_default=True,
    help="How diagnostics look.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=DEFAULT_GRACE,
    show_default=True,
    metavar="SECONDS",
    help="How long sessions may take to finish after SIGTERM; a second signal stops at once.",
)
@click.option(
    "--dump-metric-metadata", is_flag=True, help="Print what metrics there are, as JSON, instead of running."
)
@click.option(
    "--dump-lruttl-caches", is_flag=True, help="Print what caches there are, as JSON, instead of running."
)
@click.option(
    "--dump-openapi-spec", is_flag=True, help="Print the description of the HTTP API instead of running."
)
@click.option("--script-args", multiple=True, hidden=True)
@click.argument("args", nargs=-1)
def serve(
    policy: Path,
    validate: bool,
    script: bool,
    user: str | None,
    diag_log_dir: str | None,
    diag_format: DiagnosticFormat,
    grace: float,
    dump_metric_metadata: bool,
    dump_lruttl_caches: bool,
    dump_openapi_spec: bool,
    script_args: tuple[str, ...],
    args: tuple[str, ...],
) -> None:
    """Run a node with a policy."""
    if dump_metric_metadata or dump_lruttl_caches:
        _dump(metadata() if dump_metric_metadata else definitions())
        return
    if dump_openapi_spec:
        _dump(describe(ROUTES))
        return
    args = (*script_args, *args)
    if args and not script:
        raise click.UsageError("arguments after -- are for the `main` event: they need --script")
    if validate and script:
        raise click.UsageError("--validate and --script exclude each other")
    raise_file_limit()
    try:
        if user is not None:
            become(user)
        elif os.geteuid() == 0 and not (validate or script):
            click.echo("kumo-py: running as root; --user NAME gives that away", err=True)
        default_filter = "warn" if validate else "error" if script else DEFAULT_FILTER
        diagnostics = configure_diagnostics(diag_format, diag_log_dir, default_filter)
        node = Node(policy, grace=grace, diagnostics=diagnostics)
        run: Callable[..., Awaitable[bool]] = node.serve_until_signalled
        if validate:
            run = node.validate
        elif script:
            run = node.run_script
        _tune_garbage_collector()
        ok = trio.run(run, *args)
    except (StartupError, PrivilegeError, PolicyError, Rejection, ValueError, OSError) as err:
        click.echo(f"kumo-py: {err}", err=True)
        sys.exit(1)
    sys.exit(0 if ok else 1)


def _dump(found: Sequence[object] | Mapping[str, object]) -> None:
    """As kumod prints it."""
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def _tune_garbage_collector() -> None:
    """Collect cycles more rarely, and never look at what was there before the node started.

    Messages, sessions and replies die by reference count; with the default threshold the collector would run every
    few messages and, with a million queued, look at all of them again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
