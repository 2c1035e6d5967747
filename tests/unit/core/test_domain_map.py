from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.domain_map import DomainMap


def test_wildcards_stand_for_what_is_below_them() -> None:
    names = DomainMap({"*.example.com": 42, "example.com": 24, "omg.wtf.woot.example.com": 128})
    assert names.get("foo.com") is None
    assert names.get("example.com") == 24
    assert names.get("lemon.example.com") == 42
    assert names.get("lemon.cake.example.com") == 42
    assert names.get("omg.wtf.woot.example.com") == 128
    assert sorted(names.items()) == [
        ("*.example.com", 42), ("example.com", 24), ("omg.wtf.woot.example.com", 128),
    ]  # fmt: skip
    assert len(names) == 3


def test_the_walk_does_not_turn_back() -> None:
    names = DomainMap({"*.example.com": 1, "a.b.example.com": 2})
    assert names.get("b.example.com") is None
    assert names.get("x.b.example.com") is None
    assert names.get("y.example.com") == 1


def test_a_lone_wildcard_answers_only_where_no_key_shares_the_last_label() -> None:
    names = DomainMap([("*", "any"), ("example.com", "one")])
    assert names.get("other.org") == "any"
    assert names.get("org") == "any"
    assert names.get("other.com") is None
    assert names.get("com") is None


def test_a_wildcard_key_can_be_asked_for_itself() -> None:
    names = DomainMap({"*.example.com": 1})
    assert names.get("*.example.com") == 1
    assert names.get("example.com") is None


def test_case_and_odd_dots_count() -> None:
    names = DomainMap({"Example.com": 1, "": 2, ".org": 3})
    assert names.get("example.com") is None
    assert names.get("Example.com") == 1
    assert names.get("") == 2
    assert names.get(".org") == 3
    assert names.get("org") is None


def test_values_are_replaced_and_may_be_anything_but_none() -> None:
    names: DomainMap[object] = DomainMap({"a": 1})
    names["a"] = False
    assert names.get("a") is False


class _Walk:
    """The definition: one label after the other from the right, in nested tables."""

    def __init__(self, entries: dict[str, int]) -> None:
        self.top: dict[str, list[object]] = {}
        for name, value in entries.items():
            level = self.top
            for label in reversed(name.split(".")):
                node = level.setdefault(label, [None, {}])
                level = node[1]  # type: ignore[assignment]
            node[0] = value

    def get(self, name: str) -> object:
        level, node = self.top, None
        for label in reversed(name.split(".")):
            node = level.get(label)
            if node is None:
                return level.get("*", [None])[0]
            level = node[1]  # type: ignore[assignment]
        assert node is not None
        return node[0]


NAMES = st.lists(st.sampled_from(["a", "b", "c", "*", ""]), min_size=1, max_size=4).map(".".join)


@given(st.dictionaries(NAMES, st.integers(1, 9), max_size=6), st.lists(NAMES, max_size=20))
def test_it_is_the_walk_label_by_label(entries: dict[str, int], asked: list[str]) -> None:
    names, walk = DomainMap(entries), _Walk(entries)
    for name in (*asked, *entries):
        assert names.get(name) == walk.get(name), name
