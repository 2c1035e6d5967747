"""Why a ready queue has no more connections, and since when."""

from __future__ import annotations

from kumo_py.queue.refusals import refused


def test_refusals_that_follow_each_other_are_one() -> None:
    first = refused(None, "TooManyLeases for x", wall=1000.0, now=10.0, until=10.25)
    assert (first.context, first.since) == ("TooManyLeases for x", 1000.0)
    second = refused(first, "TooManyLeases for y", wall=1001.0, now=11.0, until=11.25)
    assert (second.context, second.since) == ("TooManyLeases for y", 1000.0)
    long_after = refused(second, "TooManyLeases for y", wall=1060.0, now=70.0, until=70.25)
    assert long_after.since == 1060.0


def test_a_refusal_holds_until_somebody_would_have_asked_again() -> None:
    throttled = refused(None, "max_connection_rate throttling for 1h", wall=0.0, now=0.0, until=3600.0)
    assert throttled.holds(3600.0)
    assert throttled.holds(3601.0)
    assert not throttled.holds(3603.0)
