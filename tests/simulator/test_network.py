"""Links: what is lost, what waits, what comes twice, in which order, and who is told that a link is up again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.simulator.network import HELD_MAX, Network
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.world import World
from hotstuff.types.messages import BatchMessage, BlockRequest, Message

SECOND = 1_000_000


class Wires:
    """A network whose nodes run no core: it is recorded what reaches them, and when."""

    def __init__(self, nodes: int = 4, **parameters: Any) -> None:
        plan = Plan(Parameters(**({"delay_us": 1000, "spread_us": 500, "jitter_us": 2000} | parameters)))
        self.world = World(Setup(nodes=nodes), plan)
        self.network: Network = self.world.network
        self.arrived: list[tuple[int, int, int]] = []
        self.connected: list[tuple[int, int]] = []
        self.next = 0
        for node in self.world.nodes:
            node.process = Silent(self, node)  # type: ignore[assignment]
            node.arrive = self.arrival(node)  # type: ignore[method-assign]

    def arrival(self, node: SimNode) -> Callable[[int, Message], None]:
        def arrive(peer: int, message: Message) -> None:
            self.arrived.append((peer, node.index, getattr(message, "limit", -1)))

        return arrive

    def link(self, sender: int, receiver: int) -> list[Any]:
        return [self.network.link(sender, receiver)]

    def send(self, sender: int, receiver: int, count: int = 1) -> list[int]:
        """Numbered messages."""
        numbers = list(range(self.next, self.next + count))
        self.next += count
        for number in numbers:
            message = BlockRequest(bytes(32), 0, number)
            self.network.send(self.world.nodes[sender], self.world.nodes[receiver], message)
        return numbers

    def pass_time(self, us: int = SECOND) -> list[int]:
        """Lets everything happen that is due; returns the numbers that arrived, in order."""
        before = len(self.arrived)
        self.world.end_us = self.world.now_us + us
        self.world.advance()
        return [number for _, _, number in self.arrived[before:]]


class Silent:
    """Takes the place of a process."""

    def __init__(self, wires: Wires, node: SimNode) -> None:
        self.dead = False
        self.node = node
        self._wires = wires

    def post(self, event: fx.Connected) -> None:
        self._wires.connected.append((self.node.index, event.peer))

    def happen(self, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if not self.dead:
            what(*arguments)


def test_messages_arrive_once_and_in_order() -> None:
    wires = Wires()
    sent = wires.send(0, 1, 100)
    assert wires.pass_time(999) == []
    assert wires.pass_time() == sent
    assert {(peer, to) for peer, to, _ in wires.arrived} == {(0, 1)}


def test_without_order_they_overtake_each_other() -> None:
    wires = Wires(ordered=False)
    sent = wires.send(0, 1, 100)
    got = wires.pass_time()
    assert got != sent and sorted(got) == sent


def test_links_differ() -> None:
    base = {wires_link.base_us for row in Wires(nodes=7).network._links for wires_link in row}
    assert len(base) > 10 and min(base) >= 1000 and max(base) <= 1500


@pytest.mark.parametrize("tail", [False, True])
def test_jitter_has_the_mean_and_the_tail_it_should(tail: bool) -> None:
    jitter = sorted(Wires(jitter_us=1000, tail=tail).network._jitter)
    mean, longest = sum(jitter) / len(jitter), jitter[-1]
    assert min(jitter) >= 0
    if tail:
        assert 20_000 < longest <= 250_000 and jitter[len(jitter) // 2] < 1000
    else:
        assert 700 < mean < 1300 and 3000 < longest < 20_000


# ---- cuts -----------------------------------------------------------------------------------------------------------


def test_a_cut_loses_and_its_end_is_announced_at_both_ends() -> None:
    wires = Wires()
    both = wires.link(0, 1) + wires.link(1, 0)
    wires.network.cut(both)
    wires.send(0, 1, 5)
    other = wires.send(0, 2, 5)
    assert wires.pass_time() == other and wires.connected == []
    wires.network.mend(both)
    sent = wires.send(0, 1, 5)
    assert wires.pass_time() == sent
    assert sorted(wires.connected) == [(0, 1), (1, 0)]


def test_what_was_on_its_way_survives_a_cut() -> None:
    wires = Wires()
    sent = wires.send(0, 1, 5)
    wires.network.cut(wires.link(0, 1))
    assert wires.pass_time() == sent


def test_a_silent_heal_tells_nobody() -> None:
    wires = Wires(silent_heals=True)
    wires.network.cut(wires.link(0, 1))
    wires.network.mend(wires.link(0, 1))
    sent = wires.send(0, 1)
    assert wires.pass_time() == sent and wires.connected == []


def test_a_one_way_cut_leaves_the_way_back() -> None:
    wires = Wires()
    wires.network.cut(wires.link(0, 1))
    wires.send(0, 1)
    back = wires.send(1, 0)
    assert wires.pass_time() == back


def test_overlapping_cuts_end_with_the_last() -> None:
    wires = Wires()
    for _ in range(2):
        wires.network.cut(wires.link(0, 1))
    wires.network.mend(wires.link(0, 1))
    wires.send(0, 1)
    assert wires.pass_time() == [] and wires.connected == []
    wires.network.mend(wires.link(0, 1))
    sent = wires.send(0, 1)
    assert wires.pass_time() == sent and len(wires.connected) == 2


def test_nobody_connects_over_half_a_link() -> None:
    wires = Wires()
    wires.network.cut(wires.link(0, 1))
    wires.network.connect(wires.world.nodes[0], wires.world.nodes[1])
    wires.pass_time()
    assert wires.connected == []


def test_who_died_meanwhile_is_not_told() -> None:
    wires = Wires()
    wires.network.connect(wires.world.nodes[0], wires.world.nodes[1])
    wires.world.nodes[1].process.dead = True  # type: ignore[union-attr]
    wires.pass_time()
    assert wires.connected == []


# ---- clogs ----------------------------------------------------------------------------------------------------------


def test_a_clog_holds_everything_until_it_ends() -> None:
    wires = Wires()
    wires.network.clog(wires.link(0, 1))
    sent = wires.send(0, 1, 20)
    assert wires.pass_time() == []
    wires.network.unclog(wires.link(0, 1))
    assert wires.pass_time() == sent and wires.connected == []


def test_a_clog_that_holds_too_much_breaks_the_link() -> None:
    wires = Wires()
    wires.network.clog(wires.link(0, 1))
    wires.send(0, 1, HELD_MAX + 1)
    wires.network.unclog(wires.link(0, 1))
    assert wires.pass_time() == []
    assert sorted(wires.connected) == [(0, 1), (1, 0)]


def test_a_connection_waits_for_the_end_of_a_clog() -> None:
    wires = Wires()
    wires.network.clog(wires.link(0, 1))
    wires.network.connect(wires.world.nodes[0], wires.world.nodes[1])
    wires.pass_time()
    assert wires.connected == []
    wires.network.unclog(wires.link(0, 1))
    wires.pass_time()
    assert sorted(wires.connected) == [(0, 1), (1, 0)]


# ---- loss, copies, slow bodies --------------------------------------------------------------------------------------


def test_loss_takes_its_share() -> None:
    wires = Wires()
    wires.network.disturb(wires.link(0, 1), loss=300)
    sent = wires.send(0, 1, 1000)
    got = wires.pass_time()
    assert 600 < len(got) < 800 and set(got) < set(sent)
    assert wires.world.coverage["loss"] == 1000 - len(got)
    wires.network.disturb(wires.link(0, 1), loss=-300)
    assert wires.send(0, 1, 100) == wires.pass_time()


def test_some_come_twice() -> None:
    wires = Wires()
    wires.network.disturb(wires.link(0, 1), duplicate=200)
    sent = wires.send(0, 1, 1000)
    got = wires.pass_time()
    assert 1100 < len(got) < 1300 and set(got) == set(sent)
    assert wires.world.coverage["duplicate"] == len(got) - 1000


def test_only_bodies_are_late() -> None:
    wires = Wires()
    wires.network.disturb(wires.link(0, 1), slow_us=10 * SECOND)
    body = BatchMessage(object())  # type: ignore[arg-type]
    wires.network.send(wires.world.nodes[0], wires.world.nodes[1], body)
    sent = wires.send(0, 1)
    assert wires.pass_time() == sent
    assert wires.pass_time(10 * SECOND) == [-1]


# ---- the calm after the storm ---------------------------------------------------------------------------------------


def test_calm_links_are_quick_whole_and_stay_so() -> None:
    wires = Wires(jitter_us=500_000, tail=True)
    core = wires.world.nodes[:3]
    held = wires.link(0, 1)
    wires.network.clog(held)
    wires.network.cut(wires.link(1, 2))
    sent = wires.send(0, 1, 10)
    wires.network.calm(core, 2000)
    for spoil in (wires.network.cut, wires.network.clog):
        spoil(held)
    wires.network.disturb(held, loss=1000, slow_us=SECOND)
    sent += wires.send(0, 1, 100) + wires.send(1, 2, 100)
    assert sorted(wires.pass_time(2000)) == sent
    pairs = {(a, b) for a in range(3) for b in range(3) if a != b}
    assert set(wires.connected) == pairs
    # What began before does not end into the negative.
    wires.network.unclog(held)
    wires.network.mend(wires.link(1, 2))
    assert held[0].clogs == 0 and wires.link(1, 2)[0].cuts == 0


def test_calm_is_only_inside_the_core() -> None:
    wires = Wires()
    wires.network.calm(wires.world.nodes[:3], 2000)
    wires.network.cut(wires.link(0, 3))
    wires.send(0, 3)
    assert wires.pass_time() == []
