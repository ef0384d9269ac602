"""Percentiles over transactions, against a list with one entry for each."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hotstuff.bench.measure import BUCKET_S, PERCENTILES, Sample, Window

SAMPLES = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 40)), min_size=1, max_size=30)


@given(SAMPLES)
def test_percentiles_weigh_samples_by_their_transactions(samples: list[tuple[int, int]]) -> None:
    window = Window(0.0, 1.0, [Sample(0.5, ms / 1000, count) for ms, count in samples])
    each = sorted(ms for ms, count in samples for _ in range(count))
    for name, share in PERCENTILES:
        expected = each[max(math.ceil(share * len(each)), 1) - 1]
        assert math.isclose(window.latency_ms()[name], expected, abs_tol=0.001), name


def test_nothing_confirmed_is_zero_and_not_an_error() -> None:
    window = Window(0.0, 2.0, [])
    assert window.tps == 0
    assert set(window.latency_ms().values()) == {0.0}


def test_the_timeline_has_every_bucket_also_the_empty_ones() -> None:
    window = Window(10.0, 11.0, [Sample(10.1, 0.02, 5), Sample(10.9, 0.04, 10)])
    rows = window.timeline()
    assert [row[0] for row in rows] == [0.0, BUCKET_S, 2 * BUCKET_S, 3 * BUCKET_S]
    assert [row[1] for row in rows] == [5 / BUCKET_S, 0, 0, 10 / BUCKET_S]
    assert [row[2] for row in rows] == [20.0, 0.0, 0.0, 40.0]
