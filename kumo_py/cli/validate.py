"""`kumo-py validate-shaping` and `validate-bounces`: whether files are sound, before a node reads them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kumo_py.cli.asking import attempt
from kumo_py.dns import Resolvers
from kumo_py.logs.classifier import BounceClassifier
from kumo_py.logs.config import ClassifierConfig
from kumo_py.policy.modules.shaping import available
from kumo_py.shaping import LoadOptions, load_shaping

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.shaping import Shaping

F = TypeVar("F", bound="Callable[..., Any]")

_CHECKS = {
    "provider_overlap": ("Warn", "A domain with a block of its own that a provider matches too."),
    "dns_fail": ("Warn", "A domain that the DNS does not answer for."),
    "null_mx": ("Warn", "A domain that takes no mail."),
    "aliased_site": ("Warn", "Several domains that lead to one site."),
    "remote_load": ("Warn", "A URL that cannot be loaded."),
    "local_load": ("Error", "A file that cannot be loaded."),
}
"""Each with how grave it is unless an option says so."""


def _check_options(command: F) -> F:
    for name, (default, text) in reversed(_CHECKS.items()):
        command = click.option(
            f"--{name.replace('_', '-')}",
            type=click.Choice(["Ignore", "Warn", "Error"]),
            default=default,
            show_default=True,
            help=text,
        )(command)
    return command


@click.command()
@click.argument("files", nargs=-1, required=True)
@_check_options
@click.option("--skip-remote", is_flag=True, help="Leave out what is named by a URL.")
def validate_shaping(files: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401  as LoadOptions has them
    """Check traffic shaping files and URLs, each laid over the ones before it."""

    async def load() -> tuple[Shaping, list[str]]:
        found, notices = await available(files)
        return await load_shaping(found, Resolvers().default, LoadOptions(**options)), notices

    found, notices = attempt(load, "off")  # it returns what goes wrong
    for error in found.errors:
        click.echo(f"ERROR: {error}", err=True)
    for warning in (*notices, *found.warnings):
        click.echo(f"WARNING: {warning}", err=True)
    if found.errors:
        sys.exit(1)
    click.echo("OK", err=True)


@click.command()
@click.argument("files", nargs=-1)
def validate_bounces(files: tuple[str, ...]) -> None:
    """Check rule files of the bounce classifier, TOML or JSON by their names' ends."""
    for name in files:
        if not name.endswith((".toml", ".json")):
            raise click.ClickException(f"{name}: the name of a rule file must end in .toml or .json")
    try:
        BounceClassifier.load(ClassifierConfig(files=list(files)))
    except (ValueError, OSError) as err:
        raise click.ClickException(str(err)) from None
    click.echo("OK")
