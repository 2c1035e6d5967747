"""The command line."""

from __future__ import annotations

import argparse
import datetime
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import machine
from .all_in_one import all_in_one
from .compare import Plan, compare
from .http_api import admin, inject
from .idle import idle
from .load import GENERATORS, MODES, PERSIST, SMTP_SOURCE, Load
from .micro import micro
from .peer import RELAY, SINK
from .peers import choose, with_workload
from .profiling import EXACT, SAMPLED, profile
from .result import Results, Session, read
from .server import ServerError
from .table import text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str]) -> int:
    """Run a command, `compare` if none is named; the exit status."""
    parser = argparse.ArgumentParser(
        prog="bench.py", description="CPU per message beside other mail servers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add_options, what) in _COMMANDS.items():
        add_options(commands.add_parser(name, help=what, description=what))
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["compare", *arguments]
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # an exception: servers are stopped
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        options.run(options)
    except (ServerError, ValueError, OSError) as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    return 0


def _words(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read_words(argument: str) -> list[str]:
        words = argument.split(",")
        if unknown := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return words

    return read_words


def _numbers(argument: str) -> list[int]:
    return [int(word) for word in argument.split(",")]


def _results(options: argparse.Namespace) -> Results:
    results = Results(options.out)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results.add(Session(machine.describe(), now, sys.argv[1:]))
    return results


def _compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", default="all", help="names with commas between, or all")
    parser.add_argument("--workload", type=_words((SINK, RELAY)), default=[SINK, RELAY])
    parser.add_argument("--size", type=_numbers, help="bytes of body [1024,10240,102400; quick: 1024,102400]")
    parser.add_argument("--mode", type=_words(MODES), default=list(MODES))
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--generator", type=_words(GENERATORS), help="[smtp-source; both for kumo-py]")
    parser.add_argument("--rounds", type=int, help="[5; quick: 1]")
    parser.add_argument("--seconds", type=float, help="of CPU that a peer gets in a run [2; quick: 1]")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a quiet moment, per round"
    )
    parser.add_argument("--quick", action="store_true", help="a first impression")
    parser.add_argument("--out", type=Path, help="append results to this file, for `table`")
    parser.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    plan = Plan(
        workloads=options.workload,
        sizes=options.size or ([1024, 102_400] if options.quick else [1024, 10_240, 102_400]),
        modes=options.mode,
        sessions=options.sessions,
        rounds=options.rounds or (1 if options.quick else 5),
        seconds=options.seconds or (1.0 if options.quick else 2.0),
        generators=options.generator,
        patience=options.patience,
    )
    peers = choose(options.peers)
    results = _results(options)
    compare(peers, plan, results)
    print(text(results.lines))


def _idle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", default="all")
    parser.add_argument("--conns", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    parser.set_defaults(run=_idle)


def _idle(options: argparse.Namespace) -> None:
    results = _results(options)
    idle(with_workload(choose(options.peers), SINK), options.conns, results)
    print(text(results.lines))


def _micro_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="parts of names; without any, all are run")
    parser.set_defaults(run=lambda options: micro(options.names))


def _profile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workload", choices=(SINK, RELAY))
    parser.add_argument("--size", type=int, default=1024, help="bytes of body")
    parser.add_argument("--mode", choices=MODES, default=PERSIST)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--generator", choices=GENERATORS, default=SMTP_SOURCE)
    parser.add_argument("--count", type=int, default=10_000, help="messages")
    parser.add_argument("--sampled", action="store_true", help="by samples instead of cProfile")
    parser.add_argument("--top", type=int, default=40, help="functions to print")
    parser.add_argument("--out", type=Path, default=RESULTS / "profile.out", help="for pstats, snakeviz, …")
    parser.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> None:
    load = Load(options.generator, options.size, options.sessions, options.mode)
    kind = SAMPLED if options.sampled else EXACT
    profile(kind, options.workload, load, options.count, options.top, options.out)


def _all_in_one_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="100kb", help="of the body, as traffic-gen reads it")
    parser.add_argument("--count", type=int, default=10_000, help="messages of a round")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(
        run=lambda options: all_in_one(options.size, options.count, options.sessions, options.rounds)
    )


def _admin_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.set_defaults(run=lambda options: admin(options.seconds, options.rounds))


def _inject_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of a run")
    parser.set_defaults(run=lambda options: inject(options.seconds))


def _table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path)
    parser.set_defaults(run=lambda options: print(text(read(options.files))))


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "compare": (_compare_options, "CPU per message of kumo-py and peers, by turns (the default)"),
    "table": (_table_options, "print saved results again"),
    "idle": (_idle_options, "memory of connections that do nothing"),
    "all-in-one": (_all_in_one_options, "generator, relay and sink together on this machine"),
    "admin": (_admin_options, "mail beside calls of the HTTP API"),
    "inject": (_inject_options, "messages over the HTTP API"),
    "micro": (_micro_options, "parts of kumo-py by themselves"),
    "profile": (_profile_options, "where the time of a message goes in kumo-py"),
}
