"""What can be wrong with a message by itself: everything that needs no block, no signature and no state.

These are checks of shape, made before anything costs time. Whether certificates are genuine is `verifier`'s question,
whether we may act on them `safety`'s.
"""

from __future__ import annotations

from hotstuff.consensus.leaders import Leaders
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import PHASES, Context
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
        (justify.view == 0 or justify.phase in PHASES[context.mode], "phase of justify"),
        (header.proposer == leaders.leader(header.view), "proposer is not the leader of the view"),
    )
    return next((what for good, what in checks if not good), None)


def proven_by_justify(view: int, justify: QC) -> bool:
    """Does the QC alone open the view for a block? One that leaves votes in its view open does not end it."""
    return justify.phase.ends_view and justify.view + 1 == view


def proves_view(proposal: Proposal) -> bool:
    """Does the proposal carry what leads to its view: the justify QC or, exactly if not, a TC of the view before?"""
    header, tc = proposal.block.header, proposal.entry_tc
    if tc is None:
        return proven_by_justify(header.view, header.justify)
    return header.view == tc.view + 1 and not proven_by_justify(header.view, header.justify)


def proves_entry(timeout: Timeout, context: Context) -> bool:
    """Was the signer allowed into the view it gives up on? By its QC, or by a TC whose QC it does not hide (1.4)."""
    high_qc, tc = timeout.high_qc, timeout.prev_tc
    if timeout.epoch != context.epoch or high_qc.leads_to > timeout.view:
        return False
    if high_qc.leads_to == timeout.view:
        return tc is None
    return tc is not None and tc.view + 1 == timeout.view and high_qc.view >= tc.high_qc.view
