"""One view after the other: what a cut keeps back, what reaches everybody all the same, and what is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotstuff.consensus.effects import Commit, Persist, Tick
from hotstuff.errors import InvariantViolation
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.rounds import Arena, Execution, Turns
from hotstuff.simulator.scenarios import PLAIN, Variant
from hotstuff.simulator.trials import carry_out, decode_scenario
from hotstuff.types.evidence import DoubleProposal
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Proposal, Vote
from hotstuff.types.statements import SignedProposal

# Instances 0 and 4 are the twin, the others honest.
TWIN_APART = 0b01111
LAST_APART = 0b10111
HALVES = 0b10011
TWIN_ALONE = 0b11110


def execution(
    *cuts: tuple[int, int], mode: Mode = Mode.CHAINED, variant: Variant = PLAIN, restarts: dict[int, int] | None = None
) -> Execution:
    """Leader and part of each view."""
    arena = Arena(mode, 4, 1, len(cuts), variant, watch=True)
    found = Execution(arena, record=True)
    scenario = [[leader, (restarts or {}).get(view), part] for view, (leader, part) in enumerate(cuts, 1)]
    carry_out(found, decode_scenario(scenario))
    return found


def high_views(found: Execution) -> list[int]:
    return [i.replica.safety.record.high_qc.view if i.replica is not None else -1 for i in found.instances]


def chains(found: Execution) -> list[list[int]]:
    """Names of the blocks that each instance has executed."""
    return [[found.names[block.id] for block in instance.executed] for instance in found.instances]


@pytest.mark.parametrize("mode", Mode)
def test_a_quorum_that_stays_together_commits(mode: Mode) -> None:
    found = execution(*((leader, TWIN_APART) for leader in (1, 2, 3, 0, 1, 2)), mode=mode)
    assert len(found.chain) >= 2
    assert chains(found)[4] == []
    assert found.calm(10, 28) is not None
    assert all(len(chain) >= 10 for chain in chains(found)[1:4])


@pytest.mark.parametrize("mode", Mode)
def test_two_parts_without_a_quorum_certify_nothing(mode: Mode) -> None:
    found = execution(*((leader, HALVES) for leader in (0, 1, 2)), mode=mode)
    assert high_views(found) == [0] * 5


@pytest.mark.parametrize("mode", Mode)
def test_after_a_view_everybody_is_in_the_next(mode: Mode) -> None:
    for part in range(1, 31):
        found = execution((0, part), (0, 31 - part), mode=mode)
        assert [instance.view for instance in found.instances] == [3] * 5


def test_both_twins_lead_each_in_its_part() -> None:
    found = execution((0, HALVES))
    blocks = {name & 0xFFFFFFFF for name in found.names.values() if name >> 32 == 1}
    assert blocks == {instance.origin for instance in found.copies[0]}


@pytest.mark.parametrize(("variant", "copies"), [(PLAIN, 6), (Variant(late=True), 7)])
def test_what_the_cut_keeps_back_may_arrive_late(variant: Variant, copies: int) -> None:
    # Sent to four, received by two honest in its part, and a view later by the one outside.
    found = execution((1, LAST_APART), (1, LAST_APART), variant=variant)
    views = [m.block.header.view for m in found.messages or () if isinstance(m, Proposal)]
    assert views.count(1) == copies
    assert bool(found.late) == variant.late
    assert all(letter.view <= 2 for letter in found.late)


def test_a_one_way_cut_is_heard_from_one_side() -> None:
    # Instances 2 and 3 lead in turn and hear nobody; the others hear them, vote, and cannot tell them.
    deaf = 0b10011
    heard = execution((2, deaf), variant=Variant(one_way=True))
    lost = execution((2, deaf))
    sizes = [[len(i.replica.tree) for i in found.instances if i.replica is not None] for found in (heard, lost)]
    assert sizes == [[2, 2, 2, 2, 2], [1, 1, 2, 2, 1]]


def test_a_restarted_twin_has_forgotten_everything() -> None:
    cuts = [*((leader, TWIN_APART) for leader in (1, 2, 3, 1)), (2, TWIN_ALONE)]
    variant = Variant(restarts=True)
    before, after = execution(*cuts, variant=variant), execution(*cuts, variant=variant, restarts={5: 0})
    assert chains(before)[0]
    assert chains(after)[0] == []
    assert after.instances[0].origin == before.instances[0].origin + 5
    assert after.calm(5, 20) is not None


def test_nobody_acts_on_a_leader_who_is_not_chosen() -> None:
    turns = Turns(4, 3)
    turns.chosen.append(2)
    assert turns.leader(1) == 2
    for view in (0, 2, 3):
        with pytest.raises(LookupError):
            turns.leader(view)
    assert [turns.leader(view) for view in (4, 5, 6, 7)] == [0, 1, 2, 3]


# ---- what is noticed ------------------------------------------------------------------------------------------------


def vote(found: Execution, signer: int, block_id: bytes) -> None:
    found._count(found.instances[signer], Vote(1, 7, Phase.GENERIC, block_id, bytes(32), signer, bytes(96)))


def test_two_blocks_that_can_be_certified_are_a_violation() -> None:
    # Quorums of 3: with the twin two honest votes are enough for each.
    found = Execution(Arena(Mode.CHAINED, 4, 1, 1))
    vote(found, 1, b"a" * 32)
    vote(found, 2, b"a" * 32)
    vote(found, 0, b"b" * 32)
    vote(found, 3, b"b" * 32)
    with pytest.raises(Violation, match="two blocks of view 7"):
        vote(found, 1, b"b" * 32)


def test_different_blocks_at_a_height_are_a_violation() -> None:
    found = execution(*((leader, TWIN_APART) for leader in (1, 2, 3, 0, 1, 2)))
    behind, block = found.instances[3], found.instances[2].executed[0]
    behind.executed = []
    found._commit(behind, Commit((block,)))
    behind.executed = []
    found.chain[0] = b"x" * 32
    with pytest.raises(Violation, match=r"I1 .* replica 3 commits another block at 1"):
        found._commit(behind, Commit((block,)))


def test_an_honest_replica_that_stops_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    found = execution((1, TWIN_APART))

    def stop(*_: object) -> None:
        raise InvariantViolation("two committed blocks")

    for instance in found.instances:
        monkeypatch.setattr(instance.replica, "step", stop)
    found._step(found.instances[4], Tick())
    assert found.instances[4].replica is None
    with pytest.raises(Violation, match=r"halt .* two committed blocks"):
        found._step(found.instances[2], Tick())


def test_evidence_against_an_honest_validator_is_a_violation() -> None:
    found = execution((0, HALVES), (0, HALVES))
    first, second = (
        next(m for m in found.messages or () if isinstance(m, Proposal) and m.block.header.id == block_id)
        for block_id in [block_id for block_id, name in found.names.items() if name >> 32 == 1]
    )
    evidence = DoubleProposal.of(SignedProposal.of(first), SignedProposal.of(second))
    found._persist(found.instances[1], Persist(evidence=(evidence,)))
    accused = DoubleProposal.of(*(replace(SignedProposal.of(m), proposer=3) for m in (first, second)))
    with pytest.raises(Violation, match=r"I16 .* evidence against \[3\]"):
        found._persist(found.instances[1], Persist(evidence=(accused,)))
