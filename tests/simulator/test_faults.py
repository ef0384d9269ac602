"""Plans and what they do to a world: each fault happens, ends, depends on no other, and the replicas get over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.simulator.actions import EVERYTHING, KINDS, RECORD, act
from hotstuff.simulator.faults import plan
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import ALL, Action, Parameters, Plan, Setup
from hotstuff.simulator.world import World
from hotstuff.types.block import Block
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import BatchMessage, ChainRequest, Message

SECOND = 1_000_000
QUICK = Parameters(view_timeout_ms=40, spread_ms=4, fetch_retry_ms=10, client_us=10_000)


def world_with(*actions: Action, observers: Sequence[Observer] = (), **setup: Any) -> World:
    """A second on a fast network, with these faults."""
    return World(Setup(**({"duration_us": SECOND} | setup)), Plan(QUICK, actions), observers)


def heights(world: World) -> list[int]:
    """Executed blocks of each instance."""
    return [len(node.disk.executed) for node in world.nodes]


def assert_agreement(world: World, *, lag: int = 8) -> None:
    """One chain, and nobody far behind."""
    chains = [[block.id for block in node.disk.executed] for node in world.nodes]
    longest = max(chains, key=len)
    for i, chain in enumerate(chains):
        assert chain == longest[: len(chain)], f"instance {i} forks"
        assert len(chain) >= len(longest) - lag, f"instance {i} is behind: {heights(world)}"


def run(world: World) -> World:
    """Runs it; nothing may be wrong."""
    assert world.run().violations == []
    return world


# ---- plans ----------------------------------------------------------------------------------------------------------


def test_a_plan_is_a_function_of_the_setup() -> None:
    for mode in ("safety", "liveness"):
        plans = [plan(Setup(seed=seed, mode=mode)) for seed in range(20)]  # type: ignore[arg-type]
        assert plans == [plan(Setup(seed=seed, mode=mode)) for seed in range(20)]  # type: ignore[arg-type]
        assert len({repr(p) for p in plans}) == 20


def test_plans_cover_every_kind_of_fault() -> None:
    kinds = Counter(action.kind for seed in range(300) for action in plan(Setup(seed=seed)).actions)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 10
    quiet = sum(not plan(Setup(seed=seed)).actions for seed in range(300))
    assert 20 < quiet < 100


def test_plans_name_only_what_exists() -> None:
    for seed in range(200):
        setup = Setup(seed=seed, nodes=1 + seed % 7, mode="liveness" if seed % 2 else "safety")
        for action in plan(setup).actions:
            assert -1 <= action.node < setup.nodes and -1 <= action.peer < setup.nodes
            assert 0 <= action.at_us <= setup.duration_us and action.for_us >= 0
            if action.kind in ("partition", "bridge"):
                assert 0 < action.argument < 1 << setup.nodes


def test_without_any_one_of_its_actions_a_plan_still_runs() -> None:
    setups = (Setup(seed=seed, duration_us=SECOND // 4) for seed in range(100))
    setup = next(setup for setup in setups if len(plan(setup).actions) >= 10)
    whole = plan(setup)
    hashes = {World(setup, whole).run().trace_hash}
    for i in range(len(whole.actions)):
        rest = replace(whole, actions=whole.actions[:i] + whole.actions[i + 1 :])
        result = World(setup, rest).run()
        assert result.violations == []
        hashes.add(result.trace_hash)
    assert len(hashes) == len(whole.actions) + 1


@pytest.mark.parametrize("seed", range(12))
def test_any_plan_runs_on_any_protocol(seed: int) -> None:
    setup = Setup(seed=seed, protocol=list(Mode)[seed % 4], nodes=4 + seed % 3, duration_us=SECOND // 2)
    assert World(setup, plan(setup)).run().violations == []


# ---- crashes --------------------------------------------------------------------------------------------------------


class Lives(Observer):
    """When lives began and ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, int]] = []

    def started(self, world: World, node: SimNode) -> None:
        self.seen.append((world.now_us, "started", node.instance))

    def crashed(self, world: World, node: SimNode) -> None:
        self.seen.append((world.now_us, "crashed", node.instance))


def test_a_crash_ends_a_life_and_another_begins() -> None:
    lives = Lives()
    world = run(world_with(Action(300_000, "crash", 1, for_us=200_000), observers=[lives]))
    assert [what for what in lives.seen if what[2] == 1][1:] == [(300_000, "crashed", 1), (500_000, "started", 1)]
    assert world.coverage["crash"] == world.coverage["restart"] == 1
    assert_agreement(world)


def test_a_crash_for_ever_is_for_ever() -> None:
    world = run(world_with(Action(300_000, "crash", 1)))
    assert not world.nodes[1].alive
    assert 0 < heights(world)[1] < min(heights(world)[i] for i in (0, 2, 3)) - 10


@pytest.mark.parametrize("point", range(1, 40))
def test_a_crash_at_any_point_is_survived(point: int) -> None:
    lives = Lives()
    action = Action(100_000, "crash", point % 4, argument=point, for_us=30_000)
    world = run(world_with(action, observers=[lives], duration_us=SECOND // 4))
    crashed = [what for what in lives.seen if what[1] == "crashed"]
    assert [instance for _, _, instance in crashed] == [point % 4] and crashed[0][0] >= 100_000
    assert world.coverage["restart"] == 1
    assert_agreement(world)


def test_crash_points_lie_before_and_after_writes_and_between_sends() -> None:
    """What the disk and the network have got at successive points differs."""

    class Marks(Observer):
        def __init__(self) -> None:
            self.log: list[str] = []

        def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
            urgent = node.alive and not all(write.lazy for write in writes)
            self.log += ["write"] * (node.instance == 1 and world.now_us >= 50_000 and urgent)

        def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
            self.log += [message.kind.name] * (node.instance == 1 and world.now_us >= 50_000)

        def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
            self.log += ["commit"] * (node.instance == 1 and world.now_us >= 50_000)

    logs = []
    for point in range(1, 32):
        marks = Marks()
        busy = Plan(replace(QUICK, client_us=1000), (Action(50_000, "crash", 1, argument=point),))
        World(Setup(duration_us=70_000), busy, [marks]).run()
        logs.append(tuple(marks.log))
    assert all(shorter == longer[: len(shorter)] for shorter, longer in pairwise(logs))
    steps = [(log[-1:], longer[len(log) :][:1]) for log, longer in pairwise(logs)]
    assert (("PROPOSAL",), ("PROPOSAL",)) in steps, "between two sends of a broadcast"
    assert (("VOTE",), ("VOTE",)) in steps, "between two sends of a vote"
    assert (("BATCH",), ("BATCH",)) in steps, "between two sends of a body"
    assert any(before != ("write",) and after == ("write",) for before, after in steps), "before a write"
    assert any(before == ("write",) and after not in ((), ("write",)) for before, after in steps), "right after a write"


def test_what_was_not_durable_is_lost_or_kept_by_chance() -> None:
    lost = kept = 0
    for seed in range(40):
        world = world_with(seed=seed, duration_us=50_000)
        world.run()
        node = world.nodes[0]
        assert node.process is not None
        executed, written = len(node.disk.executed), node.disk.written
        node.crash()
        after = len(node.disk.executed)
        assert after in (executed, written) and not node.disk.waiting
        lost += after < executed
        kept += after == executed > written
    assert lost > 1 and kept > 1


def test_bodies_under_way_are_lost_or_kept_by_chance() -> None:
    lost = kept = 0
    for seed in range(40):
        plan_ = Plan(replace(QUICK, body_us=30_000, small_body_bytes=0, client_us=2000))
        world = World(Setup(seed=seed, duration_us=100_000), plan_)
        world.run()
        node = world.nodes[0]
        assert node.process is not None
        for batch in node.process.storing:
            assert batch.ref not in node.disk.batches
        storing = list(node.process.storing)
        node.crash()
        kept += sum(batch.ref in node.disk.batches for batch in storing)
        lost += sum(batch.ref not in node.disk.batches for batch in storing)
    assert lost > 5 and kept > 5


def test_after_a_power_loss_everybody_is_back_with_everything() -> None:
    class Highest(Observer):
        durable = 0

        def crashed(self, world: World, node: SimNode) -> None:
            self.durable = max(self.durable, len(node.disk.executed))

    highest = Highest()
    world = run(world_with(Action(400_000, "power", for_us=50_000), observers=[highest]))
    assert world.coverage["crash"] == world.coverage["restart"] == 4
    assert min(heights(world)) > highest.durable + 20
    assert_agreement(world)


# ---- amnesia --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [RECORD, EVERYTHING])
def test_amnesia_makes_a_node_passive_until_it_may_rejoin(what: int) -> None:
    class Watch(Observer):
        passive = False
        empty = False

        def started(self, world: World, node: SimNode) -> None:
            if node.life > 1:
                self.passive = node.passive
                self.empty = not node.disk.blocks and not node.disk.batches

    watch = Watch()
    action = Action(300_000, "amnesia", 2, argument=what, for_us=50_000)
    world = run(world_with(action, observers=[watch]))
    assert watch.passive and watch.empty == (what == EVERYTHING)
    assert world.coverage["passive_rejoin"] == 1 and not world.nodes[2].passive
    assert_agreement(world)


def test_only_one_node_forgets_at_a_time() -> None:
    both = [Action(300_000 + i, "amnesia", i, argument=RECORD, for_us=50_000) for i in (1, 2)]
    world = run(world_with(*both))
    assert world.coverage["passive_rejoin"] == 1
    assert world.nodes[1].life == 2 and world.nodes[2].life == 1


def test_only_one_node_ever_loses_its_bodies() -> None:
    actions = [
        Action(200_000, "amnesia", 1, argument=EVERYTHING, for_us=50_000),
        Action(600_000, "amnesia", 2, argument=EVERYTHING, for_us=50_000),
    ]
    world = run(world_with(*actions))
    assert world.coverage["passive_rejoin"] == 2 and world.wiped == 1
    # The second one has lost its record only.
    first = min(world.nodes[2].disk.executed, key=lambda block: block.header.height)
    assert world.nodes[2].disk.commit_qcs.keys() > world.nodes[1].disk.commit_qcs.keys() or first.header.height == 1


def test_with_byzantine_nodes_nobody_loses_bodies() -> None:
    action = Action(300_000, "amnesia", 1, argument=EVERYTHING, for_us=50_000)
    world = run(world_with(action, byzantine=(3,)))
    assert world.wiped is None and world.coverage["passive_rejoin"] == 1


def test_byzantine_nodes_do_not_forget_by_accident() -> None:
    world = run(world_with(Action(300_000, "amnesia", 3, argument=RECORD, for_us=50_000), byzantine=(3,)))
    assert world.coverage["crash"] == 0


# ---- slow and stopped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wake_us", [0, 20])
def test_a_paused_node_does_nothing_and_then_hears_everything_before_its_timer(wake_us: int) -> None:
    class Steps(Observer):
        def __init__(self) -> None:
            self.events: list[tuple[int, str]] = []

        def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
            if node.instance == 1:
                self.events.append((world.now_us, type(event).__name__))

    steps = Steps()
    made = Plan(replace(QUICK, wake_us=wake_us), (Action(300_000, "pause", 1, for_us=300_000),))
    world = run(World(Setup(duration_us=SECOND), made, [steps]))
    assert not [event for event in steps.events if 300_000 < event[0] < 600_000]
    first = [name for at_us, name in steps.events if at_us == 600_000]
    assert first.count("Received") > 20
    assert "Tick" not in first[: first.index("Received") + 20]
    assert_agreement(world)


def test_a_fast_clock_times_out_earlier() -> None:
    # The leaders are cut off, so every view of theirs takes as long as the timers say.
    apart = Action(0, "partition", argument=0b0001)
    usual = run(world_with(apart, duration_us=2 * SECOND)).coverage["timeouts"]
    fast = [Action(0, "clock", node, argument=3_000_000) for node in range(4)]
    hurried = run(world_with(apart, *fast, duration_us=2 * SECOND)).coverage["timeouts"]
    assert hurried > 1.3 * usual > 10


def test_a_clock_runs_true_again() -> None:
    world = run(world_with(Action(100_000, "clock", 1, argument=500_000, for_us=200_000)))
    clock = world.nodes[1].clock
    assert clock.local_us(SECOND) - clock.local_us(0) == SECOND
    assert clock.local_us(SECOND) - world.nodes[0].clock.local_us(SECOND) == 100_000


def test_a_slow_disk_slows_its_own_node_only() -> None:
    world = run(world_with(Action(100_000, "disk", 1, argument=150_000, for_us=500_000)))
    assert world.nodes[1].disk_us == QUICK.disk_us
    assert world.coverage["view_change"] > 0
    assert heights(world)[0] > 50
    assert_agreement(world, lag=30)


def test_late_bodies_are_late() -> None:
    class Bodies(Observer):
        def __init__(self) -> None:
            self.times: list[int] = []

        def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
            if node.instance == 2 and isinstance(event, fx.Received) and isinstance(event.message, BatchMessage):
                self.times.append(world.now_us)

    bodies = Bodies()
    run(world_with(Action(0, "bodies", 2, argument=400_000), observers=[bodies]))
    assert min(bodies.times) > 400_000
    everybody = run(world_with(Action(0, "bodies", ALL, argument=30_000)))
    assert min(heights(everybody)) > 20 and everybody.coverage["body_fetch"] > 20


# ---- links ----------------------------------------------------------------------------------------------------------

CUTS: list[tuple[Action, set[tuple[int, int]]]] = [
    (Action(0, "partition", argument=0b0011), {(0, 1), (1, 0), (2, 3), (3, 2)}),
    (Action(0, "partition", argument=0b0001), {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}),
    (Action(0, "bridge", 3, argument=0b0001), {(a, b) for a in range(4) for b in range(4) if a != b}
     - {(0, 1), (1, 0), (0, 2), (2, 0)}),
    (Action(0, "ring", argument=1), {(a, (a + step) % 4) for a in range(4) for step in (1, 3)}),
    (Action(0, "one-way", 0, 2), {(a, b) for a in range(4) for b in range(4) if a != b} - {(0, 2)}),
    (Action(0, "one-way", ALL, 2), {(a, b) for a in range(4) for b in range(4) if a != b != 2}),
    (Action(0, "one-way", 2, ALL), {(a, b) for a in range(4) for b in range(4) if 2 != a != b}),
]  # fmt: skip


@pytest.mark.parametrize(("action", "open_links"), CUTS)
def test_partitions_cut_what_they_should_and_heal(action: Action, open_links: set[tuple[int, int]]) -> None:
    world = world_with(replace(action, for_us=500_000))
    world.end_us = 100_000
    for one in world.plan.actions:
        world.schedule(one.at_us, act, world, one)
    world.advance()
    found = {(a, b) for a in range(4) for b in range(4) if a != b and not world.network.link(a, b).cuts}
    assert found == open_links
    world.end_us = 600_000
    world.advance()
    assert not any(world.network.link(a, b).cuts for a in range(4) for b in range(4))


def test_nothing_is_committed_without_a_quorum_and_everything_after() -> None:
    lives = Lives()
    world = run(world_with(Action(300_000, "partition", argument=0b0011, for_us=300_000), observers=[lives]))
    assert world.coverage["timeouts"] >= 4
    assert_agreement(world)
    assert min(heights(world)) > 80


def test_a_clogged_node_catches_up_in_the_end() -> None:
    clogs = [Action(200_000, "clog", 1, ALL, for_us=400_000), Action(200_000, "clog", ALL, 1, for_us=400_000)]
    assert_agreement(run(world_with(*clogs)))


def test_loss_and_copies_are_got_over() -> None:
    noise = [Action(0, "loss", ALL, ALL, 50, 700_000), Action(0, "duplicate", ALL, ALL, 300, 700_000)]
    world = run(world_with(*noise, duration_us=2 * SECOND))
    assert world.coverage["loss"] > 50 and world.coverage["duplicate"] > 200
    assert_agreement(world)


def test_a_node_that_was_away_for_long_fetches_the_chain_in_pages() -> None:
    class Asked(Observer):
        pages = 0

        def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
            self.pages += isinstance(message, ChainRequest)

    asked = Asked()
    away, busy = Action(50_000, "crash", 1, for_us=2 * SECOND), replace(QUICK, client_us=3000)
    world = run(World(Setup(duration_us=3 * SECOND), Plan(busy, (away,)), [asked]))
    assert heights(world)[0] > 300 and asked.pages >= 2, (heights(world), asked.pages)
    assert_agreement(world)


# ---- liveness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(16))
def test_after_gst_the_core_commits(seed: int) -> None:
    setup = Setup(
        seed=seed, mode="liveness", protocol=list(Mode)[seed % 4], nodes=(4, 4, 7)[seed % 3], duration_us=SECOND // 2
    )
    made = plan(setup)
    world = World(setup, made)
    result = world.run()
    assert result.violations == []
    core = made.parameters.core
    assert set(world.gst_views) == set(world.first_commits) == set(core)
    assert world.validators.is_quorum(core) and 0 < world.gst_us < setup.duration_us
    for instance, first in world.first_commits.items():
        assert first.at_us > world.gst_us
        assert first.view >= first.block_view >= min(world.gst_views.values())
        assert world.nodes[instance].alive


def test_the_core_may_be_the_smallest_quorum_or_everybody() -> None:
    sizes = Counter(len(plan(Setup(seed=seed, nodes=7, mode="liveness")).parameters.core) for seed in range(100))
    assert set(sizes) == {5, 6, 7} and sizes[5] > 20


def test_outside_the_core_things_stay_broken() -> None:
    setup = Setup(mode="liveness", duration_us=SECOND // 2)
    core = replace(QUICK, gst_us=200_000, core=(0, 1, 2))
    world = World(setup, Plan(core, (Action(200_000, "crash", 3), Action(300_000, "crash", 0, for_us=10))))
    assert world.run().violations == []
    assert not world.nodes[3].alive
    assert world.nodes[0].life == 1, "no crash in the core after GST"


def test_gst_heals_whatever_was_wrong_in_the_core() -> None:
    before = [
        Action(50_000, "crash", 0),
        Action(50_000, "pause", 1),
        Action(50_000, "disk", 2, argument=SECOND // 5),
        Action(50_000, "clock", 2, argument=500_000),
        Action(60_000, "partition", argument=0b0101),
        Action(60_000, "loss", ALL, ALL, 900),
    ]
    setup = Setup(mode="liveness", duration_us=SECOND // 2)
    world = World(setup, Plan(replace(QUICK, gst_us=200_000, core=(0, 1, 2, 3)), tuple(before)))
    assert world.run().violations == []
    assert set(world.first_commits) == {0, 1, 2, 3}
    assert max(first.at_us for first in world.first_commits.values()) < SECOND
    assert world.nodes[2].disk_us == QUICK.disk_us
    ahead_us = [node.clock.local_us(2 * SECOND) - node.clock.local_us(SECOND) for node in world.nodes]
    assert ahead_us == [SECOND] * 4


def test_without_a_core_nothing_is_claimed() -> None:
    # The checker of liveness must be able to fail: here nobody is left to commit.
    setup = Setup(mode="liveness", duration_us=SECOND // 2)
    world = World(setup, Plan(replace(QUICK, gst_us=100_000, core=(0, 1)), ()))
    for node in world.nodes[2:]:
        world.schedule(50_000, node.crash)
    world.end_us = 2 * SECOND
    world.run()
    assert world.first_commits == {} and set(world.gst_views) == {0, 1}
