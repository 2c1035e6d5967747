"""When a message is tried again, and when it is given up: KumoMTA's formulas, without a clock.

All times are seconds. Attempts are counted from 0: the delay after the n-th attempt doubles n times.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kumo_py.core.duration import format_duration
from kumo_py.message.rfc3339 import rfc3339

if TYPE_CHECKING:
    from random import Random

    from kumo_py.message.scheduling import Moment
    from kumo_py.queue.config import QueueConfig

_MAX_DOUBLINGS = 40
"""Beyond this any retry_interval is past every max_age; bounds the numbers."""


def delay_after(config: QueueConfig, attempts: int) -> float:
    """The wait after a failed attempt that had `attempts` before it: retry_interval · 2^attempts, capped.

    Whole seconds, as KumoMTA computes it.
    """
    delay = int(config.retry_interval) * (1 << min(attempts, _MAX_DOUBLINGS))
    if config.max_retry_interval is not None:
        delay = min(delay, int(config.max_retry_interval))
    return float(delay)


def jitter(config: QueueConfig, random: Random) -> float:
    """Within half of min(retry_interval / 20, 60 s) either way, cut to whole seconds."""
    magnitude = min(config.retry_interval / 20.0, 60.0)
    return float(int(random.random() * magnitude - magnitude / 2.0))


def elapsed_after(config: QueueConfig, attempts: int) -> float:
    """The sum of the delays after attempts 0 to `attempts` - 1."""
    growing = min(attempts, _MAX_DOUBLINGS)
    if config.max_retry_interval is not None:
        # Beyond the first capped delay all are equal.
        growing = next(
            (n for n in range(growing) if delay_after(config, n) >= config.max_retry_interval), growing
        )
    total = sum(delay_after(config, n) for n in range(growing))
    return total + (attempts - growing) * delay_after(config, growing)


def infer_attempts(config: QueueConfig, age: float) -> int:
    """How many attempts a spooled message of this age has probably had: the count is not spooled."""
    attempts = 0
    elapsed = 0.0
    while (delay := delay_after(config, attempts)) > 0.0 and elapsed + delay <= age:
        if attempts == _MAX_DOUBLINGS or delay == config.max_retry_interval:
            return attempts + int((age - elapsed) // delay)
        elapsed += delay
        attempts += 1
    return attempts


def delay_at_start_up(config: QueueConfig, attempts: int, age: float) -> float:
    """How long a message read from the spool waits: due at creation plus the delays of attempts 1..n-1."""
    due_age = elapsed_after(config, attempts) - delay_after(config, 0) if attempts > 0 else 0.0
    return max(0.0, due_age - age)


# -- why a message is given up ----------------------------------------------------------------------------
def past_max_age(config: QueueConfig, age: float) -> str:
    """The reason for a message whose next attempt would be at this age, in seconds."""
    return (
        f"Next delivery time would be {format_duration(round(age))} after creation, "
        f"which exceeds max_age={format_duration(config.max_age)}"
    )


def past_expires(expires: Moment, due: float) -> str | None:
    """The reason for a message whose schedule lets it expire before it is due (Unix time); None if it doesn't."""
    if due < expires.unix:
        return None
    when = rfc3339(datetime.fromtimestamp(int(due), UTC))
    return (
        f"Next delivery time would be at {when} which exceeds the expiry time {expires.text} "
        "configured via set_scheduling"
    )
