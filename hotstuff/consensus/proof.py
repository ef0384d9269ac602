"""Does this evidence prove what it says? Stateless, so it may run in any thread, and in anybody's process."""

from __future__ import annotations

from collections.abc import Callable

from hotstuff.crypto.scheme import BLS, Scheme
from hotstuff.errors import InvalidEncoding
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence
from hotstuff.types.hashing import Context
from hotstuff.types.messages import Vote
from hotstuff.types.statements import SignedBatch, SignedProposal, Statement, TimeoutShare
from hotstuff.types.validators import ValidatorSet


def verify(
    evidence: Evidence,
    context: Context,
    validators: ValidatorSet,
    check: Callable[[QC | TC], bool],
    scheme: Scheme = BLS,
) -> bool:
    """Do the statements contradict each other, and did the accused sign both, in this epoch of this network?

    `check` is `Verifier.check`. The signatures bind everything else: network, protocol, epoch and validator set are in
    what each of them covers, and a header is pinned by the block id that was voted for. What a header holds needs no
    check of its own: the accused answer for it, because they voted for it.
    """
    if evidence.epoch != context.epoch or evidence.flaw(context.mode) is not None:
        return False
    if evidence.accused >> len(validators):
        return False
    # Shares may come from anywhere, certificates were verified before: what may fail comes first.
    ordered = sorted(evidence.statements, key=lambda statement: isinstance(statement, (QC, TC)))
    try:
        return all(_holds(statement, context, validators, check, scheme) for statement in ordered)
    except InvalidEncoding:
        return False


def _holds(
    statement: Statement, context: Context, validators: ValidatorSet, check: Callable[[QC | TC], bool], scheme: Scheme
) -> bool:
    """Is it signed by who it says? The caller has made sure that the signer of a share is a validator."""
    if isinstance(statement, (QC, TC)):
        return check(statement)
    if isinstance(statement, (SignedProposal, SignedBatch)):
        if isinstance(statement, SignedProposal):
            signer, message = statement.proposer, context.proposal_message(statement.view, statement.block_id)
        else:
            signer = statement.author
            message = context.batch_message(signer, statement.seq, statement.digest)
        return scheme.verify_node(validators.validators[signer].node_key, message, statement.signature)
    key = scheme.public_key(validators.validators[statement.signer].bls_key)
    return scheme.fast_aggregate_verify([key], _share_message(statement, context), statement.signature)


def _share_message(share: Vote | TimeoutShare, context: Context) -> bytes:
    if isinstance(share, Vote):
        return context.vote_message(share.view, share.phase, share.block_id, share.commit_id)
    return context.timeout_message(share.view, share.high_qc_view)
