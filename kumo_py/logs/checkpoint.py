"""Remembers how far a reader of log segments has come, in a small file beside them (KumoMTA's format).

A checkpoint is written to a file of its own, synced and renamed: after a crash there is the new one or the old one.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec


class Position(NamedTuple):
    """So many lines of a segment, and all of the segments before it. Later ones are greater."""

    file: str
    """Path below the directory of the segments."""
    line: int


class _Saved(msgspec.Struct):
    file: str
    line: int


class Checkpoint:
    """The file `.NAME` in a directory of segments. Its methods read and write: they belong into a thread."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, f".{name}")
        self._saved: Position | None = None

    def load(self) -> Position | None:
        """None if there is none yet. Raises OSError or ValueError."""
        try:
            with open(self._path, "rb") as file:
                saved = msgspec.json.decode(file.read(), type=_Saved)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as err:
            raise ValueError(f"{self._path} is no checkpoint: {err}") from None
        self._saved = Position(saved.file.removeprefix(os.path.join(self._directory, "")), saved.line)
        return self._saved

    def save(self, position: Position) -> None:
        """Never goes back: batches may be committed in any order. Raises OSError."""
        if self._saved is not None and position <= self._saved:
            return
        content = _Saved(os.path.join(self._directory, position.file), position.line)
        new = f"{self._path}.new"
        with open(new, "wb") as file:
            file.write(msgspec.json.encode(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        self._saved = position
