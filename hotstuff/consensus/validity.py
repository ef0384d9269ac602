"""What can be wrong with a message by itself: everything that needs no block, no signature and no state.

These are checks of shape, made before anything costs time. Whether certificates are genuine is `verifier`'s question,
whether we may act on them `safety`'s.
"""

from __future__ import annotations

from hotstuff.consensus.leaders import Leaders
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import Context
from hotstuff.types.messages import Proposal, Timeout


def malformed(header: Header, context: Context, leaders: Leaders) -> str | None:
    """What is wrong with a header, or None (rule 1.1).

    A QC of view 0 is valid only as the genesis certificate, by exact equality: its view number proves nothing.
    """
    justify = header.justify
    checks = (
        (header.mode == context.mode, "protocol"),
        (header.chain_id == context.chain_id, "network"),
        (header.epoch == context.epoch and justify.epoch == context.epoch, "epoch"),
        (header.vset_hash == context.vset_hash, "validator set"),
        (header.parent_id == justify.block_id, "parent is not the justified block"),
        (header.view > justify.view, "view not above justify"),
        (justify.view > 0 or justify == QC.genesis(context), "genesis certificate"),
        (header.proposer == leaders.leader(header.view), "proposer is not the leader of the view"),
    )
    return next((what for good, what in checks if not good), None)


def proves_view(proposal: Proposal) -> bool:
    """Does the proposal carry what leads to its view: the justify QC, or a TC of the view before?"""
    header, tc = proposal.block.header, proposal.entry_tc
    if tc is None:
        return header.view == header.justify.view + 1
    return header.view == tc.view + 1 and header.justify.view < tc.view


def proves_entry(timeout: Timeout, context: Context) -> bool:
    """Was the signer allowed into the view it gives up on? By its QC, or by a TC whose QC it does not hide (1.4)."""
    high_qc, tc = timeout.high_qc, timeout.prev_tc
    if timeout.epoch != context.epoch or high_qc.view >= timeout.view:
        return False
    if high_qc.view + 1 == timeout.view:
        return tc is None
    return tc is not None and tc.view + 1 == timeout.view and high_qc.view >= tc.high_qc.view
