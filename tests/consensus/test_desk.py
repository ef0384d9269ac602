"""Messages wait for the certificates in them: checked once, remembered only if valid, bounded for each peer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus import desk as desk_module
from hotstuff.consensus.desk import MAX_WAITING_PER_PEER, Desk, item_key
from hotstuff.consensus.effects import Check, Effect, Report, Strike
from hotstuff.types.messages import NewView


class World:
    def __init__(self) -> None:
        self.forge = Forge(Cluster(4, fast=True))
        self.effects: list[Effect] = []
        self.desk = Desk(self.effects)
        self.qc = self.forge.qc(1, b"i" * 32)
        self.tc = self.forge.tc(2, dict.fromkeys(range(3), self.qc))
        self.message = NewView(self.qc, self.tc)

    def checks(self) -> list[Check]:
        found = [effect for effect in self.effects if isinstance(effect, Check)]
        self.effects.clear()
        return found


def test_a_message_waits_until_everything_in_it_is_valid() -> None:
    world = World()
    items = [world.qc, world.tc]
    assert not world.desk.ready(1, world.message, items)
    first, second = world.checks()
    assert (first.item, second.item) == (world.qc, world.tc)
    assert world.desk.done(first.job, True) == [(1, world.message)]
    assert not world.desk.ready(1, world.message, items)
    assert world.checks() == [], "the second check is under way already"
    assert world.desk.done(second.job, True) == [(1, world.message)]
    assert world.desk.ready(1, world.message, items)


def test_one_check_serves_every_message_that_waits_for_it() -> None:
    world = World()
    for peer in range(3):
        assert not world.desk.ready(peer, world.message, [world.qc])
    (check,) = world.checks()
    assert [peer for peer, _ in world.desk.done(check.job, True)] == [0, 1, 2]


def test_only_positive_results_are_remembered() -> None:
    world = World()
    assert not world.desk.ready(1, world.message, [world.qc])
    (check,) = world.checks()
    assert world.desk.done(check.job, False) == []
    assert world.effects == [Strike(1, "NewView with an invalid signature")]
    world.effects.clear()
    assert not world.desk.ready(2, world.message, [world.qc])
    assert len(world.checks()) == 1, "asked again, and not taken for valid or invalid"


@pytest.mark.parametrize("field", ["signature", "signers", "commit_id", "phase"])
def test_a_verified_certificate_says_nothing_about_another_for_the_same_view_and_block(field: str) -> None:
    world = World()
    world.desk.trust(world.qc)
    changed = {"signature": bytes(96), "signers": b"\x07", "commit_id": b"c" * 32, "phase": 2}
    other = replace(world.qc, **{field: changed[field]})
    assert world.desk.ready(1, world.message, [world.qc])
    assert not world.desk.ready(1, world.message, [other])


def test_another_signature_of_a_proposal_is_another_item() -> None:
    world = World()
    proposal = world.forge.proposal(world.forge.block(1, world.forge.genesis, 1))
    assert item_key(proposal) != item_key(replace(proposal, signature=bytes(64)))


def test_the_messages_of_a_peer_that_wait_are_bounded_and_the_place_is_given_back() -> None:
    world = World()
    for view in range(1, 2 * MAX_WAITING_PER_PEER):
        assert not world.desk.ready(1, world.message, [replace(world.qc, view=view)])
    checks = world.checks()
    assert len(checks) == MAX_WAITING_PER_PEER
    assert not world.desk.ready(2, world.message, [replace(world.qc, view=999)]), "others are not affected"
    assert len(world.checks()) == 1
    for check in checks:
        world.desk.done(check.job, False)
    assert not world.desk.ready(1, world.message, [replace(world.qc, view=1000)])
    assert len(world.checks()) == 1


def test_a_dropped_message_is_reported() -> None:
    world = World()
    for view in range(1, MAX_WAITING_PER_PEER + 2):
        world.desk.ready(1, world.message, [replace(world.qc, view=view)])
    assert [effect.name for effect in world.effects if isinstance(effect, Report)] == ["message_dropped"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MAX_VERIFIED", 3)
    world = World()
    qcs = [replace(world.qc, view=view) for view in range(1, 6)]
    for qc in qcs:
        world.desk.trust(qc)
    assert [world.desk.ready(1, world.message, [qc]) for qc in qcs] == [False, False, True, True, True]


def test_an_unknown_or_repeated_answer_is_ignored() -> None:
    world = World()
    world.desk.ready(1, world.message, [world.qc])
    (check,) = world.checks()
    assert world.desk.done(99, True) == []
    assert len(world.desk.done(check.job, True)) == 1
    assert world.desk.done(check.job, False) == []
    assert world.desk.ready(1, world.message, [world.qc])
