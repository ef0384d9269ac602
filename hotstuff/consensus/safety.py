"""The only module that signs.

It owns both keys and the safety record, and checks every rule before a signature exists. The record it returns must be
durable before the signature leaves the process (`effects.Persist` before `effects.Send`): whatever is signed in one
life forbids its contradiction in the next. Read this file in ten minutes; nothing else can make a vote.

    signature    forbidden unless                                          otherwise
    ---------    ------------------------------------------------------    -----------------------------------------
    vote         view_is_current, phase_not_voted, view_not_timed_out,     two blocks of one view are certified,
                 lock_allows, not_passive                                  or a committed block is contradicted
    later vote   view_is_current, phase_not_voted, view_not_timed_out,     a commit without a quorum of locks
    (basic)      certificate_is_kept, not_passive
    timeout      view_is_current, not passive                              a TC hides a certified block
    proposal     view_is_current, view_not_proposed (or reserved in        evidence against ourselves
                 this life and not used), view_not_timed_out,
                 not_passive
    batch        not passive                                               two batches with one number
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from hotstuff.consensus.rules import Rules
from hotstuff.crypto.bls import SecretKey
from hotstuff.crypto.ed25519 import NodeSecret
from hotstuff.errors import InvariantViolation
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC, read_phase
from hotstuff.types.encoding import U8, U64, Buffer, Reader, decode_all, option
from hotstuff.types.hashing import Context, Phase
from hotstuff.types.messages import Timeout, Vote


@dataclass(frozen=True)
class SafetyRecord:
    """What must survive a crash, because signatures depend on it.

    (`voted_view`, `voted_phase`), `timed_out_view` and `proposed_view` only grow. They say where we have *acted*, or
    (`proposed_view`) may have; the view to start in follows from `high_qc` and `high_tc` and is kept apart (one is
    safety, the other liveness). `last_vote` and `last_timeout` are re-sent after a crash, byte for byte.
    """

    epoch: int
    voted_view: int
    timed_out_view: int
    proposed_view: int
    high_qc: QC
    locked_qc: QC
    voted_phase: Phase = Phase.GENERIC
    high_tc: TC | None = None
    last_vote: Vote | None = None
    last_timeout: Timeout | None = None
    passive: bool = False

    @classmethod
    def initial(cls, context: Context, *, passive: bool) -> SafetyRecord:
        """A validator that never signed anything, or (`passive`) one that does not know what it signed."""
        genesis = QC.genesis(context)
        return cls(context.epoch, 0, 0, 0, genesis, genesis, passive=passive)

    @cached_property
    def current_view(self) -> int:
        """The view to act in: one above the highest certificate, QC *or* TC (the QC alone may be below it)."""
        return max(self.high_qc.leads_to, self.high_tc.view + 1 if self.high_tc else 0)

    def follows(self, earlier: SafetyRecord) -> bool:
        """May this replace `earlier` on disk? Nothing that forbids a signature or finds the view goes back."""
        return (
            (earlier.passive or not self.passive)
            and self.current_view >= earlier.current_view
            and (self.voted_view, self.voted_phase) >= (earlier.voted_view, earlier.voted_phase)
            and self.timed_out_view >= earlier.timed_out_view
            and self.proposed_view >= earlier.proposed_view
            and self.locked_qc.rank >= earlier.locked_qc.rank
            and self.high_qc.rank >= earlier.high_qc.rank
        )

    def encode(self) -> bytes:
        """epoch, voted, timed_out, proposed u64 | voted_phase u8 | high_qc | locked_qc | option TC, vote, timeout |
        passive u8."""
        numbers = b"".join(map(U64.pack, (self.epoch, self.voted_view, self.timed_out_view, self.proposed_view)))
        numbers += U8.pack(self.voted_phase)
        options = (self.high_tc, self.last_vote, self.last_timeout)
        optional = b"".join(option(None if value is None else value.encoding) for value in options)
        return numbers + self.high_qc.encoding + self.locked_qc.encoding + optional + U8.pack(self.passive)

    @classmethod
    def decode(cls, data: Buffer) -> SafetyRecord:
        """Inverse of `encode`."""
        return decode_all(data, "safety record", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> SafetyRecord:
        return cls(
            epoch=reader.counter(),
            voted_view=reader.counter(),
            timed_out_view=reader.counter(),
            proposed_view=reader.counter(),
            voted_phase=read_phase(reader),
            high_qc=QC.read(reader),
            locked_qc=QC.read(reader),
            high_tc=TC.read(reader) if reader.flag() else None,
            last_vote=Vote.read(reader) if reader.flag() else None,
            last_timeout=Timeout.read(reader) if reader.flag() else None,
            passive=reader.flag(),
        )


# ---- the rules ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What a signature is asked for: a proposal, or a vote in a phase, of a view.

    `justify` is what it rests on: the certificate inside the block or, for a later vote of the same view, the
    certificate of the phase before. `entry_tc` proves the view of a block when its justify does not. `reserved`: a
    proposal of the view that this life has reserved (`Safety.reserve`) and not used.
    """

    view: int
    phase: Phase
    justify: QC
    entry_tc: TC | None = None
    reserved: bool = False


def view_is_current(record: SafetyRecord, request: Request, _rules: Rules) -> bool:
    """Act only in the view that the highest certificate leads to: nobody is moved by a mere claim (rule 4.1)."""
    return request.view == record.current_view


def phase_not_voted(record: SafetyRecord, request: Request, _rules: Rules) -> bool:
    """At most one vote per view and phase, ever: two quorums in one would share an honest voter (rule 3)."""
    return (request.view, request.phase) > (record.voted_view, record.voted_phase)


def view_not_timed_out(record: SafetyRecord, request: Request, _rules: Rules) -> bool:
    """A timed-out view is closed: our timeout promised that we know no higher QC, and a vote could make one (3.3)."""
    return request.view > record.timed_out_view


def lock_allows(record: SafetyRecord, request: Request, rules: Rules) -> bool:
    """The protocol's own rule against contradicting what may have been committed (rules 3.1 to 3.4)."""
    return rules.safe(request.view, request.justify, request.entry_tc, record.locked_qc)


def certificate_is_kept(record: SafetyRecord, request: Request, rules: Rules) -> bool:
    """A later vote says that we keep the certificate of the phase before, as lock if it is one (rule 3.1)."""
    qc = request.justify
    lock = rules.lock(qc, None)
    locked = lock is None or record.locked_qc.rank >= lock.rank
    return (qc.view, qc.phase + 1) == (request.view, request.phase) and record.high_qc.rank >= qc.rank and locked


def view_not_proposed(record: SafetyRecord, request: Request, _rules: Rules) -> bool:
    """At most one proposal per view, ever: a second one is proof of equivocation (rule 10, E1).

    A reserved view is one in which no other life proposes, and this one once.
    """
    return request.view > record.proposed_view or (request.reserved and request.view == record.proposed_view)


def not_passive(record: SafetyRecord, _request: Request, _rules: Rules) -> bool:
    """A replica that lost its record signs nothing until every view it may have acted in is past (rule 2.4)."""
    return not record.passive


Rule = Callable[[SafetyRecord, Request, Rules], bool]
VOTE_RULES: tuple[Rule, ...] = (view_is_current, phase_not_voted, view_not_timed_out, lock_allows, not_passive)
LATER_VOTE_RULES: tuple[Rule, ...] = (
    view_is_current,
    phase_not_voted,
    view_not_timed_out,
    certificate_is_kept,
    not_passive,
)
PROPOSAL_RULES: tuple[Rule, ...] = (view_is_current, view_not_proposed, view_not_timed_out, not_passive)


# ---- the signer -----------------------------------------------------------------------------------------------------


class Safety:
    """Signs votes, timeouts, proposals and batches of one validator, as far as the rules allow."""

    def __init__(
        self,
        index: int,
        context: Context,
        rules: Rules,
        secret: SecretKey,
        node_secret: NodeSecret,
        record: SafetyRecord,
    ) -> None:
        self.index = index
        self.record = record
        self._context = context
        self._rules = rules
        self._secret = secret
        self._node_secret = node_secret
        self._reserved_view = 0

    def learn(self, *, high_qc: QC | None = None, locked_qc: QC | None = None, high_tc: TC | None = None) -> None:
        """Raise certificates, never lower them. A QC counts even if its view is long past: a TC may report it."""
        record = self.record
        if high_qc and high_qc.rank > record.high_qc.rank:
            record = replace(record, high_qc=high_qc)
        if locked_qc and locked_qc.rank > record.locked_qc.rank:
            record = replace(record, locked_qc=locked_qc)
        if high_tc and high_tc.view > (record.high_tc.view if record.high_tc else 0):
            record = replace(record, high_tc=high_tc)
        self.record = record

    def refusal(self, request: Request, rules: tuple[Rule, ...] = VOTE_RULES) -> str | None:
        """The name of the first rule that forbids to sign what is asked for."""
        for rule in rules:
            if not rule(self.record, request, self._rules):
                return rule.__name__
        return None

    def request(self, header: Header, entry_tc: TC | None) -> Request:
        """What a vote for this block, or its proposal, asks for."""
        return Request(header.view, self._rules.phases[0], header.justify, entry_tc)

    def vote(self, header: Header, entry_tc: TC | None, commit_id: bytes) -> Vote | None:
        """A vote, unless a rule forbids it. `record` then says so and must be durable before the vote leaves."""
        request = self.request(header, entry_tc)
        if self.refusal(request, VOTE_RULES) is not None:
            return None
        return self._vote(request, header.id, commit_id)

    def later_vote(self, qc: QC, commit_id: bytes) -> Vote | None:
        """The vote that follows `qc` in its own view (basic), unless a rule forbids it; durable before it leaves."""
        request = Request(qc.view, Phase(qc.phase + 1), qc)
        if self.refusal(request, LATER_VOTE_RULES) is not None:
            return None
        return self._vote(request, qc.block_id, commit_id)

    def _vote(self, request: Request, block_id: bytes, commit_id: bytes) -> Vote:
        view, phase, epoch = request.view, request.phase, self.record.epoch
        signature = self._secret.sign(self._context.vote_message(view, phase, block_id, commit_id))
        vote = Vote(epoch, view, phase, block_id, commit_id, self.index, signature)
        self.record = replace(self.record, voted_view=view, voted_phase=phase, last_vote=vote)
        return vote

    def timeout(self) -> Timeout | None:
        """A timeout of the current view; the same bytes as before if there is one. None while passive.

        It reports `high_qc`, which is at least the justify of every block we voted for: a TC of this view cannot hide
        what those votes may have certified.
        """
        record = self.record
        view, high_qc = record.current_view, record.high_qc
        if record.passive:
            return None
        if record.last_timeout is not None and record.last_timeout.view == view:
            return record.last_timeout
        if view <= record.timed_out_view:
            return None
        entry = None if high_qc.leads_to == view else record.high_tc
        signature = self._secret.sign(self._context.timeout_message(view, high_qc.view))
        timeout = Timeout(record.epoch, view, self.index, signature, high_qc, entry)
        self.record = replace(record, timed_out_view=view, last_timeout=timeout)
        return timeout

    def reserve(self, view: int) -> None:
        """Write down already that we propose in `view`, which we shall lead; what we propose follows later, once.

        The record becomes durable with the next vote, so the proposal itself waits for no disk. After a crash in
        between this validator does not propose in `view`: it cannot know whether it has.
        """
        if view > self.record.proposed_view and not self.record.passive:
            self.record = replace(self.record, proposed_view=view)
            self._reserved_view = view

    def may_have_proposed(self, view: int) -> bool:
        """Is there, or may there be, a proposal of ours in a view from `view` on?"""
        return self.record.proposed_view >= view and self._reserved_view != view

    def propose(self, header: Header) -> bytes | None:
        """The leader's Ed25519 signature (64 B) for a block of the current view, unless a rule forbids it."""
        request = replace(self.request(header, None), reserved=header.view == self._reserved_view)
        if self.refusal(request, PROPOSAL_RULES) is not None:
            return None
        self._reserved_view = 0
        self.record = replace(self.record, proposed_view=header.view)
        return self._node_secret.sign(self._context.proposal_message(header.view, header.id))

    def sign_batch(self, seq: int, digest: bytes) -> bytes:
        """The author's Ed25519 signature (64 B). The caller stores the batch before it spreads it."""
        if self.record.passive:
            raise InvariantViolation("a passive replica must not author batches")
        return self._node_secret.sign(self._context.batch_message(self.index, seq, digest))

    def rejoin(self, qc: QC) -> None:
        """End of passivity: every view up to `qc.view` counts as acted in (rule 2.4).

        The caller has made sure that `qc.view` is above every view in which a quorum of the others has been: the
        lost record cannot hold a vote, a timeout or a lock at or above it.
        """
        if not self.record.passive or qc.view > self.record.high_qc.view:
            raise InvariantViolation("rejoin needs a passive record and a QC it has learned")
        view = self.record.high_qc.view
        self.record = replace(
            self.record,
            voted_view=view,
            voted_phase=Phase.GENERIC,
            timed_out_view=view,
            proposed_view=view,
            locked_qc=self.record.high_qc,
            passive=False,
        )
