"""Finds the files that match a pattern. It reads directories, so it belongs into a thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kumo_py.core.glob import Glob

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MATCHES = 100_000
"""A pattern that matches more is taken for a mistake."""


def find_matches(pattern: str, relative_to: str = ".") -> list[str]:
    """Paths that match, sorted; those below `relative_to` without it, as the pattern itself is.

    What does not exist or may not be read holds nothing. Raises ValueError for a bad pattern, or for too many
    matches.
    """
    glob = Glob(pattern)
    found: list[str] = []
    for path in _walk(relative_to, glob.fixed, glob, ()):
        if glob.matches(path):
            if len(found) == MAX_MATCHES:
                raise ValueError(f"more than {MAX_MATCHES} files match '{pattern}'")
            found.append(path)
    return sorted(found)


def _walk(root: str, directory: str, glob: Glob, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """What is in a directory and below; `above` are the directories on the way, which a link must not lead back to."""
    try:
        here = os.stat(os.path.join(root, directory))
        with os.scandir(os.path.join(root, directory)) as entries:
            listed = list(entries)
    except OSError:
        return
    identity = here.st_dev, here.st_ino
    if identity in above:
        return
    prefix = "" if directory == "." else f"{directory.rstrip('/')}/"
    for entry in listed:
        path = prefix + entry.name
        yield path
        if glob.may_contain(path) and _is_directory(entry):
            yield from _walk(root, path, glob, (*above, identity))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
