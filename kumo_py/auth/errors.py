"""Why a signature does not count."""

from __future__ import annotations


class Invalid(Exception):
    """It never will: `permerror`. The text says why, for the `reason` of the result."""


class Unavailable(Exception):
    """It could not be found out this time: `temperror`."""
