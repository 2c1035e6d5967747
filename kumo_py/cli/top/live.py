"""The live view: a thread asks the node, this one waits for keys, answers and resizes, and draws.

There is one request per interval, and never a second before the first is answered.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlencode

import click
import msgspec
from rich.console import Console
from rich.live import Live

from kumo_py.cli.top.frame import Scene, draw
from kumo_py.cli.top.keyboard import Keyboard
from kumo_py.cli.top.overview import Overview

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from kumo_py.cli.endpoint import Endpoint

OVERVIEW = "/api/kumo-py/overview/v1"
_LIMITS = (50, 100, 200)
"""Rows that are asked for: few numbers, as the node makes an answer once for all who ask for the same."""
_PATIENCE = 10.0
"""Seconds that the node has to answer; if it does not, it is asked again."""


def ask(endpoint: Endpoint, query: dict[str, str]) -> Overview:
    """Raises click.ClickException."""
    response = endpoint.request("GET", f"{OVERVIEW}?{urlencode(query)}", timeout=_PATIENCE)
    try:
        return msgspec.json.decode(response.content, type=Overview)
    except msgspec.MsgspecError as err:
        raise click.ClickException(f"{endpoint.url}{OVERVIEW}: this is no answer of a node: {err}") from None


def show_once(endpoint: Endpoint, interval: float) -> None:
    """Print a frame, with the rates between two looks. Raises click.ClickException."""
    scene = Scene(endpoint.url)
    query = scene.wishes.query(_LIMITS[0])
    with endpoint.connected():
        scene.history.add(ask(endpoint, query), time.monotonic())
        time.sleep(interval)
        scene.history.add(ask(endpoint, query), time.monotonic())
    console = Console(highlight=False)
    console.print(draw(scene, time.time(), console.width, None))


def show_live(endpoint: Endpoint, interval: float) -> None:
    """Draw until the person quits."""
    console = Console(highlight=False)
    scene = Scene(endpoint.url)
    bell = _Bell()
    with _signals(bell), Keyboard(sys.stdin.fileno()) as keyboard:
        asker = _Asker(endpoint, interval, bell)
        asker.start()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                width, height = console.size
                limit = next((one for one in _LIMITS if one >= height), _LIMITS[-1])
                asker.want(scene.wishes.query(limit), scene.wishes.paused)
                live.update(draw(scene, time.time(), width, height), refresh=True)
                ready, _, _ = select.select([keyboard.fd, bell.fd], [], [], 1.0)
                if bell.fd in ready:
                    bell.silence()
                asker.tell(scene)
                if keyboard.fd in ready and not all(map(scene.wishes.press, keyboard.keys())):
                    return


class _Bell:
    """Wakes who waits for it, be it rung by another thread or by a signal. As old as the process."""

    def __init__(self) -> None:
        self.fd, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def ring(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._writing, b".")

    def silence(self) -> None:
        os.read(self.fd, 4096)


class _Asker(threading.Thread):
    """Asks for an overview every interval, and at once when something else is wanted."""

    def __init__(self, endpoint: Endpoint, interval: float, bell: _Bell) -> None:
        super().__init__(daemon=True)
        self._endpoint = endpoint
        self._interval = interval
        self._bell = bell
        self._query: dict[str, str] = {}
        self._paused = True
        self._anew = threading.Event()
        self._answers: SimpleQueue[tuple[Overview | str, float]] = SimpleQueue()

    def want(self, query: dict[str, str], paused: bool) -> None:
        """Other data is asked for even during a pause."""
        is_new = query != self._query or (self._paused and not paused)
        self._query, self._paused = query, paused
        if is_new:
            self._anew.set()

    def tell(self, scene: Scene) -> None:
        """What has been learnt since the last time."""
        while not self._answers.empty():
            answer, at = self._answers.get()
            if isinstance(answer, Overview):
                scene.history.add(answer, at)
                scene.lost_at = None
            else:
                scene.problem = answer
                scene.lost_at = scene.lost_at or time.time()

    def run(self) -> None:
        with self._endpoint.connected():
            while True:
                is_new = self._anew.wait(self._interval)
                self._anew.clear()
                if is_new or not self._paused:
                    self._answers.put((self._ask(), time.monotonic()))
                    self._bell.ring()

    def _ask(self) -> Overview | str:
        """Or what is wrong."""
        try:
            return ask(self._endpoint, self._query)
        except click.ClickException as err:
            return err.message


@contextmanager
def _signals(bell: _Bell) -> Iterator[None]:
    """A resize rings; what ends the program lets it tidy up."""

    def resized(_number: int, _frame: FrameType | None) -> None:
        bell.ring()

    def ended(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    handlers = {signal.SIGWINCH: resized, signal.SIGTERM: ended, signal.SIGHUP: ended}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
