"""Runs without faults: they order what clients submit, on every protocol, and whoever watches can stop them."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.consensus.verifier import Verifier
from hotstuff.errors import InvariantViolation
from hotstuff.mempool.mempool import Mempool
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.observer import Observer, Violation
from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.stabilisation import Stabilisation
from hotstuff.simulator.world import World
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import Message, Proposal, Timeout, Vote

SECOND = 1_000_000


def quiet(**setup: Any) -> World:
    """A short run without faults."""
    return World(Setup(**({"duration_us": SECOND // 2} | setup)), Plan(Parameters(view_timeout_ms=50, spread_ms=5)))


def chains(world: World) -> list[list[bytes]]:
    """What each instance has executed."""
    return [[block.id for block in node.disk.executed] for node in world.nodes]


@pytest.mark.parametrize("protocol", list(Mode))
def test_everybody_commits_the_same_blocks(protocol: Mode) -> None:
    world = quiet(protocol=protocol)
    result = world.run()
    assert result.violations == []
    longest = max(chains(world), key=len)
    assert result.commits == len(longest) > 20
    for chain in chains(world):
        assert chain == longest[: len(chain)] and len(chain) > len(longest) - 5
    ordered = sum(ref.tx_count for block in world.nodes[0].disk.executed for ref in block.payload)
    assert ordered > 0.8 * result.coverage["submitted"] > 10


@pytest.mark.parametrize("nodes", [1, 2, 3, 7])
def test_any_number_of_nodes_works(nodes: int) -> None:
    assert quiet(nodes=nodes).run().commits > 20


def test_powers_weigh() -> None:
    # Without the heavy one there is no quorum.
    world = quiet(powers=(7, 1, 1, 1))
    world.schedule(SECOND // 4, world.nodes[0].crash)
    assert 10 < world.run().commits < quiet(powers=(7, 1, 1, 1)).run().commits - 10


def test_real_signatures_take_the_same_course() -> None:
    stand_in = quiet(duration_us=SECOND // 10, signatures="stand-in").run()
    real = quiet(duration_us=SECOND // 10, signatures="bls").run()
    assert real.commits == stand_in.commits > 5
    assert real.messages == stand_in.messages


def test_encoding_every_message_changes_nothing() -> None:
    # The trace covers views, ids and times: what is decoded is what was sent.
    assert quiet(wire=True).run().trace_hash == quiet(wire=False).run().trace_hash


def test_an_idle_network_is_silent() -> None:
    world = World(Setup(duration_us=100 * SECOND), Plan(Parameters(client_us=10**12)))
    result = world.run()
    assert result.commits == 0 and result.messages == Counter() and result.simulated_s == 100


def test_each_certificate_is_verified_once_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Counter[bytes]()
    verify = Verifier._qc

    def counting(self: Verifier, qc: QC) -> bool:
        checked[qc.key] += 1
        return verify(self, qc)

    monkeypatch.setattr(Verifier, "_qc", counting)
    quiet().run()
    assert len(checked) > 20 and set(checked.values()) == {1}


# ---- observers ------------------------------------------------------------------------------------------------------


class Log(Observer):
    """The order of everything at one node."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def started(self, world: World, node: SimNode) -> None:
        if node.index == 0:
            self.seen.append(("started", node.disk.written))

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        if node.index == 0:
            self.seen.append(("stepped", type(event).__name__))

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        if node.index == 0:
            assert all(ref in node.disk.batches for block in blocks for ref in block.payload)
            self.seen += [("executed", block.header.height) for block in blocks]

    def finished(self, world: World) -> None:
        self.seen.append(("finished", world.now_us))


def test_observers_see_everything_in_order() -> None:
    log = Log()
    World(Setup(duration_us=SECOND // 4), None, [log]).run()
    assert log.seen[:2] == [("started", 0), ("stepped", "Start")]
    assert log.seen[-1] == ("finished", SECOND // 4)
    heights = [what for name, what in log.seen if name == "executed"]
    assert heights == list(range(1, len(heights) + 1)) and heights


class Turns(Observer):
    """Steps of one instance at one time."""

    def __init__(self) -> None:
        self.steps = Counter[tuple[int, int]]()

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        self.steps[world.now_us, node.instance] += 1


def test_events_that_arrive_close_together_share_a_turn() -> None:
    sizes = []
    for wake_us in (0, 1000):
        turns = Turns()
        World(Setup(duration_us=SECOND // 4), Plan(Parameters(wake_us=wake_us, small_body_bytes=0)), [turns]).run()
        sizes.append(sum(turns.steps.values()) / len(turns.steps))
    assert sizes[1] > 1.5 * sizes[0]


class DurableFirst(Observer):
    """What a vote or a timeout promises is on the disk, and was announced as written, before it is sent."""

    def __init__(self) -> None:
        self.voted = Counter[int]()
        self.checked = 0

    def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        for write in writes:
            if write.safety is not None:
                self.voted[node.instance] = write.safety.voted_view

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        if isinstance(message, Vote):
            assert self.voted[node.instance] >= message.view
            assert node.disk.safety.voted_view >= message.view
            self.checked += 1


def test_nothing_is_sent_before_it_is_durable() -> None:
    watch = DurableFirst()
    World(Setup(duration_us=SECOND // 4), None, [watch]).run()
    assert watch.checked > 50


class Stop(Observer):
    """Raises at the third block."""

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        if blocks[-1].header.height >= 3:
            raise Violation("I1", "three is enough", world.now_us)

    def finished(self, world: World) -> None:
        raise AssertionError("the run was stopped")


def test_the_first_violation_ends_the_run() -> None:
    world = World(Setup(), None, [Stop()])
    result = world.run()
    (violation,) = result.violations
    assert (violation.invariant, violation.text, violation.at_us) == ("I1", "three is enough", world.now_us)
    assert result.commits == 3
    copied = pickle.loads(pickle.dumps(result))
    assert copied.violations[0].args == violation.args and copied.trace_hash == result.trace_hash


# ---- what goes wrong in a core --------------------------------------------------------------------------------------


class Broken(Mempool):
    """Fails at the third proposal."""

    proposals = 0

    def propose(self, *arguments: Any) -> Any:
        Broken.proposals += 1
        if Broken.proposals > 3:
            raise InvariantViolation("broken on purpose")
        return super().propose(*arguments)


class Restless(Mempool):
    """Has always something to do at once."""

    def deadline_us(self) -> int | None:
        return 0


def with_mempool(world: World, index: int, kind: type[Mempool]) -> World:
    """The world with another mempool at one node."""
    usual = world.payload

    def make(node: SimNode, *arguments: Any) -> Any:
        payload = usual(node, *arguments)
        if node.index == index:
            payload.__class__ = kind  # type: ignore[assignment]
        return payload

    world.payload = make
    return world


@pytest.fixture(autouse=True)
def reset_broken() -> None:
    Broken.proposals = 0


def test_an_honest_node_must_not_stop() -> None:
    (violation,) = with_mempool(quiet(), 0, Broken).run().violations
    assert violation.invariant == "halt" and "broken on purpose" in violation.text


def test_a_byzantine_node_may_stop() -> None:
    world = with_mempool(quiet(byzantine=(0,)), 0, Broken)
    result = world.run()
    assert result.violations == [] and result.coverage["halt"] == 1
    assert not world.nodes[0].alive and result.commits > 10


def test_with_too_many_byzantine_nodes_honest_ones_may_stop() -> None:
    result = with_mempool(quiet(byzantine=(1, 2)), 0, Broken).run()
    assert result.violations == [] and result.coverage["halt"] == 1


def test_a_core_that_spins_is_found() -> None:
    (violation,) = with_mempool(quiet(), 0, Restless).run().violations
    assert violation.invariant == "spin"


def test_executing_out_of_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(self: Mempool) -> None:
        if len(self._queue) > 1:
            self._effects.append(fx.Commit(tuple(self._queue)[::-1]))
            self._queue.clear()

    monkeypatch.setattr(Mempool, "_deliver", backwards)
    (violation,) = quiet().run().violations
    assert violation.invariant == "I1"


# ---- twins ----------------------------------------------------------------------------------------------------------


class Spoken(Observer):
    """Votes and timeouts by instance."""

    def __init__(self) -> None:
        self.by: dict[int, set[int]] = {}

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        if isinstance(message, (Vote, Timeout)):
            self.by.setdefault(node.instance, set()).add(message.signer)
        elif isinstance(message, Proposal):
            self.by.setdefault(node.instance, set()).add(message.block.header.proposer)


def test_twins_share_an_index_and_a_key() -> None:
    spoken = Spoken()
    world = World(Setup(byzantine=(2,), twins=(2,), duration_us=SECOND // 2), None, [spoken])
    assert [(node.instance, node.index, node.honest) for node in world.nodes][-1] == (4, 2, False)
    assert world.run().commits > 20
    assert spoken.by[4] == spoken.by[2] == {2}
    # Both hear what is sent to either.
    assert len(world.nodes[4].disk.executed) > 20


def test_self_sends_need_no_network() -> None:
    # The only validator hears its own proposals and votes, and nothing is counted as a message.
    result = quiet(nodes=1).run()
    assert result.commits > 20 and result.messages == Counter()


def test_liveness_needs_its_own_observer_only() -> None:
    assert not any(isinstance(observer, Stabilisation) for observer in quiet().observers)
    assert any(isinstance(observer, Stabilisation) for observer in quiet(mode="liveness").observers)
