"""The `kumo-py` command. A file holds one subcommand, or several of a kind; it is imported when one of them is called,
because half a second is long for who asks how full a queue is."""

from __future__ import annotations

from importlib import import_module

import click

from kumo_py.cli.endpoint import global_endpoint_option
from kumo_py.core.suggest import nearest

_SECTIONS = {
    "Run a node": {
        "serve": "serve",
        "policy": "policy",
        "bump-config-epoch": "policy",
        "set-log-filter": "policy",
        "doctor": "doctor",
    },
    "Look": {
        "top": "top",
        "queue-summary": "summary",
        "provider-summary": "summary",
        "mailq": "mailq",
        "inspect-message": "inspect",
        "inspect-sched-q": "inspect",
        "inspect-ready-q": "inspect",
        "resolve-egress-path": "inspect",
        "trace-smtp-server": "trace",
        "trace-smtp-client": "trace",
        "logs": "logs",
        "tailer": "tailer",
    },
    "Act": {
        "flush": "mailq",
        "hold": "mailq",
        "release": "mailq",
        "delete": "mailq",
        "bounce": "rules",
        "bounce-list": "rules",
        "bounce-cancel": "rules",
        "suspend": "rules",
        "suspend-list": "rules",
        "suspend-cancel": "rules",
        "suspend-ready-q": "rules",
        "suspend-ready-q-list": "rules",
        "suspend-ready-q-cancel": "rules",
        "rebind": "intervention",
        "abort-ready-q-conn": "intervention",
        "spool-compact": "intervention",
    },
    "Write policies": {
        "lua": "lua",
        "explain": "explain",
        "explain-throttle": "resolve",
        "resolve-queue-config": "resolve",
        "resolve-shaping-domain": "resolve",
        "resolve-site-name": "resolve",
        "validate-shaping": "validate",
        "validate-bounces": "validate",
    },
}
_HIDDEN = {"markdown-help": "markdown"}
_FILES = {name: file for names in (*_SECTIONS.values(), _HIDDEN) for name, file in names.items()}


class _Commands(click.Group):
    """Finds a command in its file, under its own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_FILES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        file = _FILES.get(cmd_name)
        if file is None:
            return None
        command: click.Command = getattr(import_module(f"kumo_py.cli.{file}"), cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _FILES and not name.startswith("-"):
            hint = f"; did you mean '{near}'?" if (near := nearest(name, _FILES)) else ""
            ctx.fail(f"There is no command '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in _SECTIONS.items():
            with formatter.section(section):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name, command.get_short_help_str(80)) for name, command in commands if command]
                )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kumo-py")
@global_endpoint_option
def main() -> None:
    """A mail transfer agent that runs KumoMTA Lua policies."""
