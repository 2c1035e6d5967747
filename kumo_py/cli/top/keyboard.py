"""A terminal's keys, one by one as they are pressed. The terminal is as it was at the end of the `with` block."""

from __future__ import annotations

import os
import re
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[Z": "shift-tab",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
    "\x1b": "escape",
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
}
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
_NEVER = b"\0"
"""A control character that is switched off."""


class Keyboard:
    """Reads a terminal without waiting for the end of a line, and without echo. Ctrl-C works; Ctrl-Z does nothing."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._before = termios.tcgetattr(fd)

    def __enter__(self) -> Self:
        now = termios.tcgetattr(self.fd)
        now[3] &= ~(termios.ICANON | termios.ECHO)
        now[6][termios.VMIN], now[6][termios.VTIME] = 1, 0
        now[6][termios.VSUSP] = _NEVER
        termios.tcsetattr(self.fd, termios.TCSADRAIN, now)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(self.fd, termios.TCSAFLUSH, self._before)

    def keys(self) -> Iterator[str]:
        """Those that were pressed: characters, and names such as "left"; "q" if the terminal has gone."""
        try:
            data = os.read(self.fd, 1024)
        except OSError:
            data = b""
        if not data:
            yield "q"
        for found in _KEY.findall(data.decode(errors="ignore")):
            key = _NAMES.get(found, found)
            if len(found) == 1 or key != found:
                yield key
