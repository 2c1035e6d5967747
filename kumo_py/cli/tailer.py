"""`kumo-py tailer`, KumoMTA's program of this name: prints the records of a log directory, and notes how far it came.

Each record is printed at least once: those that were not noted yet when it ended come again.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kumo_py.cli.duration import seconds

if TYPE_CHECKING:
    from kumo_py.logs.tailer import Consumer


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--pattern", default="*", show_default=True, help="Only segments with such names.")
@click.option(
    "--checkpoint",
    default="tailer-checkpoint",
    show_default=True,
    metavar="NAME",
    help="Remember in the file .NAME of the directory what has been printed.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="At most so many records between two checkpoints.",
)
@click.option(
    "--batch-latency",
    default="1s",
    show_default=True,
    callback=seconds,
    help="How long a batch may wait to be full.",
)
@click.option("--tail", is_flag=True, help="Begin with the newest segment, and remember nothing.")
def tailer(
    directory: str, pattern: str, checkpoint: str, batch_size: int, batch_latency: float, tail: bool
) -> None:
    """Print the records of the log segments in DIRECTORY as JSON, and those to come."""
    import trio

    from kumo_py.core.glob import Glob
    from kumo_py.logs.checkpoint import Checkpoint
    from kumo_py.logs.tailer import Consumer

    if not checkpoint or "/" in checkpoint:
        raise click.UsageError(f"--checkpoint must be the name of a file, got '{checkpoint}'")
    try:
        Glob(pattern)
    except ValueError as err:
        raise click.UsageError(f"--pattern: {err}") from None
    kept = None if tail else Checkpoint(directory, checkpoint)
    consumer = Consumer("default", batch_size, batch_latency, kept)
    try:
        trio.run(_print, directory, pattern, consumer, tail)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError) as err:
        if isinstance(err, BrokenPipeError):
            raise
        raise click.ClickException(str(err)) from None


async def _print(directory: str, pattern: str, consumer: Consumer, tail: bool) -> None:
    import orjson

    from kumo_py.logs.tailer import POLL_INTERVAL, Tailer
    from kumo_py.policy.file_glob import find_matches

    def find() -> list[str]:
        return [
            path
            for path in find_matches(pattern, directory)
            if not os.path.basename(path).startswith(".") and os.path.isfile(os.path.join(directory, path))
        ]

    following = Tailer(directory, find, [consumer], poll=POLL_INTERVAL, tail=tail)
    await following.open()
    try:
        while batches := await following.next():
            assert isinstance(batches, list)  # nobody filters
            for batch in batches:
                click.echo(b"\n".join(map(orjson.dumps, batch.records)))
                await batch.commit()
    finally:
        following.close()
