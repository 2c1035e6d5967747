"""What a message can be refused for."""

from __future__ import annotations


class MimeError(ValueError):
    """A message or part cannot be parsed, decoded or written; the text says why."""
