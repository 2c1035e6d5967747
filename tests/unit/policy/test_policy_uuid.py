"""The module `kumo.uuid`."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_host import run

from kumo_py.core.policy import PolicyError
from kumo_py.core.uuids import UuidSource, parse_uuid

if TYPE_CHECKING:
    from policy_host import MakePolicy

GIVEN = "69994630-3e27-11ef-91fc-cc28aa0a5c5a"
# RFC 9562, appendix A: one time, 2022-02-22 14:22:22 -05:00, in all of them.
NOW = 1_645_557_742_000_000_000
NODE = bytes.fromhex("9f6bdeced846")


async def test_notations(policy: MakePolicy) -> None:
    result = await run(
        policy,
        f"""
        local u = kumo.uuid.parse '{GIVEN}'
        local same = {{}}
        for n, text in ipairs {{ u.simple, u.braced, u.urn, u.hyphenated, u.simple:upper() }} do
          same[n] = kumo.uuid.parse(text).hyphenated
        end
        return {{
          tostring(u), u.hyphenated, u.simple, u.braced, u.urn, kumo.encode.base64url_nopad_encode(u.bytes), same,
          type(u),
        }}
        """,
    )
    simple = GIVEN.replace("-", "")
    assert result == [
        GIVEN, GIVEN, simple, f"{{{GIVEN}}}", f"urn:uuid:{GIVEN}", "aZlGMD4nEe-R_MwoqgpcWg", [GIVEN] * 5, "userdata",
    ]  # fmt: skip


async def test_new_ones(policy: MakePolicy) -> None:
    result = await run(
        policy,
        """
        local made = {}
        for _, f in ipairs { kumo.uuid.new_v1, kumo.uuid.new_v4, kumo.uuid.new_v6, kumo.uuid.new_v7 } do
          made[#made + 1] = { f().hyphenated, f().hyphenated }
        end
        return made
        """,
    )
    made = [[uuid.UUID(text) for text in pair] for pair in result]
    assert [one.version for one, _ in made] == [1, 4, 6, 7]
    assert all(one.variant == uuid.RFC_4122 and one != other for one, other in made)
    assert made[0][0].node == made[2][0].node
    assert abs((made[0][0].time - 0x01B21DD213814000) / 1e7 - 1_800_000_000) < 5  # the host's clock
    assert made[2][0] < made[2][1]
    assert made[3][0] < made[3][1]
    assert made[3][0].int >> 80 == 1_800_000_000_000


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "kumo.uuid.parse 'nonsense'",
            "policy.lua:3: kumo.uuid.parse: 'nonsense' is not a UUID: write one such as",
        ),
        (f"kumo.uuid.parse '{GIVEN[:-1]}'", "is not a UUID"),
        (f"kumo.uuid.parse '{{{GIVEN}'", "is not a UUID"),
        (f"kumo.uuid.parse '{GIVEN.replace('-', '', 1)}'", "is not a UUID"),
        ("kumo.uuid.parse()", "argument 'text' must be a string, got nil"),
        ("local _ = kumo.uuid.new_v4().hex", "a uuid has no method or field 'hex'"),
    ],
)
async def test_misuse_is_explained(policy: MakePolicy, code: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        await run(policy, code)
    assert problem in str(caught.value)


def test_the_examples_of_rfc_9562() -> None:
    source = UuidSource(NODE, 0x33C8)
    assert str(source.v1(NOW)).upper() == "C232AB00-9414-11EC-B3C8-9F6BDECED846"
    assert str(UuidSource(NODE, 0x33C8).v6(NOW)).upper() == "1EC9414C-232A-6B00-B3C8-9F6BDECED846"
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F & (1 << 62) - 1) << 7 & (1 << 80) - 1
    made = UuidSource(NODE, 0).v7(NOW, random.to_bytes(10))
    assert made.int >> 80 == 0x017F22E279B0
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_times_increase_while_the_clock_stands_still_or_steps_back() -> None:
    source = UuidSource(NODE, 1)
    ones = [source.v1(NOW - n * 1000).time for n in range(100)]
    sixes = [source.v6(NOW - n).bytes for n in range(100)]
    sevens = [source.v7(NOW - n * 1_000_000_000, b"\xff" * 10).bytes for n in range(100)]
    for made in (ones, sixes, sevens):
        assert made == sorted(set(made))


@given(st.text(alphabet="0123456789abcdefF-{}urn:id", max_size=50))
def test_a_text_is_a_uuid_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_uuid(text).hex in text.lower().replace("-", "")
