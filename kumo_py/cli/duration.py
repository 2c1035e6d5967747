"""Durations as arguments, such as 90s, 20m or 1h 30m: KumoMTA's, checked before they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click import BadParameter

from kumo_py.core.duration import Duration

if TYPE_CHECKING:
    import click


def seconds(_: click.Context, param: click.Parameter, text: str) -> float:
    """For an option's `callback`. Raises BadParameter."""
    try:
        return Duration(text)
    except ValueError as err:
        raise BadParameter(str(err), param=param) from None


def checked_duration(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """The same, but what the option gives is the text."""
    if text is not None:
        seconds(ctx, param, text)
    return text
