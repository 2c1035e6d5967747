"""The message rates of a path, as a dispatcher obeys them before it tries what it has in hand."""

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
    """Wait until the rates allow what is in the hand; False if the connection is to end, with the hand empty.

    A rate that asks for more than `idle_timeout` sends the whole ready queue back, which counts no attempt.
    """
    for key, spec in queues.limits.message_rates(ready):
        while (wait := await queues.rates.admit(key, spec)) > 0.0:
            if ready.stopping or wait >= ready.path.idle_timeout:
                while hand:
                    ready.put_back(hand.pop())
                if not ready.stopping:
                    response = Response(451, EnhancedCode(4, 4, 1), "KumoMTA internal: ready queue throttled")
                    reason = InsertReason.MESSAGE_RATE_THROTTLE
                    await ready.requeue_all(response, reason, delay=wait, count_attempt=False)
                return False
            await trio.sleep(min(wait, 1.0))
    return True
