"""A replica without its safety record stays silent until every view it may have acted in is past."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster, Disk
from forge import Forge

from hotstuff.consensus.effects import Effect, Received, Send
from hotstuff.consensus.recovery import Recovery
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.types.messages import Proposal, RecoveryRequest, RecoveryResponse, Timeout, Vote


class World:
    def __init__(self, n: int = 4, powers: list[int] | None = None) -> None:
        self.forge = Forge(Cluster(n, powers=powers, fast=True))
        self.effects: list[Effect] = []
        self.recovery = Recovery(0, self.forge.validators, self.effects)

    def rejoins(self, view: int) -> bool:
        return self.recovery.may_rejoin(self.forge.qc(view, b"i" * 32))


def test_two_thirds_of_the_power_must_answer() -> None:
    world = World(7)
    for peer in (1, 2, 3, 4):
        world.recovery.answered(peer, 10)
    assert not world.rejoins(10**6)
    world.recovery.answered(5, 10)
    assert world.rejoins(12)


def test_power_counts_and_not_heads() -> None:
    world = World(5, [1, 1, 1, 1, 8])
    for peer in (1, 2, 3):
        world.recovery.answered(peer, 10)
    assert not world.rejoins(99)
    world.recovery.answered(4, 10)
    assert world.rejoins(99)


def test_the_highest_answer_counts_plus_one() -> None:
    world = World()
    for peer, view in ((1, 3), (2, 20), (3, 7)):
        world.recovery.answered(peer, view)
    assert not world.rejoins(20)
    assert not world.rejoins(21)
    assert world.rejoins(22)


def test_our_own_answer_and_repeated_ones_do_not_count() -> None:
    world = World()
    world.recovery.answered(0, 5)
    for _ in range(5):
        world.recovery.answered(1, 5)
    world.recovery.answered(2, 5)
    assert not world.rejoins(99)


def test_the_threshold_does_not_move_once_it_is_known() -> None:
    world = World(7)
    for peer in (1, 2, 3, 4, 5):
        world.recovery.answered(peer, 10)
    world.recovery.answered(6, 10**9)
    assert world.rejoins(12)


def test_peers_are_asked_until_they_have_answered() -> None:
    world = World()
    world.recovery.ask(1)
    world.recovery.ask(1)
    world.recovery.answered(1, 5)
    world.recovery.ask(1)
    world.recovery.ask(2)
    assert world.effects == [Send(1, RecoveryRequest())] * 2 + [Send(2, RecoveryRequest())]


def amnesia(cluster: Cluster, victim: int, *, keep_blocks: bool = True) -> None:
    cluster.kill(victim)
    old = cluster.disks[victim]
    fresh = Disk(SafetyRecord.initial(cluster.context, passive=True))
    if keep_blocks:
        fresh = Disk(fresh.safety, old.blocks, old.executed, old.batches, old.commit_qcs, old.commit_qc)
    cluster.disks[victim] = fresh


@pytest.mark.parametrize("keep_blocks", [False, True])
def test_a_replica_without_its_record_rejoins_behind_everything_it_can_have_signed(keep_blocks: bool) -> None:
    cluster = Cluster(fast=True)
    for k in range(8):
        cluster.submit(k % 4)
        cluster.advance(30)
    amnesia(cluster, 1, keep_blocks=keep_blocks)
    signed_before = max(view for what, signer, view in cluster.signed if signer == 1)
    cluster.start(1)
    said: list[tuple[str, int]] = []

    def listen(envelope: object) -> bool:
        message = envelope.message  # type: ignore[attr-defined]
        if envelope.sender == 1 and isinstance(message, (Vote, Timeout)):  # type: ignore[attr-defined]
            said.append((type(message).__name__, message.view))
        if envelope.sender == 1 and isinstance(message, Proposal):  # type: ignore[attr-defined]
            said.append(("Proposal", message.block.header.view))
        return False

    cluster.drop = listen  # type: ignore[assignment]
    replica = cluster.replicas[1]
    assert replica is not None
    assert replica._payload.room_bytes() == 0  # type: ignore[attr-defined]
    for k in range(20):
        cluster.submit((0, 2, 3)[k % 3])
        cluster.advance(300)
    cluster.advance(20_000)
    assert not replica.safety.record.passive
    assert [report.name for i, report in cluster.reports if report.name == "rejoined"] == ["rejoined"]
    assert said != []
    assert min(view for _, view in said) > signed_before + 1
    assert cluster.ordered(1) == cluster.ordered(0)
    assert replica._payload.room_bytes() > 0  # type: ignore[attr-defined]
    cluster.submit(1)
    cluster.advance(10_000)
    assert cluster.ordered(1) == cluster.ordered(0) == 29


def test_a_view_that_no_certificate_proves_does_not_keep_it_silent() -> None:
    cluster = Cluster(fast=True, passive=2)
    forge = Forge(cluster)
    claim = replace(forge.qc(2**62, b"i" * 32), signature=bytes(96))
    cluster.step(2, Received(1, RecoveryResponse(claim, None)))
    for k in range(12):
        cluster.submit((0, 1, 3)[k % 3])
        cluster.advance(1500)
    assert not cluster.replicas[2].safety.record.passive  # type: ignore[union-attr]
    assert [strike.peer for i, strike in cluster.strikes if i == 2] == [1]


def test_a_passive_replica_says_nothing_while_it_does_not_know() -> None:
    cluster = Cluster(fast=True, passive=2)
    cluster.drop = lambda e: type(e.message).__name__ == "RecoveryResponse"
    for k in range(12):
        cluster.submit((0, 1, 3)[k % 3])
        cluster.advance(1500)
    assert cluster.ordered(0) > 0
    assert [what for what, signer, _ in cluster.signed if signer == 2] == []
    assert cluster.replicas[2].safety.record.passive  # type: ignore[union-attr]
    assert cluster.replicas[2].deadline_us() is None  # type: ignore[union-attr]


def test_a_passive_replica_acknowledges_and_authors_nothing() -> None:
    cluster = Cluster(fast=True, passive=2)
    said: list[str] = []
    cluster.drop = lambda e: (
        (e.sender == 2 and (said.append(type(e.message).__name__) or False)) or isinstance(e.message, RecoveryResponse)
    )
    cluster.submit(2)
    for k in range(3):
        cluster.submit((0, 1, 3)[k])
        cluster.advance(1500)
    assert cluster.ordered(0) == 3
    assert cluster.ordered(2) > 0, "it follows"
    assert {"Ack", "BatchMessage"} & set(said) == set()
