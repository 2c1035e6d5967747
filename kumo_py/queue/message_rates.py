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
    from kumo_py.message.message import Message
    from kumo_py.queue.queues import Queues
    from kumo_py.queue.ready import ReadyQueue


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
    """Wait until the rates allow a message: 0.0. Else, when the node stops or one asks for `idle_timeout` or more, the
    seconds that it asks for.
    """
    limits, rates = queues.limits, queues.rates
    for key, spec in limits.message_rates(ready):
        due = limits.turns.behind(key, trio.current_time(), spec.interval)
        while True:
            while due is not None and (left := due - trio.current_time()) > 0.0:
                if ready.stopping:
                    return left
                ready.running.steps += 1
                await trio.sleep(min(left, 1.0))
            wait = await rates.admit(key, spec, due=due)
            if wait <= 0.0:
                break
            if wait >= ready.path.idle_timeout:
                return wait
            due = limits.turns.next(key, trio.current_time(), wait, spec.interval)
    return 0.0


async def send_back(ready: ReadyQueue, wait: float) -> None:
    """Delay the whole ready queue, which counts no attempt; not when the node stops."""
    if not ready.stopping:
        response = Response(451, EnhancedCode(4, 4, 1), "KumoMTA internal: ready queue throttled")
        reason = InsertReason.MESSAGE_RATE_THROTTLE
        await ready.requeue_all(response, reason, delay=wait, count_attempt=False)
