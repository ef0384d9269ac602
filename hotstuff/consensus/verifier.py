"""Is this certificate or signature valid? Stateless, so it may run in any thread.

Verification never needs a block: the bytes of a QC alone are enough to advance a view and to ask for what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable

from hotstuff.consensus import proof
from hotstuff.consensus.effects import Checkable, Share
from hotstuff.crypto import aggregate
from hotstuff.crypto.scheme import BLS, Scheme
from hotstuff.errors import InvalidEncoding
from hotstuff.types.batch import Batch
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence
from hotstuff.types.hashing import PHASES, Context
from hotstuff.types.messages import Proposal
from hotstuff.types.validators import ValidatorSet


class Verifier:
    """Checks signatures of one epoch against its validator set (rule 1.4)."""

    def __init__(self, context: Context, validators: ValidatorSet, scheme: Scheme = BLS) -> None:
        self._context = context
        self._validators = validators
        self._scheme = scheme
        self._genesis = QC.genesis(context)
        self._keys = [scheme.public_key(v.bls_key) for v in validators.validators]

    def check(self, item: Checkable) -> bool:
        """Is the signature of `item` valid, by the right signers, for exactly what it says?"""
        try:
            if isinstance(item, QC):
                return self._qc(item)
            if isinstance(item, TC):
                return self._tc(item)
            if isinstance(item, Proposal):
                return self._proposal(item)
            if isinstance(item, Evidence):
                return proof.verify(item, self._context, self._validators, self.check, self._scheme)
            return self._batch(item)
        except InvalidEncoding:
            return False

    def collect(self, shares: Iterable[Share]) -> aggregate.Collected:
        """Aggregate shares, verify the result, find the bad ones."""
        named = [(s.signer, self._keys[s.signer], s.message, s.signature) for s in shares]
        return self._scheme.collect(named)

    def _qc(self, qc: QC) -> bool:
        if qc.view == 0:
            return qc == self._genesis
        signers = self._validators.signers(qc.signers)
        if qc.epoch != self._context.epoch or qc.phase not in PHASES[self._context.mode]:
            return False
        if not self._validators.is_quorum(signers):
            return False
        message = self._context.vote_message(qc.view, qc.phase, qc.block_id, qc.commit_id)
        return self._scheme.fast_aggregate_verify([self._keys[i] for i in signers], message, qc.signature)

    def _tc(self, tc: TC) -> bool:
        """Its own groups and signature; its `high_qc` is an item of its own, checked apart."""
        if tc.epoch != self._context.epoch or tc.high_qc.view != tc.groups[0].high_qc_view:
            return False
        views = [group.high_qc_view for group in tc.groups]
        if views != sorted(set(views), reverse=True) or tc.high_qc.leads_to > tc.view:
            return False
        groups = [self._validators.signers(group.signers) for group in tc.groups]
        everyone = [signer for group in groups for signer in group]
        if len(set(everyone)) != len(everyone) or not all(groups) or not self._validators.is_quorum(everyone):
            return False
        messages = [self._context.timeout_message(tc.view, view) for view in views]
        keys = [[self._keys[i] for i in group] for group in groups]
        return self._scheme.aggregate_verify(list(zip(keys, messages, strict=True)), tc.signature)

    def _proposal(self, proposal: Proposal) -> bool:
        header = proposal.block.header
        if header.proposer >= len(self._validators):
            return False
        key = self._validators.validators[header.proposer].node_key
        return self._scheme.verify_node(key, self._context.proposal_message(header.view, header.id), proposal.signature)

    def _batch(self, batch: Batch) -> bool:
        if batch.epoch != self._context.epoch or batch.author >= len(self._validators):
            return False
        key = self._validators.validators[batch.author].node_key
        return self._scheme.verify_node(key, batch.message(self._context), batch.signature)
