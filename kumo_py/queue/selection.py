"""Which messages an operator means: by id, scheduled queue, sender, recipient, age.

A message is judged by what is in memory first: its id, which tells its age, and the queue in which it waits. Only where
that does not decide is its envelope read from the spool, into a copy: the message itself stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kumo_py.core.duration import Duration
from kumo_py.core.spool_id import created, parse_hex
from kumo_py.message.message import Message
from kumo_py.message.queue_name import QueueName
from kumo_py.queue.config import Options
from kumo_py.queue.scheduled import ScheduledQueue

if TYPE_CHECKING:
    from kumo_py.queue.queues import Queues

CRITERIA = (
    "queue_names",
    "domain",
    "tenant",
    "campaign",
    "routing_domain",
    "sender",
    "recipient",
    "older_than",
)


class Selection(Options, frozen=True, kw_only=True):
    """What is given must all be so."""

    ids: tuple[str, ...] = ()
    queue_names: tuple[str, ...] = ()
    """Scheduled queues, by their exact names."""
    domain: str | None = None
    tenant: str | None = None
    campaign: str | None = None
    routing_domain: str | None = None
    sender: str | None = None
    """An address, `@` and a domain, or "" for the null sender; whatever the case."""
    recipient: str | None = None
    """The same; one of several is enough."""
    older_than: Duration | None = None
    held: bool | None = None
    """Whether an operator holds it."""

    def __post_init__(self) -> None:
        for id in self.ids:
            parse_hex(id)

    @property
    def is_everything(self) -> bool:
        return not self.ids and all(getattr(self, name) in (None, ()) for name in CRITERIA)


class Matcher:
    """A selection, as of the moment when this is made."""

    def __init__(self, selection: Selection, queues: Queues) -> None:
        self._queues = queues
        self._selection = selection
        self.ids = frozenset(map(parse_hex, selection.ids))
        self._names = frozenset(selection.queue_names)
        self._parts = [
            (name, value.lower() if "domain" in name else value)
            for name in ("domain", "tenant", "campaign", "routing_domain")
            if (value := getattr(selection, name)) is not None
        ]
        self._by_queue = bool(self._names or self._parts)
        self._matches: dict[str, bool] = {}
        """What is known of queues."""
        age = selection.older_than
        self._before = None if age is None else queues.wall() - age
        self._by_address = [
            (field, value.lower())
            for field in ("sender", "recipient")
            if (value := getattr(selection, field)) is not None
        ]

    def at_a_glance(self, msg: Message) -> bool | None:
        """Whether a message is meant; None if its envelope must be known to tell."""
        if self.ids and msg.id not in self.ids:
            return False
        if self._before is not None and created(msg.id) > self._before:
            return False
        if self._selection.held is not None and (msg in self._queues.held) is not self._selection.held:
            return False
        unknown = False
        if self._by_queue:
            queue = msg.queue
            if isinstance(queue, ScheduledQueue) and queue.name:
                if not self.matches_queue(queue.name):
                    return False
            elif not msg.meta_loaded:
                unknown = True
            elif not self._matches_own_queue(msg):
                return False
        if self._by_address:
            if not msg.meta_loaded:
                return None
            return self._matches_addresses(msg)
        return None if unknown else True

    def matches(self, msg: Message, envelope: Message) -> bool:
        """The same; nothing is unknown with the envelope, which is the message itself or a copy of its metadata."""
        if self._by_queue and not self._matches_own_queue(msg if msg.meta_loaded else envelope):
            return False
        return self._matches_addresses(envelope)

    def matches_queue(self, name: str) -> bool:
        """Whether messages of the scheduled queue of this name may be meant."""
        known = self._matches.get(name)
        if known is None:
            known = self._matches[name] = self._judge(name)
        return known

    def _judge(self, name: str) -> bool:
        if self._names and name not in self._names:
            return False
        components = QueueName.parse(name)
        return all(_lower(getattr(components, part), part) == value for part, value in self._parts)

    def _matches_own_queue(self, envelope: Message) -> bool:
        try:
            return self.matches_queue(envelope.queue_name)
        except ValueError:
            return False

    def _matches_addresses(self, envelope: Message) -> bool:
        for field, wanted in self._by_address:
            addresses = (envelope.sender,) if field == "sender" else envelope.recipients
            if wanted.startswith("@"):
                if not any(address.lower().endswith(wanted) for address in addresses):
                    return False
            elif not any(address.lower() == wanted for address in addresses):
                return False
        return True


def _lower(value: str | None, part: str) -> str | None:
    return value.lower() if value is not None and "domain" in part else value


async def envelope_of(queues: Queues, msg: Message) -> Message:
    """The message itself if its metadata is in memory, else a copy of it, which nobody else uses.

    Raises KeyError, SpoolError or ValueError if it is gone or cannot be read.
    """
    if msg.meta_loaded:
        return msg
    copy = Message.from_spool(msg.id)
    await queues.spool.load_meta(copy)
    return copy
