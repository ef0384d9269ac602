"""What one replica finds out about the others, in whatever order it sees things, and what that may cost it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import count, permutations

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff import native
from hotstuff.consensus import witness as limits
from hotstuff.consensus.contradictions import Contradictions
from hotstuff.consensus.witness import Witness
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block, Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence, EvidenceKind
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Proposal, Timeout, Vote

LOW, HIGH, THIRD = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32
LIAR = 1
K = EvidenceKind

Seen = Proposal | Header | Vote | Timeout | QC | TC | Batch


@cache
def forge(mode: Mode = Mode.CHAINED, n: int = 4) -> Forge:
    return Forge(Cluster(n, mode=mode, fast=True))


def batch(author: int, seq: int, text: bytes) -> Batch:
    f = forge()
    body = native.build_frame(b"c" * 16, 1, [text])
    unsigned = Batch(1, author, seq, bytes(64), body, tuple(native.parse_body(body, 1)))
    return replace(unsigned, signature=f.cluster.members[author].node.sign(unsigned.message(f.context)))


class Watch:
    """A witness, and a verifier that answers at once (or later, if told so)."""

    def __init__(self, mode: Mode = Mode.CHAINED, view: int = 1, n: int = 4) -> None:
        self.f = forge(mode, n)
        self.witness = Witness(mode)
        self.witness.enter(view)
        self.found: list[Evidence] = []
        self.asked: list[Evidence] = []
        self.refused: list[Evidence] = []
        self.jobs = count(1)
        self.pending: list[tuple[int, Evidence]] = []
        self.answers = True

    def see(self, *seen: Seen, peer: int | None = None) -> Watch:
        """Shows it things; a batch comes from its author unless `peer` is given."""
        for thing in seen:
            self._show(thing, peer)
            self.work()
        return self

    def _show(self, thing: Seen, peer: int | None) -> None:
        if isinstance(thing, Batch):
            self.witness.batch(thing.author if peer is None else peer, thing)
            return
        show: dict[type, Callable[..., None]] = {
            Proposal: self.witness.proposal,
            Header: self.witness.header,
            Vote: self.witness.vote,
            Timeout: self.witness.timeout,
            QC: self.witness.qc,
            TC: self.witness.tc,
        }
        show[type(thing)](thing)

    def work(self) -> None:
        """The verifier's turn."""
        self.pending += self.witness.take_candidates(lambda: next(self.jobs))
        while self.answers and self.pending:
            job, evidence = self.pending.pop(0)
            self.asked.append(evidence)
            valid = self.f.cluster.verifier.check(evidence)
            verdict = self.witness.verified(job, valid)
            assert verdict == (evidence if valid else None)
            (self.found if valid else self.refused).append(evidence)
            self.pending += self.witness.take_candidates(lambda: next(self.jobs))

    @property
    def charges(self) -> list[tuple[EvidenceKind, tuple[int, ...], int]]:
        return [(evidence.kind, evidence.culprits, evidence.view) for evidence in self.found]


def votes(view: int, block_id: bytes, signers: Iterable[int], f: Forge | None = None) -> list[Vote]:
    return [(f or forge()).vote(i, view, block_id) for i in signers]


# ---- S1, S2: a leader that equivocates


def test_two_proposals_are_evidence_s2() -> None:
    f = forge()
    one = f.proposal(f.block(3, f.qc(2, LOW), 3))
    other = f.proposal(f.block(3, f.qc(2, HIGH), 3))
    watch = Watch(view=3).see(one, other)
    assert watch.charges == [(K.DOUBLE_PROPOSAL, (f.leader(3),), 3)]


@pytest.mark.parametrize("passed", [1, limits.WINDOW_VIEWS])
def test_the_second_proposal_may_come_when_the_first_is_long_certified_s2(passed: int) -> None:
    f = forge()
    one, other = (f.proposal(f.block(3, f.qc(2, parent), 3)) for parent in (LOW, HIGH))
    watch = Watch(view=3).see(one)
    watch.witness.enter(3 + passed)
    assert watch.see(other).charges == [(K.DOUBLE_PROPOSAL, (f.leader(3),), 3)]


def test_one_proposal_again_and_again_is_no_evidence() -> None:
    one = forge().proposal(forge().block(3, forge().qc(2, LOW), 3))
    assert Watch(view=3).see(*[one] * 10).asked == []


def test_a_thousand_proposals_of_one_view_are_checked_once() -> None:
    f = forge()
    leader = f.leader(3)
    first = f.proposal(f.block(3, f.qc(2, LOW), 3))
    watch = Watch(view=3).see(first)
    for height in range(4, 1004):
        watch.see(f.proposal(f.block(3, f.qc(2, LOW), height)))
    assert watch.charges == [(K.DOUBLE_PROPOSAL, (leader,), 3)]
    assert len(watch.asked) == 1


# ---- S3, S4, S5: voters


def test_two_votes_of_one_view_are_evidence_s3() -> None:
    f = forge()
    watch = Watch().see(f.vote(LIAR, 1, LOW), f.vote(2, 1, LOW), f.vote(LIAR, 1, HIGH))
    assert watch.charges == [(K.DOUBLE_VOTE, (LIAR,), 1)]


def test_the_same_vote_a_thousand_times_is_one_vote_s4() -> None:
    f = forge()
    vote = f.vote(LIAR, 1, LOW)
    watch = Watch().see(*[vote] * 1000, f.qc(1, LOW), *[f.qc(1, LOW)] * 10)
    assert watch.asked == []


def test_the_same_vote_in_other_bytes_says_the_same_s5() -> None:
    vote = forge().vote(LIAR, 1, LOW)
    watch = Watch().see(vote, replace(vote, signature=b"\1" * 96), replace(vote, signature=bytes(96)))
    assert watch.asked == []


def test_two_qcs_for_one_block_are_no_evidence_s44() -> None:
    f = forge()
    assert Watch().see(f.qc(1, LOW, signers=[0, 1, 2]), f.qc(1, LOW, signers=[1, 2, 3])).asked == []


def test_votes_of_several_phases_are_no_evidence() -> None:
    f = forge(Mode.BASIC)
    phases = (Phase.PREPARE, Phase.PRECOMMIT, Phase.COMMIT)
    said = [f.vote(LIAR, 1, LOW if p is Phase.PREPARE else HIGH, phase=p) for p in phases]
    assert Watch(Mode.BASIC).see(*said).asked == []
    assert Watch(Mode.BASIC).see(*said, f.vote(LIAR, 1, LOW, phase=Phase.COMMIT)).charges == [
        (K.DOUBLE_VOTE, (LIAR,), 1)
    ]


def test_a_vote_against_a_qc_that_holds_another_one() -> None:
    f = forge()
    for order in permutations([f.vote(LIAR, 1, HIGH), f.vote(3, 1, HIGH), f.qc(1, LOW, signers=[0, 1, 2])]):
        assert Watch().see(*order).charges == [(K.DOUBLE_VOTE, (LIAR,), 1)]


def test_two_qcs_of_one_view_convict_everybody_in_both() -> None:
    f = forge()
    watch = Watch().see(f.qc(1, LOW, signers=[0, 1, 2]), f.qc(1, HIGH, signers=[1, 2, 3]))
    assert watch.charges == [(K.DOUBLE_VOTE, (1, 2), 1)]
    assert watch.see(f.vote(LIAR, 1, THIRD)).charges == [(K.DOUBLE_VOTE, (1, 2), 1)], "convicted of that already"


def test_a_qc_that_comes_after_the_shares_convicts_for_all_of_them() -> None:
    f = forge()
    seen = [*votes(1, LOW, [0, 1, 2]), f.qc(1, HIGH, signers=[1, 2, 3])]
    assert sorted(Watch().see(*seen).charges) == [(K.DOUBLE_VOTE, (1,), 1), (K.DOUBLE_VOTE, (2,), 1)]


def test_a_qc_counts_for_more_than_the_shares_in_it() -> None:
    """One evidence against all of them, and no share in it that might not verify."""
    f = forge()
    seen = [*votes(1, LOW, [0, 1, 2]), f.qc(1, LOW, signers=[0, 1, 2]), f.qc(1, HIGH, signers=[1, 2, 3])]
    assert Watch().see(*seen).charges == [(K.DOUBLE_VOTE, (1, 2), 1)]


def test_who_was_convicted_by_shares_is_not_charged_again_with_certificates() -> None:
    f = forge()
    watch = Watch().see(*(vote for i in (1, 2) for vote in (f.vote(i, 1, LOW), f.vote(i, 1, HIGH))))
    assert watch.charges == [(K.DOUBLE_VOTE, (1,), 1), (K.DOUBLE_VOTE, (2,), 1)]
    watch.see(f.qc(1, LOW, signers=[0, 1, 2]), f.qc(1, HIGH, signers=[1, 2, 3]))
    assert len(watch.asked) == 2


# ---- timeouts


def lie(f: Forge) -> tuple[Header, Vote, Timeout]:
    """A block justified by a QC of view 4, a vote for it in view 5, a timeout of view 6 that knows nothing."""
    header = f.header(5, f.qc(4, LOW), 5)
    return header, f.vote(LIAR, 5, header.id), f.timeout(LIAR, 6, f.genesis)


@pytest.mark.parametrize("mode", [Mode.CHAINED, Mode.HOTSTUFF2, Mode.JOLTEON])
def test_a_timeout_that_hides_a_qc_in_any_order(mode: Mode) -> None:
    f = forge(mode)
    for order in permutations(lie(f)):
        assert Watch(mode, view=6).see(*order).charges == [(K.TIMEOUT_LIE, (LIAR,), 6)]


def test_certificates_that_hide_a_qc_in_any_order() -> None:
    f = forge(Mode.JOLTEON)
    known, old = f.qc(4, LOW), f.qc(2, LOW)
    header = f.header(5, known, 5)
    tc = f.tc(7, {0: old, 1: f.genesis, 3: known})
    for order in permutations([header, f.qc(5, header.id, signers=[0, 1, 2]), tc]):
        assert Watch(Mode.JOLTEON, view=7).see(*order).charges == [(K.TIMEOUT_LIE, (0, 1), 7)]


def test_a_commit_id_needs_no_header() -> None:
    f = forge(Mode.JOLTEON)
    qc, timeout = f.qc(5, HIGH, LOW), f.timeout(LIAR, 5, f.qc(3, LOW))
    for order in permutations([qc, timeout]):
        assert Watch(Mode.JOLTEON, view=5).see(*order).charges == [(K.TIMEOUT_LIE, (LIAR,), 5)]


def test_a_later_phase_needs_no_header() -> None:
    f = forge(Mode.BASIC)
    vote = f.vote(LIAR, 5, HIGH, phase=Phase.PRECOMMIT)
    for order in permutations([vote, f.timeout(LIAR, 5, f.qc(4, LOW, phase=Phase.COMMIT))]):
        assert Watch(Mode.BASIC, view=5).see(*order).charges == [(K.TIMEOUT_LIE, (LIAR,), 5)]
    honest = [vote, f.timeout(LIAR, 5, f.qc(5, HIGH, phase=Phase.PREPARE))]
    assert Watch(Mode.BASIC, view=5).see(*honest).asked == []


def test_what_is_no_lie() -> None:
    f = forge()
    header, vote, _ = lie(f)
    qc = header.justify
    assert Watch(view=6).see(header, vote, f.timeout(LIAR, 6, qc)).asked == [], "it reports the QC"
    assert Watch(view=6).see(header, vote, f.timeout(LIAR, 4, f.genesis)).asked == [], "it had not voted yet"
    assert Watch(view=6).see(header, vote, f.timeout(2, 6, f.genesis)).asked == [], "it did not vote"
    two = [f.timeout(LIAR, 6, qc), f.timeout(LIAR, 6, f.genesis)]
    assert Watch(view=6).see(*two).asked == [], "two reports of one view prove nothing by themselves"


def test_a_second_timeout_of_a_view_is_looked_at_and_the_first_is_kept() -> None:
    f = forge()
    header, vote, lying = lie(f)
    true = f.timeout(LIAR, 6, header.justify)
    assert Watch(view=6).see(header, vote, true, true, lying).charges == [(K.TIMEOUT_LIE, (LIAR,), 6)]
    assert Watch(view=6).see(true, lying, header, vote).charges == [], "one for each signer: memory is bounded"
    assert Watch(view=6).see(lying, true, header, vote).charges == [(K.TIMEOUT_LIE, (LIAR,), 6)]


def test_a_vote_and_a_timeout_of_one_view_are_no_evidence() -> None:
    f = forge()
    header, vote, _ = lie(f)
    assert Watch(view=6).see(header, vote, f.timeout(LIAR, 5, header.justify)).asked == []


# ---- locks


def fork(f: Forge, later_view: int = 9) -> tuple[list[Seen], list[Seen]]:
    """Blocks 3 <- 4 <- 6, a vote for 6 (locked on 3 in chained, 4 in hotstuff2), and a vote for 9 justified by 2."""
    three = f.header(3, f.qc(2, LOW), 3)
    four = f.header(4, f.qc(3, three.id), 4)
    six = f.header(6, f.qc(4, four.id), 5)
    nine = f.header(later_view, f.qc(2, LOW), 3)
    return [three, four, six, f.vote(LIAR, 6, six.id)], [nine, f.vote(LIAR, later_view, nine.id)]


@pytest.mark.parametrize("mode", [Mode.CHAINED, Mode.HOTSTUFF2])
def test_a_vote_below_the_lock_in_any_order(mode: Mode) -> None:
    first, second = fork(forge(mode))
    # The grandparent says nothing about this lock.
    for order in permutations([*first[1:], *second]):
        assert Watch(mode, view=9).see(*order).charges == [(K.LOCK_VIOLATION, (LIAR,), 9)]


def test_jolteon_has_no_locks_to_violate() -> None:
    first, second = fork(forge(Mode.JOLTEON))
    assert Watch(Mode.JOLTEON, view=9).see(*first, *second).asked == []


def test_commit_certificates_violate_locks_without_headers() -> None:
    f = forge()
    nine = f.header(9, f.qc(2, LOW), 3)
    seen = [f.qc(6, HIGH, LOW, signers=[0, 1, 2]), f.qc(9, nine.id, signers=[1, 2, 3]), nine]
    for order in permutations(seen):
        assert Watch(view=9).see(*order).charges == [(K.LOCK_VIOLATION, (1, 2), 9)]


def test_a_commit_vote_of_basic_is_a_lock() -> None:
    f = forge(Mode.BASIC)
    nine = f.header(9, f.qc(5, LOW, phase=Phase.PREPARE), 3)
    lock, later = f.vote(LIAR, 6, HIGH, HIGH, phase=Phase.COMMIT), f.vote(LIAR, 9, nine.id, phase=Phase.PREPARE)
    for order in permutations([lock, later, nine]):
        assert Watch(Mode.BASIC, view=9).see(*order).charges == [(K.LOCK_VIOLATION, (LIAR,), 9)]
    for phase in (Phase.PRECOMMIT, Phase.COMMIT):
        others = [lock, replace(later, phase=phase), nine]
        assert Watch(Mode.BASIC, view=9).see(*others).asked == [], "a later vote follows a QC, whatever it locks"
    no_lock = f.vote(LIAR, 6, HIGH, phase=Phase.PRECOMMIT)
    assert Watch(Mode.BASIC, view=9).see(no_lock, later, nine).asked == []


def test_what_violates_no_lock() -> None:
    f = forge()
    first, second = fork(f)
    again, earlier = fork(f, later_view=5)
    assert Watch(view=9).see(*again, *earlier).asked == [], "it voted for the fork before it was locked"
    assert Watch(view=9).see(*first, second[0], f.vote(2, 9, second[0].id)).asked == [], "another voter"
    at_lock = f.header(9, f.qc(3, first[0].id), 4)
    assert Watch(view=9).see(*first, at_lock, f.vote(LIAR, 9, at_lock.id)).asked == [], "justified at the lock"


# ---- batches


def test_two_batches_with_one_number_are_evidence() -> None:
    one, other = batch(LIAR, 5, b"one"), batch(LIAR, 5, b"other")
    assert Watch().see(one, one, batch(LIAR, 6, b"other"), batch(2, 5, b"other")).asked == []
    assert Watch().see(one, other).charges == [(K.DOUBLE_BATCH, (LIAR,), 5)]
    watch = Watch()
    watch.witness.stored(one)
    assert watch.see(other, peer=3).charges == [(K.DOUBLE_BATCH, (LIAR,), 5)], "from whomever it comes"


def test_nobody_but_its_author_can_take_a_number_with_garbage() -> None:
    one, other = batch(LIAR, 5, b"one"), batch(LIAR, 5, b"other")
    garbage = replace(batch(LIAR, 5, b"garbage"), signature=bytes(64))
    watch = Watch().see(garbage, peer=3).see(one, other)
    assert watch.charges == [(K.DOUBLE_BATCH, (LIAR,), 5)]
    assert watch.refused == []


def test_a_verified_batch_takes_the_place_of_garbage_from_its_author() -> None:
    garbage = replace(batch(LIAR, 5, b"garbage"), signature=bytes(64))
    watch = Watch().see(garbage)
    watch.witness.stored(batch(LIAR, 5, b"one"))
    watch.work()
    assert (watch.charges, len(watch.refused)) == ([], 1)
    watch.witness.enter(1 + limits.DISTRUST_VIEWS)
    assert watch.see(batch(LIAR, 5, b"other")).charges == [(K.DOUBLE_BATCH, (LIAR,), 5)]


def test_who_relays_garbage_is_not_asked_again_and_the_author_is_not_blamed() -> None:
    watch = Watch()
    watch.witness.stored(batch(LIAR, 5, b"one"))
    for i in range(10):
        watch.see(replace(batch(LIAR, 5, b"garbage %d" % i), signature=bytes(64)), peer=3)
    assert (watch.charges, len(watch.refused)) == ([], 1)
    assert watch.see(batch(LIAR, 5, b"other"), peer=2).charges == [(K.DOUBLE_BATCH, (LIAR,), 5)]


def test_numbers_of_an_author_are_bounded() -> None:
    watch = Watch().see(*(batch(LIAR, seq, b"x") for seq in range(1, 2 * limits.MAX_BATCHES_PER_AUTHOR)))
    newest, oldest = 2 * limits.MAX_BATCHES_PER_AUTHOR - 1, 1
    assert watch.see(batch(LIAR, oldest, b"y")).charges == []
    assert watch.see(batch(LIAR, newest, b"y")).charges == [(K.DOUBLE_BATCH, (LIAR,), newest)]


# ---- S41: garbage and floods


def garbage(vote: Vote) -> Vote:
    return replace(vote, signature=b"\7" * 96)


def test_a_share_that_does_not_verify_is_no_evidence_s41() -> None:
    f = forge()
    for pair in (
        [garbage(f.vote(LIAR, 1, LOW)), f.vote(LIAR, 1, HIGH)],
        [f.qc(1, LOW), garbage(f.vote(LIAR, 1, HIGH))],
    ):
        watch = Watch().see(*pair)
        assert (watch.charges, len(watch.refused)) == ([], 1)


def test_garbage_does_not_hide_what_certificates_prove() -> None:
    f = forge()
    watch = Watch().see(f.vote(LIAR, 1, LOW), garbage(f.vote(LIAR, 1, THIRD)))
    assert (watch.charges, len(watch.refused)) == ([], 1)
    watch.see(f.qc(1, LOW, signers=[0, 1, 2]), f.qc(1, HIGH, signers=[1, 2, 3]))
    assert watch.charges == [(K.DOUBLE_VOTE, (1, 2), 1)]


def test_garbage_under_way_does_not_hide_what_certificates_prove() -> None:
    f = forge()
    watch = Watch()
    watch.answers = False
    watch.see(f.vote(LIAR, 1, LOW), garbage(f.vote(LIAR, 1, THIRD)))
    watch.see(f.qc(1, LOW, signers=[0, 1, 3]), f.qc(1, HIGH, signers=[0, 1, 2]))
    watch.answers = True
    watch.work()
    assert (watch.charges, len(watch.refused)) == ([(K.DOUBLE_VOTE, (0, 1), 1)], 1)
    # The same against one who is under suspicion alone.
    watch = Watch()
    watch.answers = False
    watch.see(f.vote(0, 1, LOW), f.vote(0, 1, HIGH), f.vote(LIAR, 1, LOW), garbage(f.vote(LIAR, 1, THIRD)))
    watch.see(f.qc(1, LOW, signers=[0, 1, 3]), f.qc(1, HIGH, signers=[0, 1, 2]))
    watch.answers = True
    watch.work()
    assert {i for _, culprits, _ in watch.charges for i in culprits} == {0, LIAR}


def test_who_sends_garbage_is_checked_once_in_a_while_s41() -> None:
    f = forge()
    watch = Watch()
    views = 3 * limits.DISTRUST_VIEWS
    for view in range(1, views + 1):
        watch.witness.enter(view)
        watch.see(garbage(f.vote(LIAR, view, LOW)), garbage(f.vote(LIAR, view, HIGH)))
    assert (watch.charges, len(watch.refused)) == ([], 3)
    watch.witness.enter(view + limits.DISTRUST_VIEWS)
    watch.see(f.vote(LIAR, watch.witness.view, LOW), f.vote(LIAR, watch.witness.view, HIGH))
    assert len(watch.found) == 1


def test_garbage_from_one_does_not_protect_another() -> None:
    f = forge()
    watch = Watch().see(garbage(f.vote(LIAR, 1, LOW)), f.vote(LIAR, 1, HIGH))
    assert watch.see(f.vote(2, 1, LOW), f.vote(2, 1, HIGH)).charges == [(K.DOUBLE_VOTE, (2,), 1)]


def test_convictions_of_one_validator_are_bounded() -> None:
    f = forge()
    watch = Watch()
    for view in range(1, 2 * limits.MAX_CONVICTIONS):
        watch.witness.enter(view)
        watch.see(f.vote(LIAR, view, LOW), f.vote(LIAR, view, HIGH))
    assert len(watch.asked) == len(watch.found) == limits.MAX_CONVICTIONS
    assert watch.see(f.vote(2, view, LOW), f.vote(2, view, HIGH)).charges[-1] == (K.DOUBLE_VOTE, (2,), view)


def test_candidates_under_way_are_bounded() -> None:
    f = forge(n=100)
    watch = Watch(n=100)
    watch.answers = False
    for i in range(100):
        watch.see(f.vote(i, 1, LOW), f.vote(i, 1, HIGH))
    assert len(watch.pending) == limits.MAX_UNDER_WAY
    watch.answers = True
    watch.work()
    assert len(watch.found) == limits.MAX_UNDER_WAY + limits.MAX_WAITING


def size(seen: Contradictions) -> int:
    """Everything that it holds."""
    held = sum(len(b.shares) + len(b.qcs) for ballots in seen._ballots.values() for b in ballots.values())
    held += sum(len(a.shares) + len(a.tcs) for a in seen._abandoned.values())
    held += len(seen._headers) + len(seen._proposals) + len(seen._children)
    held += sum(map(len, seen._ballots.values())) + len(seen._vote_views) + len(seen._timeout_views)
    return held + sum(map(len, seen._batches.values()))


def test_a_flood_of_statements_is_bounded() -> None:
    """Everything that one validator can sign, in all views there are, for all blocks there are."""
    f = forge()
    watch = Watch(view=50)
    genesis = f.genesis
    for view in [*range(1, 120), 10**6, 2**62]:
        for text in range(20):
            block_id = bytes([text]) * 32
            watch.witness.vote(Vote(1, view, Phase.GENERIC, block_id, bytes(32), LIAR, bytes(96)))
            watch.witness.timeout(Timeout(1, view, LIAR, bytes(96), replace(genesis, view=text), None))
            watch.witness.header(f.header(view, replace(genesis, block_id=block_id), 1))
            watch.witness.qc(QC(1, view, Phase.GENERIC, block_id, bytes(32), b"\x0f", bytes(96)))
            watch.witness.batch(LIAR, replace(batch(LIAR, 1, b"x"), seq=20 * (view % 1000) + text + 1))
    window = limits.WINDOW_VIEWS + 1 + limits.VOTE_WINDOW_VIEWS
    # For each view: one vote, one timeout, so many certificates and headers, their ballots and parents.
    bound = window * (4 + 4 * limits.MAX_CERTIFICATES_PER_VIEW) + limits.MAX_BATCHES_PER_AUTHOR
    assert 0 < size(watch.witness._seen) <= bound
    assert len(watch.witness._waiting) <= limits.MAX_WAITING
    watch.witness.enter(10_000)
    assert size(watch.witness._seen) == limits.MAX_BATCHES_PER_AUTHOR


def test_what_is_far_away_is_not_looked_at() -> None:
    f = forge()
    far = 100 + limits.VOTE_WINDOW_VIEWS + 1
    for view in (100 - limits.WINDOW_VIEWS - 1, far):
        assert Watch(view=100).see(f.vote(LIAR, view, LOW), f.vote(LIAR, view, HIGH)).asked == []
    for view in (100 - limits.WINDOW_VIEWS, far - 1):
        assert len(Watch(view=100).see(f.vote(LIAR, view, LOW), f.vote(LIAR, view, HIGH)).found) == 1


def test_views_do_not_come_back() -> None:
    watch = Watch(view=100)
    watch.witness.enter(3)
    assert watch.witness.view == 100


def test_the_answer_to_somebody_elses_job_is_none_of_ours() -> None:
    assert Watch().witness.verified(7, True) is None
    assert Watch().witness.verified(7, False) is None


# ---- an honest run


@pytest.mark.parametrize("mode", Mode)
def test_an_honest_chain_with_failed_views_gives_no_candidate(mode: Mode) -> None:
    f = forge(mode)
    watch = Watch(mode)
    first = Phase.PREPARE if mode is Mode.BASIC else Phase.GENERIC
    qc, tc = f.genesis, None
    for view in range(1, 60):
        watch.witness.enter(view)
        if view % 7 in (3, 4):
            timeouts = [f.timeout(i, view, qc, tc) for i in f.everyone]
            tc = f.tc(view, dict.fromkeys(f.everyone, qc))
            watch.see(*timeouts, tc)
            continue
        header = f.header(view, qc, view, tc=tc)
        watch.see(f.proposal(Block(header, ())), header)
        phases = (first, Phase.PRECOMMIT, Phase.COMMIT) if mode is Mode.BASIC else (first,)
        for phase in phases:
            cast = [f.vote(i, view, header.id, phase=phase) for i in f.everyone]
            qc = f.qc(view, header.id, signers=[0, 2, 3], phase=phase)
            watch.see(*cast, qc, f.qc(view, header.id, phase=phase))
        tc = None
    assert watch.asked == []
