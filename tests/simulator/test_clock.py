"""A clock that runs wrong is still monotonic, and wakes its owner when it shows the time asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotstuff.simulator.clock import Clock

RATES = st.integers(-900_000, 5_000_000)
TIMES = st.integers(0, 10**12)


@given(ppm=RATES, at_us=TIMES, ahead_us=st.integers(0, 10**9))
def test_a_timer_rings_when_the_clock_shows_its_time_and_not_before(ppm: int, at_us: int, ahead_us: int) -> None:
    clock = Clock(ppm)
    deadline = clock.local_us(at_us) + ahead_us
    rings = clock.true_us(deadline)
    assert clock.local_us(rings) >= deadline
    assert ahead_us == 0 or clock.local_us(rings - 1) < deadline


@given(changes=st.lists(st.tuples(RATES, st.integers(0, 10**9)), max_size=10))
def test_it_never_goes_back(changes: list[tuple[int, int]]) -> None:
    clock, now_us, shown = Clock(), 0, 0
    for ppm, later_us in changes:
        now_us += later_us
        assert clock.local_us(now_us) >= shown
        shown = clock.local_us(now_us)
        clock.set_rate(ppm, now_us)
        assert clock.local_us(now_us) == shown
