"""Connection leases: all or none, never too many, and forgotten ones come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kumo_py.limits.lease import Denied, Lease, Leases, LeaseStore
from kumo_py.limits.spec import LimitSpec


def take(leases: LeaseStore, now: float = 0.0, duration: float = 100.0, **limits: int) -> Lease | Denied:
    return leases.acquire([(name, LimitSpec(n)) for name, n in limits.items()], "session", now, duration)


def taken(leases: LeaseStore, now: float = 0.0, duration: float = 100.0, **limits: int) -> Lease:
    lease = take(leases, now, duration, **limits)
    assert isinstance(lease, Lease)
    return lease


def test_a_limit_holds() -> None:
    leases = Leases()
    first, _ = taken(leases, site=2), taken(leases, site=2, now=10.0)
    assert take(leases, site=2, now=20.0) == Denied("site", 80.0)
    first.release()
    taken(leases, site=2, now=20.0)
    assert isinstance(take(leases, site=2, now=20.0), Denied)


def test_all_limits_or_none() -> None:
    leases = Leases()
    lease = taken(leases, shared=2, site=1)
    assert take(leases, shared=2, site=1) == Denied("site", 100.0)
    other = taken(leases, shared=2, other=1)  # the denied one has taken nothing of `shared`
    assert take(leases, shared=2, third=5) == Denied("shared", 100.0)
    assert leases.holders("third") == []
    lease.release()
    other.release()
    assert [leases.holders(name) for name in ("shared", "site", "other", "third")] == [[]] * 4


def test_the_smallest_limit_is_asked_first() -> None:
    leases = Leases()
    taken(leases, wide=1)
    taken(leases, narrow=1)
    assert take(leases, wide=9, narrow=1) == Denied("narrow", 100.0)
    assert take(leases, wide=1, narrow=1) == Denied("wide", 100.0)  # as given, if equal


def test_a_forgotten_lease_expires() -> None:
    leases = Leases()
    forgotten = taken(leases, site=1, shared=1)
    assert take(leases, now=99.5, site=1) == Denied("site", 0.5)
    lease = taken(leases, now=100.0, site=1)
    assert not forgotten.held
    assert not forgotten.extend(100.0, 100.0)
    taken(leases, now=100.0, shared=1)  # it is lost under its other limits too
    forgotten.release()
    assert leases.holders("site") == ["session"]
    lease.release()
    lease.release()
    assert leases.holders("site") == []


def test_an_expired_lease_counts_until_its_place_is_wanted() -> None:
    leases = Leases()
    lease = taken(leases, site=2)
    assert lease.extend(200.0, 50.0)
    taken(leases, now=200.0, site=2)
    assert take(leases, now=249.0, site=2) == Denied("site", 1.0)
    taken(leases, now=250.0, site=2)
    assert not lease.held


def test_extending_moves_the_expiry_either_way() -> None:
    leases = Leases()
    lease = taken(leases, site=1)
    assert lease.extend(50.0, 100.0)
    assert take(leases, now=149.0, site=1) == Denied("site", 1.0)
    assert lease.extend(149.0, 0.5)
    assert take(leases, now=149.0, site=1) == Denied("site", 0.5)
    taken(leases, now=149.5, site=1)


def test_a_lowered_limit_denies_until_enough_are_released() -> None:
    leases = Leases()
    held = [taken(leases, site=5) for _ in range(5)]
    for lease in held[:3]:
        lease.release()
    assert isinstance(take(leases, site=2), Denied)
    held[3].release()
    taken(leases, site=2)


def test_holders_are_named() -> None:
    leases = Leases()
    for holder in ("a", "b"):
        leases.acquire([("site", LimitSpec(2))], holder, 0.0, 1.0)
    assert sorted(leases.holders("site")) == ["a", "b"]


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "release", "extend"]),
        st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1),
        st.integers(0, 5),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(steps)
def test_never_more_live_leases_than_the_limit_and_never_denied_without_need(
    steps: list[tuple[str, dict[str, int], int, int]],
) -> None:
    leases = Leases()
    live: list[tuple[Lease, set[str]]] = []
    now = 0.0
    for step, limits, pause, number in steps:
        now += pause
        if step == "take":
            counted = {
                name: [lease.expires for lease, names in live if name in names and lease.expires > now]
                for name in limits
            }
            lease = take(leases, now, 10.0, **limits)
            if isinstance(lease, Denied):
                assert len(counted[lease.name]) >= limits[lease.name]
                assert 0 < lease.wait <= min(counted[lease.name]) - now
            else:
                assert all(len(counted[name]) < limits[name] for name in limits)
                live.append((lease, set(limits)))
        elif live:
            lease, _ = live[number % len(live)]
            if step == "release":
                lease.release()
            else:
                assert lease.extend(now, number) or lease.expires <= now
        live = [(lease, names) for lease, names in live if lease.held]
    for lease, _ in live:
        lease.release()
    assert not any(leases.holders(name) for name in "abc")
    assert not leases._places


# -- who waits -------------------------------------------------------------------------------------------
class Waiting:
    """Holders that ask again when they are told to, unless they have lost interest."""

    def __init__(self, leases: Leases, limit: int = 1) -> None:
        self.leases = leases
        self.limit = LimitSpec(limit)
        self.told: list[str] = []
        self.held: dict[str, Lease] = {}
        self.bored: set[str] = set()
        leases.released = self._ask

    def _ask(self, holder: str) -> None:
        self.told.append(holder)
        if holder not in self.bored:
            self.ask(holder)

    def ask(self, holder: str) -> bool:
        lease = self.leases.acquire([("shared", self.limit)], holder, 0.0, 100.0)
        if isinstance(lease, Lease):
            self.held[holder] = lease
        return isinstance(lease, Lease)


def test_a_free_place_goes_to_who_was_denied_first() -> None:
    waiting = Waiting(Leases())
    assert waiting.ask("a")
    assert not any(waiting.ask(holder) for holder in "bcb")
    waiting.held["a"].release()
    assert not waiting.ask("a")  # it comes too late: now it is the last in line
    for holder in "bc":
        waiting.held[holder].release()
    assert waiting.told == ["b", "c", "a"]
    waiting.held["a"].release()
    assert waiting.told == ["b", "c", "a"]
    assert not waiting.leases._waiting


def test_who_does_not_want_the_place_any_more_is_passed_over() -> None:
    waiting = Waiting(Leases())
    waiting.ask("a")
    for holder in "bcd":
        waiting.ask(holder)
    waiting.bored = {"b", "c"}
    waiting.held["a"].release()
    assert waiting.told == ["b", "c", "d"]
    assert list(waiting.held) == ["a", "d"]


def test_one_place_is_for_one_holder() -> None:
    waiting = Waiting(Leases(), limit=2)
    assert [waiting.ask(holder) for holder in "abcd"] == [True, True, False, False]
    waiting.held["a"].release()
    assert waiting.told == ["c"]
    waiting.held["b"].release()
    assert waiting.told == ["c", "d"]


def test_a_lease_that_expired_is_taken_by_the_one_who_asks() -> None:
    waiting = Waiting(Leases())
    waiting.ask("a")
    assert not waiting.ask("b")
    lease = waiting.leases.acquire([("shared", LimitSpec(1))], "c", 101.0, 100.0)
    assert isinstance(lease, Lease)
    assert not waiting.held["a"].held
    assert waiting.leases.holders("shared") == ["c"]
