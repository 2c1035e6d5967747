"""The notation of rates and limits (KumoMTA `crates/throttle`)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.options import OptionError, convert, to_builtins
from kumo_py.limits.spec import LimitSpec, ThrottleSpec

HOUR = 3600
DAY = 86_400


@pytest.mark.parametrize(
    ("text", "spec", "written"),
    [
        ("100/hr", ThrottleSpec(100, HOUR), "100/h"),
        ("100/hour", ThrottleSpec(100, HOUR), "100/h"),
        ("10/s", ThrottleSpec(10, 1), "10/s"),
        ("10/second", ThrottleSpec(10, 1), "10/s"),
        ("50/min", ThrottleSpec(50, 60), "50/m"),
        ("10,000/d", ThrottleSpec(10_000, DAY), "10000/d"),
        ("1_0,0/hour", ThrottleSpec(100, HOUR), "100/h"),
        ("local:100/hr", ThrottleSpec(100, HOUR, local=True), "local:100/h"),
        ("local:100/123m", ThrottleSpec(100, 7380, local=True), "local:100/7380s"),
        ("20/30minute", ThrottleSpec(20, 1800), "20/1800s"),
        ("20/60s", ThrottleSpec(20, 60), "20/m"),
        ("50/day,max_burst=1", ThrottleSpec(50, DAY, 1), "50/d,max_burst=1"),
        ("5,000/day,max_burst=1,0_0", ThrottleSpec(5000, DAY, 100), "5000/d,max_burst=100"),
        ("5/s,max_burst=0", ThrottleSpec(5, 1, 0), "5/s,max_burst=0"),
    ],
)
def test_throttles(text: str, spec: ThrottleSpec, written: str) -> None:
    parsed = ThrottleSpec.parse(text)
    assert parsed == spec
    assert hash(parsed) == hash(spec)
    assert str(parsed) == written
    assert repr(parsed) == f"ThrottleSpec.parse({written!r})"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("100/our", "'100/our' is not a throttle: unknown period 'our'; did you mean 'hour'?"),
        ("100/seconds", "unknown period 'seconds'; did you mean 'second'?"),
        ("100/fortnight", "unknown period 'fortnight'; write one of s, sec,"),
        ("100/5", "unknown period ''; write one of"),
        ("three/hour", "'three/hour' is not a throttle: 'three' is not a number"),
        ("0/hour", "0 must be at least 1"),
        ("1/0s", "0 must be at least 1"),
        ("100", "write QUANTITY/PERIOD, such as '100/hr'"),
        ("", "write QUANTITY/PERIOD"),
        ("/s", "'' is not a number"),
        (",/s", "',' is not a number"),
        ("-1/s", "'-1' is not a number"),
        ("٣/s", "'٣' is not a number"),
        (" 1/s", "' 1' is not a number"),
        ("1/ s", "unknown period ' s'"),
        ("1/s,max_burst=", "'' is not a number"),
        ("1/s,max_burst=x", "'x' is not a number"),
        ("1/s,burst=2", "unknown period 's,burst=2'"),
        ("99999999999999999999/s", "below 2^63"),
        ("1/99999999999999999999s", "below 2^63"),
        ("Local:1/s", "'Local:1' is not a number"),
    ],
)
def test_what_is_no_throttle(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="is not a throttle") as caught:
        ThrottleSpec.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 1)])
def test_a_throttle_needs_a_quantity_and_a_period(numbers: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        ThrottleSpec(*numbers)


@pytest.mark.parametrize(
    ("text", "burst", "suffix"),
    [
        ("6/m", 6, ":6:6:60"),
        ("6/m,max_burst=1", 1, ":6:1:60"),
        ("6/m,max_burst=6", 6, ":6:6:60"),
        ("6/m,max_burst=9", 6, ":6:9:60"),
        ("6/m,max_burst=0", 1, ":6:0:60"),
    ],
)
def test_burst_and_key(text: str, burst: int, suffix: str) -> None:
    spec = ThrottleSpec.parse(text)
    assert (spec.burst, spec.key_suffix, spec.interval) == (burst, suffix, 10.0)


def test_differing_throttles_are_unequal() -> None:
    texts = ["6/m", "6/m,max_burst=6", "6/m,max_burst=5", "7/m", "6/h", "local:6/m"]
    assert len({ThrottleSpec.parse(text) for text in texts}) == len(texts)
    assert ThrottleSpec.parse("6/m") != "6/m"


numbers = st.integers(1, 2**63 - 1)


@given(numbers, numbers, st.none() | st.integers(0, 2**63 - 1), st.booleans())
def test_throttle_round_trip(quantity: int, period: int, max_burst: int | None, local: bool) -> None:
    spec = ThrottleSpec(quantity, period, max_burst, local)
    again = ThrottleSpec.parse(str(spec))
    assert again == spec
    assert (again.limit, again.period, again.max_burst) == (quantity, period, max_burst)
    assert again.local is local


@given(st.text(alphabet="0123456789,_/smhd:localx_burst= ", max_size=24))
def test_any_text_is_a_spec_or_a_value_error(text: str) -> None:
    for type_ in (ThrottleSpec, LimitSpec):
        try:
            spec = type_.parse(text)
        except ValueError:
            continue
        assert type_.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("value", "spec", "written"),
    [
        (32, LimitSpec(32), "32"),
        (32.0, LimitSpec(32), "32"),
        ("32", LimitSpec(32), "32"),
        ("1_00", LimitSpec(100), "100"),
        ("1,000", LimitSpec(1000), "1000"),
        ("local:1_00", LimitSpec(100, local=True), "local:100"),
        ({"limit": 7, "force_local": True}, LimitSpec(7, local=True), "local:7"),
        ({"limit": 7.0, "force_local": False}, LimitSpec(7), "7"),
    ],
)
def test_limits(value: object, spec: LimitSpec, written: str) -> None:
    parsed = LimitSpec.from_option(value)
    assert parsed == spec
    assert hash(parsed) == hash(spec)
    assert str(parsed) == parsed.to_option() == written
    assert LimitSpec.from_option(parsed.to_option()) == parsed


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, True, None, [], {}, "", "three", "0", "local:", "-1", " 1", {"limit": 1, "oops": 1}, 2**63],
)
def test_what_is_no_limit(value: object) -> None:
    with pytest.raises(ValueError, match=r"is not a limit|must be greater than 0"):
        LimitSpec.from_option(value)


def test_limits_differ_by_locality() -> None:
    assert LimitSpec(1) != LimitSpec(1, local=True)
    assert LimitSpec(1) != 1
    assert repr(LimitSpec(1)) == "LimitSpec.parse('1')"


class Path(msgspec.Struct, forbid_unknown_fields=True):
    connection_limit: LimitSpec = LimitSpec(32)
    max_message_rate: ThrottleSpec | None = None
    additional: dict[str, ThrottleSpec] = {}


def test_as_options() -> None:
    table = {"connection_limit": "local:5", "max_message_rate": "1/s", "additional": {"day": "9/d"}}
    made = convert(table, Path, "f")
    assert made == Path(LimitSpec(5, local=True), ThrottleSpec(1, 1), {"day": ThrottleSpec(9, DAY)})
    assert to_builtins(made) == table
    with pytest.raises(OptionError, match=r"^f: option 'additional\.day': '9/dy' is not .* 'day'\?"):
        convert({"additional": {"day": "9/dy"}}, Path, "f")
    with pytest.raises(OptionError, match=r"^f: option 'max_message_rate': 5 is not a throttle"):
        convert({"max_message_rate": 5}, Path, "f")
    with pytest.raises(OptionError, match=r"^f: option 'connection_limit': a limit must be greater than 0"):
        convert({"connection_limit": 0}, Path, "f")
