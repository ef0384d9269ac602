"""The lines that a reader gets, and the counters that say what a run was good for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.simulator.faults import plan
from hotstuff.simulator.setup import ALL, Action, Parameters, Plan, Setup
from hotstuff.simulator.timeline import Timeline, describe
from hotstuff.simulator.trace import TraceHash
from hotstuff.simulator.world import World
from hotstuff.types.messages import BlockRequest

LINE = re.compile(r" *\d+\.\d{6}  (n\d+!? +(\d+|-)[* ]  \S.*| +-- .+ --)$")
PARAMETERS = Parameters(view_timeout_ms=40, spread_ms=4, fetch_retry_ms=10, client_us=5000)


def lines(*actions: Action, duration_us: int = 400_000) -> list[str]:
    """The timeline of a short run."""
    timeline = Timeline()
    World(Setup(duration_us=duration_us), Plan(PARAMETERS, actions), [timeline]).run()
    return timeline.lines


def test_lines_are_aligned_and_tell_the_story() -> None:
    found = lines(Action(100_000, "crash", 1, for_us=100_000), Action(300_000, "partition", argument=3, for_us=50_000))
    assert all(LINE.match(line) for line in found)
    for story in (
        "n1          -   crashes; the disk holds height",
        "restarts at height",
        "proposes",
        "votes for",
        "aggregates the signatures of",
        "times out in view",
        "view entered: view",
        "tc formed",
        "commits",
        "-- crash n1 for 0.1 s --",
        "-- partition n0 n1 | n2 n3 for 0.05 s --",
    ):
        assert any(story in line for line in found), story


def test_a_vote_is_one_line_however_often_it_is_sent() -> None:
    votes = [line for line in lines(duration_us=50_000) if "votes for" in line]
    assert votes and len(votes) == len({line.partition("n")[2] for line in votes})


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action(0, "bridge", 2, argument=0b0001, for_us=1_500_000), "partition n0 | n1 n2 n3 bridged by n2 for 1.5 s"),
        (Action(0, "one-way", ALL, 1), "one-way all -> n1"),
        (Action(0, "loss", 0, ALL, 20, 1000), "loss n0 -> all 20 for 0.001 s"),
        (Action(0, "ring", argument=1), "ring 1"),
        (Action(0, "power", for_us=1000), "power for 0.001 s"),
        (Action(0, "crash", 3, argument=7), "crash n3 7"),
    ],
)
def test_faults_are_described(action: Action, text: str) -> None:
    assert describe(action, 4) == text


def test_every_hook_goes_into_the_hash() -> None:
    world = World(Setup())
    node, message = world.nodes[1], BlockRequest(b"\1" * 32, 5, 1)
    calls: list[Callable[[TraceHash], None]] = [
        lambda trace: None,
        lambda trace: trace.started(world, node),
        lambda trace: trace.crashed(world, node),
        lambda trace: trace.stepped(world, node, fx.Start(), ()),
        lambda trace: trace.stepped(world, node, fx.Tick(), ()),
        lambda trace: trace.stepped(world, node, fx.Received(1, message), ()),
        lambda trace: trace.stepped(world, node, fx.Received(1, BlockRequest(b"\2" * 32, 5, 1)), ()),
        lambda trace: trace.persisted(world, node, ()),
        lambda trace: trace.sent(world, node, 2, message),
        lambda trace: trace.sent(world, node, 3, message),
        lambda trace: trace.acted(world, Action(0, "crash", 1)),
        lambda trace: trace.acted(world, Action(0, "crash", 1, for_us=1)),
    ]
    hashes = set()
    for call in calls:
        trace = TraceHash()
        call(trace)
        hashes.add(trace.hexdigest)
    assert len(hashes) == len(calls)


def test_runs_from_seeds_see_everything_that_can_happen_without_byzantine_nodes() -> None:
    coverage = Counter[str]()
    for seed in range(24):
        setup = Setup(seed=seed, duration_us=300_000)
        made = plan(setup)
        coverage += World(setup, replace(made, actions=made.actions[:12])).run().coverage
    expected = {
        *("view_change", "tc_formed", "qc_formed", "block_fetch", "body_fetch", "timeouts", "help"),
        *("crash", "crash_planned", "restart", "power_loss", "amnesia", "passive_rejoin", "pause", "clock", "disk"),
        *("partition", "one-way", "cut", "clog", "loss", "duplicate", "bodies"),
    }
    assert {name for name in expected if not coverage[name]} == set()
