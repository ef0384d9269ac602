"""`hotstuff.types.statements`: who said what, and what follows from a vote under each protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, blocks, node_signatures, optional_tcs, proposed, timeouts, validator_sets
from wire_checks import wire_settings
from wire_examples import GENESIS_QC, PLAIN, QC_8, SHARE, TC_9, VOTE, fill

from hotstuff.types.batch import Batch
from hotstuff.types.block import Block, Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Timeout, Vote
from hotstuff.types.statements import (
    SignedBatch,
    SignedProposal,
    TimeoutShare,
    bits,
    hiders,
    indices,
    is_proposal_vote,
    known_qc_view,
    locked_view,
    voters,
)
from hotstuff.types.validators import ValidatorSet


def certify(header: Header) -> QC:
    return replace(QC_8, view=header.view, block_id=header.id)


# grandparent 5 <- parent 8 <- block 20: gaps everywhere, so that nothing is right by accident.
GRANDPARENT = replace(PLAIN, view=5, justify=replace(QC_8, view=3))
PARENT = replace(PLAIN, view=8, justify=certify(GRANDPARENT))
BLOCK = replace(PLAIN, view=20, justify=certify(PARENT))
COMMITTING = replace(VOTE, view=20, commit_id=fill("committed"))


def vote_for(header: Header, phase: Phase = Phase.GENERIC) -> Vote:
    return replace(VOTE, view=header.view, block_id=header.id, phase=phase, commit_id=ZERO_HASH)


# ---- who


@given(members=validator_sets(), chosen=st.sets(st.integers(0, 23)))
@wire_settings
def test_bits_are_the_bitmap_of_a_certificate(members: ValidatorSet, chosen: set[int]) -> None:
    inside = sorted(i for i in chosen if i < len(members))
    bitmap = members.bitmap(inside)
    assert indices(bits(bitmap)) == members.signers(bitmap) == tuple(inside)
    assert voters(replace(QC_8, signers=bitmap)) == bits(bitmap)


def test_a_share_is_its_signers() -> None:
    assert indices(voters(VOTE)) == (VOTE.signer,)
    assert indices(hiders(replace(SHARE, signer=5), SHARE.high_qc_view + 1)) == (5,)
    assert hiders(SHARE, SHARE.high_qc_view) == 0


@pytest.mark.parametrize(("view", "expected"), [(0, ()), (2, ()), (3, (3,)), (8, (3,)), (9, (0, 2, 3))])
def test_hiders_of_a_tc_are_the_groups_below(view: int, expected: tuple[int, ...]) -> None:
    assert [(g.high_qc_view, g.signers) for g in TC_9.groups] == [(8, b"\x05"), (2, b"\x08")]
    assert indices(hiders(TC_9, view)) == expected


# ---- what is signed in a message


@given(block=blocks, signature=node_signatures, tc=optional_tcs)
@wire_settings
def test_what_is_signed_in_a_proposal(block: Block, signature: bytes, tc: TC | None) -> None:
    proposal = proposed(block, signature, tc)
    header = proposal.block.header
    expected = SignedProposal(header.epoch, header.view, header.proposer, header.id, signature)
    assert SignedProposal.of(proposal) == expected


@given(batch=batches)
@wire_settings
def test_what_is_signed_in_a_batch(batch: Batch) -> None:
    expected = SignedBatch(batch.epoch, batch.author, batch.seq, batch.ref.digest, batch.signature)
    assert SignedBatch.of(batch) == expected


@given(timeout=timeouts)
@wire_settings
def test_what_is_signed_in_a_timeout(timeout: Timeout) -> None:
    numbers = (timeout.epoch, timeout.view, timeout.high_qc.view)
    assert TimeoutShare.of(timeout) == TimeoutShare(*numbers, timeout.signer, timeout.signature)


# ---- what follows


def test_a_vote_for_a_block_says_that_its_justify_was_known() -> None:
    for phase in (Phase.GENERIC, Phase.PREPARE):
        assert known_qc_view(vote_for(BLOCK, phase), BLOCK) == 8
        assert known_qc_view(vote_for(BLOCK, phase), None) is None
    assert known_qc_view(certify(BLOCK), BLOCK) is None, "its commit id says it already"
    assert known_qc_view(replace(certify(BLOCK), commit_id=ZERO_HASH), BLOCK) == 8


def test_another_header_says_nothing() -> None:
    vote = vote_for(BLOCK)
    assert known_qc_view(vote, PARENT) is None
    assert known_qc_view(replace(vote, view=21), BLOCK) is None
    assert known_qc_view(replace(vote, block_id=fill("x")), BLOCK) is None


@pytest.mark.parametrize("phase", [Phase.PRECOMMIT, Phase.COMMIT])
def test_a_later_vote_says_that_the_qc_of_the_phase_before_was_known(phase: Phase) -> None:
    assert known_qc_view(vote_for(BLOCK, phase), None) == 20
    assert known_qc_view(vote_for(BLOCK, phase), BLOCK) is None, "one evidence has one encoding"


def test_a_commit_id_says_that_the_justify_is_of_the_view_before() -> None:
    assert known_qc_view(COMMITTING, None) == 19
    assert known_qc_view(replace(COMMITTING, phase=Phase.PREPARE), None) is None


def test_locks_of_chained() -> None:
    vote, mode = vote_for(BLOCK), Mode.CHAINED
    assert locked_view(mode, vote, (BLOCK, PARENT)) == 5
    for path in ((), (BLOCK,), (PARENT,), (PARENT, GRANDPARENT), (BLOCK, GRANDPARENT), (BLOCK, PARENT, GRANDPARENT)):
        assert locked_view(mode, vote, path) is None
    assert locked_view(mode, COMMITTING, ()) == 18
    assert locked_view(mode, COMMITTING, (BLOCK, PARENT)) is None


def test_locks_of_hotstuff2() -> None:
    vote, mode = vote_for(BLOCK), Mode.HOTSTUFF2
    assert locked_view(mode, vote, (BLOCK,)) == 8
    for path in ((), (PARENT,), (BLOCK, PARENT)):
        assert locked_view(mode, vote, path) is None
    assert locked_view(mode, COMMITTING, ()) == 19


def test_locks_of_basic() -> None:
    assert locked_view(Mode.BASIC, vote_for(BLOCK, Phase.COMMIT), ()) == 20
    assert locked_view(Mode.BASIC, replace(vote_for(BLOCK, Phase.COMMIT), commit_id=BLOCK.id), ()) == 20
    assert locked_view(Mode.BASIC, vote_for(BLOCK, Phase.COMMIT), (BLOCK,)) is None
    for phase in (Phase.PREPARE, Phase.PRECOMMIT):
        assert locked_view(Mode.BASIC, vote_for(BLOCK, phase), ()) is None
        assert locked_view(Mode.BASIC, vote_for(BLOCK, phase), (BLOCK,)) is None


def test_jolteon_has_no_locks() -> None:
    for path in ((), (BLOCK,), (BLOCK, PARENT)):
        assert locked_view(Mode.JOLTEON, vote_for(BLOCK), path) is None
        assert locked_view(Mode.JOLTEON, COMMITTING, path) is None


@pytest.mark.parametrize("mode", Mode)
def test_one_phase_of_each_protocol_is_for_proposals(mode: Mode) -> None:
    expected = Phase.PREPARE if mode is Mode.BASIC else Phase.GENERIC
    assert [phase for phase in Phase if is_proposal_vote(mode, vote_for(BLOCK, phase))] == [expected]


def test_the_genesis_certificate_has_no_voters() -> None:
    assert voters(GENESIS_QC) == 0
