"""What an operator has put in the way of messages: suspensions and bounces, each for a while.

A rule names scheduled queues, by their names or by parts of those, or one ready queue. It ends by itself, by its
id, or by a new rule for the same queues. Rules live in memory: a restart forgets them, as KumoMTA does.
`Sweep` applies them to messages.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, TypeVar

from kumo_py.core.duration import Duration, format_duration
from kumo_py.queue.config import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.message.queue_name import QueueName

DEFAULT_DURATION = 300.0
"""Seconds for which a rule lasts that does not say."""


_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


class Timestamp(float):
    """Unix seconds, written as RFC 3339 has it, such as "2026-12-24T18:00:00Z": the type of `expires`."""

    option_type = "string"

    __slots__ = ()

    @classmethod
    def from_option(cls, value: object) -> Self:
        if isinstance(value, str):
            try:
                found = datetime.fromisoformat(value)
            except ValueError:
                pass
            else:
                if found.tzinfo is not None:
                    return cls(found.timestamp())
        raise ValueError(f"{value!r} is not a time: write a date, time and zone such as 2026-12-24T18:00:00Z")

    def to_option(self) -> str:
        return datetime.fromtimestamp(min(self, _LAST), UTC).isoformat().replace("+00:00", "Z")


class _Request(Options, frozen=True, kw_only=True):
    reason: str
    duration: Duration | None = None
    expires: Timestamp | None = None
    """Instead of `duration`."""


class SuspendRequest(_Request, frozen=True, kw_only=True):
    """Which scheduled queues; what is not given matches any. `queue_names` overrides the other criteria."""

    campaign: str | None = None
    tenant: str | None = None
    domain: str | None = None
    routing_domain: str | None = None
    queue_names: tuple[str, ...] = ()


class BounceRequest(SuspendRequest, frozen=True, kw_only=True):
    """As for a suspension. Without any criteria, all messages."""

    suppress_logging: bool = False


class RebindRequest(Options, frozen=True, kw_only=True):
    """Which scheduled queues, and what is done to the messages that wait there; see queue/rebind.py."""

    campaign: str | None = None
    tenant: str | None = None
    domain: str | None = None
    routing_domain: str | None = None
    reason: str
    data: dict[str, str]
    """For the event; without it, metadata to set."""
    trigger_rebind_event: bool = False
    always_flush: bool = False
    """Also what does not change its queue is due at once."""
    suppress_logging: bool = False

    @property
    def criteria(self) -> Criteria:
        return Criteria(self.campaign, self.tenant, self.domain, self.routing_domain, frozenset())


class SuspendReadyRequest(_Request, frozen=True, kw_only=True):
    """One ready queue, by its exact name."""

    name: str


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which scheduled queues a rule is about."""

    campaign: str | None
    tenant: str | None
    domain: str | None
    routing_domain: str | None
    queue_names: frozenset[str]

    def as_json(self) -> dict[str, object]:
        """For the lists of rules; KumoMTA's leave the names out, so that such a rule looks as if it matched all."""
        return {
            "campaign": self.campaign,
            "tenant": self.tenant,
            "domain": self.domain,
            "routing_domain": self.routing_domain,
            "queue_names": sorted(self.queue_names),
        }

    def match(self, name: str, parts: QueueName) -> bool:
        if self.queue_names:
            return name in self.queue_names
        return (
            self.campaign in (None, parts.campaign)
            and self.tenant in (None, parts.tenant)
            and self.domain in (None, parts.domain)
            and self.routing_domain in (None, parts.routing_domain)
        )


@dataclass(slots=True)
class Rule:
    """A suspension of scheduled queues; `BounceRule` is the other kind."""

    criteria: Criteria
    reason: str
    expires: float
    """On the rules' clock."""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(slots=True)
class BounceRule(Rule):
    """Bounces what it matches."""

    suppress_logging: bool = False
    bounced: Counter[str] = field(default_factory=Counter)
    """Messages, by queue."""


@dataclass(slots=True)
class ReadySuspension:
    """Keeps one ready queue from sending."""

    name: str
    reason: str
    expires: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


R = TypeVar("R", bound=Rule)


class RuleSet(dict[Criteria, R]):
    """Rules about scheduled queues by their criteria, found without looking at all of them.

    It is a dict because every message asks whether it is empty.
    """

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        super().__init__()
        self._by_key: dict[tuple[str, str | None], dict[str, R]] = {}

    def add(self, rule: R) -> None:
        """A rule of the same criteria is replaced."""
        old = self.get(rule.criteria)
        if old is not None:
            self._drop(old)
        self[rule.criteria] = rule
        for key in _keys(rule.criteria):
            self._by_key.setdefault(key, {})[rule.id] = rule

    def find(self, name: str, parts: QueueName, now: float) -> R | None:
        """A rule that matches the queue, if there is one."""
        for key in (("name", name), ("domain", parts.domain), _ANY_DOMAIN):
            for rule in self._by_key.get(key, {}).values():
                if rule.expires > now and rule.criteria.match(name, parts):
                    return rule
        return None

    def remove(self, id: str) -> bool:
        """Whether there was a rule of this id."""
        for rule in self.values():
            if rule.id == id:
                self._drop(rule)
                return True
        return False

    def alive(self, now: float) -> list[R]:
        """All rules but those that have expired, which are forgotten."""
        for rule in [rule for rule in self.values() if rule.expires <= now]:
            self._drop(rule)
        return list(self.values())

    def _drop(self, rule: R) -> None:
        del self[rule.criteria]
        for key in _keys(rule.criteria):
            rules = self._by_key[key]
            del rules[rule.id]
            if not rules:
                del self._by_key[key]


_ANY_DOMAIN: tuple[str, str | None] = ("domain", None)


def _keys(criteria: Criteria) -> list[tuple[str, str | None]]:
    """Under what a rule is found."""
    if criteria.queue_names:
        return [("name", name) for name in criteria.queue_names]
    return [("domain", criteria.domain)]


class AdminRules:
    """The rules of a node."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """`clock` counts seconds and never steps; `wall` is Unix time."""
        self._clock = clock
        self._wall = wall
        self.bounces: RuleSet[BounceRule] = RuleSet()
        self.suspensions: RuleSet[Rule] = RuleSet()
        self.ready: dict[str, ReadySuspension] = {}
        """Suspended ready queues, by name; some may have expired."""
        self.generation = 0
        """Grows with each new rule."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after that: what is in ready queues must be looked at."""

    def __bool__(self) -> bool:
        """Whether there may be any rule."""
        return bool(self.bounces or self.suspensions or self.ready)

    # -- asked for each message ----------------------------------------------------------------------
    def bounce_of(self, name: str, parts: QueueName) -> BounceRule | None:
        """The rule by which messages of a scheduled queue bounce."""
        return self.bounces.find(name, parts, self._clock()) if self.bounces else None

    def suspension_of(self, name: str, parts: QueueName) -> Rule | None:
        """The rule by which messages of a scheduled queue are not tried."""
        return self.suspensions.find(name, parts, self._clock()) if self.suspensions else None

    def ready_suspended(self, name: str) -> bool:
        """Whether the ready queue of this name may not send."""
        found = self.ready.get(name)
        return found is not None and found.expires > self._clock()

    # -- what an operator does -----------------------------------------------------------------------
    def suspend(self, request: SuspendRequest) -> str:
        """Let scheduled queues try nothing for a while; the rule's id."""
        rule = Rule(_criteria(request), request.reason, self._expiry(request))
        self.suspensions.add(rule)
        self._changed()
        return rule.id

    def bounce(self, request: BounceRequest) -> BounceRule:
        """Bounce what comes in, becomes due or is about to be sent, for a while.

        See `Sweep.delayed` for what waits.
        """
        rule = BounceRule(
            _criteria(request),
            request.reason,
            self._expiry(request),
            suppress_logging=request.suppress_logging,
        )
        self.bounces.add(rule)
        self._changed()
        return rule

    def suspend_ready(self, request: SuspendReadyRequest) -> str:
        """Let a ready queue send nothing for a while, whether it exists yet or not; the suspension's id."""
        suspension = ReadySuspension(request.name, request.reason, self._expiry(request))
        self.ready[request.name] = suspension
        self._changed()
        return suspension.id

    def end_ready_suspension(self, id: str) -> bool:
        """Whether there was a suspension of this id."""
        for suspension in self.ready.values():
            if suspension.id == id:
                del self.ready[suspension.name]
                return True
        return False

    def forget_expired(self) -> None:
        """Called now and then."""
        now = self._clock()
        self.bounces.alive(now)
        self.suspensions.alive(now)
        for name in [name for name, suspension in self.ready.items() if suspension.expires <= now]:
            del self.ready[name]

    # -- what an operator sees: the entries of KumoMTA's HTTP API --------------------------------------
    def list_suspensions(self) -> list[dict[str, object]]:
        return [
            {
                "id": rule.id,
                **rule.criteria.as_json(),
                "reason": rule.reason,
                "duration": self._left(rule.expires),
            }
            for rule in self.suspensions.alive(self._clock())
        ]

    def list_bounces(self) -> list[dict[str, object]]:
        return [
            {
                "id": rule.id,
                **rule.criteria.as_json(),
                "reason": rule.reason,
                "duration": self._left(rule.expires),
                "bounced": dict(rule.bounced),
                "total_bounced": rule.bounced.total(),
            }
            for rule in self.bounces.alive(self._clock())
        ]

    def list_ready_suspensions(self) -> list[dict[str, object]]:
        self.forget_expired()
        return [
            {
                "id": suspension.id,
                "name": suspension.name,
                "reason": suspension.reason,
                "duration": self._left(suspension.expires),
                "expires": Timestamp(self._wall() + suspension.expires - self._clock()).to_option(),
            }
            for suspension in self.ready.values()
        ]

    def _left(self, expires: float) -> str:
        return format_duration(max(0.0, expires - self._clock()))

    def _expiry(self, request: _Request) -> float:
        if request.expires is not None:
            lasts = max(0.0, request.expires - self._wall())
        else:
            lasts = DEFAULT_DURATION if request.duration is None else request.duration
        return self._clock() + lasts

    def _changed(self) -> None:
        self.generation += 1
        self.on_change()


def _criteria(request: SuspendRequest) -> Criteria:
    return Criteria(
        request.campaign,
        request.tenant,
        request.domain,
        request.routing_domain,
        frozenset(request.queue_names),
    )
