"""A load whose every message can be told apart, and the account of what the server said to each."""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from smtp_client import SmtpClient, stuffed

if TYPE_CHECKING:
    from collections.abc import Callable

_CHECK = re.compile(rb"^X-Check: (\d+) ([0-9a-f]{64})\r\n", re.MULTILINE)
_LINES = (
    b"",
    b".",
    b"..",
    b".leading dot",
    b"plain text of no interest",
    "acht bit: äöü €".encode(),
    bytes(range(128, 256)),
    b"x" * 990,
    b"X-Check: 1 " + b"0" * 64,
    b"250 OK",
    b"From me",
)


def make_content(sequence: int, size: int, chance: random.Random) -> bytes:
    """A message of about `size` bytes that carries its number, and the hash of all that follows it."""
    lines = chance.choices(_LINES, k=size * len(_LINES) // sum(map(len, _LINES)))
    rest = b"\r\n".join([b"Subject: %d" % sequence, b"", *lines, b""])
    return b"X-Check: %d %b\r\n" % (sequence, hashlib.sha256(rest).hexdigest().encode()) + rest


def sequence_of(content: bytes) -> int:
    """The number of a message that is whole. Raises AssertionError for a torn one."""
    found = _CHECK.search(content)
    assert found, f"a message has lost its header: {content[:300]!r}"
    rest = content[found.end() :]
    assert hashlib.sha256(rest).hexdigest().encode() == found[2], f"message {int(found[1])} is torn"
    return int(found[1])


class Load:
    """Clients, each a thread, that send as fast as `address()` lets them, until `stop`.

    The sets hold sequence numbers; they change until `stop` has returned.
    """

    def __init__(
        self, address: Callable[[], str], *, clients: int, seed: int, sizes: Callable[[random.Random], int]
    ) -> None:
        self.acknowledged: set[int] = set()
        """Answered 250."""
        self.unfinished: set[int] = set()
        """The client has not given away the end of the content."""
        self.uncertain: set[int] = set()
        """All was sent, and no answer came."""
        self.refused: Counter[int] = Counter()
        """Codes of negative answers."""
        self.failures: list[BaseException] = []
        self._address = address
        self._sizes = sizes
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(seed * 100 + number)), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(15)
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]

    def _run(self, number: int, chance: random.Random) -> None:
        sequence = number
        try:
            while not self._stopping.is_set():
                address = self._address()
                try:
                    with SmtpClient(address, timeout=5) as client:
                        client.greet()
                        while not self._stopping.is_set() and address == self._address():
                            sequence += len(self._threads)
                            if not self._send(client, sequence, chance):
                                break
                except OSError:
                    time.sleep(0.005)
        except BaseException as err:
            self.failures.append(err)

    def _send(self, client: SmtpClient, sequence: int, chance: random.Random) -> bool:
        """One message; False to open a new connection. Raises OSError."""
        content = stuffed(make_content(sequence, self._sizes(chance), chance))
        self.unfinished.add(sequence)
        answer = client.envelope(f"s{sequence}@client.example", f"r{sequence}@far.example")
        if answer.code == 354:
            style = chance.random()
            if style < 0.1:  # a slow client: most kills find one in the middle
                client.send(content[: len(content) // 2])
                time.sleep(0.01)
                content = content[len(content) // 2 :]
            if style > 0.98:  # a rude one
                client.send(content[:-3])
                return False
            self.unfinished.discard(sequence)
            self.uncertain.add(sequence)
            client.send(content)
            answer = client.reply()
            self.uncertain.discard(sequence)
            if answer.code == 250:
                self.acknowledged.add(sequence)
                return True
        self.unfinished.add(sequence)
        self.refused[answer.code] += 1
        return answer.code != 421
