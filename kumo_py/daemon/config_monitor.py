"""Notices edits of the policy and its data: what matches the globs, and whatever the policy itself has read.

The system's file events wake it at once; polling finds what they miss (network and container file systems) and
all that happens where nothing can be watched. Only a change of contents counts, as in KumoMTA.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio
from watchfiles import watch

from kumo_py.core.glob import Glob
from kumo_py.policy.file_glob import find_matches
from kumo_py.policy.source import NO_DIGEST, digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from watchfiles import Change

log = structlog.get_logger("kumo_py.config")

DEFAULT_GLOBS = ("/opt/kumomta/etc/**/*.{lua,json,toml,yaml}",)
POLL_INTERVAL = 10.0
"""Seconds between looks at the files."""
_SETTLE = 0.1
"""Seconds for which files must be left alone before they count."""
_BLIND = 0.2
"""Seconds after which a new watch surely sees what happens; then all is looked at once more."""


class ConfigMonitor:
    """Call `use` for what to look at, and run `watch`."""

    def __init__(self) -> None:
        self._globs = [Glob(pattern) for pattern in DEFAULT_GLOBS]
        self._files: set[str] = set()
        self._expected: dict[str, bytes] = {}
        """By path, the digests of what is no news."""
        self._new_globs = True
        self._stamps: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        """So that only what may have changed is read."""
        self._watched: tuple[set[str], set[str]] = (set(), set())
        self._rewatch = trio.CancelScope()
        self._wake = trio.Event()

    def use(self, globs: Iterable[str] | None = None, read: Mapping[str, bytes] | None = None) -> None:
        """Look at what these match, and at the files that the policy has read, by their digests then.

        None is what it was before. Raises ValueError for a bad pattern.
        """
        if globs is not None:
            self._globs = [Glob(os.path.abspath(pattern)) for pattern in globs]
            self._new_globs = True
        if read is not None:
            digests = {os.path.abspath(file): known for file, known in read.items()}
            self._files = set(digests)
            self._expected |= digests
        if self._directories() != self._watched:
            self._rewatch.cancel()

    async def files(self) -> list[str]:
        """What the globs match now, in order."""
        globs = self._globs
        return await trio.to_thread.run_sync(lambda: sorted(_matching(globs)))

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` after each edit, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                found = await self._look_until_settled()
                expected = {path: self._expected[path] for path in found if path in self._expected}
                if self._new_globs:  # what they match is no news, only what becomes of it
                    expected = found | expected
                    self._new_globs = False
                is_news = found != expected or any(path not in found for path in self._expected)
                self._expected = found
                if is_news:
                    await changed()
                    continue
                with trio.move_on_after(POLL_INTERVAL):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def is_current(self, digests: Mapping[str, bytes]) -> bool:
        """Whether files still have the content with these digests."""
        found = await trio.to_thread.run_sync(self._digests, list(digests))
        return found == dict(digests)

    async def _look_until_settled(self) -> dict[str, bytes]:
        """What is there, once no file has changed for a moment: many writers empty a file first."""
        found = await trio.to_thread.run_sync(self._look)
        while found != self._expected:
            before = found
            await trio.sleep(_SETTLE)
            found = await trio.to_thread.run_sync(self._look)
            if found == before:
                break
        return found

    def _directories(self) -> tuple[set[str], set[str]]:
        """What to watch: with all that is below, and without."""
        deep = {glob.fixed for glob in self._globs if glob.fixed != "/" and os.path.isdir(glob.fixed)}
        flat = {os.path.dirname(file) for file in self._files}
        return deep, set(filter(os.path.isdir, flat - deep))

    async def _listen(self) -> None:
        """Wake up for each event of the system."""
        while True:
            deep, flat = self._watched = self._directories()
            with trio.CancelScope() as self._rewatch:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen_in, deep, True)
                    nursery.start_soon(self._listen_in, flat, False)
                    await trio.sleep(_BLIND)
                    self._wake.set()

    async def _listen_in(self, directories: set[str], recursive: bool) -> None:
        if directories:
            stop = threading.Event()
            try:
                listen = partial(self._block_on, directories, recursive, stop)
                await trio.to_thread.run_sync(listen, abandon_on_cancel=True)
            except (OSError, RuntimeError) as err:
                log.warning(f"edits are noticed by polling only, every {POLL_INTERVAL:g}s: {err}")
            finally:
                stop.set()
        await trio.sleep_forever()

    def _block_on(self, directories: set[str], recursive: bool, stop: threading.Event) -> None:
        """In a thread; its own watchfiles.awatch would hold a cancellation up for seconds."""
        for _ in watch(
            *directories,
            watch_filter=self._concerns,
            step=20,
            debounce=50,
            stop_event=stop,
            recursive=recursive,
            raise_interrupt=False,
        ):
            trio.from_thread.run_sync(self._woken)

    def _woken(self) -> None:
        self._wake.set()

    def _concerns(self, change: Change, path: str) -> bool:
        return path in self._files or any(glob.matches(path) for glob in self._globs)

    def _look(self) -> dict[str, bytes]:
        """The digests of all that is to be looked at; what they were, if nothing can be opened just now."""
        try:
            os.close(os.open(os.curdir, os.O_RDONLY))
        except OSError:
            return self._expected
        paths = _matching(self._globs) | self._files
        self._stamps = {path: stamp for path, stamp in self._stamps.items() if path in paths}
        return self._digests(paths)

    def _digests(self, paths: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for path in paths:
            try:
                status = os.stat(path)
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                known = self._stamps.get(path)
                if known is None or known[0] != stamp:
                    known = self._stamps[path] = stamp, digest(Path(path).read_bytes())
                found[path] = known[1]
            except OSError:
                found[path] = NO_DIGEST
        return found


def _matching(globs: Iterable[Glob]) -> set[str]:
    return {path for glob in globs for path in find_matches(glob.pattern) if os.path.isfile(path)}
