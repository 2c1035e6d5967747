"""What is shown on standard error while a run goes on: a bar, a line per second, or nothing.

A plain line holds ``name=value`` pairs, for programs to read:

    elapsed=3.0 sent=12345 accepted=12340 failed=0 connections=20 rate=4113.2 mmh=14.807 p50_ms=4.1 p99_ms=9.9

rate and mmh are those of the last second; the latencies are those of the whole run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .options import Options
    from .summary import Summary

Kind = Literal["auto", "bar", "plain", "none"]


class Silent:
    """Shows nothing."""

    def __call__(self, summary: Summary) -> None:
        """Take the figures so far."""

    def close(self) -> None:
        """Nothing more will come."""


class _Reporter(Silent):
    """Knows the rate since its last report."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._accepted = 0

    def rate(self, summary: Summary) -> float:
        """Messages accepted per second since the last call."""
        accepted, elapsed = summary.accepted - self._accepted, summary.elapsed - self._elapsed
        self._accepted, self._elapsed = summary.accepted, summary.elapsed
        return accepted / elapsed if elapsed > 0 else 0.0


class Plain(_Reporter):
    """A line of ``name=value`` pairs per report."""

    def __call__(self, summary: Summary) -> None:
        """Print a line."""
        rate = self.rate(summary)
        p50, p99 = summary.accept.percentiles(50, 99)
        print(
            f"elapsed={summary.elapsed:.1f} sent={summary.sent} accepted={summary.accepted} "
            f"failed={summary.failed} connections={summary.connections_now} rate={rate:.1f} "
            f"mmh={rate * 3600 / 1e6:.3f} p50_ms={p50 * 1e3:.3f} p99_ms={p99 * 1e3:.3f}",
            file=sys.stderr,
            flush=True,
        )


class Bar(_Reporter):
    """A progress bar, by messages if they are counted, else by time."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._counted = options.message_count is not None
        self._progress = Progress(
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            auto_refresh=False,  # that would be a thread
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=options.message_count or options.duration)
        self._progress.start()

    def __call__(self, summary: Summary) -> None:
        """Draw the bar anew."""
        rate = self.rate(summary)
        p50, p99 = summary.accept.percentiles(50, 99)
        done = summary.accepted + summary.failed if self._counted else summary.elapsed
        text = (
            f"{rate:,.0f} msg/s  {rate * 3600 / 1e6:.2f} MMH  {summary.accepted:,} accepted  "
            f"{summary.failed:,} failed  {summary.connections_now:,} conn  "
            f"p50 {p50 * 1e3:.1f} p99 {p99 * 1e3:.1f} ms"
        )
        self._progress.update(self._task, completed=done, description=text, refresh=True)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def reporter(kind: Kind, options: Options) -> Silent:
    """The reporter of a kind; auto is a bar on a terminal and plain lines elsewhere."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "plain"
    if kind == "bar":
        return Bar(options)
    return Plain() if kind == "plain" else Silent()
