"""What evidence proves: with the signatures of those it accuses, everything; without them, nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from cluster import Cluster
from forge import Forge
from hypothesis import given, settings
from hypothesis import strategies as st

from hotstuff.consensus import proof
from hotstuff.consensus.verifier import Verifier
from hotstuff.errors import InvalidEncoding
from hotstuff.simulator.scheme import STAND_IN
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import (
    DoubleBatch,
    DoubleProposal,
    DoubleVote,
    Evidence,
    EvidenceKind,
    LockViolation,
    TimeoutLie,
    decode_evidence,
)
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Timeout, Vote
from hotstuff.types.statements import SignedBatch, SignedProposal, Statement, TimeoutShare, Voted

LOW, HIGH = b"\x11" * 32, b"\x22" * 32
LIAR = 1


@cache
def forge(mode: Mode = Mode.CHAINED, fast: bool = True) -> Forge:
    return Forge(Cluster(4, mode=mode, fast=fast))


def verify(evidence: Evidence, f: Forge | None = None) -> bool:
    f = f or forge()
    return bool(f.cluster.verifier.check(evidence))


def proposal(f: Forge, signer: int, view: int, block_id: bytes) -> SignedProposal:
    signature = f.cluster.members[signer].node.sign(f.context.proposal_message(view, block_id))
    return SignedProposal(1, view, signer, block_id, signature)


def batch(f: Forge, author: int, seq: int, digest: bytes) -> SignedBatch:
    signature = f.cluster.members[author].node.sign(f.context.batch_message(author, seq, digest))
    return SignedBatch(1, author, seq, digest, signature)


def block(f: Forge, view: int, justify: QC) -> Header:
    return f.header(view, justify, view)


def made(f: Forge) -> dict[str, Evidence]:
    """Evidence of every form against `LIAR`, and against others where certificates are involved."""
    first = block(f, 5, f.genesis)
    second = block(f, 8, f.qc(5, first.id))
    third = block(f, 20, f.qc(8, second.id))
    fork = block(f, 22, f.qc(3, LOW))
    early = f.qc(4, LOW)
    reports = {0: third.justify, 1: early, 2: early}
    vote, qc = f.vote(LIAR, 20, third.id), f.qc(20, third.id, signers=[0, 1, 3])
    share, tc = TimeoutShare.of(f.timeout(LIAR, 21, early)), f.tc(21, reports)
    later, later_qc = f.vote(LIAR, 22, fork.id), f.qc(22, fork.id, signers=[1, 2, 3])
    committing = f.qc(20, third.id, HIGH, signers=[0, 1, 2])
    return {
        "two proposals": DoubleProposal.of(proposal(f, LIAR, 9, LOW), proposal(f, LIAR, 9, HIGH)),
        "two votes": DoubleVote.of(f.vote(LIAR, 9, HIGH), f.vote(LIAR, 9, LOW)),
        "a vote and a QC": DoubleVote.of(f.vote(LIAR, 9, HIGH), f.qc(9, LOW)),
        "two QCs": DoubleVote.of(f.qc(9, LOW, signers=[0, 1, 2]), f.qc(9, HIGH, signers=[1, 2, 3])),
        "a vote and a timeout": TimeoutLie(vote, third, share),
        "a vote and a TC": TimeoutLie(vote, third, tc),
        "a QC and a timeout": TimeoutLie(qc, third, share),
        "a QC and a TC": TimeoutLie(qc, third, tc),
        "a commit and a TC": TimeoutLie(committing, None, tc),
        "a lock and a vote": LockViolation(vote, (third, second), later, fork),
        "a lock in a QC and a QC": LockViolation(qc, (third, second), later_qc, fork),
        "a lock in a commit and a vote": LockViolation(committing, (), later, fork),
        "two batches": DoubleBatch.of(batch(f, LIAR, 7, LOW), batch(f, LIAR, 7, HIGH)),
    }


FORMS = list(made(forge()))
CULPRITS = {"two QCs": (1, 2), "a commit and a TC": (0, 1, 2), "a lock in a QC and a QC": (1, 3)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fast", [True, False], ids=["stand-in", "bls"])
def test_evidence_of_every_form_is_accepted(form: str, fast: bool) -> None:
    f = forge(fast=fast)
    evidence = made(f)[form]
    assert evidence.flaw(Mode.CHAINED) is None
    assert verify(evidence, f)
    assert verify(decode_evidence(evidence.encoding), f)
    assert evidence.culprits == CULPRITS.get(form, (LIAR,))


def test_every_kind_is_among_them() -> None:
    assert {evidence.kind for evidence in made(forge()).values()} == set(EvidenceKind)


def test_evidence_of_later_phases() -> None:
    f = forge(Mode.BASIC)
    fork = block(f, 12, f.qc(4, LOW, phase=Phase.PREPARE))
    early = TimeoutShare.of(f.timeout(LIAR, 9, f.qc(8, LOW, phase=Phase.COMMIT)))
    for phase in (Phase.PRECOMMIT, Phase.COMMIT):
        assert verify(TimeoutLie(f.vote(LIAR, 9, HIGH, phase=phase), None, early), f)
        assert verify(TimeoutLie(f.qc(9, HIGH, phase=phase), None, early), f)
    lock = f.qc(9, HIGH, HIGH, phase=Phase.COMMIT)
    assert verify(LockViolation(lock, (), f.vote(LIAR, 12, fork.id, phase=Phase.PREPARE), fork), f)
    assert not verify(LockViolation(lock, (), f.vote(LIAR, 12, fork.id, phase=Phase.COMMIT), fork), f)


@pytest.mark.parametrize("mode", [Mode.BASIC, Mode.HOTSTUFF2, Mode.JOLTEON])
def test_evidence_of_another_protocol_is_refused(mode: Mode) -> None:
    """The signatures would not fit either; here they are made to fit, so that only the rules are left to refuse it."""
    f = forge(mode)
    evidence = made(f)["a lock and a vote"]
    assert not verify(evidence, f)
    assert verify(made(forge())["a lock and a vote"])


@pytest.mark.parametrize("form", FORMS)
def test_evidence_of_another_network_or_epoch_is_refused(form: str) -> None:
    evidence = made(forge())[form]
    validators = forge().validators
    contexts = [replace(forge().context, chain_id=b"\x08" * 32), replace(forge().context, vset_hash=b"\x08" * 32)]
    for context in contexts:
        assert not Verifier(context, validators, STAND_IN).check(evidence)
    # An epoch is inside every statement too: with only the context changed, and with both.
    next_epoch = replace(forge().context, epoch=2)
    assert not Verifier(next_epoch, validators, STAND_IN).check(evidence)
    renamed = decode_evidence(evidence.encoding)
    for statement in renamed.statements:
        object.__setattr__(statement, "epoch", 2)
    assert not Verifier(next_epoch, validators, STAND_IN).check(renamed)
    assert not verify(renamed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [0, 1])
def test_a_missing_signature_is_noticed_on_either_side(form: str, side: int) -> None:
    evidence = decode_evidence(made(forge())[form].encoding)
    statement = evidence.statements[side]
    object.__setattr__(statement, "signature", bytes(len(statement.signature)))
    assert not verify(evidence)


SIGNERS = {Vote: "signer", TimeoutShare: "signer", SignedProposal: "proposer", SignedBatch: "author"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("framed", [0, 2, 3, 4, 65535])
def test_nobody_else_can_be_accused(form: str, framed: int) -> None:
    """The Byzantine signer of both statements puts another index on them: neither a validator's nor an unknown one."""
    evidence = decode_evidence(made(forge())[form].encoding)
    for statement in evidence.statements:
        if type(statement) in SIGNERS:
            object.__setattr__(statement, SIGNERS[type(statement)], framed)
    if any(type(statement) in SIGNERS for statement in evidence.statements):
        assert not verify(evidence)


def test_bits_cannot_be_added_to_a_certificate() -> None:
    f = forge()
    evidence = made(f)["two QCs"]
    assert isinstance(evidence, DoubleVote)
    for first, second in ((b"\x0f", b"\x0e"), (b"\x07", b"\x0f"), (b"\x0e", b"\x0e")):
        changed = DoubleVote(replace(evidence.first, signers=first), replace(evidence.second, signers=second))
        assert not verify(changed)


def test_bitmaps_of_the_wrong_length_are_refused() -> None:
    f = forge()
    low, high = f.qc(9, LOW), f.qc(9, HIGH)
    for bitmap in (b"", b"\x0f\x00", b"\x1f", b"\xff" * 128):
        assert not verify(DoubleVote(replace(low, signers=bitmap), high))
        assert not verify(DoubleVote(low, replace(high, signers=bitmap)))


def test_the_genesis_certificate_accuses_nobody() -> None:
    f = forge()
    assert not verify(DoubleVote.of(f.genesis, replace(f.genesis, block_id=LOW)))
    assert not verify(DoubleVote.of(f.genesis, f.vote(LIAR, 0, LOW)))


def test_shares_are_checked_before_certificates() -> None:
    """A share may be garbage from anybody, and there may be many: it must not cost the check of a certificate, too."""
    f = forge()
    asked: list[QC | TC] = []

    def check(item: QC | TC) -> bool:
        asked.append(item)
        return True

    for share, certified in ((LOW, HIGH), (HIGH, LOW)):
        evidence = DoubleVote.of(replace(f.vote(LIAR, 9, share), signature=bytes(96)), f.qc(9, certified))
        assert not proof.verify(evidence, f.context, f.validators, check, STAND_IN)
    assert asked == []


def test_a_certificate_must_verify_itself() -> None:
    f = forge()
    evidence = DoubleVote.of(f.qc(9, LOW), f.qc(9, HIGH))
    for answers in ((True, False), (False, True), (False, False)):
        verdicts = iter(answers)
        assert not proof.verify(evidence, f.context, f.validators, lambda _, v=verdicts: next(v), STAND_IN)
    assert proof.verify(evidence, f.context, f.validators, lambda _: True, STAND_IN)


# ---- an honest validator is never framed

HONEST = 2


@dataclass(frozen=True)
class History:
    """What validator `HONEST` has really signed, and certificates that hold its signature."""

    votes: tuple[Voted, ...]
    timeouts: tuple[TimeoutShare | TC, ...]
    proposals: tuple[SignedProposal, ...]
    batches: tuple[SignedBatch, ...]
    headers: tuple[Header, ...]


@cache
def history() -> History:
    """A chain with a failed view in it: votes 1 2 3, timeouts of 4 and 5, votes 6 7, as the rules of chained allow."""
    f = forge()
    votes: list[Voted] = []
    headers: list[Header] = []
    qc = f.genesis
    tcs: list[TC] = []
    shares: list[TimeoutShare] = []
    for view in range(1, 8):
        if view in (4, 5):
            timeout: Timeout = f.timeout(HONEST, view, qc, tcs[-1] if tcs else None)
            shares.append(TimeoutShare.of(timeout))
            tcs.append(f.tc(view, {1: f.genesis, 2: qc, 3: qc}))
            continue
        header = f.header(view, qc, len(headers) + 1, tc=tcs[-1] if view == 6 else None)
        commit_id = headers[-2].id if view in (3,) else bytes(32)
        headers.append(header)
        qc = f.qc(view, header.id, commit_id, signers=[1, 2, 3])
        votes += (f.vote(HONEST, view, header.id, commit_id), qc)
    proposals = tuple(proposal(f, HONEST, h.view, h.id) for h in headers if h.proposer == HONEST)
    assert proposals
    batches = tuple(batch(f, HONEST, seq, bytes([seq]) * 32) for seq in (1, 2, 3))
    return History(tuple(votes), (*shares, *tcs), proposals, batches, tuple(headers))


def pairs() -> st.SearchStrategy[Evidence]:
    """Any two honest statements, put together as evidence of any kind."""
    said = history()
    votes, timeouts = st.sampled_from(said.votes), st.sampled_from(said.timeouts)
    headers = st.sampled_from(said.headers)
    proposals, batches = st.sampled_from(said.proposals), st.sampled_from(said.batches)
    forms: list[st.SearchStrategy[Any]] = [
        st.builds(DoubleProposal, proposals, proposals),
        st.builds(DoubleVote, votes, votes),
        st.builds(TimeoutLie, votes, st.none() | headers, timeouts),
        st.builds(LockViolation, votes, st.lists(headers, max_size=2).map(tuple), votes, headers),
        st.builds(DoubleBatch, batches, batches),
    ]
    return st.one_of(forms)


MUTABLE: dict[type[Statement], tuple[str, ...]] = {
    Vote: ("view", "phase", "block_id", "commit_id", "signature"),
    QC: ("view", "phase", "block_id", "commit_id", "signers", "signature"),
    TimeoutShare: ("view", "high_qc_view", "signature"),
    TC: ("view", "signature"),
    SignedProposal: ("view", "block_id", "signature"),
    SignedBatch: ("seq", "digest", "signature"),
}


@st.composite
def forgeries(draw: st.DrawFn) -> Evidence:
    """Evidence of two honest statements after some of their fields were exchanged or changed, any of them."""
    evidence = decode_evidence(draw(pairs()).encoding)
    said = history()
    donors = (*said.votes, *said.timeouts, *said.proposals, *said.batches)
    for _ in range(draw(st.integers(0, 3))):
        statement = draw(st.sampled_from(evidence.statements))
        name = draw(st.sampled_from(MUTABLE[type(statement)]))
        values = [getattr(d, name) for d in donors if hasattr(d, name)]
        if name == "signature":
            values = [v for v in values if len(v) == len(statement.signature)]
        integer = st.integers(0, 9) if name in ("view", "high_qc_view", "seq") else st.sampled_from(values)
        object.__setattr__(statement, name, draw(st.sampled_from(values) | integer))
    return decode_evidence(evidence.encoding)


@given(evidence=pairs())
@settings(max_examples=400, deadline=None)
def test_two_honest_statements_never_contradict_each_other(evidence: Evidence) -> None:
    if evidence.flaw(Mode.CHAINED) is None:
        # Certificates name others, too; those may be guilty (validator 1 hides a QC in the TCs), this one never is.
        assert HONEST not in evidence.culprits


@given(evidence=forgeries())
@settings(max_examples=500, deadline=None)
def test_no_mutation_of_honest_statements_verifies_against_their_signer(evidence: Evidence) -> None:
    assert not (verify(evidence) and HONEST in evidence.culprits)


@given(data=st.data())
@settings(max_examples=500, deadline=None)
def test_no_damaged_evidence_accuses_an_honest_validator(data: st.DataObject) -> None:
    """Bytes of real evidence against others, hit anywhere: it does not decode, does not verify, or accuses the same."""
    form = data.draw(st.sampled_from(FORMS))
    evidence = made(forge())[form]
    damaged = bytearray(evidence.encoding)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = decode_evidence(bytes(damaged))
    except InvalidEncoding:
        return
    if verify(found):
        assert set(found.culprits) <= set(evidence.culprits)


def test_the_history_is_not_vacuous() -> None:
    """The same statements with one of them changed by its own signer are evidence: what is missing is its consent."""
    f, said = forge(), history()
    vote = said.votes[-2]
    assert isinstance(vote, Vote)
    assert verify(DoubleVote.of(vote, f.vote(HONEST, vote.view, LOW)))
    assert verify(TimeoutLie(vote, said.headers[-1], TimeoutShare.of(f.timeout(HONEST, 9, f.genesis))))
    builders: list[Callable[[], Evidence]] = [
        lambda: DoubleProposal.of(said.proposals[0], proposal(f, HONEST, said.proposals[0].view, LOW)),
        lambda: DoubleBatch.of(said.batches[0], batch(f, HONEST, 1, LOW)),
    ]
    assert all(verify(build()) for build in builders)
