"""The command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .load import GENERATORS, MODES, PERSIST, SMTP_SOURCE, Load
from .peer import RELAY, SINK
from .profiling import EXACT, SAMPLED, profile
from .server import ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str]) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_profile(commands.add_parser("profile", help="where the time of a message goes in our node"))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ServerError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    return 0


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", choices=(SINK, RELAY))
    parser.add_argument("--size", type=int, default=1024, help="bytes of body")
    parser.add_argument("--mode", choices=MODES, default=PERSIST)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--generator", choices=GENERATORS, default=SMTP_SOURCE)
    parser.add_argument("--count", type=int, default=10_000, help="messages")
    parser.add_argument("--top", type=int, default=40, help="functions to print")
    parser.add_argument("--sampled", action="store_true", help="by samples instead of cProfile")
    parser.add_argument("--out", type=Path, default=RESULTS / "profile.out", help="for pstats, snakeviz, …")
    parser.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> None:
    load = Load(options.generator, options.size, options.sessions, options.mode)
    kind = SAMPLED if options.sampled else EXACT
    profile(kind, options.workload, load, options.count, options.top, options.out)
