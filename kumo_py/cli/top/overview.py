"""What `kumo-py top` needs of a node's GET /api/kumo-py/overview/v1; see `kumo_py/admin/overview.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Node(_Part, frozen=True):
    hostname: str
    version: str
    started: datetime
    uptime: float


class Policy(_Part, frozen=True):
    """Times are Unix seconds."""

    policy: str
    epoch: int
    since: float
    error: str | None
    restart_needed: list[str]


class Totals(_Part, frozen=True):
    """Since the start, but for what is there now; memory in bytes."""

    received: int
    delivered: int
    failed: int
    transfailed: int
    scheduled: int
    ready: int
    connections_in: int
    connections_out: int
    memory_usage: int
    memory_limit: int | None
    cpu_seconds: float


class LastError(_Part, frozen=True):
    when: datetime
    text: str


class Queue(_Part, frozen=True):
    """What scheduled and ready queues share."""

    name: str
    messages: int
    last_error: LastError | None
    suspended: str | None


class ScheduledQueue(Queue, frozen=True):
    oldest: float | None
    """Seconds."""


class ReadyQueue(Queue, frozen=True):
    site: str
    source: str
    provider: str | None
    connections: int
    connection_limit: int | None
    delivered: int
    failed: int
    transfailed: int


class Shown(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The first of so many."""

    count: int
    shown: list[T]


class Tenant(_Part, frozen=True):
    tenant: str
    messages: int


class Overview(_Part, frozen=True):
    now: datetime
    node: Node
    policy: Policy
    totals: Totals
    scheduled_queues: Shown[ScheduledQueue]
    ready_queues: Shown[ReadyQueue]
    tenants: list[Tenant]
