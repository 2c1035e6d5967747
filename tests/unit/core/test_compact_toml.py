"""TOML as configurations are shown in."""

from __future__ import annotations

from datetime import date

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.compact_toml import compact_toml

_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def test_keys_are_sorted_and_empty_tables_take_one_line() -> None:
    table = {
        "b": {"z": 1, "inner": {"x y": [1, "two", {"a": True}]}},
        "nothing": {},
        "none": None,
        "a": 1.5,
        "list": [{"name": "one"}, {"name": "two", "of": {}}],
    }
    assert compact_toml(table) == (
        "a = 1.5\nnothing = {}\n\n"
        '[b]\nz = 1\n\n[b.inner]\n"x y" = [1, "two", { a = true }]\n\n'
        '[[list]]\nname = "one"\n\n[[list]]\nname = "two"\nof = {}\n'
    )
    assert compact_toml({}) == ""


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_it_reads_back_as_it_was(table: dict[str, object]) -> None:
    assert tomli.loads(compact_toml(table)) == table


def test_other_values() -> None:
    assert compact_toml({"day": date(2026, 1, 2)}) == "day = 2026-01-02\n"
    with pytest.raises(ValueError, match="TOML has no bytes"):
        compact_toml({"x": b"y"})
