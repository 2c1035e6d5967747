"""What endpoints answer in JSON, for the API's description: KumoMTA's fields.

The endpoints write their answers themselves; `tests/daemon/test_openapi.py` reads real ones as these types.
"""

from __future__ import annotations

import msgspec

from kumo_py.core.duration import Duration
from kumo_py.queue.admin import Timestamp


class _Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Made(_Answer, frozen=True):
    """A rule was made."""

    id: str
    """By which it can be ended before its time; a UUID."""


class BounceMade(Made, frozen=True):
    """Messages that wait bounce after the response, so nothing is counted yet."""

    bounced: dict[str, int]
    """Empty."""
    total_bounced: int
    """Zero."""


class Suspension(_Answer, frozen=True):
    """Of scheduled queues. What is null matches any, unless queues are named."""

    id: str
    campaign: str | None
    tenant: str | None
    domain: str | None
    routing_domain: str | None
    queue_names: list[str]
    """The only ones that it matches, if there are any."""
    reason: str
    duration: Duration
    """What is left of it."""


class Bounce(Suspension, frozen=True):
    """A rule by which messages bounce."""

    bounced: dict[str, int]
    """Messages so far, by scheduled queue."""
    total_bounced: int
    """The sum of them."""


class ReadySuspension(_Answer, frozen=True):
    """Of one ready queue."""

    id: str
    name: str
    """Of the ready queue."""
    reason: str
    duration: Duration
    """What is left of it."""
    expires: Timestamp


class Policy(_Answer, frozen=True):
    """Which policy runs, and what became of the last edit."""

    policy: str
    """The path of its file."""
    files: list[str]
    """All that it has read."""
    epoch: int
    """How often a policy was taken."""
    since: float
    """When this one was; Unix time in seconds."""
    reloads: int
    """How many edits were taken."""
    failures: int
    """How many were refused."""
    error: str | None
    """Why the last edit was refused; null if it was not."""
    failed_at: float | None
    """When; Unix time in seconds."""
    restart_needed: list[str]
    """What the policy's start-up events ask for now that only a restart can give."""
