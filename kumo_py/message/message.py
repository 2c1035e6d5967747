"""The message: one object from DATA to its last log record.

Who owns what: a session makes it, the queue that holds it owns it, a dispatcher borrows it for one
attempt. Content and metadata live in memory only while somebody needs them: `shrink` drops what the
spool holds, the message spool's `load` brings it back. Reading a part that is not loaded is a
programming error and raises NotLoaded.

Content is the whole of header and body as on the wire before dot-stuffing (RFC 5322 §2). Headers
that are put on top are kept apart until somebody needs the joined bytes, so that two trace headers on
100 KB cost one copy.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from kumo_py.message.queue_name import QueueName
from kumo_py.proto.address import split_address

if TYPE_CHECKING:
    from kumo_py.message.scheduling import Schedule

NO_META: dict[str, object] = {}
"""What `meta` is while it is not loaded; never written to."""


class NotLoaded(RuntimeError):
    """A part of the message is only in the spool; load it first."""


class Message:
    """A message and its envelope; times are Unix seconds."""

    __slots__ = (
        "__weakref__",
        "_data",
        "_front",
        "_queue_name",
        "attempts",
        "data_saved",
        "dot_lines",
        "due",
        "force_sync",
        "id",
        "meta",
        "meta_saved",
        "queue",
        "recipients",
        "schedule",
        "sender",
        "size",
        "spooled",
    )

    def __init__(
        self,
        id: bytes,
        sender: str,
        recipients: tuple[str, ...],
        meta: dict[str, object],
        data: bytes | None,
        *,
        dot_lines: bool | None = None,
    ) -> None:
        self.id = id
        self.sender = sender
        self.recipients = recipients
        self.meta = meta
        self._data = data
        self._front: list[bytes] = []
        self._queue_name: str | None = None
        self.size = 0 if data is None else len(data)
        self.dot_lines = dot_lines
        """Whether a line starts with a dot, of content that has only CRLF line ends; None if neither is known.

        Saves the search on delivery.
        """
        self.attempts = 0
        self.due = 0.0
        self.schedule: Schedule | None = None
        """When it may be tried; stays in memory when the metadata leaves it."""
        self.queue: object = None
        """The scheduled queue it waits in; None while it may go or is being tried."""
        self.force_sync = False
        """Whether the spool is to sync it whatever its own setting."""
        self.data_saved = False
        self.meta_saved = False
        self.spooled = False
        """Whether the spool holds a whole, if perhaps older, copy."""

    @classmethod
    def from_spool(cls, id: bytes) -> Message:
        """A message of which only the id is in memory."""
        msg = cls(id, "", (), NO_META, None)
        msg.data_saved = msg.meta_saved = msg.spooled = True
        return msg

    # -- metadata ----------------------------------------------------------------------------------
    @property
    def meta_loaded(self) -> bool:
        """Whether sender, recipients and metadata are in memory."""
        return self.meta is not NO_META

    def get_meta(self, key: str) -> object:
        """The value, or None."""
        if self.meta is NO_META:
            raise NotLoaded(f"metadata of {self.id.hex()} is not loaded")
        return self.meta.get(key)

    def set_meta(self, key: str, value: object) -> None:
        if self.meta is NO_META:
            raise NotLoaded(f"metadata of {self.id.hex()} is not loaded")
        self.meta[key] = value
        self.meta_saved = False
        self._queue_name = None

    def update_meta(self, changes: dict[str, object]) -> None:
        """Set several keys at once: what a handler left behind."""
        if self.meta is NO_META:
            raise NotLoaded(f"metadata of {self.id.hex()} is not loaded")
        self.meta.update(changes)
        self.meta_saved = False
        self._queue_name = None

    def set_envelope(self, sender: str, recipients: tuple[str, ...]) -> None:
        self.sender = sender
        self.recipients = recipients
        self.meta_saved = False
        self._queue_name = None

    # -- time --------------------------------------------------------------------------------------
    def set_due(self, due: float, now: float) -> None:
        """Set the time of the next attempt, 0 for at once; its schedule may make it later."""
        if self.schedule is not None:
            due = self.schedule.adjust(due or now)
        self.due = due

    def set_schedule(self, schedule: Schedule | None, now: float) -> None:
        """Set or clear when it may be tried, and move the next attempt accordingly."""
        if self.meta is NO_META:
            raise NotLoaded(f"metadata of {self.id.hex()} is not loaded")
        self.schedule = schedule
        self.meta_saved = False
        if schedule is not None:
            self.due = schedule.adjust(self.due or now)

    # -- the queue ---------------------------------------------------------------------------------
    def meta_text(self, key: str) -> str | None:
        """A metadata value that must be a string or absent.

        Raises ValueError otherwise: queue, tenant, campaign and routing_domain must be text.
        """
        value = self.get_meta(key)
        if value is None or isinstance(value, str):
            return value
        raise ValueError(f"metadata '{key}' must be a string, got {type(value).__name__} {value!r}")

    @property
    def queue_name(self) -> str:
        """The scheduled queue: metadata `queue`, else made of campaign, tenant, domain and routing domain."""
        if self._queue_name is None:
            self._queue_name = self._make_queue_name()
        return self._queue_name

    def _make_queue_name(self) -> str:
        meta = self.meta
        if meta is NO_META:
            raise NotLoaded(f"metadata of {self.id.hex()} is not loaded")
        if "queue" in meta and (name := self.meta_text("queue")) is not None:
            return name
        domain = split_address(self.recipients[0])[1].lower() if self.recipients else ""
        if not ("tenant" in meta or "campaign" in meta or "routing_domain" in meta):
            return domain
        tenant, campaign = self.meta_text("tenant"), self.meta_text("campaign")
        return str(QueueName(domain, tenant, campaign, self.meta_text("routing_domain")))

    # -- content -----------------------------------------------------------------------------------
    @property
    def data_loaded(self) -> bool:
        return self._data is not None

    @property
    def data(self) -> bytes:
        """Header and body, with CRLF line ends."""
        data = self._data
        if data is None:
            raise NotLoaded(f"content of {self.id.hex()} is not loaded")
        if self._front:
            self._front.append(data)
            data = self._data = b"".join(self._front)
            self._front = []
        return data

    def set_data(self, data: bytes) -> None:
        """Replace the content."""
        self._data = data
        self._front = []
        self.size = len(data)
        self.dot_lines = None
        self.data_saved = False

    def load_data(self, data: bytes) -> None:
        """Content as read from the spool."""
        self._data = data
        self._front = []
        self.size = len(data)

    def prepend(self, header: bytes) -> None:
        """Put a complete header (CRLF at its end, no line starting with a dot) on top."""
        if self._data is None:
            raise NotLoaded(f"content of {self.id.hex()} is not loaded")
        self._front.insert(0, header)
        self.size += len(header)
        self.data_saved = False

    # -- memory ------------------------------------------------------------------------------------
    def shrink_data(self) -> None:
        """Drop the content from memory; it must have been saved."""
        if not self.data_saved:
            raise NotLoaded(f"content of {self.id.hex()} is not in the spool yet")
        self._data = None

    def shrink_meta(self) -> None:
        """Drop envelope and metadata from memory; they must have been saved."""
        if not self.meta_saved:
            raise NotLoaded(f"metadata of {self.id.hex()} is not in the spool yet")
        self.meta = NO_META
        self.sender = ""
        self.recipients = ()
        self._queue_name = None

    def fork(self, id: bytes, recipients: tuple[str, ...]) -> Message:
        """The same content and schedule under its own id and metadata for some of the recipients (one batch)."""
        made = Message(
            id, self.sender, recipients, copy.deepcopy(self.meta), self.data, dot_lines=self.dot_lines
        )
        made.schedule, made.due = self.schedule, self.due
        return made
