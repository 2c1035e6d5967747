"""What is wrong with shaping data."""

from __future__ import annotations


class ShapingError(ValueError):
    """The text names the file, the block and the option, and says what would be right."""
