"""The message rates of a path, as a dispatcher obeys them before it tries what it has in hand.

Several dispatchers that wait for one rate come in turns (limits.turns). A rate that asks for more than `idle_timeout`
sends the whole ready queue back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kumo_py.proto.reply import EnhancedCode, Response
from kumo_py.queue.context import InsertReason

if TYPE_CHECKING:
    from kumo_py.limits.spec import ThrottleSpec
    from kumo_py.message.message import Message
    from kumo_py.queue.path_limits import Rates
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue

_SAVING = 8
"""A burst from which on a turn that is not used is not lost."""


async def admitted(queues: Queues, ready: ReadyQueue, hand: list[Message]) -> bool:
    """Wait until the rates allow what is in the hand; False if the connection is to end, with the hand empty."""
    wait = await delayed(queues, ready)
    if wait <= 0.0:
        return True
    while hand:
        ready.put_back(hand.pop())
    await send_back(ready, wait)
    return False


async def delayed(queues: Queues, ready: ReadyQueue) -> float:
    """Wait until all rates allow a message: 0.0. Else, when the node stops or one asks for `idle_timeout` or more, the
    seconds that it asks for.
    """
    while True:
        path, rates = ready.path, queues.limits.message_rates(ready)
        if not rates:
            return 0.0
        wait: float | None = 0.0
        for together in queues.limits.groups(rates):
            wait = await _wait_for(queues, ready, together)
            if wait is None or wait > 0.0:
                break
        if wait is not None:
            return wait
        assert ready.path is not path  # so all is asked anew


async def _wait_for(queues: Queues, ready: ReadyQueue, rates: Rates) -> float | None:
    """As `delayed`, of some of its rates; None when the path's options have changed meanwhile."""
    turns, path = queues.limits.turns, ready.path
    due: float | None = None
    for key, spec in rates:
        if _in_turns(spec, rates):
            due = turns.behind(key + spec.key_suffix, trio.current_time(), spec.interval)
            if due is not None:
                break
    while True:
        while due is not None and (left := due - trio.current_time()) > 0.0:
            if ready.stopping:
                return left
            if ready.path is not path:
                return None
            running = ready.running
            running.steps += 1
            running.phase, phase = "MessageRateThrottled", running.phase
            await trio.sleep(min(left, 1.0))
            running.phase = phase
        wait, (key, spec) = await queues.rates.admit_all(rates, due=due)
        if wait <= 0.0 or wait >= ready.path.idle_timeout:
            return wait
        now = trio.current_time()
        due = now + wait
        if _in_turns(spec, rates):
            due = turns.next(key + spec.key_suffix, now, wait, spec.interval)


def _in_turns(spec: ThrottleSpec, rates: Rates) -> bool:
    """Whether those who wait come one by one.

    One whose turn it is may find that another rate stops it. Where the burst saves up what it leaves, nothing is lost;
    else all have to come when the rate allows one.
    """
    return len(rates) == 1 or spec.burst >= _SAVING


async def send_back(ready: ReadyQueue, wait: float) -> None:
    """Delay the whole ready queue, which counts no attempt; not when the node stops."""
    if not ready.stopping:
        response = Response(451, EnhancedCode(4, 4, 1), "KumoMTA internal: ready queue throttled")
        reason = InsertReason.MESSAGE_RATE_THROTTLE
        await ready.requeue_all(response, reason, delay=wait, count_attempt=False)
