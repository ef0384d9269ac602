"""Who is known to have signed what, by view, and which of it contradicts itself.

Every statement is compared with those already here as it comes in, whatever the order; a header that comes later than
the votes for its block is made up for. Only views in which a contradiction can lie are looked at, which in a healthy
run are none: a timeout that denies a QC contradicts votes above the view that it reports, and a vote for a block
contradicts locks above the view of its justify.

Nothing is verified here. Of each validator the first share for a slot is kept, so nobody can make this grow.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import MAX_COUNTER, ZERO_HASH
from hotstuff.types.evidence import DoubleBatch, DoubleProposal, DoubleVote, Evidence, LockViolation, TimeoutLie
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Vote
from hotstuff.types.statements import (
    GaveUp,
    SignedBatch,
    SignedProposal,
    TimeoutShare,
    Voted,
    hiders,
    indices,
    is_proposal_vote,
    known_qc_view,
    locked_view,
    voters,
)

Content = tuple[Phase, bytes, bytes]
"""Phase, block id and commit id: what the votes of one QC have in common, beside the view."""


@dataclass
class _Ballot:
    """The votes of one view with one content, and what follows from them as far as the headers are here."""

    example: Voted
    shares: dict[int, Vote] = field(default_factory=dict)
    qcs: list[QC] = field(default_factory=list)
    share_voters: int = 0
    qc_voters: int = 0
    block: Header | None = None
    header: Header | None = None
    path: tuple[Header, ...] = ()
    known_view: int | None = None
    locked_view: int | None = None

    def votes_of(self, validators: int) -> Iterator[Voted]:
        """Votes that cover as many of these validators as possible; certificates before shares."""
        left = validators & (self.share_voters | self.qc_voters)
        for qc in self.qcs:
            if voters(qc) & left:
                yield qc
                left &= ~voters(qc)
        for i in indices(left):
            yield self.shares[i]

    def votes(self) -> Iterator[Voted]:
        """All of them."""
        yield from self.qcs
        yield from self.shares.values()

    def add(self, voted: Voted) -> None:
        """One more."""
        if isinstance(voted, QC):
            self.qcs.append(voted)
            self.qc_voters |= voters(voted)
        else:
            self.shares[voted.signer] = voted
            self.share_voters |= voters(voted)


@dataclass
class _Abandoned:
    """The timeouts of one view."""

    shares: dict[int, TimeoutShare] = field(default_factory=dict)
    tcs: list[TC] = field(default_factory=list)

    def timeouts_of(self, validators: int, known_view: int) -> Iterator[GaveUp]:
        """Timeouts in which some of these validators say that they know no QC of `known_view` or higher."""
        left = validators
        for tc in self.tcs:
            if hiders(tc, known_view) & left:
                yield tc
                left &= ~hiders(tc, known_view)
        for i, share in self.shares.items():
            if left >> i & 1 and hiders(share, known_view):
                yield share


class Contradictions:
    """Statements of one epoch. Each method returns the evidence that its argument makes with what was here before."""

    def __init__(self, mode: Mode, *, certificates: int | None = None, batches: int | None = None) -> None:
        """`certificates` limits QCs, TCs and headers of each view, `batches` those of each author; None: no limit."""
        self._mode = mode
        self._certificates = certificates
        self._batch_limit = batches
        self._ballots: dict[int, dict[Content, _Ballot]] = {}
        self._abandoned: dict[int, _Abandoned] = {}
        self._vote_views: list[int] = []
        self._timeout_views: list[int] = []
        self._headers: dict[bytes, Header] = {}
        self._headers_at: dict[int, list[Header]] = {}
        self._children: dict[bytes, list[Header]] = {}
        self._proposals: dict[tuple[int, int], SignedProposal] = {}
        self._batches: dict[int, OrderedDict[int, SignedBatch]] = {}

    # ---- in

    def vote(self, voted: Voted) -> list[Evidence]:
        """A vote or a QC. View 0 says nothing: nobody signed the genesis certificate."""
        if voted.view == 0:
            return []
        ballots = self._ballots.get(voted.view)
        if ballots is None:
            ballots = self._ballots[voted.view] = {}
            insort(self._vote_views, voted.view)
        content = voted.phase, voted.block_id, voted.commit_id
        ballot = ballots.get(content)
        if ballot is not None and _is_known(ballot, voted):
            return []
        if ballot is None:
            ballot = _Ballot(voted)
            self._conclude(ballot)
        others = [other for other in ballots.values() if other is not ballot and other.example.phase is voted.phase]
        found: list[Evidence] = [
            DoubleVote.of(voted, vote) for other in others for vote in other.votes_of(voters(voted))
        ]
        found += self._consequences(ballot, voted)
        if self._has_room(ballots, others, voted):
            ballots[content] = ballot
            ballot.add(voted)
        return found

    def timeout(self, gave_up: GaveUp) -> list[Evidence]:
        """A timeout or a TC."""
        abandoned = self._abandoned.get(gave_up.view)
        if abandoned is None:
            abandoned = self._abandoned[gave_up.view] = _Abandoned()
            insort(self._timeout_views, gave_up.view)
        if _was_heard(abandoned, gave_up):
            return []
        lowest = _lowest_report(gave_up)
        found: list[Evidence] = []
        for view in _between(self._vote_views, lowest + 1, gave_up.view + 1):
            for ballot in self._ballots[view].values():
                if ballot.known_view is not None and ballot.known_view > lowest:
                    liars = hiders(gave_up, ballot.known_view)
                    found += [TimeoutLie(vote, ballot.header, gave_up) for vote in ballot.votes_of(liars)]
        if isinstance(gave_up, TimeoutShare):
            abandoned.shares.setdefault(gave_up.signer, gave_up)
        elif self._certificates is None or len(abandoned.tcs) < self._certificates:
            abandoned.tcs.append(gave_up)
        return found

    def header(self, header: Header) -> list[Evidence]:
        """The header of a block, which shows what votes for it imply."""
        siblings = self._headers_at.setdefault(header.view, [])
        full = self._certificates is not None and len(siblings) >= self._certificates
        if header.id in self._headers or full:
            return []
        siblings.append(header)
        self._headers[header.id] = header
        self._children.setdefault(header.justify.block_id, []).append(header)
        found: list[Evidence] = []
        for block in (header, *self._children.get(header.id, ())):
            for ballot in self._ballots.get(block.view, {}).values():
                if ballot.example.block_id == block.id:
                    self._conclude(ballot)
                    for vote in ballot.votes():
                        found += self._consequences(ballot, vote)
        return found

    def proposal(self, signed: SignedProposal) -> list[Evidence]:
        """A leader's signature for a block."""
        first = self._proposals.setdefault((signed.view, signed.proposer), signed)
        return [] if first.block_id == signed.block_id else [DoubleProposal.of(first, signed)]

    def batch(self, signed: SignedBatch, *, verified: bool) -> list[Evidence]:
        """An author's signature for a batch. The first is kept, until a verified one takes its place."""
        lane = self._batches.setdefault(signed.author, OrderedDict())
        first = lane.get(signed.seq)
        if first is None or verified:
            lane[signed.seq] = signed
        if self._batch_limit is not None and len(lane) > self._batch_limit:
            lane.popitem(last=False)
        return [] if first is None or first.digest == signed.digest else [DoubleBatch.of(first, signed)]

    def has_batch(self, author: int, seq: int) -> bool:
        """Is a signature for this number here?"""
        return seq in self._batches.get(author, ())

    def forget_below(self, view: int) -> None:
        """Drops what is of lower views (batches have none: they are limited for each author)."""
        for old in _take_below(self._vote_views, view):
            del self._ballots[old]
        for old in _take_below(self._timeout_views, view):
            del self._abandoned[old]
        for old in [at for at in self._headers_at if at < view]:
            for header in self._headers_at.pop(old):
                del self._headers[header.id]
                self._children[header.justify.block_id].remove(header)
                if not self._children[header.justify.block_id]:
                    del self._children[header.justify.block_id]
        self._proposals = {slot: signed for slot, signed in self._proposals.items() if slot[0] >= view}

    # ---- what follows

    def _has_room(self, ballots: dict[Content, _Ballot], others: list[_Ballot], voted: Voted) -> bool:
        """The first share of a signer in a view and phase is kept, and so many certificates of a view."""
        if isinstance(voted, QC):
            return self._certificates is None or sum(len(b.qcs) for b in ballots.values()) < self._certificates
        return not any(other.share_voters & voters(voted) for other in others)

    def _conclude(self, ballot: _Ballot) -> None:
        """Find the headers that this ballot needs, and what its votes imply with them."""
        vote = ballot.example
        ballot.block = self._headers.get(vote.block_id)
        says_it_all = vote.phase in (Phase.PRECOMMIT, Phase.COMMIT) or vote.commit_id != ZERO_HASH
        ballot.header = None if says_it_all else ballot.block
        ballot.known_view = known_qc_view(vote, ballot.header)
        ballot.path = ()
        if ballot.header is not None and self._mode in (Mode.CHAINED, Mode.HOTSTUFF2):
            parent = self._headers.get(ballot.header.justify.block_id) if self._mode is Mode.CHAINED else None
            ballot.path = (ballot.header,) if parent is None else (ballot.header, parent)
        ballot.locked_view = locked_view(self._mode, vote, ballot.path)

    def _consequences(self, ballot: _Ballot, voted: Voted) -> Iterator[Evidence]:
        """What a vote contradicts, but for other votes of its view."""
        if ballot.known_view is not None:
            for view in _between(self._timeout_views, voted.view, MAX_COUNTER):
                for gave_up in self._abandoned[view].timeouts_of(voters(voted), ballot.known_view):
                    yield TimeoutLie(voted, ballot.header, gave_up)
        if ballot.locked_view is not None:
            yield from self._disregards_of(ballot, voted, ballot.locked_view)
        if ballot.block is not None and is_proposal_vote(self._mode, voted):
            yield from self._disregarded_by(voted, ballot.block)

    def _disregards_of(self, ballot: _Ballot, voted: Voted, lock: int) -> Iterator[Evidence]:
        """Later votes that are justified below the lock of this one."""
        for view in _between(self._vote_views, voted.view + 1, MAX_COUNTER):
            for other in self._ballots[view].values():
                below = other.block is not None and other.block.justify.view < lock
                if other.block is not None and below and is_proposal_vote(self._mode, other.example):
                    for later in other.votes_of(voters(voted)):
                        yield LockViolation(voted, ballot.path, later, other.block)

    def _disregarded_by(self, voted: Voted, block: Header) -> Iterator[Evidence]:
        """Earlier votes whose lock is above what this one is justified by. They are of higher views than that."""
        justified = block.justify.view
        for view in _between(self._vote_views, justified + 1, voted.view):
            for other in self._ballots[view].values():
                if other.locked_view is not None and other.locked_view > justified:
                    for earlier in other.votes_of(voters(voted)):
                        yield LockViolation(earlier, other.path, voted, block)


def _is_known(ballot: _Ballot, voted: Voted) -> bool:
    """Has everybody in it been heard to say this before? A certificate counts for more than shares."""
    before = ballot.qc_voters if isinstance(voted, QC) else ballot.qc_voters | ballot.share_voters
    return voters(voted) & ~before == 0


def _was_heard(abandoned: _Abandoned, gave_up: GaveUp) -> bool:
    """Has it been compared with everything before? Timeouts are sent again and again."""
    if isinstance(gave_up, TC):
        return gave_up in abandoned.tcs
    before = abandoned.shares.get(gave_up.signer)
    return before is not None and before.high_qc_view == gave_up.high_qc_view


def _lowest_report(gave_up: GaveUp) -> int:
    if isinstance(gave_up, TimeoutShare):
        return gave_up.high_qc_view
    return min(group.high_qc_view for group in gave_up.groups)


def _between(views: list[int], low: int, high: int) -> Iterable[int]:
    """Views from low up to, but not including, high."""
    return views[bisect_left(views, low) : bisect_left(views, high)]


def _take_below(views: list[int], low: int) -> list[int]:
    """Takes out the views below `low`."""
    at = bisect_left(views, low)
    taken, views[:at] = views[:at], []
    return taken
