"""The command line: ``traffic-gen``.

Exit status: 0 when every message was accepted (or --keep-going tolerated the failures), 1 when the
peer refused or broke the run, 2 for a command line that cannot be done, 130 after an interrupt.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .engine import run
from .options import (
    DEFAULT_DOMAINS,
    DEFAULT_SUFFIX,
    Options,
    parse_domain,
    parse_header,
    parse_size,
    parse_suffix,
    parse_target,
)
from .progress import reporter
from .reactor import StopRequest
from .throttle import parse_throttle

if TYPE_CHECKING:
    from collections.abc import Callable

_SMTP_TARGET = "127.0.0.1:2025"
_HTTP_TARGET = "127.0.0.1:8000"
_DEFAULT_DURATION = 60.0


class _Reads(click.ParamType[Any]):
    """A click type from a reader that raises ValueError."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(context_settings={"max_content_width": 110, "show_default": True})
@click.option(
    "--target",
    metavar="HOST:PORT",
    default=_SMTP_TARGET,
    help=f"Where to send to. With --http http://HOST:PORT, and {_HTTP_TARGET} by default.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Connections.  [default: 10 per CPU]",
    show_default=False,
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Begin no message after this time.  [default: 60, or no limit with --message-count]",
    show_default=False,
)
@click.option("--message-count", type=click.IntRange(min=1), help="Send exactly this many messages.")
@click.option(
    "--domain-suffix",
    metavar="DOMAIN",
    type=_Reads("domain", parse_suffix),
    default=DEFAULT_SUFFIX,
    help="Appended to every domain; the default can't be a real one. '' appends nothing (needs --domain).",
)
@click.option(
    "--domain",
    "domains",
    metavar="NAME[:WEIGHT]",
    type=_Reads("domain", parse_domain),
    multiple=True,
    help="Use these domains instead of the built-in list, drawn by weight (default 1). Repeatable.",
)
@click.option("--starttls", is_flag=True, help="Go on under TLS; the certificate is not verified.")
@click.option(
    "--body-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Send this message (it begins with headers) or this body.",
)
@click.option(
    "--body-size",
    metavar="BYTES",
    type=_Reads("size", parse_size),
    default="1024",
    help="Size of the generated body: 1024, 100kb (of 1000), 100kib (of 1024), 5mb ...",
)
@click.option(
    "--header",
    "headers",
    metavar="NAME:VALUE",
    type=_Reads("header", parse_header),
    multiple=True,
    help="Add a header. Repeatable.",
)
@click.option(
    "--throttle",
    metavar="SPEC",
    type=_Reads("throttle", parse_throttle),
    help="Limit the rate: QUANTITY/PERIOD[,max_burst=N], e.g. 100/s or 1_000/30min,max_burst=1.",
)
@click.option("--keep-going", is_flag=True, help="Count errors and go on; else the first one ends the run.")
@click.option("--http", is_flag=True, help="Inject by POST /api/inject/v1 instead of SMTP.")
@click.option("--http-batch-size", type=click.IntRange(min=1), default=1, help="Recipients in a request.")
@click.option("--http-defer-spool", is_flag=True, help="Set deferred_spool.")
@click.option("--http-defer-generation", is_flag=True, help="Set deferred_generation.")
@click.option(
    "--pipelining",
    type=click.Choice(["full", "envelope", "off"]),
    default="full",
    help="If the server offers it: also across messages, within an envelope, or not at all.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=120.0,
    help="How long to wait for any reply.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, help="Processes to share the work.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "bar", "plain", "none"]),
    default="auto",
    help="On standard error: a bar, a line per second, or nothing.",
)
@click.option("--json", "json_stdout", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--json-file", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON there.")
def main(
    target: str,
    concurrency: int | None,
    duration: float | None,
    message_count: int | None,
    domains: tuple[tuple[str, float], ...],
    headers: tuple[tuple[str, str], ...],
    http: bool,
    progress: Any,  # noqa: ANN401
    json_stdout: bool,
    json_file: Path | None,
    **others: Any,  # noqa: ANN401
) -> None:
    """Send made-up mail to a server as fast as it takes it, and report rates and latencies."""
    stop = StopRequest()
    signal.signal(signal.SIGINT, lambda *_: stop.ask())
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    if http and target == _SMTP_TARGET:
        target = _HTTP_TARGET
    if duration is None and message_count is None:
        duration = _DEFAULT_DURATION
    try:
        options = Options(
            target=parse_target(target, http=http),
            concurrency=concurrency or 10 * len(os.sched_getaffinity(0)),
            duration=duration,
            message_count=message_count,
            domains=domains or DEFAULT_DOMAINS,
            headers=headers,
            http=http,
            **others,
        )
        shown = reporter(progress, options)
        try:
            summary = run(options, shown, stop)
        finally:
            shown.close()
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    figures = json.dumps(summary.as_json(), indent=2)
    if json_file is not None:
        json_file.write_text(figures + "\n")
    if json_stdout:
        click.echo(figures)
    click.echo(summary.as_text(), err=True)
    sys.exit(summary.exit_code)
