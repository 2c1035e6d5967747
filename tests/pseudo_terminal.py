"""A terminal in which a command of kumo-py runs, as if a person sat at it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT = 20.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class PseudoTerminal:
    """Ended by the `with` block, if the command has not ended by itself."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        rows: int = 30,
        columns: int = 100,
    ) -> None:
        self._master, self._slave = pty.openpty()
        self._set_size(rows, columns)
        self._before = termios.tcgetattr(self._slave)
        inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kumo_py", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=subprocess.PIPE,
            env=inherited | {"TERM": "xterm-256color", "NO_PROXY": "*"} | dict(environment or {}),
            start_new_session=True,
        )
        self._drawn = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._master)
        os.close(self._slave)

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed, and waits for the end of a line."""
        return bool(termios.tcgetattr(self._slave)[3] & (termios.ECHO | termios.ICANON))

    @property
    def is_restored(self) -> bool:
        """Whether the command has left it as it was: settings, screen, cursor."""
        left = b"\x1b[?1049l" in self._drawn and b"\x1b[?25h" in self._drawn
        return left and termios.tcgetattr(self._slave) == self._before

    def press(self, keys: str) -> None:
        """What was drawn before is forgotten."""
        self._drawn = b""
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """What was drawn before is forgotten."""
        self._set_size(rows, columns)
        self._drawn = b""
        self.signal(signal.SIGWINCH)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def see(self, pattern: str) -> str:
        """What is drawn from the last key on, without escape sequences, once it matches."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            text = _ESCAPES.sub("", self._drawn.decode(errors="replace"))
            if re.search(pattern, text, re.DOTALL):
                return text
            drew = self._read(0.1)
            assert drew or self._process.poll() is None, f"it has ended: {self._process.communicate()[1]!r}"
            assert time.monotonic() < deadline, f"no {pattern!r} in {text[-3000:]!r}"

    def ended(self) -> int:
        """The exit status."""
        deadline = time.monotonic() + TIMEOUT
        while self._process.poll() is None:
            self._read(0.02)
            assert time.monotonic() < deadline, "it does not end"
        while self._read(0.0):
            pass
        return self._process.returncode

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        self._drawn += os.read(self._master, 65536)
        return True
