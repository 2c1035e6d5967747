"""Throttles and leases that several nodes share through Redis, under the keys that KumoMTA's nodes use too.

A throttle is one string, the theoretical arrival time in Unix seconds; a limit is a sorted set of leases by the time
when they expire. The server's clock counts, whatever the nodes' clocks say. A lease that Redis has lost is taken anew
if there is a place still; else the connection has to end (Lease.extend).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog
import trio

from kumo_py.limits.lease import Denied, Lease
from kumo_py.limits.shared import TROUBLE, Taken
from kumo_py.net.redis import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kumo_py.limits.lease import Leases
    from kumo_py.limits.spec import LimitSpec, ThrottleSpec
    from kumo_py.net.redis import RedisClient

log = structlog.get_logger("kumo_py.limits.redis")

_GCRA = b"""
local limit, period, burst, quantity = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local interval = period / limit
local kept = redis.call('GET', KEYS[1])
local tat = kept and math.max(tonumber(kept), now) or now
local after = tat + interval * quantity
local missing = after - now - interval * burst
local admitted = missing < 0.000002
if admitted then
  tat = after
  redis.call('SET', KEYS[1], string.format('%.6f', tat), 'PX', math.ceil((tat - now) * 1000) + 1)
  missing = 0
end
local remaining = math.max(math.floor(burst - (tat - now) / interval + 0.000001), 0)
return {remaining, string.format('%.6f', tat - now), string.format('%.6f', missing), admitted and 1 or 0}
"""

_LEASE = b"""
local duration, limit, member, mine = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == 'mine'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.3f', now))
if redis.call('ZCARD', KEYS[1]) >= limit and not (mine and redis.call('ZSCORE', KEYS[1], member)) then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return string.format('%.3f', math.max(tonumber(first[2]) - now, 0))
end
redis.call('ZADD', KEYS[1], string.format('%.3f', now + duration), member)
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.ceil(tonumber(last[2])) + 1)
return false
"""
"""Takes a place, or keeps one that is 'mine' and takes it anew where it was lost; else tells when the first expires."""

_Limits = Sequence[tuple[str, "LimitSpec"]]

_AGAIN = 0.25
"""Seconds after which one asks again whose lease is being asked for."""
_DENIED = 1.0
"""Seconds at most after which a lease that was denied is asked for again: somebody may have given one back."""
_KEPT = 2.0
"""Seconds that a lease is kept for the one who asked for it."""


class RedisThrottles:
    """A ThrottleStore (limits.shared)."""

    def __init__(self, client: RedisClient, *, has_cell: bool) -> None:
        self._client = client
        self.has_cell = has_cell
        """Whether the server has redis-cell's CL.THROTTLE."""

    @staticmethod
    async def connect(client: RedisClient) -> RedisThrottles:
        """Find out what the server can. Raises RedisError."""
        await client.command(b"PING")
        info = await client.command(b"COMMAND", b"INFO", b"CL.THROTTLE")
        return RedisThrottles(client, has_cell=bool(info) and any(info))

    async def take(self, key: str, spec: ThrottleSpec, quantity: int) -> Taken:
        """Raises RedisError."""
        name = (key + spec.key_suffix).encode()
        if self.has_cell:
            # redis-cell admits one more than the burst it is given.
            numbers = (spec.burst - 1, spec.limit, spec.period, quantity)
            reply = await self._client.command(b"CL.THROTTLE", name, *(b"%d" % number for number in numbers))
            refused, limit, remaining, retry_after, reset_after = reply
            return Taken(
                limit, remaining, float(max(reset_after, 0)), float(max(retry_after, 1)) if refused else None
            )
        numbers = (spec.limit, spec.period, spec.burst, quantity)
        reply = await self._client.script(_GCRA, [name], *(b"%d" % number for number in numbers))
        remaining, reset_after, missing, admitted = reply
        return Taken(spec.burst, remaining, float(reset_after), None if admitted else float(missing))


class _Wish:
    """What one who wants a lease has been told so far."""

    __slots__ = ("denied", "granted", "member")

    def __init__(self) -> None:
        self.member = str(uuid.uuid4())
        self.granted = False
        """There is a place for it under each limit."""
        self.denied: tuple[str, float] | None = None
        """The limit that is reached, and until when (on the callers' clock) it is not asked for again."""


class _Member(NamedTuple):
    """What a lease is in Redis, under which limits, and what it holds in this node."""

    name: str
    limits: _Limits
    local: Lease | None


class RedisLeases:
    """A LeaseStore (limits.lease) whose limits without `local:` are counted in Redis.

    A place is asked for in a task of its own; `granted` is called with the holder's name when it is there. One that
    nobody comes for is given back.
    """

    def __init__(
        self,
        client: RedisClient,
        local: Leases,
        *,
        spawn: Callable[..., None],
        granted: Callable[[str], None],
    ) -> None:
        self._client = client
        self._local = local
        self._spawn = spawn
        self._granted = granted
        self._wishes: dict[str, _Wish] = {}
        self._members: dict[Lease, _Member] = {}
        self._in_trouble = False

    def acquire(
        self, limits: Sequence[tuple[str, LimitSpec]], holder: str, now: float, duration: float
    ) -> Lease | Denied:
        """See `LeaseStore.acquire`."""
        shared = sorted(
            ((name, spec) for name, spec in limits if not spec.local), key=lambda one: one[1].limit
        )
        if not shared:
            return self._local.acquire(limits, holder, now, duration)
        wish = self._wishes.get(holder)
        if wish is not None and wish.denied is not None and wish.denied[1] <= now:
            wish = None
        if wish is None:
            wish = self._wishes[holder] = _Wish()
            self._spawn(self._ask, wish, shared, holder, duration)
        if wish.denied is not None:
            return Denied(wish.denied[0], wish.denied[1] - now)
        if not wish.granted:
            return Denied(shared[0][0], _AGAIN)
        return self._claim(
            wish, shared, [(name, spec) for name, spec in limits if spec.local], holder, now, duration
        )

    def _claim(
        self, wish: _Wish, shared: _Limits, own: _Limits, holder: str, now: float, duration: float
    ) -> Lease | Denied:
        held = self._local.acquire(own, holder, now, duration) if own else None
        if isinstance(held, Denied):
            return held
        del self._wishes[holder]
        lease = Lease(self, tuple(name for name, _ in shared), holder, now + duration)
        self._members[lease] = _Member(wish.member, shared, held)
        return lease

    def drop(self, lease: Lease) -> None:
        """For `Lease.release`."""
        member = self._members.pop(lease)
        if member.local is not None:
            member.local.release()
        self._spawn(self._give_back, member.name, member.limits)

    def note_expiry(self, lease: Lease) -> None:
        """For `Lease.extend`."""
        member = self._members[lease]
        now = trio.current_time()
        if member.local is not None:
            member.local.extend(now, lease.expires - now)
        self._spawn(self._extend, lease, member, lease.expires - now)

    async def _ask(self, wish: _Wish, limits: _Limits, holder: str, duration: float) -> None:
        try:
            for name, spec in limits:
                wait = await self._take(name, spec, duration, wish.member)
                if wait is not None:
                    wish.denied = name, trio.current_time() + min(max(wait, _AGAIN), _DENIED)
                    break
            self._in_trouble = False
        except RedisError as err:
            self._complain(err)
            wish.denied = limits[0][0], trio.current_time() + TROUBLE
        if wish.denied is not None:
            # All: where there was trouble, one may have been taken unheard.
            await self._give_back(wish.member, limits)
            await trio.sleep_until(wish.denied[1])
            self._forget(wish, holder)
            return
        wish.granted = True
        self._granted(holder)
        await trio.sleep(_KEPT)
        if self._forget(wish, holder):
            await self._give_back(wish.member, limits)

    async def _take(
        self, name: str, spec: LimitSpec, duration: float, member: str, *, mine: bool = False
    ) -> float | None:
        """None for a place, or in how many seconds the first one expires. Raises RedisError."""
        numbers = (f"{duration:.3f}", str(spec.limit), member, "mine" if mine else "new")
        wait = await self._client.script(_LEASE, [name.encode()], *(number.encode() for number in numbers))
        return None if wait is None else float(wait)

    def _forget(self, wish: _Wish, holder: str) -> bool:
        """Whether nobody has come for it."""
        if self._wishes.get(holder) is not wish:
            return False
        del self._wishes[holder]
        return True

    async def _give_back(self, member: str, limits: _Limits) -> None:
        for name, _ in limits:
            try:
                await self._client.command(b"ZREM", name.encode(), member.encode())
            except RedisError as err:
                self._complain(err)  # it expires

    async def _extend(self, lease: Lease, member: _Member, duration: float) -> None:
        try:
            for name, spec in member.limits:
                if await self._take(name, spec, duration, member.name, mine=True) is not None:
                    lease.release()  # which gives back what is left of it
                    return
            if lease not in self._members:
                await self._give_back(member.name, member.limits)  # it was released meanwhile
        except RedisError as err:
            self._complain(err)

    def _complain(self, err: RedisError) -> None:
        if not self._in_trouble:
            log.error(f"connection limits cannot be counted in Redis, so no connection is opened: {err}")
        self._in_trouble = True
