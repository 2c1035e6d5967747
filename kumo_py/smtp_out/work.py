"""The messages that an outgoing session has taken from its ready queue, and how far each has come.

| in_hand | sent | ahead | what is going on |
|---------|------|-------|------------------|
| –       | –    | –     | nothing: take a message, or wait for one |
| m       | –    | –     | m is being made ready, or its envelope is sent and answered |
| m       | –    | e2    | m's content goes out, and behind it the envelope of the message after it |
| m2      | e2   | –     | that message's turn has come, and its envelope is being answered |

Each of them is the session's until it is settled or put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.queue.ready import ReadyQueue
    from kumo_py.smtp_out.envelope import Envelope


class Work:
    """See the module."""

    __slots__ = ("_ready", "ahead", "at_once", "in_hand", "sent")

    def __init__(self, ready: ReadyQueue) -> None:
        self._ready = ready
        self.in_hand: Message | None = None
        self.at_once = 0
        """How many of its recipients may go now, at the front: the others failed in this session. 0 is all."""
        self.sent: Envelope | None = None
        """Its envelope, if that went with the content before it."""
        self.ahead: Envelope | None = None

    def take(self) -> bool:
        """Have a message in hand; False if there is none."""
        self.in_hand = self._ready.take()
        self.at_once = 0
        return self.in_hand is not None

    def refill(self) -> None:
        """Have a message in hand, if there is one."""
        if self.in_hand is None:
            self.take()

    def next(self) -> None:
        """The message in hand has been answered; the one whose envelope was sent ahead comes up."""
        self.sent, self.ahead = self.ahead, None
        self.in_hand = None if self.sent is None else self.sent.msg
        self.at_once = 0

    def again(self, msg: Message, at_once: int) -> None:
        """The message comes back into the hand: so many of its recipients may go once more."""
        if self.sent is not None:
            self._ready.put_back(self.sent.msg)
            self.sent = None
        self.in_hand, self.at_once = msg, at_once

    def disconnected(self) -> None:
        """What was sent ahead is void, and who was behind the message in hand goes back."""
        self.sent = None
        if self.ahead is not None:
            self._ready.put_back(self.ahead.msg)
            self.ahead = None

    def give_up(self) -> Message | None:
        """Let go of the message in hand: the caller's business now."""
        msg, self.in_hand = self.in_hand, None
        return msg

    def put_back(self) -> None:
        """What was taken and not tried goes back, in order."""
        self.disconnected()
        if self.in_hand is not None:
            self._ready.put_back(self.in_hand)
            self.in_hand = None
