"""Figures of a run that are worked out from samples."""

from __future__ import annotations

from hotstuff.bench.processes import Memory
from hotstuff.bench.run import bls_verification_ms, own_by_tenths


def test_memory_is_the_most_of_each_tenth_of_what_was_measured() -> None:
    samples = [(at / 4, Memory(1000.0, float(at))) for at in range(60)]
    assert own_by_tenths(samples, 2.0, 12.0) == [11.0, 15.0, 19.0, 23.0, 27.0, 31.0, 35.0, 39.0, 43.0, 47.0]
    assert own_by_tenths([(at, Memory(900.0, at)) for at in (0.0, 2.0, 12.0)], 2.0, 12.0) == [2.0]


def test_a_verification_takes_a_while_and_not_long() -> None:
    assert 0.01 < bls_verification_ms() < 1000
