"""What a simulated view costs: the whole of a network in one process, stand-in signatures, no checkers."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.world import Result, World

PLAN = Plan(Parameters(client_us=50_000))


@pytest.mark.parametrize(("nodes", "duration_us"), [(4, 1_000_000), (31, 300_000)])
def test_commit(benchmark: BenchmarkFixture, nodes: int, duration_us: int) -> None:
    def run() -> Result:
        return World(Setup(nodes=nodes, duration_us=duration_us), PLAN).run()

    result = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    assert result.violations == []
    benchmark.extra_info["blocks_per_s"] = round(result.commits / benchmark.stats.stats.median)
