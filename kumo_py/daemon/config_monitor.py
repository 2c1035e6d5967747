"""Notices edits of the policy and its data: what matches the globs, and whatever the policy itself has read.

The system's file events wake it at once; polling finds what they miss (network and container file systems) and
all that happens where nothing can be watched. Only a change of contents counts, as in KumoMTA.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio
from watchfiles import watch

from kumo_py.core.glob import Glob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from watchfiles import Change

log = structlog.get_logger("kumo_py.config")

DEFAULT_GLOBS = ("/opt/kumomta/etc/**/*.{lua,json,toml,yaml}",)
POLL_INTERVAL = 10.0
"""Seconds between looks at the files."""
_SETTLE = 0.1
"""Seconds after the first event in which an editor may write the rest."""

Fingerprint = bytes


class ConfigMonitor:
    """Call `use` for what to look at, and run `watch`."""

    def __init__(self) -> None:
        self._globs = [Glob(pattern) for pattern in DEFAULT_GLOBS]
        self._files: set[str] = set()
        self._known: dict[str, tuple[tuple[int, int, int], bytes]] = {}
        self._rewatch = trio.CancelScope()
        self._wake = trio.Event()

    def use(self, globs: Iterable[str] | None = None, files: Iterable[str] = ()) -> None:
        """Look at these; without `globs` at those of before. Raises ValueError for a bad pattern."""
        if globs is not None:
            self._globs = [Glob(os.path.abspath(pattern)) for pattern in globs]
        self._files = {os.path.abspath(file) for file in files}
        self._rewatch.cancel()

    async def files(self) -> list[str]:
        """What the globs match now, in order."""
        globs = self._globs
        return await trio.to_thread.run_sync(lambda: sorted(_matching(globs)))

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` after each edit, for ever."""
        seen = await self._fingerprint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                with trio.move_on_after(POLL_INTERVAL):
                    await self._wake.wait()
                    await trio.sleep(_SETTLE)
                self._wake = trio.Event()
                now = await self._fingerprint()
                if now != seen:
                    seen = now
                    await changed()

    async def _listen(self) -> None:
        """Wake up for each event of the system."""
        while True:
            deep = _existing(glob.fixed for glob in self._globs if glob.fixed != "/")
            flat = _existing(map(os.path.dirname, self._files)) - deep
            with trio.CancelScope() as self._rewatch:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen_in, deep, True)
                    nursery.start_soon(self._listen_in, flat, False)

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

    async def _fingerprint(self) -> Fingerprint:
        return await trio.to_thread.run_sync(self._read)

    def _read(self) -> Fingerprint:
        paths = sorted(_matching(self._globs) | self._files)
        known, self._known = self._known, {}
        whole = blake2b()
        for path in paths:
            whole.update(path.encode("utf-8", "surrogateescape") + b"\0")
            try:
                status = os.stat(path)
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                before = known.get(path)
                digest = (
                    before[1] if before and before[0] == stamp else blake2b(Path(path).read_bytes()).digest()
                )
            except OSError as err:
                whole.update(str(err.errno).encode())
                continue
            self._known[path] = stamp, digest
            whole.update(digest)
        return whole.digest()


def _existing(directories: Iterable[str]) -> set[str]:
    return set(filter(os.path.isdir, directories))


def _matching(globs: Iterable[Glob]) -> set[str]:
    found: set[str] = set()
    for glob in globs:
        for directory, inner, files in os.walk(glob.fixed):
            inner[:] = [name for name in inner if glob.may_contain(os.path.join(directory, name))]
            found.update(path for name in files if glob.matches(path := os.path.join(directory, name)))
    return found
