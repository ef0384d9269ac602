"""Faults of networks and processes that a cluster must get over: rows of the table in tests/README.md."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.simulator.byzantine import arm
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import ALL, Action, Parameters, Plan, Setup
from hotstuff.simulator.simulate import simulate
from hotstuff.simulator.strategies import STRATEGIES
from hotstuff.simulator.world import World
from hotstuff.types.block import Block
from hotstuff.types.hashing import Mode

MS = 1000
SECOND = 1000 * MS
QUICK = Parameters(view_timeout_ms=40, spread_ms=4, fetch_retry_ms=10, client_us=5000)
EVERY = pytest.mark.parametrize("mode", Mode)


class Commits(Observer):
    """When each instance executed what."""

    def __init__(self) -> None:
        self.at: dict[int, list[int]] = {}
        self.blocks: dict[int, list[Block]] = {}

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        self.at.setdefault(node.instance, []).extend([world.now_us] * len(blocks))
        self.blocks.setdefault(node.instance, []).extend(blocks)

    def between(self, instance: int, begin_us: int, end_us: int) -> int:
        """Blocks executed in this time."""
        return sum(begin_us < at <= end_us for at in self.at.get(instance, []))

    def longest_gap_us(self, instance: int, begin_us: int, end_us: int) -> int:
        """The longest time without a commit."""
        inside = [at for at in self.at.get(instance, []) if begin_us < at < end_us]
        return max(b - a for a, b in pairwise([begin_us, *inside, end_us]))


def play(*actions: Action, parameters: Parameters = QUICK, **setup: Any) -> tuple[World, Commits]:
    """Two seconds with these faults; nothing may be wrong, and honest chains are prefixes of one another."""
    commits = Commits()
    world = World(Setup(**({"duration_us": 2 * SECOND} | setup)), Plan(parameters, actions), [commits])
    assert world.run().violations == []
    chains = [[block.id for block in node.disk.executed] for node in world.honest()]
    longest = max(chains, key=len)
    assert all(chain == longest[: len(chain)] for chain in chains)
    return world, commits


def assert_all_go_on(commits: Commits, instances: Sequence[int], begin_us: int, end_us: int, blocks: int = 20) -> None:
    for i in instances:
        assert commits.between(i, begin_us, end_us) >= blocks, f"instance {i} does not go on"


@EVERY
def test_two_of_seven_dead_for_ever_l2(mode: Mode) -> None:
    dead = (Action(300 * MS, "crash", 2), Action(400 * MS, "crash", 3))
    _, commits = play(*dead, nodes=7, protocol=mode)
    assert_all_go_on(commits, (0, 1, 4, 5, 6), SECOND, 2 * SECOND)


@EVERY
def test_halves_commit_nothing_and_go_on_when_joined_l4(mode: Mode) -> None:
    world, commits = play(Action(500 * MS, "partition", argument=0b0011, for_us=500 * MS), protocol=mode)
    assert all(commits.between(i, 520 * MS, SECOND) == 0 for i in range(4))
    assert_all_go_on(commits, range(4), 1300 * MS, 2 * SECOND)
    assert world.coverage["timeouts"] <= 4 * 4, "views do not run away without a quorum"


@pytest.mark.parametrize("deaf", [True, False], ids=["deaf", "dumb"])
@EVERY
def test_a_one_way_cut_for_ever_costs_only_that_replicas_turns_l5(mode: Mode, deaf: bool) -> None:
    cut = Action(0, "one-way", ALL, 3) if deaf else Action(0, "one-way", 3, ALL)
    world, commits = play(cut, protocol=mode)
    assert_all_go_on(commits, range(3), SECOND, 2 * SECOND)
    views = max(node.view for node in world.nodes[:3])
    failed = {view for view in range(views + 1) if world.leaders.leader(view) == 3}
    assert world.coverage["tc_formed"] <= 4 * (len(failed) + 2), "no view fails but its own"


@EVERY
@pytest.mark.parametrize("kind", ["ring", "bridge"])
def test_every_replica_sees_another_majority_and_later_all_is_well_l6(mode: Mode, kind: str) -> None:
    # A ring in which each of five reaches its two neighbours; a bridge, number 1, between 0 and the other two.
    nodes = 5 if kind == "ring" else 4
    shape = Action(500 * MS, kind, node=1, argument=1, for_us=600 * MS)
    _, commits = play(shape, nodes=nodes, protocol=mode)
    assert_all_go_on(commits, range(nodes), 1500 * MS, 2 * SECOND, 10)


@EVERY
def test_isolation_that_goes_round_lets_the_others_go_on_l7(mode: Mode) -> None:
    isolations = [Action((200 + 150 * k) * MS, "partition", argument=1 << k % 4, for_us=150 * MS) for k in range(8)]
    _, commits = play(*isolations, protocol=mode)
    everybody = sorted(at for times in commits.at.values() for at in times)
    gaps = [b - a for a, b in pairwise(everybody)]
    assert max(gaps) < 4 * QUICK.view_timeout_ms * MS, "somebody always goes on"
    assert_all_go_on(commits, range(4), 1500 * MS, 2 * SECOND)


@EVERY
@pytest.mark.parametrize(("per_mille", "seconds"), [(10, 2), (100, 6), (300, 60)])
def test_loss_copies_and_disorder_slow_down_and_stop_nobody_l8(mode: Mode, per_mille: int, seconds: int) -> None:
    noise = (Action(0, "loss", ALL, ALL, per_mille), Action(0, "duplicate", ALL, ALL, 500))
    weather = replace(QUICK, jitter_us=2000, tail=True, ordered=False, view_timeout_ms=per_mille, client_us=50 * MS)
    _, commits = play(*noise, parameters=weather, protocol=mode, duration_us=seconds * SECOND)
    assert_all_go_on(commits, range(4), 0, seconds * SECOND, 5)


@EVERY
def test_clogs_one_by_one_and_undone_in_another_order_l9(mode: Mode) -> None:
    chance = random.Random(9)
    links = [(a, b) for a in range(4) for b in range(4) if a != b]
    chosen = chance.sample(links, 8)
    ends = chance.sample(range(8), 8)
    clogs = [
        Action((200 + 40 * k) * MS, "clog", a, b, for_us=(700 + 50 * end - 40 * k) * MS)
        for k, ((a, b), end) in enumerate(zip(chosen, ends, strict=True))
    ]
    _, commits = play(*clogs, protocol=mode)
    assert_all_go_on(commits, range(4), 1500 * MS, 2 * SECOND)


@EVERY
def test_timers_grow_until_they_fit_a_network_that_is_slower_than_they_are_l10(mode: Mode) -> None:
    slow = replace(QUICK, delay_us=50 * MS, client_us=50 * MS)
    _, commits = play(parameters=slow, protocol=mode, duration_us=12 * SECOND)
    assert_all_go_on(commits, range(4), 6 * SECOND, 12 * SECOND, 4)
    first = commits.blocks[0][0]
    assert first.header.view <= 24, "the first commit: 6 views of slack, 5 steps of growth, and one round of leaders"


@EVERY
def test_a_leader_that_plays_with_the_timers_cannot_keep_commits_away_l12(mode: Mode) -> None:
    commits = Commits()
    setup = Setup(protocol=mode, byzantine=(3,), duration_us=4 * SECOND)
    result = simulate(setup, Plan(QUICK), [commits], strategies=((3, ("timer-doubling",)),))
    assert result.violations == []
    gap = max(commits.longest_gap_us(i, 0, 4 * SECOND) for i in range(3))
    assert gap < 12 * QUICK.view_timeout_ms * MS, "no stretch without commits, and none that grows"
    assert all(len(commits.at[i]) > 100 for i in range(3))


class States(Observer):
    """The abstract state of all honest replicas, each time it changes."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        state = tuple(
            (r.view, r.safety.record.voted_view, r.safety.record.timed_out_view, r.safety.record.high_qc.rank)
            for other in world.honest()
            if (r := other.replica) is not None
        )
        if not self.seen or self.seen[-1] != state:
            self.seen.append(state)


@EVERY
def test_no_state_comes_back_so_nothing_goes_round_in_circles_l13(mode: Mode) -> None:
    for strategy in ("timer-doubling", "equivocating-leader", "selective-delivery"):
        states = States()
        setup = Setup(protocol=mode, byzantine=(2,), duration_us=2 * SECOND)
        plan = Plan(QUICK, (Action(300 * MS, "partition", argument=0b0011, for_us=300 * MS),))
        result = simulate(setup, plan, [states], strategies=((2, (strategy,)),))
        assert result.violations == [] and result.commits > 50
        assert len(set(states.seen)) == len(states.seen), strategy


@EVERY
def test_all_but_one_restart_at_different_views_l16(mode: Mode) -> None:
    restarts = [Action((400 + 60 * i) * MS, "crash", i, for_us=(300 - 90 * i) * MS) for i in range(3)]
    _, commits = play(*restarts, protocol=mode)
    assert_all_go_on(commits, range(4), 1300 * MS, 2 * SECOND)


def test_catching_up_is_longer_than_any_recursion_l18() -> None:
    rush = replace(QUICK, delay_us=20, spread_us=0, jitter_us=0, disk_us=10, body_us=10, check_us=1, client_us=2000)
    away = Action(10 * MS, "crash", 3, for_us=1600 * MS)
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(300)
        world, _ = play(away, parameters=rush, protocol=Mode.JOLTEON)
    finally:
        sys.setrecursionlimit(limit)
    heights = [len(node.disk.executed) for node in world.nodes]
    assert heights[0] > 600, heights
    assert heights[3] > heights[0] - 64
    assert world.coverage["chain_fetch"] + world.coverage["block_fetch"] > 0


@EVERY
def test_a_long_run_neither_stalls_nor_grows_l19(mode: Mode) -> None:
    _, commits = play(protocol=mode, duration_us=4 * SECOND)
    for i in range(4):
        assert commits.longest_gap_us(i, 100 * MS, 4 * SECOND) < 2 * QUICK.view_timeout_ms * MS
        early, late = commits.between(i, SECOND, 2 * SECOND), commits.between(i, 3 * SECOND, 4 * SECOND)
        assert late > early * 0.8


@EVERY
def test_a_leader_that_forks_the_tail_loses_nobodys_transactions_s31(mode: Mode) -> None:
    commits = Commits()
    setup = Setup(protocol=mode, byzantine=(1,), duration_us=3 * SECOND)
    world = World(setup, Plan(QUICK), [commits])
    arm(world, {1: [STRATEGIES["stale-qc-leader"](random.Random(1))]})
    assert world.run().violations == []
    held = {ref for node in world.honest() for ref in node.disk.batches if ref.author != 1}
    ordered = {ref for block in commits.blocks[0] for ref in block.payload}
    newest = {author: max(ref.seq for ref in held if ref.author == author) for author in (0, 2, 3)}
    missing = {ref for ref in held - ordered if ref.seq < newest[ref.author] - 20}
    assert len(ordered) > 100 and not missing


@EVERY
@pytest.mark.parametrize("nodes", [4, 7])
def test_growth_and_quality_under_a_forking_attack_s32(mode: Mode, nodes: int) -> None:
    byzantine = tuple(range(1, nodes, 3))
    strategies = tuple((i, ("stale-qc-leader",)) for i in byzantine)
    commits = Commits()
    setup = Setup(nodes=nodes, protocol=mode, byzantine=byzantine, duration_us=2 * SECOND)
    result = simulate(setup, Plan(QUICK), [commits], strategies=strategies)
    assert result.violations == []
    blocks = commits.blocks[0]
    growth = len(blocks) / result.views
    quality = sum(block.header.proposer not in byzantine for block in blocks) / len(blocks)
    print(f"{mode.name} n={nodes}: growth {growth:.2f}, quality {quality:.2f}")
    assert growth >= 4 / 9
    assert quality >= 12 / 17
