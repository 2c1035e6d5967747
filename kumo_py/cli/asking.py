"""Commands that ask a policy without a running node: how they load it, and where they find it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio

from kumo_py.cli.serve import DEFAULT_POLICY
from kumo_py.core.policy import PolicyError, Rejection
from kumo_py.daemon import Node
from kumo_py.dns import DnsError
from kumo_py.logs.diagnostics import configure_diagnostics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


def policy_option(command: F) -> F:
    """Gives a command the argument `policy_path`."""
    return click.option(
        "--policy",
        "policy_path",
        type=click.Path(path_type=Path),
        default=DEFAULT_POLICY,
        show_default=True,
        envvar="POLICY_PATH",
        help="The policy to ask; $POLICY_PATH says so too.",
    )(command)


def ask(policy_path: Path, question: Callable[[Node], Awaitable[T]]) -> T:
    """Ask a node that only validates: nothing is bound, sent or written. Raises click.ClickException."""

    async def run() -> T:
        node = Node(policy_path)
        await node.load_to_ask()
        return await question(node)

    return attempt(run)


def attempt(run: Callable[[], Awaitable[T]], diagnostics: str = "error") -> T:
    """What it gives; what it is unable to do is an error of the command. `diagnostics`: which go to stderr."""
    configure_diagnostics(default_filter=diagnostics)
    try:
        return trio.run(run)
    except (PolicyError, Rejection, DnsError, ValueError, OSError) as err:
        raise click.ClickException(str(err)) from None
