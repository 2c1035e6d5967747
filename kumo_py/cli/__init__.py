"""The `kumo-py` command: one file for each subcommand."""

from __future__ import annotations

import click

from kumo_py.cli import inspect, intervention, mailq, resolve, rules, validate
from kumo_py.cli.doctor import doctor
from kumo_py.cli.endpoint import global_endpoint_option
from kumo_py.cli.explain import explain
from kumo_py.cli.logs import logs
from kumo_py.cli.lua import lua
from kumo_py.cli.markdown import markdown_help
from kumo_py.cli.policy import bump_config_epoch, policy, set_log_filter
from kumo_py.cli.serve import serve
from kumo_py.cli.summary import provider_summary, queue_summary
from kumo_py.cli.tailer import tailer
from kumo_py.cli.top import top
from kumo_py.cli.trace import trace_smtp_client, trace_smtp_server


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kumo-py")
@global_endpoint_option
def main() -> None:
    """A mail transfer agent that runs KumoMTA Lua policies."""


for _command in (
    bump_config_epoch,
    doctor,
    explain,
    logs,
    lua,
    markdown_help,
    policy,
    provider_summary,
    queue_summary,
    serve,
    set_log_filter,
    tailer,
    top,
    trace_smtp_client,
    trace_smtp_server,
    *inspect.COMMANDS,
    *intervention.COMMANDS,
    *mailq.COMMANDS,
    *resolve.COMMANDS,
    *rules.COMMANDS,
    *validate.COMMANDS,
):
    main.add_command(_command)
