"""Figures of a run that are worked out from samples."""

from __future__ import annotations

from hotstuff.bench.processes import Memory
from hotstuff.bench.run import Snapshot, bls_verification_ms, grown, own_by_tenths


def test_memory_is_the_most_of_each_tenth_of_what_was_measured() -> None:
    samples = [(at / 4, Memory(1000.0, float(at))) for at in range(60)]
    assert own_by_tenths(samples, 2.0, 12.0) == [11.0, 15.0, 19.0, 23.0, 27.0, 31.0, 35.0, 39.0, 43.0, 47.0]
    assert own_by_tenths([(at, Memory(900.0, at)) for at in (0.0, 2.0, 12.0)], 2.0, 12.0) == [2.0]


def test_a_verification_takes_a_while_and_not_long() -> None:
    assert 0.01 < bls_verification_ms() < 1000


def test_blocks_and_views_are_how_far_the_most_advanced_replica_moved() -> None:
    start = Snapshot(1.0, 0.0, 0.0, [{"view": 9, "executed_height": 5}, {"view": 10, "executed_height": 6}])
    end = Snapshot(2.0, 0.0, 0.0, [{"view": 21, "executed_height": 18}, {"view": 20, "executed_height": 17}])
    assert (grown(start, end, "view"), grown(start, end, "executed_height")) == (11, 12)
