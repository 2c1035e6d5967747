from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kumo_py.core.lruttl import LruTtl


def test_an_entry_lives_until_it_expires() -> None:
    cache: LruTtl[str, int] = LruTtl("dns", 2)
    assert cache.get("a", 0.0) is None
    cache.put("a", 1, expires=10.0)
    assert cache.get("a", 9.999) == 1
    assert cache.get("a", 10.0) is None
    assert len(cache) == 0
    assert (cache.hits, cache.misses, cache.expired, cache.evicted, cache.inserted) == (1, 2, 1, 0, 1)


def test_the_entry_used_longest_ago_goes_first() -> None:
    cache: LruTtl[str, int] = LruTtl("dns", 2)
    cache.put("a", 1, 10.0)
    cache.put("b", 2, 10.0)
    assert cache.get("a", 0.0) == 1
    cache.put("c", 3, 10.0)
    assert [cache.get(key, 0.0) for key in "abc"] == [1, None, 3]
    cache.put("a", 4, 10.0)
    cache.put("d", 5, 10.0)
    assert [cache.get(key, 0.0) for key in "acd"] == [4, None, 5]
    assert cache.evicted == 2


def test_lowering_the_capacity_evicts_at_once() -> None:
    cache: LruTtl[int, int] = LruTtl("dns", 4)
    for n in range(4):
        cache.put(n, n, 10.0)
    cache.capacity = 1
    assert (len(cache), cache.evicted, cache.get(3, 0.0)) == (1, 3, 3)
    cache.capacity = 2
    cache.put(4, 4, 10.0)
    assert len(cache) == 2


def test_forgetting() -> None:
    cache: LruTtl[str, int] = LruTtl("dns", 4)
    cache.put("a", 1, 10.0)
    cache.discard("a")
    cache.discard("b")
    assert len(cache) == 0
    cache.put("a", 1, 10.0)
    cache.clear()
    assert cache.get("a", 0.0) is None


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"cache 'dns' must be at least 1, got {capacity}"):
        LruTtl("dns", capacity)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("gp"), st.integers(0, 6), st.integers(0, 5)), max_size=60),
)
def test_agrees_with_a_plain_model(capacity: int, steps: list[tuple[str, int, int]]) -> None:
    cache: LruTtl[int, int] = LruTtl("m", capacity)
    model: list[tuple[int, int, float]] = []  # least recently used first
    for now, (step, key, ttl) in enumerate(steps):
        kept = [entry for entry in model if entry[0] == key]
        model = [entry for entry in model if entry[0] != key]
        if step == "p":
            cache.put(key, now, now + ttl)
            model = [*model, (key, now, now + ttl)][-capacity:]
        else:
            alive = [entry for entry in kept if entry[2] > now]
            model += alive
            assert cache.get(key, now) == (alive[0][1] if alive else None)
        assert len(cache) == len(model)
