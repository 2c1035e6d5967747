"""The bytes of a connection that have arrived and are not yet consumed."""

from __future__ import annotations


class ByteBuffer:
    """One bytes object and two marks in it.

    Nearly always all that arrived is consumed before more arrives, and feed is an assignment. What is left
    over otherwise is the start of one line, so that gluing it to the next piece costs no more than a line.
    """

    __slots__ = ("_buffer", "_position", "_searched")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0  # what stands before it is consumed
        self._searched = 0  # no CRLF begins between position and here

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        position = self._position
        if position == len(self._buffer):
            self._buffer = data
            self._searched = 0
        else:
            self._buffer = self._buffer[position:] + data
            self._searched -= position
        self._position = 0

    @property
    def pending(self) -> bool:
        """True if something is there that nobody has consumed."""
        return self._position < len(self._buffer)

    @property
    def unread(self) -> tuple[bytes, int]:
        """Octets, and from where on nobody has consumed them."""
        return self._buffer, self._position

    def take_rest(self) -> bytes:
        """Hand over what is pending, to whoever speaks another protocol on this connection."""
        rest = self._buffer[self._position :]
        self.discard()
        return rest

    def discard(self) -> None:
        """Forget what is pending: nothing sent in the clear counts after STARTTLS (RFC 3207 §4.2)."""
        self._buffer = b""
        self._position = self._searched = 0
