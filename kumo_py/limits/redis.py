"""Throttles and leases that several nodes share through Redis, under the keys that KumoMTA's nodes use too.

A throttle is one string, the theoretical arrival time in Unix seconds; a limit is a sorted set of leases by the time
when they expire. The server's clock counts for throttles, the nodes' clocks for leases.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog
import trio

from kumo_py.limits.lease import Denied, Lease
from kumo_py.limits.shared import TROUBLE, Taken
from kumo_py.net.redis import RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
local now, expires, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= limit then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return string.format('%.3f', math.max(tonumber(first[2]) - now, 0))
end
redis.call('ZADD', KEYS[1], expires, ARGV[4])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
redis.call('EXPIREAT', KEYS[1], math.ceil(tonumber(last[2])) + 1)
return false
"""

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

    __slots__ = ("denied", "member", "names")

    def __init__(self) -> None:
        self.member = str(uuid.uuid4())
        self.names: tuple[str, ...] | None = None
        """The limits under which there is a place for it; None while Redis is asked."""
        self.denied: tuple[str, float] | None = None
        """The limit that is reached, and until when (on the callers' clock) it is not asked for again."""


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
        wall: Callable[[], float],
        spawn: Callable[..., None],
        granted: Callable[[str], None],
    ) -> None:
        self._client = client
        self._local = local
        self._wall = wall
        self._spawn = spawn
        self._granted = granted
        self._wishes: dict[str, _Wish] = {}
        self._members: dict[Lease, tuple[str, tuple[str, ...], Lease | None]] = {}
        """Of each lease its name in Redis, its limits there, and what it holds in this node."""
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
        if wish.names is None:
            return Denied(shared[0][0], _AGAIN)
        return self._claim(wish, [(name, spec) for name, spec in limits if spec.local], holder, now, duration)

    def _claim(
        self, wish: _Wish, own: Sequence[tuple[str, LimitSpec]], holder: str, now: float, duration: float
    ) -> Lease | Denied:
        held = self._local.acquire(own, holder, now, duration) if own else None
        if isinstance(held, Denied):
            return held
        assert wish.names is not None
        del self._wishes[holder]
        lease = Lease(self, wish.names, holder, now + duration)
        self._members[lease] = (wish.member, wish.names, held)
        return lease

    def drop(self, lease: Lease) -> None:
        """For `Lease.release`."""
        member, names, held = self._members.pop(lease)
        if held is not None:
            held.release()
        self._spawn(self._give_back, member, names)

    def note_expiry(self, lease: Lease) -> None:
        """For `Lease.extend`."""
        member, names, held = self._members[lease]
        now = trio.current_time()
        if held is not None:
            held.extend(now, lease.expires - now)
        self._spawn(self._extend, member, names, self._wall() + lease.expires - now)

    async def _ask(
        self, wish: _Wish, limits: Sequence[tuple[str, LimitSpec]], holder: str, duration: float
    ) -> None:
        names: list[str] = []
        try:
            for name, spec in limits:
                now = self._wall()
                times = (f"{now:.3f}", f"{now + duration:.3f}", str(spec.limit), wish.member)
                wait = await self._client.script(_LEASE, [name.encode()], *(one.encode() for one in times))
                if wait is not None:
                    wish.denied = name, trio.current_time() + min(max(float(wait), _AGAIN), _DENIED)
                    break
                names.append(name)
            self._in_trouble = False
        except RedisError as err:
            self._complain(err)
            wish.denied = limits[0][0], trio.current_time() + TROUBLE
        if wish.denied is not None:
            await self._give_back(wish.member, names)
            await trio.sleep_until(wish.denied[1])
            self._forget(wish, holder)
            return
        wish.names = tuple(names)
        self._granted(holder)
        await trio.sleep(_KEPT)
        if self._forget(wish, holder):
            await self._give_back(wish.member, names)

    def _forget(self, wish: _Wish, holder: str) -> bool:
        """Whether nobody has come for it."""
        if self._wishes.get(holder) is not wish:
            return False
        del self._wishes[holder]
        return True

    async def _give_back(self, member: str, names: Sequence[str]) -> None:
        for name in names:
            try:
                await self._client.command(b"ZREM", name.encode(), member.encode())
            except RedisError as err:
                self._complain(err)  # it expires

    async def _extend(self, member: str, names: Sequence[str], expires: float) -> None:
        for name in names:
            try:
                await self._client.command(
                    b"ZADD", name.encode(), b"XX", f"{expires:.3f}".encode(), member.encode()
                )
                await self._client.command(b"EXPIREAT", name.encode(), b"%d" % (expires + 2))
            except RedisError as err:
                self._complain(err)

    def _complain(self, err: RedisError) -> None:
        if not self._in_trouble:
            log.error(f"connection limits cannot be counted in Redis, so no connection is opened: {err}")
        self._in_trouble = True
