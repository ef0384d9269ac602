"""The replica's own watch on others: everything that arrives is compared with what arrived before.

    seen by the replica -> `Contradictions` -> candidate -> verified by somebody -> evidence, once

Shares come in unverified, so a candidate proves nothing yet. It costs a few signature checks, and only its own signers
can make one fail: their links are authenticated. (A batch may come from another peer than its author; then that peer
answers for it.) What anybody can make us do is bounded: one candidate for each kind, validator and view, so many under
way at a time, none for a while on the word of who has sent bad ones, and none against who has been convicted often.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hotstuff.consensus.collector import VOTE_WINDOW_VIEWS
from hotstuff.consensus.contradictions import Contradictions
from hotstuff.types.batch import Batch
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import DoubleBatch, Evidence, EvidenceKind
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import Proposal, Timeout, Vote
from hotstuff.types.statements import SignedBatch, SignedProposal, TimeoutShare

# How far below the current view statements are kept: a contradiction comes to light when a certificate arrives, one or
# two views after the votes in it. What lies further apart is for an audit of what was stored.
WINDOW_VIEWS = 16
# Certificates and headers of one view, batches of one author. One each is normal.
MAX_CERTIFICATES_PER_VIEW = 8
MAX_BATCHES_PER_AUTHOR = 64
# Candidates that wait to be verified, and those being verified: what a thread does in some ten milliseconds.
MAX_WAITING = 64
MAX_UNDER_WAY = 8
# For how many views nothing is checked that rests on the unverified signatures of a peer, after one that was bad.
DISTRUST_VIEWS = 64
# Convictions of one validator. The first few say everything; more would fill the disk.
MAX_CONVICTIONS = 64

_SHARES, _CERTIFICATES = 1, 2


@dataclass(frozen=True)
class _Candidate:
    """`vouched_by`: the peer whose unverified signatures it rests on; None if it rests on certificates alone."""

    evidence: Evidence
    vouched_by: int | None


class Witness:
    """Finds evidence in what one replica sees. Pure; the caller has it verified and stored.

    It must be told only what its sender may say: votes and timeouts of the peer that sent them, proposals of the leader
    of their view, certificates that were verified.
    """

    def __init__(self, mode: Mode) -> None:
        self._seen = Contradictions(mode, certificates=MAX_CERTIFICATES_PER_VIEW, batches=MAX_BATCHES_PER_AUTHOR)
        self.view = 0
        self._waiting: deque[_Candidate] = deque()
        self._jobs: dict[int, _Candidate] = {}
        # What was tried on each charge: shares, which may fail, or certificates, which may not.
        self._tried: dict[tuple[EvidenceKind, int, int], int] = {}
        self._distrusted: dict[int, int] = {}
        self._convictions: Counter[int] = Counter()

    # ---- what the replica sees

    def enter(self, view: int) -> None:
        """The replica is in this view now; what is far below it is forgotten."""
        if view <= self.view:
            return
        self.view = view
        self._seen.forget_below(self._oldest)
        # Charges about batches have no view. They are few: those that were proven, and what is under way.
        self._tried = {
            (kind, culprit, at): how
            for (kind, culprit, at), how in self._tried.items()
            if kind is EvidenceKind.DOUBLE_BATCH or at >= self._oldest
        }
        self._distrusted = {peer: until for peer, until in self._distrusted.items() if until > view}

    def proposal(self, proposal: Proposal) -> None:
        """A proposal from the leader of its view, verified or not."""
        if self._in_window(proposal.block.header.view):
            signed = SignedProposal.of(proposal)
            self._weigh(self._seen.proposal(signed), signed.proposer)

    def header(self, header: Header) -> None:
        """A block that was proposed or certified."""
        if self._in_window(header.view):
            self._weigh(self._seen.header(header), None)

    def vote(self, vote: Vote) -> None:
        """A vote from its signer, not verified."""
        if self._in_window(vote.view):
            self._weigh(self._seen.vote(vote), vote.signer)

    def timeout(self, timeout: Timeout) -> None:
        """A timeout from its signer, whose share is not verified."""
        if self._in_window(timeout.view):
            self._weigh(self._seen.timeout(TimeoutShare.of(timeout)), timeout.signer)

    def qc(self, qc: QC) -> None:
        """A verified QC."""
        if self._in_window(qc.view):
            self._weigh(self._seen.vote(qc), None)

    def tc(self, tc: TC) -> None:
        """A verified TC."""
        if self._in_window(tc.view):
            self._weigh(self._seen.timeout(tc), None)

    def batch(self, peer: int, batch: Batch) -> None:
        """A batch from any peer, not verified. Only its author may claim a number before a verified batch does."""
        signed = SignedBatch.of(batch)
        if peer == signed.author or self._seen.has_batch(signed.author, signed.seq):
            self._weigh(self._seen.batch(signed, verified=False), peer)

    def stored(self, batch: Batch) -> None:
        """A batch that was verified and stored."""
        signed = SignedBatch.of(batch)
        self._weigh(self._seen.batch(signed, verified=True), signed.author)

    # ---- what comes of it

    def take_candidates(self, new_job: Callable[[], int]) -> list[tuple[int, Evidence]]:
        """Candidates to verify now, each with the number of the job under which `verified` expects the answer."""
        taken = []
        while self._waiting and len(self._jobs) < MAX_UNDER_WAY:
            candidate = self._waiting.popleft()
            job = new_job()
            self._jobs[job] = candidate
            taken.append((job, candidate.evidence))
        return taken

    def verified(self, job: int, valid: bool) -> Evidence | None:
        """The answer to a job: evidence to store and report, or None (also if the job is not one of ours)."""
        candidate = self._jobs.pop(job, None)
        if candidate is None:
            return None
        evidence = candidate.evidence
        charges = [_charge(evidence, culprit) for culprit in evidence.culprits]
        if not valid:
            if candidate.vouched_by is not None:
                self._distrusted[candidate.vouched_by] = self.view + DISTRUST_VIEWS
            for charge in charges:
                self._tried.pop(charge, None)
            return None
        for charge, culprit in zip(charges, evidence.culprits, strict=True):
            self._tried[charge] = _CERTIFICATES
            self._convictions[culprit] += 1
        return evidence

    def _weigh(self, found: Iterable[Evidence], peer: int | None) -> None:
        """Candidates worth verifying, as far as there is room. `peer`: who sent what completed them."""
        for evidence in found:
            certain = all(isinstance(statement, (QC, TC)) for statement in evidence.statements)
            vouched_by = None if certain else self._voucher(evidence, peer)
            how = _CERTIFICATES if certain else _SHARES
            if vouched_by in self._distrusted:
                continue
            if len(self._waiting) >= MAX_WAITING or not any(self._open(evidence, i, how) for i in evidence.culprits):
                continue
            for culprit in evidence.culprits:
                charge = _charge(evidence, culprit)
                self._tried[charge] = max(how, self._tried.get(charge, 0))
            self._waiting.append(_Candidate(evidence, vouched_by))

    def _voucher(self, evidence: Evidence, peer: int | None) -> int:
        """A share comes from its signer alone, so the accused answers for it; a batch from whoever sent it."""
        if isinstance(evidence, DoubleBatch) and peer is not None:
            return peer
        return evidence.culprits[0]

    def _open(self, evidence: Evidence, culprit: int, how: int) -> bool:
        """Is there anything to gain from another candidate against this validator?"""
        tried = self._tried.get(_charge(evidence, culprit), 0)
        return tried < how and self._convictions[culprit] < MAX_CONVICTIONS

    # ---- small questions

    @property
    def _oldest(self) -> int:
        return max(self.view - WINDOW_VIEWS, 1)

    def _in_window(self, view: int) -> bool:
        return self._oldest <= view <= self.view + VOTE_WINDOW_VIEWS


def _charge(evidence: Evidence, culprit: int) -> tuple[EvidenceKind, int, int]:
    return evidence.kind, culprit, evidence.view
