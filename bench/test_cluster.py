"""The pure core of four replicas in one process: real signatures, no disk, no network."""

from __future__ import annotations

from cluster import Cluster
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 10


def test_commit_ten_rounds_of_four_batches(benchmark: BenchmarkFixture) -> None:
    def setup() -> tuple[tuple[Cluster], dict[str, object]]:
        return (Cluster(4),), {}

    def run(cluster: Cluster) -> Cluster:
        for _ in range(ROUNDS):
            for replica in range(4):
                cluster.submit(replica, 10)
            cluster.advance(1)
        cluster.advance(1000)
        return cluster

    cluster = benchmark.pedantic(run, setup=setup, rounds=5, warmup_rounds=1)
    assert [cluster.ordered(i) for i in range(4)] == [ROUNDS * 4 * 10] * 4
