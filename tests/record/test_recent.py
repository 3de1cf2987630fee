"""What was used lately stays; what is idle or too much goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potstill.record.recent import Recent

MOST, IDLE_S = 8, 10.0
uses = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.floats(0, 12)), max_size=80)


def test_by_hand() -> None:
    recent = Recent[str, int](most=100, idle_s=10.0)
    recent.put("a", 1, 0.0)
    recent.put("b", 2, 5.0)
    assert recent.get("a", 9.0) == 1
    recent.put("c", 3, 11.0)
    assert recent.get("b", 14.0) == 2
    assert recent.get("a", 21.0) is None
    assert recent.get("b", 21.0) == 2
    assert recent.get("c", 45.0) is None
    assert len(recent) == 0


def test_ten_thousand_entries_at_once_leave_what_was_used_last() -> None:
    recent = Recent[int, int](most=100, idle_s=10.0)
    for number in range(10_000):
        recent.put(number, number, 0.0)
        assert len(recent) <= 100
    assert [recent.get(number, 0.0) for number in range(9950, 10_000)] == list(range(9950, 10_000))


def test_a_clock_that_is_set_back_forgets_nothing_at_once() -> None:
    recent = Recent[str, int](most=100, idle_s=10.0)
    recent.put("a", 1, 1000.0)
    assert recent.get("a", 3.0) == 1
    assert recent.get("a", 12.0) == 1


@given(uses)
def test_against_a_model_that_remembers_every_use(told: list[tuple[int, bool, float]]) -> None:
    """Whatever is put and asked for in whatever order: never too many, never a wrong value, none lost too early."""
    recent, used, now = Recent[int, int](MOST, IDLE_S), dict[int, tuple[float, int]](), 0.0
    for at, (key, puts, pause) in enumerate(told):
        now += pause
        if puts:
            recent.put(key, at, now)
            used.pop(key, None)
            used[key] = (now, at)
        else:
            found = recent.get(key, now)
            last = list(used)[-MOST // 2 :]
            when, value = used.get(key, (float("-inf"), None))
            assert found is None or found == value
            if key in last and now - when < IDLE_S:
                assert found == value
            if now - when >= 2 * IDLE_S:
                assert found is None
            if found is not None:
                used.pop(key)
                used[key] = (now, found)
        assert len(recent) <= MOST
