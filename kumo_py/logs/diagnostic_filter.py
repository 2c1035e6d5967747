"""The filter of the diagnostic log: directives such as `kumod=info,kumod::smtp_server=debug,error`.

The grammar is that of KumoMTA's KUMOD_LOG (tracing's EnvFilter) without its span and field filters. A
directive is `target=level`, `target` (everything of it) or `level` (for all targets); the longest target that
begins a logger's own decides, and what no directive names is off.
"""

from __future__ import annotations

import re

TRACE, DEBUG, INFO, WARN, ERROR, OFF = 5, 10, 20, 30, 40, 100

_LEVELS = {"trace": TRACE, "debug": DEBUG, "info": INFO, "warn": WARN, "error": ERROR, "off": OFF} | dict(
    zip("012345", (OFF, ERROR, WARN, INFO, DEBUG, TRACE), strict=True)
)
_TARGET = re.compile(r"[\w:.-]+")


class DiagnosticFilter:
    """A parsed filter text."""

    __slots__ = ("_directives",)

    def __init__(self, text: str) -> None:
        """Raises ValueError."""
        directives = dict(_directive(part.strip()) for part in text.split(",") if part.strip())
        if not directives:
            directives[""] = ERROR
        self._directives = sorted(directives.items(), key=lambda item: len(item[0]), reverse=True)

    def threshold(self, target: str) -> int:
        """The lowest level that is shown for a target."""
        for prefix, level in self._directives:
            if target.startswith(prefix):
                return level
        return OFF


def _directive(text: str) -> tuple[str, int]:
    target, equals, level = text.partition("=")
    if not equals and target.lower() in _LEVELS:
        return "", _LEVELS[target.lower()]
    if "[" in text:
        raise ValueError(f"log filter {text!r}: spans and fields cannot be filtered; write target=level")
    if not _TARGET.fullmatch(target):
        raise ValueError(f"log filter {text!r}: expected target=level, such as kumod=info")
    if level and level.lower() not in _LEVELS:
        raise ValueError(f"log filter {text!r}: the level must be trace, debug, info, warn, error or off")
    return target, _LEVELS[level.lower()] if level else TRACE
