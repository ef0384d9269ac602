"""I7 fires on votes for blocks that nobody may vote for, and on votes against a lock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import Stage, violates

from hotstuff.simulator.checkers.justification import Justified
from hotstuff.types.block import Block
from hotstuff.types.hashing import Mode, Phase


@pytest.mark.parametrize("mode", [Mode.CHAINED, Mode.HOTSTUFF2, Mode.JOLTEON])
def test_a_chain_with_gaps_is_justified_by_tcs(mode: Mode) -> None:
    Stage(Justified(), mode=mode).chain(1, 2, 5, 6, 9)


def test_a_gap_needs_a_tc() -> None:
    stage = Stage(Justified())
    with violates("I7", "of view 2 is justified by view 0, and no TC leads to it"):
        stage.votes((0,), stage.proposes(stage.block(2)))


def test_a_tc_must_be_of_the_view_before() -> None:
    stage = Stage(Justified())
    tc = stage.tc(1, dict.fromkeys((0, 1, 2), stage.genesis))
    stage.votes((0,), stage.proposes(stage.block(2, tc=tc), tc))
    with violates("I7", "no TC leads to it"):
        stage.votes((0,), stage.proposes(stage.block(3, tc=tc), tc))


def test_a_vote_without_a_proposal_is_found() -> None:
    stage = Stage(Justified())
    with violates("I7", "nobody proposed"):
        stage.votes((0,), stage.block(1))


@pytest.mark.parametrize(("view", "height"), [(2, 3), (2, 1), (1, 2)])
def test_a_block_must_fit_its_parent(view: int, height: int) -> None:
    stage = Stage(Justified())
    parent = stage.proposes(stage.block(1))
    block = stage.proposes(stage.block(view, stage.qc(parent), height=height))
    with violates("I7", "does not fit its parent"):
        stage.votes((0,), block)


def test_the_parent_is_the_justified_block() -> None:
    stage = Stage(Justified())
    parent, other = stage.proposes(stage.block(1)), stage.proposes(stage.block(1, refs=[stage.batch().ref]))
    block = stage.block(2, stage.qc(parent), height=2)
    wrong = Block(replace(block.header, parent_id=other.id), ())
    stage.votes((0,), stage.proposes(block))
    with violates("I7", "its QC certifies"):
        stage.votes((0,), stage.proposes(wrong))


def test_in_jolteon_the_justify_is_not_below_the_tc() -> None:
    for high, fine in ((0, True), (1, False)):
        stage = Stage(Justified(), mode=Mode.JOLTEON)
        qcs = (stage.genesis, stage.qc(stage.proposes(stage.block(1))))
        tc = stage.tc(2, dict.fromkeys((1, 2, 3), qcs[high]))
        block = stage.proposes(stage.block(3, tc=tc), tc)
        if fine:
            stage.votes((0,), block)
        else:
            with violates("I7", "justified by view 0, below view 1 that its TC reports"):
                stage.votes((0,), block)


def test_in_jolteon_there_is_no_lock() -> None:
    stage = Stage(Justified(), mode=Mode.JOLTEON)
    parent = stage.proposes(stage.block(1))
    stage.votes((0,), stage.proposes(stage.block(2, stage.qc(parent), height=2)))
    tc = stage.tc(2, dict.fromkeys((1, 2, 3), stage.genesis))
    stage.votes((0,), stage.proposes(stage.block(3, tc=tc), tc))


def test_in_hotstuff2_a_vote_locks_on_the_justify() -> None:
    stage = Stage(Justified(), mode=Mode.HOTSTUFF2)
    parent = stage.proposes(stage.block(1))
    stage.votes((0,), stage.proposes(stage.block(2, stage.qc(parent), height=2)))
    tc = stage.tc(2, dict.fromkeys((1, 2, 3), stage.genesis))
    block = stage.proposes(stage.block(3, tc=tc), tc)
    stage.votes((1,), block)
    with violates("I7", "justified by view 0, although it is locked on view 1"):
        stage.votes((0,), block)


@pytest.mark.parametrize("locked", [False, True])
def test_in_chained_a_vote_locks_on_the_justify_of_the_parent(locked: bool) -> None:
    stage = Stage(Justified())
    blocks = stage.chain(1, 2, 3) if locked else stage.chain(1, 2)
    # Validator 0 voted for the last one, so it has seen a QC of the one before, and is locked on the justify in it.
    tc = stage.tc(4, dict.fromkeys((1, 2, 3), stage.genesis))
    block = stage.proposes(stage.block(5, tc=tc), tc)
    if locked:
        with violates("I7", "locked on view 1"):
            stage.votes((0,), block)
    else:
        stage.votes((0,), block)
    assert len(blocks) == 2 + locked


def test_in_chained_a_branch_from_the_lock_itself_is_safe() -> None:
    stage = Stage(Justified())
    first, _, _ = stage.chain(1, 2, 3)
    tc = stage.tc(3, dict.fromkeys((1, 2, 3), stage.genesis))
    stage.votes((0,), stage.proposes(stage.block(4, stage.qc(first), height=2, tc=tc), tc))


def test_in_basic_a_commit_vote_locks() -> None:
    stage = Stage(Justified(), mode=Mode.BASIC)
    block = stage.proposes(stage.block(1))
    stage.votes((0, 1, 2), block, phase=Phase.PREPARE)
    stage.votes((0, 1, 2), block, phase=Phase.PRECOMMIT)
    stage.votes((0,), block, block.id, phase=Phase.COMMIT)
    tc = stage.tc(1, dict.fromkeys((1, 2, 3), stage.genesis))
    rival = stage.proposes(stage.block(2, tc=tc), tc)
    stage.votes((1,), rival, phase=Phase.PREPARE)
    with violates("I7", "locked on view 1"):
        stage.votes((0,), rival, phase=Phase.PREPARE)


def test_in_basic_a_prepare_qc_does_not_end_its_view() -> None:
    stage = Stage(Justified(), mode=Mode.BASIC)
    parent = stage.proposes(stage.block(1))
    committed, prepared = (stage.qc(parent, phase=phase) for phase in (Phase.COMMIT, Phase.PREPARE))
    stage.votes((0,), stage.proposes(stage.block(2, committed, height=2)), phase=Phase.PREPARE)
    with violates("I7", "no TC leads to it"):
        stage.votes((1,), stage.proposes(stage.block(2, prepared, height=2)), phase=Phase.PREPARE)


@pytest.mark.parametrize(("votes", "fine"), [(2, True), (1, False)])
def test_in_basic_a_phase_needs_the_one_before(votes: int, fine: bool) -> None:
    stage = Stage(Justified(), mode=Mode.BASIC)
    block = stage.proposes(stage.block(1))
    stage.votes(range(votes), block, phase=Phase.PREPARE)
    if fine:  # with the Byzantine vote there can be a PREPARE-QC
        stage.votes((0,), block, phase=Phase.PRECOMMIT)
    else:
        with violates("I7", "voted PRECOMMIT in view 1 without a PREPARE-QC"):
            stage.votes((0,), block, phase=Phase.PRECOMMIT)
