"""I14 fires when a container of a real replica has one entry too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from stage import Stage, violates

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.bounds import Bounded
from hotstuff.simulator.checkers.suite import Checkers
from hotstuff.simulator.setup import Setup
from hotstuff.simulator.world import World
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import NewView


def fill(container: Any, count: int) -> None:
    """That many entries."""
    container.clear()
    if isinstance(container, deque):
        container.extend(range(count))
    else:
        container.update((n, n) for n in range(count))


CONTAINERS: list[tuple[str, Callable[[Any], Any], int]] = [
    ("votes", lambda replica: replica._collector._voted, 44),
    ("buckets of votes", lambda replica: replica._collector._votes, 44),
    ("timeouts", lambda replica: replica._collector._timeout_of, 4),
    ("verified items", lambda replica: replica._desk._verified, 4096),
    ("checks under way", lambda replica: replica._desk._jobs, 3 * 4 * 64),
    ("blocks asked for", lambda replica: replica._sync._wanted, 64),
    ("orphans", lambda replica: replica._sync._orphans, 512),
    ("recent blocks", lambda replica: replica.tree._recent, 512),
    ("peers helped", lambda replica: replica._helped, 4),
    ("candidates for evidence", lambda replica: replica._witness._waiting, 64),
    ("candidates under check", lambda replica: replica._witness._jobs, 8),
    ("charges", lambda replica: replica._witness._tried, 4 * (4 * 27 + 64 + 64 + 8)),
    ("views watched", lambda replica: replica._witness._seen._ballots, 27),
    ("headers watched", lambda replica: replica._witness._seen._headers, 27 * 8),
    ("checkpoints of one validator", lambda replica: replica._divergence._states[2], 16),
    ("bodies asked for", lambda replica: replica._payload._wanted, 256),
    ("numbers of lane 1", lambda replica: replica._payload._lanes[1].slots, 4096),
]


@pytest.fixture
def running() -> tuple[World, Bounded]:
    """A world whose replicas have started."""
    bounded = Bounded()
    world = World(Setup(duration_us=20_000), observers=[Checkers([bounded])])
    assert not world.run().violations
    return world, bounded


@pytest.mark.parametrize(("name", "container", "limit"), CONTAINERS)
def test_one_too_many_is_found(
    running: tuple[World, Bounded], name: str, container: Callable[[Any], Any], limit: int
) -> None:
    world, bounded = running
    node = world.nodes[0]
    fill(container(node.replica), limit)
    for _ in range(4):  # lanes are looked at in turn
        bounded.stepped(node, fx.Tick(), ())
    fill(container(node.replica), limit + 1)
    with violates("I14", f"validator 0 keeps {limit + 1} {name}, allowed: {limit}"):
        for _ in range(4):
            bounded.stepped(node, fx.Tick(), ())


def test_in_basic_there_are_votes_of_three_phases() -> None:
    bounded = Bounded()
    world = World(Setup(duration_us=20_000, protocol=Mode.BASIC), observers=[Checkers([bounded])])
    world.run()
    replica: Any = world.nodes[0].replica
    fill(replica._collector._voted, 3 * 44)
    bounded.stepped(world.nodes[0], fx.Tick(), ())
    fill(replica._collector._voted, 3 * 44 + 1)
    with violates("I14", "votes, allowed: 132"):
        bounded.stepped(world.nodes[0], fx.Tick(), ())


def test_too_many_waiting_messages_of_one_peer_are_found(running: tuple[World, Bounded]) -> None:
    world, bounded = running
    node: Any = world.nodes[0]
    message = NewView(Stage().genesis, None)
    node.replica._desk._waiting[2] = 64
    bounded.stepped(node, fx.Received(2, message), ())
    node.replica._desk._waiting[2] = 65
    bounded.stepped(node, fx.Received(1, message), ())
    with violates("I14", "65 waiting messages of peer 2"):
        bounded.stepped(node, fx.Received(2, message), ())


def test_two_blocks_a_view_above_the_root_and_no_more(running: tuple[World, Bounded]) -> None:
    world, bounded = running
    replica: Any = world.nodes[0].replica
    views = replica.view - replica.tree.root.view
    assert views > 1
    blocks = {bytes([n]): replica.tree.root for n in range(2 * views + 1)}
    replica.tree._nodes = blocks
    bounded.stepped(world.nodes[0], fx.Tick(), ())
    replica.tree._nodes = {**blocks, b"one more": replica.tree.root}
    with violates("I14", "blocks above the root"):
        bounded.stepped(world.nodes[0], fx.Tick(), ())


def test_a_replica_that_lost_its_record_still_has_its_blocks(running: tuple[World, Bounded]) -> None:
    world, bounded = running
    replica: Any = world.nodes[0].replica
    initial = replica.safety.record
    replica.safety.record = replace(initial, high_qc=Stage().genesis, high_tc=None)
    bounded.stepped(world.nodes[0], fx.Tick(), ())
