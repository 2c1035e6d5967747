"""Why a signature does not count."""

from __future__ import annotations


class Invalid(Exception):
    """It never will: `permerror`. The text says why, for the `reason` of the result."""


def shown(text: str) -> str:
    """What a stranger wrote, short enough for a reason."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Unavailable(Exception):
    """It could not be found out this time: `temperror`."""
