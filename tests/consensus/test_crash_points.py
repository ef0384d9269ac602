"""A replica, or all of them, die at every point between two durable writes, sends and executions (C1, C2, C24).

`Cluster` records the signatures of all lives and every executed block; a second signature for a view, or two blocks at
one height, fails the test wherever it happens.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from cluster import Cluster, Killed

from hotstuff.mempool.mempool import MempoolConfig
from hotstuff.types.hashing import Mode

PARTS = 6
# With a failed view every body is written by itself, without one all are small and go with the record of a vote.
CONFIGS = {True: MempoolConfig(small_body_bytes=0), False: MempoolConfig()}


def run(cluster: Cluster, *, failed_view: bool) -> None:
    """A few commits, in one variant with a view that times out, because its leader (2) is cut off."""
    if failed_view:
        cluster.drop = lambda e: 2 in (e.to, e.sender)
    cluster.submit(0, 2)
    cluster.submit(1)
    cluster.advance(1500)
    cluster.drop = lambda _: False
    if failed_view:
        cluster.reconnect()
    cluster.submit(3)
    cluster.advance(2500)


@cache
def points(mode: Mode, failed_view: bool, victim: int | None) -> tuple[str, ...]:
    """The names of all points that a run without a crash passes."""
    cluster = Cluster(4, fast=True, seed=None, mode=mode, mempool=CONFIGS[failed_view])
    names: list[str] = []
    cluster.point = lambda i, name: names.append(name) if victim in (None, i) else None
    run(cluster, failed_view=failed_view)
    assert [cluster.ordered(i) for i in range(4)] == [4] * 4
    return tuple(names)


def crash(number: int, *, mode: Mode, failed_view: bool, victim: int | None) -> Cluster:
    """Runs until the point with this number: there the victim dies, or, without one, everybody at once."""
    cluster = Cluster(4, fast=True, seed=None, mode=mode, mempool=CONFIGS[failed_view])
    cluster.keep_lazy = number % 2 == 0  # both ways over all points: what is lazy is on the disk, or lost
    passed = 0

    def point(i: int, _name: str) -> None:
        nonlocal passed
        if victim not in (None, i):
            return
        passed += 1
        if passed != number:
            return
        if victim is None:
            for j in range(4):
                cluster.kill(j)
        raise Killed

    cluster.point = point
    run(cluster, failed_view=failed_view)
    cluster.point = lambda _i, _name: None
    return cluster


def recover(cluster: Cluster) -> None:
    """Everybody starts from the disk: what was executed stays, what was durable commits, and it goes on."""
    executed = [cluster.chain(i) for i in range(4)]
    cluster.drop = lambda _: False
    for i in range(4):
        if cluster.replicas[i] is None:
            cluster.start(i)
    cluster.advance(20_000)
    cluster.submit(0)
    cluster.advance(20_000)
    cluster.assert_agreement()
    chain = cluster.chain(0)
    assert all(cluster.chain(i) == chain for i in range(4))
    assert all(chain[: len(before)] == before for before in executed)
    assert cluster.ordered(0) >= 1
    assert [cluster.replicas[i].deadline_us() for i in range(4)] == [None] * 4  # type: ignore[union-attr]
    assert cluster.strikes == []


@pytest.mark.parametrize("mode", Mode)
def test_every_kind_of_point_is_passed(mode: Mode) -> None:
    for failed_view in (False, True):
        names = set(points(mode, failed_view, None))
        assert names >= {
            "before Persist",
            "before Send",
            "before Broadcast",
            "before SpreadBatch",
            "before Commit",
        }
        assert {"before StoreBatch", "after StoreBatch"}.isdisjoint(names) != failed_view


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("failed_view", [False, True])
@pytest.mark.parametrize("mode", Mode)
def test_all_four_killed_at_any_point_c1(mode: Mode, failed_view: bool, part: int) -> None:
    for number in range(1 + part, len(points(mode, failed_view, None)) + 1, PARTS):
        recover(crash(number, mode=mode, failed_view=failed_view, victim=None))


@pytest.mark.parametrize("victim", range(4))
@pytest.mark.parametrize("failed_view", [False, True])
@pytest.mark.parametrize("mode", Mode)
def test_one_killed_at_any_point_c1(mode: Mode, failed_view: bool, victim: int) -> None:
    for number in range(1, len(points(mode, failed_view, victim)) + 1):
        recover(crash(number, mode=mode, failed_view=failed_view, victim=victim))


@pytest.mark.parametrize("lost", ["voted_view", "timed_out_view"])
def test_the_checks_notice_a_record_that_was_not_durable_c2(lost: str) -> None:
    """Negative control: a disk that forgets this field lets a replica contradict itself, and that is seen."""
    seen = 0
    for number in range(1, len(points(Mode.CHAINED, True, None)) + 1, 3):
        cluster = crash(number, mode=Mode.CHAINED, failed_view=True, victim=None)
        for disk in cluster.disks:
            disk.safety = replace(disk.safety, **{lost: 0, "last_vote": None, "last_timeout": None})
        try:
            recover(cluster)
        except AssertionError:
            seen += 1
    assert seen > 0
