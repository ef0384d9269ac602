"""Shares of certificates, collected first and verified together (rule 1.5).

Shares are not verified when they arrive: once they make a quorum, they are aggregated, and the aggregate is verified
against exactly its signers. Only if that fails are the bad ones looked for. A certificate therefore costs one pairing
check instead of n, and nothing unverified ever leaves this replica.

The first share of a signer in a slot counts and is never replaced: otherwise a Byzantine voter could withdraw its
vote after the quorum, or swap in garbage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hotstuff.consensus.effects import Collect, Collected, Effect, Share, Strike
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Context, Phase
from hotstuff.types.messages import Timeout, Vote
from hotstuff.types.validators import ValidatorSet

# How far above our view votes are kept: a leader may be a few views behind its voters, and no further without the
# certificate that brings it there.
VOTE_WINDOW_VIEWS = 10
# For how many views a signer of bad shares is left out unless the quorum needs it.
DISTRUST_VIEWS = 1000
# A bad share costs a bisection of several pairings; waiting this long for a share from somebody else is cheaper.
DISTRUST_PATIENCE_US = 20_000


@dataclass
class Bucket:
    """Shares that would make one certificate."""

    view: int
    shares: dict[int, Share] = field(default_factory=dict)
    job: int | None = None
    start_us: int | None = None
    closed: bool = False


@dataclass(frozen=True)
class VoteSlot:
    """What the votes of one bucket say."""

    view: int
    phase: Phase
    block_id: bytes
    commit_id: bytes


class Collector:
    """Buckets of shares, the jobs that aggregate them, and who has sent bad ones."""

    def __init__(
        self, context: Context, validators: ValidatorSet, effects: list[Effect], new_job: Callable[[], int]
    ) -> None:
        self._context = context
        self._validators = validators
        self._effects = effects
        self._new_job = new_job
        self._votes: dict[VoteSlot, Bucket] = {}
        self._voted: dict[tuple[int, Phase, int], Vote] = {}
        self._timeouts = Bucket(0)
        self._timeout_of: dict[int, Timeout] = {}
        self._jobs: dict[int, VoteSlot | None] = {}
        self._distrusted: dict[int, int] = {}

    # ---- votes

    def add_vote(self, vote: Vote, current_view: int) -> None:
        """Keeps the first vote of each signer in each view within the window."""
        slot = (vote.view, vote.phase, vote.signer)
        if not current_view <= vote.view <= current_view + VOTE_WINDOW_VIEWS or slot in self._voted:
            return
        self._voted[slot] = vote
        key = VoteSlot(vote.view, vote.phase, vote.block_id, vote.commit_id)
        bucket = self._votes.setdefault(key, Bucket(vote.view))
        message = self._context.vote_message(vote.view, vote.phase, vote.block_id, vote.commit_id)
        bucket.shares[vote.signer] = Share(vote.signer, message, vote.signature)

    def start_votes(self, now_us: int, patience_us: Callable[[int, Phase], int]) -> None:
        """Aggregates every bucket that has a quorum, after the patience (us) that its view and phase deserve."""
        for key, bucket in self._votes.items():
            if self._due(bucket, now_us, patience_us(key.view, key.phase)):
                self._start(bucket, key)

    # ---- timeouts

    def add_timeout(self, timeout: Timeout, current_view: int) -> None:
        """Keeps the first timeout of each signer of the current view. Its `high_qc` must have been verified."""
        if timeout.view != current_view or timeout.signer in self._timeout_of:
            return
        self._timeout_of[timeout.signer] = timeout
        message = self._context.timeout_message(timeout.view, timeout.high_qc.view)
        self._timeouts.shares[timeout.signer] = Share(timeout.signer, message, timeout.signature)

    def timeouts_have_honest(self) -> bool:
        """Have f+1 given up on the current view, so at least one honest replica?"""
        return self._validators.has_honest(self._timeouts.shares)

    def start_timeouts(self, now_us: int, patience_us: int) -> None:
        """Aggregates the timeouts once they make a quorum."""
        if self._due(self._timeouts, now_us, patience_us):
            self._start(self._timeouts, None)

    # ---- both

    def enter(self, view: int) -> None:
        """Forgets everything below the new view."""
        self._votes = {key: bucket for key, bucket in self._votes.items() if key.view >= view}
        self._voted = {slot: vote for slot, vote in self._voted.items() if slot[0] >= view}
        self._distrusted = {signer: until for signer, until in self._distrusted.items() if until > view}
        self._timeouts, self._timeout_of = Bucket(view), {}

    def deadline_us(self) -> int | None:
        """When a bucket that waits out its patience is due."""
        buckets = [*self._votes.values(), self._timeouts]
        waiting = (b for b in buckets if b.job is None and not b.closed)
        return min((b.start_us for b in waiting if b.start_us is not None), default=None)

    def collected(self, event: Collected) -> QC | TC | None:
        """The answer to a job: a certificate, or None if too few good shares are left yet."""
        if event.job not in self._jobs:
            return None
        slot = self._jobs.pop(event.job)
        bucket = self._timeouts if slot is None else self._votes.get(slot)
        if bucket is None or bucket.job != event.job:
            return None
        bucket.job = None
        for signer in event.bad:
            self._reject(bucket, signer)
        if event.signature is None or not self._validators.is_quorum(event.good):
            return None
        bucket.closed = True
        if slot is None:
            return self._make_tc(bucket, event.good, event.signature)
        signers = self._validators.bitmap(event.good)
        epoch = self._context.epoch
        return QC(epoch, slot.view, slot.phase, slot.block_id, slot.commit_id, signers, event.signature)

    def _due(self, bucket: Bucket, now_us: int, patience_us: int) -> bool:
        """A quorum without distrusted signers is due after the patience; with them, after some more."""
        if bucket.closed or bucket.job is not None or not self._validators.is_quorum(bucket.shares):
            return False
        trusted = [signer for signer in bucket.shares if signer not in self._distrusted]
        if not self._validators.is_quorum(trusted):
            patience_us = max(patience_us, DISTRUST_PATIENCE_US)
        if bucket.start_us is None or now_us + patience_us < bucket.start_us:
            bucket.start_us = now_us + patience_us
        return now_us >= bucket.start_us

    def _start(self, bucket: Bucket, slot: VoteSlot | None) -> None:
        trusted = [signer for signer in sorted(bucket.shares) if signer not in self._distrusted]
        chosen = trusted if self._validators.is_quorum(trusted) else sorted(bucket.shares)
        bucket.job = self._new_job()
        self._jobs[bucket.job] = slot
        self._effects.append(Collect(bucket.job, tuple(bucket.shares[signer] for signer in chosen)))

    def _reject(self, bucket: Bucket, signer: int) -> None:
        """Its slot stays taken: a second try in the same view is not a chance to stall it again."""
        bucket.shares.pop(signer, None)
        bucket.start_us = None
        self._distrusted[signer] = bucket.view + DISTRUST_VIEWS
        self._effects.append(Strike(signer, f"bad signature share in view {bucket.view}"))

    def _make_tc(self, bucket: Bucket, good: tuple[int, ...], signature: bytes) -> TC:
        by_view: dict[int, list[int]] = {}
        for signer in good:
            by_view.setdefault(self._timeout_of[signer].high_qc.view, []).append(signer)
        views = sorted(by_view, reverse=True)
        groups = tuple(TimeoutGroup(view, self._validators.bitmap(by_view[view])) for view in views)
        high_qc = max((self._timeout_of[signer].high_qc for signer in by_view[views[0]]), key=lambda qc: qc.rank)
        return TC(self._context.epoch, bucket.view, groups, signature, high_qc)
