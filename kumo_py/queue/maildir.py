"""Delivery into maildirs: `protocol = { maildir_path = '/var/mail/{{ domain_part }}/{{ local_part }}' }`.

A message is written to `tmp`, synced and renamed to `new` (the maildir rules of qmail's maildir(5)), in a
worker thread. It goes there straight from its scheduled queue: there is no site, so no ready queue. Whoever injects
a message waits for that; what becomes due does not keep others waiting, but has its turn with one of a few tasks.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections import deque
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import minijinja
import trio

from kumo_py.logs import DeliveryCounts, LogContext, RecordType
from kumo_py.proto.address import split_address
from kumo_py.proto.reply import Response
from kumo_py.queue.context import Context, InsertReason, add
from kumo_py.spool import SpoolError

if TYPE_CHECKING:
    from kumo_py.message.message import Message
    from kumo_py.message.queue_name import QueueName
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.scheduled import ScheduledQueue


_TASKS = 4
"""How many messages that nobody waits for are delivered at a time."""


class MaildirDelivery:
    """Delivers the messages of queues whose protocol is a maildir."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.counts = DeliveryCounts()
        self._waiting: deque[tuple[Message, ScheduledQueue, Context]] = deque()
        self._tasks = 0
        self._templates = minijinja.Environment(undefined_behavior="strict")
        self._serial = count()

    def soon(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        """Take over a message that is due and that nobody waits for: others are not to wait for it either."""
        self._queues.in_hand[msg] = None
        self._waiting.append((msg, queue, context))
        if self._tasks < _TASKS:
            self._tasks += 1
            self._queues.spawn(self._insert_waiting)

    async def _insert_waiting(self) -> None:
        try:
            while self._waiting:
                await self._queues.insert_now_or_wait(*self._waiting.popleft())
        finally:
            self._tasks -= 1

    async def deliver(self, msg: Message, queue: ScheduledQueue, context: Context) -> None:
        """One copy for each recipient; those that fail are tried again, alone."""
        queues = self._queues
        where = LogContext(delivery_protocol="Maildir", session_id=str(uuid.uuid4()), counts=self.counts)
        try:
            await queues.spool.load(msg)
        except (KeyError, SpoolError, ValueError) as err:
            await queues.unreadable(msg, err, where)
            return
        protocol = queue.config.protocol
        done: list[str] = []
        failed: list[str] = []
        problems: list[str] = []
        for recipient in msg.recipients:
            try:
                path = self._path(protocol.maildir_path or "", msg, queue, recipient)
                name = await trio.to_thread.run_sync(
                    store, path, msg.data, next(self._serial), protocol.dir_mode, protocol.file_mode
                )
            except (OSError, ValueError, minijinja.TemplateError) as err:
                failed.append(recipient)
                problems.append(f"{recipient}: failed to write to maildir: {err}")
            else:
                done.append(f"{recipient}: wrote to maildir with id={name}")
        if done:
            delivered = [item for item in msg.recipients if item not in failed]
            response = Response(200, None, ", ".join(done), None)
            await queues.log.record(RecordType.Delivery, msg, response, where, recipients=delivered)
        if not failed:
            queues.forget(msg)
            return
        msg.set_envelope(msg.sender, tuple(failed))
        response = Response(400, None, ", ".join(problems), None)
        await queues.log.record(RecordType.TransientFailure, msg, response, where)
        context = add(context, InsertReason.LOGGED_TRANSIENT_FAILURE)
        await queues.requeue(msg, response, add(context, InsertReason.FAILED_TO_INSERT))

    def _path(self, template: str, msg: Message, queue: ScheduledQueue, recipient: str) -> Path:
        name: QueueName = queue.components
        local, domain = split_address(recipient)
        sender_local, sender_domain = split_address(msg.sender)
        values = {
            "local_part": local,
            "domain_part": domain,
            "email": recipient,
            "sender_local_part": sender_local,
            "sender_domain_part": sender_domain,
            "sender_email": msg.sender,
        }
        for key, value in values.items():
            # An address must not choose another directory than the template's.
            if value in (".", "..") or "/" in value or "\0" in value:
                raise ValueError(f"{key} {value!r} cannot be part of a path")
        values |= {
            "queue": queue.name,
            "campaign": name.campaign or "",
            "tenant": name.tenant or "",
            "domain": name.domain,
            "routing_domain": name.routing_domain or "",
        }
        return Path(self._templates.render_str(template, meta=msg.meta, **values))


def store(
    maildir: Path, data: bytes, serial: int, dir_mode: int | None = None, file_mode: int | None = None
) -> str:
    """Write one message; the file's name in `new`. Blocks; raises OSError."""
    for sub in ("tmp", "new", "cur"):
        _make(maildir / sub, dir_mode)
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
    now = time.time()
    # The size is for quotas (Maildir++).
    name = f"{int(now)}.M{int(now % 1 * 1e6)}P{os.getpid()}Q{serial}.{host},S={len(data)}"
    temporary, final = maildir / "tmp" / name, maildir / "new" / name
    try:
        with temporary.open("xb") as file:
            if file_mode is not None:
                os.fchmod(file.fileno(), file_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder_fd = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
    return name


def _make(folder: Path, mode: int | None) -> None:
    """Make a folder and those above it; the mode is for what did not exist, whatever the umask. Raises OSError."""
    if folder.is_dir():
        return
    _make(folder.parent, mode)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        if mode is not None:
            folder.chmod(mode)
