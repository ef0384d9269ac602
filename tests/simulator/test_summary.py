"""Sums over seeds."""

from __future__ import annotations

import json
from collections import Counter

from hotstuff.simulator.observer import Violation
from hotstuff.simulator.summary import Failure, Summary
from hotstuff.simulator.world import Result


def result(seed: int) -> Result:
    bad = [Violation("I1", f"seed {seed}", 5)] if seed % 2 else []
    coverage = Counter({"cut": seed, f"only {seed}": 1})
    return Result(seed, bad, commits=2, views=3, crashes=1, simulated_s=0.5, wall_s=9.0, coverage=coverage)


def test_everything_is_added_up() -> None:
    summary = Summary(wall_s=1.5)
    for seed in (4, 3, 1):
        summary.add(result(seed))
    assert (summary.seeds, summary.commits, summary.views, summary.crashes) == (3, 6, 9, 3)
    assert (summary.simulated_s, summary.wall_s) == (1.5, 1.5), "the wall time of a run is not that of a campaign"
    assert summary.coverage == {"cut": 8, "only 4": 1, "only 3": 1, "only 1": 1}
    assert summary.failures == [Failure(1, "I1", "seed 1", 5), Failure(3, "I1", "seed 3", 5)], "by seed"


def test_merging_is_adding() -> None:
    one, other, both = Summary(wall_s=1.0), Summary(wall_s=2.0), Summary(wall_s=3.0)
    for seed in range(5):
        (one if seed in (0, 3) else other).add(result(seed))
        both.add(result(seed))
    one.merge(other)
    assert one == both


def test_json_and_back() -> None:
    summary = Summary(wall_s=1.5)
    summary.add(result(7))
    again = Summary.decode(json.loads(json.dumps(summary.encode())))
    assert again == summary
    again.add(result(7))
    assert again.coverage["cut"] == 14, "still a counter"


def test_a_failure_in_one_line() -> None:
    assert str(Failure.of(3, Violation("I9", "a wrong commit id", 1_234_567))) == "I9 at 1.234567 s: a wrong commit id"
