"""The `kumo-py` command: one file for each subcommand."""

from __future__ import annotations

import click

from kumo_py.cli.lua import lua
from kumo_py.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kumo-py")
def main() -> None:
    """A mail transfer agent that runs KumoMTA Lua policies."""


main.add_command(lua)
main.add_command(serve)
