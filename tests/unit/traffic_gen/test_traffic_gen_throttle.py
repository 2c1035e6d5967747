from __future__ import annotations

import pytest

from traffic_gen.throttle import Gate, ThrottleSpec, parse_throttle


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("10/s", ThrottleSpec(10, 1, 10)),
        ("10/sec", ThrottleSpec(10, 1, 10)),
        ("10/second", ThrottleSpec(10, 1, 10)),
        ("1_000/hr", ThrottleSpec(1000, 3600, 1000)),
        ("1,000/hour", ThrottleSpec(1000, 3600, 1000)),
        ("5/30min", ThrottleSpec(5, 1800, 5)),
        ("5/m", ThrottleSpec(5, 60, 5)),
        ("5/minute", ThrottleSpec(5, 60, 5)),
        ("5/h", ThrottleSpec(5, 3600, 5)),
        ("5/2d", ThrottleSpec(5, 172800, 5)),
        ("5/day", ThrottleSpec(5, 86400, 5)),
        ("local:10/s", ThrottleSpec(10, 1, 10)),
        ("100/s,max_burst=1", ThrottleSpec(100, 1, 1)),
        ("1,000/s,max_burst=1_0", ThrottleSpec(1000, 1, 10)),
    ],
)
def test_grammar(text: str, spec: ThrottleSpec) -> None:
    assert parse_throttle(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "10/fortnight",
        "0/s",
        "10/0s",
        "-1/s",
        "x/s",
        "10/s,burst=1",
        "1/s,max_burst=0",
        "1 /s",
    ],
)
def test_refusals_say_what_is_meant(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a throttle|above zero"):
        parse_throttle(text)


def passed(gate: Gate, until: float, step: float = 0.001) -> list[float]:
    """The times at which a message went through, asking every `step` seconds."""
    times = []
    for tick in range(int(until / step)):
        now = 1000 + tick * step
        while not gate.wait(now):
            times.append(now - 1000)
    return times


def test_burst_then_even_spacing() -> None:
    times = passed(Gate(parse_throttle("10/s")), 1.05)
    assert times[:10] == [0.0] * 10
    assert times[10:] == pytest.approx([0.1 * n for n in range(1, 11)], abs=0.002)


def test_burst_of_one_spaces_from_the_start() -> None:
    times = passed(Gate(parse_throttle("10/s,max_burst=1")), 0.45)
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.002)


def test_wait_tells_when_to_come_again() -> None:
    gate = Gate(parse_throttle("4/s,max_burst=1"))
    assert gate.wait(50.0) == 0.0
    wait = gate.wait(50.0)
    assert wait == pytest.approx(0.25)
    assert gate.wait(50.0 + wait) == 0.0


def test_a_batch_above_the_burst_goes_when_the_gate_is_idle() -> None:
    gate = Gate(parse_throttle("10/s,max_burst=2"))
    assert gate.wait(0.0, 5) == 0.0
    assert gate.wait(0.0, 5) == pytest.approx(0.5)
    assert gate.wait(0.5, 5) == 0.0


def test_workers_share_the_rate() -> None:
    spec = parse_throttle("20/s,max_burst=4")
    shares = [passed(Gate(spec, share=2), 1.0) for _ in range(2)]
    assert sum(map(len, shares)) == pytest.approx(20 + 4, abs=2)
