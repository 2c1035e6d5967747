"""The one exception of the spool room."""

from __future__ import annotations

import os


class SpoolError(Exception):
    """The spool could not do what was asked; the text says where and why.

    `errno` is the operating system's error number, or None when the error is not from there.
    """

    def __init__(self, text: str, errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno

    @classmethod
    def of(cls, what: str, error: BaseException) -> SpoolError:
        """Wrap `error`, which stopped `what` ("write to spool 'data' at /var/spool/data")."""
        number = error.errno if isinstance(error, OSError | SpoolError) else None
        reason = os.strerror(number) if number else str(error) or type(error).__name__
        return cls(f"cannot {what}: {reason}", number)

    def again(self) -> SpoolError:
        """A fresh copy, so that each waiter has a traceback of its own."""
        return SpoolError(str(self), self.errno)
