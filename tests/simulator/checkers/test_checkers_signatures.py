"""I2, I3, I5 and I6 fire on what they forbid, and on nothing that only looks like it."""

from __future__ import annotations

import pytest
from stage import Stage, violates

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.signatures import ClosedViews, OneCertificate, OneSignature, TrueTimeouts
from hotstuff.types.block import Block
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import BatchMessage


def rivals(stage: Stage) -> tuple[Block, Block]:
    """Two blocks of a view with a Byzantine leader."""
    one, other = stage.block(3), stage.block(3, refs=[stage.batch().ref])
    return stage.proposes(one), stage.proposes(other)


def test_two_blocks_of_a_view_that_could_both_be_certified_are_found() -> None:
    # Of five, four are a quorum. Neither block has one, and both would with the Byzantine vote.
    stage = Stage(OneCertificate(), powers=(1,) * 5, byzantine=(4,))
    one, other = rivals(stage)
    stage.votes((0, 1, 2), one)
    stage.votes((3, 1), other)
    with violates("I2", "view 3 phase GENERIC.*could both be certified"):
        stage.votes((2,), other)


def test_votes_of_one_block_that_commit_different_blocks_are_found() -> None:
    stage = Stage(OneCertificate(), powers=(1,) * 4, byzantine=())
    block = stage.proposes(stage.block(1))
    stage.votes((0, 1, 2), block)
    stage.votes((0, 1), block, b"c" * 32)
    with violates("I2"):
        stage.votes((2,), block, b"c" * 32)


def test_a_split_vote_is_no_second_certificate() -> None:
    stage = Stage(OneCertificate())
    one, other = rivals(stage)
    stage.votes((0, 1), one)
    stage.votes((2,), other)
    # The same block again in another phase, and a block of another view.
    stage.votes((0, 1, 2), stage.proposes(stage.block(2)))


def test_power_counts_and_not_heads() -> None:
    # The heavy validator alone is a quorum.
    stage = Stage(OneCertificate(), powers=(7, 1, 1, 1), byzantine=(3,))
    one, other = rivals(stage)
    stage.votes((1, 2), other)
    stage.votes((0,), one)
    with violates("I2"):
        stage.votes((0,), other)


def test_a_second_vote_is_found_in_any_life() -> None:
    stage = Stage(OneSignature())
    one, other = rivals(stage)
    stage.votes((0,), one)
    stage.restarts(0)
    stage.votes((0,), one)
    with violates("I3", "validator 0 voted twice in view 3"):
        stage.votes((0,), other)


def test_a_vote_lost_before_it_was_durable_was_never_signed() -> None:
    stage = Stage(OneSignature())
    one, other = rivals(stage)
    stage.steps(0, fx.Send(1, stage.vote(0, one)))
    stage.restarts(0)
    stage.votes((0,), other)


def test_a_vote_that_was_durable_is_signed_though_it_never_left() -> None:
    stage = Stage(OneSignature())
    one, other = rivals(stage)
    stage.steps(0, fx.Send(1, stage.vote(0, one)))
    stage.writes(0)
    stage.restarts(0)
    with violates("I3"):
        stage.votes((0,), other)


def test_byzantine_validators_may_sign_what_they_like() -> None:
    stage = Stage(OneSignature())
    one, other = rivals(stage)
    stage.votes((3,), one)
    stage.votes((3,), other)


def test_two_proposals_of_a_view_are_found() -> None:
    stage = Stage(OneSignature())
    stage.proposes(stage.block(1))
    stage.proposes(stage.block(1))
    with violates("I3", "validator 1 proposed two blocks in view 1"):
        stage.proposes(stage.block(1, refs=[stage.batch().ref]))


def test_two_timeouts_of_a_view_that_differ_are_found() -> None:
    stage = Stage(OneSignature())
    qc = stage.qc(stage.block(1))
    stage.sends(0, stage.timeout(0, 2))
    stage.sends(0, stage.timeout(0, 2))
    stage.sends(0, stage.timeout(0, 3, qc))
    with violates("I3", "timeouts of view 2"):
        stage.sends(0, stage.timeout(0, 2, qc))


def test_two_batches_with_one_number_are_found_whoever_sends_them() -> None:
    stage = Stage(OneSignature())
    stage.sends(0, BatchMessage(stage.batch(0, 1)))
    stage.sends(0, BatchMessage(stage.batch(0, 2, first_tx=2)))
    stage.sends(1, BatchMessage(stage.batch(3, 1)))
    stage.sends(2, BatchMessage(stage.batch(3, 1, first_tx=2)))
    with violates("I3", "validator 0 signed two batches with number 1"):
        stage.sends(1, BatchMessage(stage.batch(0, 1, first_tx=3)))


def test_a_vote_in_a_timed_out_view_is_found() -> None:
    stage = Stage(ClosedViews())
    stage.sends(0, stage.timeout(0, 2))
    block = stage.proposes(stage.block(2))
    with violates("I5", "voted in view 2 after its timeout of view 2"):
        stage.votes((0,), block)


def test_a_vote_that_was_signed_before_the_timeout_may_leave_after_it() -> None:
    # The life ended after the write: the next one repeats the timeout first.
    stage = Stage(ClosedViews())
    block = stage.proposes(stage.block(2))
    vote, timeout = stage.vote(0, block), stage.timeout(0, 2)
    stage.steps(0, fx.Send(1, vote), fx.Broadcast(timeout))
    stage.writes(0)
    stage.restarts(0)
    stage.sends(0, timeout)
    stage.sends(0, vote)


def test_a_timeout_lost_before_it_was_durable_closes_nothing() -> None:
    stage = Stage(ClosedViews())
    stage.steps(0, fx.Broadcast(stage.timeout(0, 2)))
    stage.restarts(0)
    stage.votes((0,), stage.proposes(stage.block(2)))


def test_a_timeout_that_hides_a_qc_voted_on_is_found() -> None:
    stage = Stage(TrueTimeouts())
    qc = stage.qc(stage.proposes(stage.block(1)))
    stage.votes((0, 1), stage.proposes(stage.block(2, qc)))
    stage.sends(1, stage.timeout(1, 2, qc))
    with violates("I6", "reports view 0 in its timeout of view 2, .* QC of view 1"):
        stage.sends(0, stage.timeout(0, 2))


def test_a_timeout_need_not_report_what_was_voted_on_in_a_later_view() -> None:
    stage = Stage(TrueTimeouts())
    qc = stage.qc(stage.proposes(stage.block(1)))
    stage.votes((0,), stage.proposes(stage.block(2, qc)))
    stage.sends(0, stage.timeout(0, 1))
    with violates("I6"):
        stage.sends(0, stage.timeout(0, 2))


def test_what_was_voted_on_in_the_view_itself_must_be_reported_even_after_a_later_vote() -> None:
    stage = Stage(TrueTimeouts())
    qc = stage.qc(stage.proposes(stage.block(1)))
    stage.votes((0,), stage.proposes(stage.block(2, qc)))
    stage.votes((0,), stage.proposes(stage.block(3)))
    with violates("I6", "reports view 0 in its timeout of view 2"):
        stage.sends(0, stage.timeout(0, 2))


def test_a_vote_for_an_unknown_block_is_found() -> None:
    stage = Stage(TrueTimeouts())
    with violates("I6", "voted in view 1 for a block that nobody has sent"):
        stage.votes((0,), stage.block(1))


@pytest.mark.parametrize("phase", [Phase.PRECOMMIT, Phase.COMMIT])
def test_in_basic_a_later_phase_shows_a_qc_of_its_own_view(phase: Phase) -> None:
    stage = Stage(TrueTimeouts(), mode=Mode.BASIC)
    block = stage.proposes(stage.block(1))
    stage.votes((0,), block, phase=Phase.PREPARE)
    stage.sends(0, stage.timeout(0, 1))
    stage.votes((1,), block, phase=phase)
    stage.sends(1, stage.timeout(1, 1, stage.qc(block, phase=Phase.PREPARE)))
    stage.votes((2,), block, phase=phase)
    with violates("I6", "validator 2 reports view 0"):
        stage.sends(2, stage.timeout(2, 1))
