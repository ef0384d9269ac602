"""What the coalition can sign and prove, and above all what it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, attack, strategy

from hotstuff.consensus.effects import Share
from hotstuff.simulator.forger import Memory
from hotstuff.simulator.scheme import Signatures
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import BatchMessage, Proposal, Timeout, Vote

BYZANTINE = (1, 2)


@pytest.fixture(scope="module")
def run() -> Attack:
    """Seven nodes, two of them Byzantine."""
    return attack({i: [strategy("silent-leader")] for i in BYZANTINE}, nodes=7, seconds=0.5)


def slot_of(run: Attack) -> tuple[int, Phase, bytes, bytes]:
    """Some votes that a quorum of honest replicas gave."""
    slots = [(slot, votes) for view in run.forger.votes.values() for slot, votes in view.items()]
    return max(slots, key=lambda found: len(found[1]))[0]


def honest_votes(run: Attack) -> set[int]:
    slot = slot_of(run)
    return set(run.forger.votes[slot[0]][slot]) - {*BYZANTINE}


def test_it_has_no_key_of_an_honest_validator(run: Attack) -> None:
    forger, genesis = run.forger, QC.genesis(run.world.context)
    for i in range(7):
        asked = (
            lambda i=i: forger.vote(i, 1, Phase.GENERIC, bytes(32), ZERO_HASH),
            lambda i=i: forger.timeout(i, 1, genesis, None),
            lambda i=i: forger.proposal(i, 1, genesis, (), None),
            lambda i=i: forger.batch(i, 1),
        )
        for ask in asked:
            if i in BYZANTINE:
                assert ask() is not None
            else:
                with pytest.raises(KeyError):
                    ask()


def test_nobody_can_sign_for_an_honest_validator_whatever_the_strategies_try() -> None:
    names = ("impersonator", "replayer", "mutator")
    run = attack({1: [strategy(name) for name in names], 2: [strategy("double-voter")]}, nodes=7, seconds=1)
    said = {claim(run, word.message) for word in run.seen.words}
    valid = [claim(run, lie.message) for lie in run.seen.lies if is_signed(run, lie.message)]
    honest = {found for found in valid if found is not None and found[0] not in (1, 2)}
    assert honest, "not even a replay of honest words was seen"
    assert honest <= said


def claim(run: Attack, message: object) -> tuple[int, bytes] | None:
    """Who is said to have signed which bytes."""
    context = run.world.context
    if isinstance(message, Vote):
        return message.signer, context.vote_message(message.view, message.phase, message.block_id, message.commit_id)
    if isinstance(message, Timeout):
        return message.signer, context.timeout_message(message.view, message.high_qc.view)
    if isinstance(message, Proposal):
        header = message.block.header
        return header.proposer, context.proposal_message(header.view, header.id)
    if isinstance(message, BatchMessage):
        return message.batch.author, message.batch.message(context)
    return None


def is_signed(run: Attack, message: object) -> bool:
    """Does the signature verify?"""
    found, verifier = claim(run, message), run.world.verifier
    if found is None or found[0] >= len(run.world.validators):
        return False
    if isinstance(message, (Proposal, BatchMessage)):
        return verifier.check(message if isinstance(message, Proposal) else message.batch)
    assert isinstance(message, (Vote, Timeout))
    return verifier.collect([Share(*found, message.signature)]).good == (found[0],)


def test_a_qc_of_what_it_saw_and_its_own_signatures_verifies(run: Attack) -> None:
    qc = run.forger.qc(slot_of(run))
    assert qc is not None and run.world.verifier.check(qc)
    assert set(run.world.validators.signers(qc.signers)) >= {*BYZANTINE}


def test_there_are_several_qcs_of_one_block_if_enough_signed(run: Attack) -> None:
    slot = slot_of(run)
    left_out = min(honest_votes(run))
    one, other = run.forger.qc(slot), run.forger.qc(slot, without=(left_out,))
    assert one is not None and other is not None and one.signers != other.signers
    assert run.world.verifier.check(other)


def test_without_a_quorum_there_is_no_qc(run: Attack) -> None:
    slot = slot_of(run)
    assert run.forger.qc(slot, without=tuple(sorted(honest_votes(run))[1:])) is None
    assert run.forger.qc((slot[0], slot[1], b"\1" * 32, ZERO_HASH)) is None


def test_a_share_that_somebody_made_up_does_not_get_into_a_qc(run: Attack) -> None:
    slot = slot_of(run)
    fake = Vote(1, slot[0], slot[1], b"\2" * 32, ZERO_HASH, 0, bytes(96))
    for signer in range(7):
        run.forger.saw(replace(fake, signer=signer))
    assert run.forger.qc((slot[0], slot[1], b"\2" * 32, ZERO_HASH)) is None


def test_its_tc_hides_all_that_honest_timeouts_do_not_force(run: Attack) -> None:
    view = max(view for view, timeouts in run.forger.timeouts.items() if len(set(timeouts) - {*BYZANTINE}) >= 3)
    tc = run.forger.tc(view)
    assert tc is not None and run.world.verifier.check(tc) and run.world.verifier.check(tc.high_qc)
    assert tc.groups[-1].high_qc_view == 0
    assert set(run.world.validators.signers(tc.groups[-1].signers)) == {*BYZANTINE}
    assert run.forger.tc(view + 1000) is None


@pytest.mark.parametrize("signatures", ["stand-in", "bls"])
def test_cancelling_shares_are_wrong_alone_and_right_together(signatures: Signatures) -> None:
    run = attack({i: [] for i in BYZANTINE}, nodes=7, seconds=0, signatures=signatures)
    votes = [run.forger.vote(i, 3, Phase.GENERIC, b"\3" * 32, ZERO_HASH) for i in BYZANTINE]
    text = run.world.context.vote_message(3, Phase.GENERIC, b"\3" * 32, ZERO_HASH)
    shares = [Share(vote.signer, text, run.forger.shifted(vote)) for vote in votes]
    for share in shares:
        assert run.world.verifier.collect([share]).good == ()
    both = run.world.verifier.collect(shares)
    assert both.good == BYZANTINE and both.signature is not None


def test_forged_batches_of_one_number_differ_and_verify(run: Attack) -> None:
    one, other = run.forger.batch(1, 5), run.forger.batch(1, 5)
    assert one.ref.digest != other.ref.digest
    for batch in (one, other):
        assert run.world.verifier.check(batch) and run.world.verifier.check(Batch.decode(batch.encoding))


def test_a_forged_proposal_is_well_formed_on_any_qc_it_knows(run: Attack) -> None:
    for qc in [QC.genesis(run.world.context), *run.forger.qcs.values()]:
        proposal = run.forger.proposal(1, qc.view + 1, qc, (), None)
        assert proposal is not None and run.world.verifier.check(proposal)
        assert Block.decode(proposal.block.encoding) == proposal.block
    assert run.forger.proposal(1, 1000, replace(run.forger.high_qc, block_id=b"\4" * 32), (), None) is None


def test_memory_is_bounded(run: Attack) -> None:
    memory: Memory[int, int] = Memory(3)
    for i in range(10):
        memory.keep(i, i)
    assert list(memory) == [7, 8, 9]
    newest = max(run.forger.votes)
    run.forger.saw(run.forger.vote(1, newest + 1000, Phase.GENERIC, bytes(32), ZERO_HASH))
    assert list(run.forger.votes) == [newest + 1000] and not run.forger.timeouts and not run.forger.proposals
