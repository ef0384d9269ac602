"""`hotstuff.types.evidence`: bytes, identity, and what is wrong with evidence that is none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from strategies import CODECS, evidence
from wire_checks import WireChecks, refused, wire_settings
from wire_examples import PLAIN, QC_8, SHARE, SIGNED_BATCH, SIGNED_BLOCK, TC_9, VOTE, fill

from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.evidence import (
    MAX_EVIDENCE_BYTES,
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
from hotstuff.types.messages import Vote
from hotstuff.types.statements import TimeoutShare
from hotstuff.types.validators import MAX_VALIDATORS

LOW, HIGH = b"\x11" * 32, b"\x22" * 32
CHAINED, BASIC, JOLTEON = Mode.CHAINED, Mode.BASIC, Mode.JOLTEON


class TestWire(WireChecks):
    names = tuple(name for name in CODECS if name.startswith("evidence_"))


# ---- sound evidence of each kind

GRANDPARENT = replace(PLAIN, mode=CHAINED, view=5)
PARENT = replace(GRANDPARENT, view=8, justify=replace(QC_8, view=5, block_id=GRANDPARENT.id))
BLOCK = replace(GRANDPARENT, view=20, justify=replace(QC_8, view=8, block_id=PARENT.id))
FORK = replace(GRANDPARENT, view=21, justify=replace(QC_8, view=4))


def vote(view: int, block_id: bytes, commit_id: bytes = ZERO_HASH, phase: Phase = Phase.GENERIC) -> Vote:
    return Vote(3, view, phase, block_id, commit_id, 1, bytes(96))


def qc(view: int, block_id: bytes, signers: bytes, commit_id: bytes = ZERO_HASH, phase: Phase = Phase.GENERIC) -> QC:
    return QC(3, view, phase, block_id, commit_id, signers, bytes(96))


PROPOSALS = DoubleProposal(replace(SIGNED_BLOCK, block_id=LOW), replace(SIGNED_BLOCK, block_id=HIGH))
VOTES = DoubleVote(vote(9, LOW), vote(9, HIGH))
QCS = DoubleVote(qc(9, LOW, b"\x07"), qc(9, HIGH, b"\x0e"))
COMMIT_IDS = DoubleVote(vote(9, LOW, LOW), vote(9, LOW, HIGH))
LIE = TimeoutLie(vote(20, BLOCK.id), BLOCK, TimeoutShare(3, 20, 7, 1, bytes(96)))
LIES = TimeoutLie(
    qc(20, LOW, b"\x0f", HIGH), None, TC(3, 25, (TimeoutGroup(19, b"\x02"), TimeoutGroup(18, b"\x0c")), bytes(96), QC_8)
)
LATER_LIE = TimeoutLie(vote(9, LOW, phase=Phase.PRECOMMIT), None, TimeoutShare(3, 9, 8, 1, bytes(96)))
CHAINED_LOCK = LockViolation(vote(20, BLOCK.id), (BLOCK, PARENT), vote(21, FORK.id), FORK)
COMMIT_LOCK = LockViolation(qc(20, LOW, b"\x07", HIGH), (), qc(21, FORK.id, b"\x0e"), FORK)
BASIC_FORK = replace(FORK, mode=BASIC)
BASIC_LOCK = LockViolation(
    vote(9, LOW, LOW, Phase.COMMIT), (), vote(21, BASIC_FORK.id, phase=Phase.PREPARE), BASIC_FORK
)
BATCHES = DoubleBatch(replace(SIGNED_BATCH, digest=LOW), replace(SIGNED_BATCH, digest=HIGH))

SOUND: dict[str, tuple[Evidence, Mode, tuple[int, ...], int]] = {
    "two proposals": (PROPOSALS, CHAINED, (1,), 9),
    "two votes": (VOTES, JOLTEON, (1,), 9),
    "two QCs": (QCS, CHAINED, (1, 2), 9),
    "two commit ids": (COMMIT_IDS, CHAINED, (1,), 9),
    "a vote and a timeout": (LIE, CHAINED, (1,), 20),
    "a QC and a TC": (LIES, JOLTEON, (2, 3), 25),
    "a later vote and a timeout of its view": (LATER_LIE, BASIC, (1,), 9),
    "a lock shown by two headers": (CHAINED_LOCK, CHAINED, (1,), 21),
    "a lock shown by a commit id": (COMMIT_LOCK, CHAINED, (1, 2), 21),
    "a lock shown by a COMMIT vote": (BASIC_LOCK, BASIC, (1,), 21),
    "two batches": (BATCHES, CHAINED, (2,), 41),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_evidence(name: str) -> None:
    found, mode, culprits, view = SOUND[name]
    assert found.flaw(mode) is None
    assert found.culprits == culprits
    assert (found.epoch, found.view) == (3, view)
    assert decode_evidence(found.encoding) == found


def test_every_kind_is_among_them() -> None:
    assert {found.kind for found, *_ in SOUND.values()} == set(EvidenceKind)


FLAWS: dict[str, tuple[Evidence, Mode, str]] = {
    "proposals of two epochs": (replace(PROPOSALS, second=replace(PROPOSALS.second, epoch=4)), CHAINED, "epochs"),
    "proposals of two views": (replace(PROPOSALS, second=replace(PROPOSALS.second, view=8)), CHAINED, "two views"),
    "two proposers": (replace(PROPOSALS, second=replace(PROPOSALS.second, proposer=2)), CHAINED, "two proposers"),
    "one proposal twice": (replace(PROPOSALS, second=PROPOSALS.first), CHAINED, "same block"),
    "proposals in the wrong order": (DoubleProposal(PROPOSALS.second, PROPOSALS.first), CHAINED, "order"),
    "votes of two epochs": (replace(VOTES, second=replace(VOTES.second, epoch=4)), CHAINED, "two epochs"),
    "votes of two views": (replace(VOTES, second=replace(VOTES.second, view=8)), CHAINED, "two views"),
    "votes of two phases": (
        DoubleVote(vote(9, LOW, phase=Phase.PREPARE), vote(9, HIGH, phase=Phase.PRECOMMIT)),
        BASIC,
        "two phases",
    ),
    "votes of another protocol": (VOTES, BASIC, "this protocol"),
    "votes of view 0": (DoubleVote(vote(0, LOW), vote(0, HIGH)), CHAINED, "this protocol"),
    "one vote in other bytes": (
        DoubleVote(vote(9, LOW), replace(vote(9, LOW), signature=b"\1" * 96)),
        CHAINED,
        "the same vote",
    ),
    "two QCs for one block": (DoubleVote(qc(9, LOW, b"\x07"), qc(9, LOW, b"\x0e")), CHAINED, "the same vote"),
    "votes in the wrong order": (DoubleVote(VOTES.second, VOTES.first), CHAINED, "order"),
    "votes of two signers": (replace(VOTES, second=replace(VOTES.second, signer=2)), CHAINED, "nobody"),
    "a vote and a QC without it": (DoubleVote(vote(9, LOW), qc(9, HIGH, b"\x0d")), CHAINED, "nobody"),
    "timeout and vote of two epochs": (replace(LIE, gave_up=replace(LIE.gave_up, epoch=4)), CHAINED, "epochs"),
    "a timeout before the vote": (
        replace(LIE, gave_up=TimeoutShare(3, 19, 7, 1, bytes(96))),
        CHAINED,
        "earlier view than the vote",
    ),
    "a timeout that reports the QC": (replace(LIE, gave_up=TimeoutShare(3, 20, 8, 1, bytes(96))), CHAINED, "nobody"),
    "a timeout of another signer": (replace(LIE, gave_up=TimeoutShare(3, 20, 7, 2, bytes(96))), CHAINED, "nobody"),
    "a TC whose liars did not vote": (replace(LIES, voted=qc(20, LOW, b"\x03", HIGH)), JOLTEON, "nobody"),
    "a vote without its header": (replace(LIE, header=None), CHAINED, "missing"),
    "a vote with another header": (replace(LIE, header=PARENT), CHAINED, "another one"),
    "a header that is not needed": (replace(LIE, voted=vote(20, BLOCK.id, LOW)), CHAINED, "not needed"),
    "a later vote of another protocol": (LATER_LIE, CHAINED, "this protocol"),
    "a lock of another protocol": (CHAINED_LOCK, JOLTEON, "no lock follows"),
    "a lock that needs the parent's header": (replace(CHAINED_LOCK, path=(BLOCK,)), CHAINED, "no lock follows"),
    "a lock shown by headers that do not follow each other": (
        replace(CHAINED_LOCK, path=(BLOCK, replace(PARENT, justify=replace(QC_8, view=4)))),
        CHAINED,
        "no lock follows",
    ),
    "a header of another block": (replace(CHAINED_LOCK, header=PARENT), CHAINED, "another one"),
    "a header of another protocol": (
        LockViolation(BASIC_LOCK.voted, (), vote(21, FORK.id, phase=Phase.PREPARE), FORK),
        BASIC,
        "a header of another protocol",
    ),
    "an earlier vote": (
        LockViolation(replace(COMMIT_LOCK.voted, view=22), (), COMMIT_LOCK.later, FORK),
        CHAINED,
        "not of a later view",
    ),
    "locks and votes of different signers": (replace(COMMIT_LOCK, later=qc(21, FORK.id, b"\x08")), CHAINED, "nobody"),
    "a lock and a vote of two epochs": (
        replace(COMMIT_LOCK, later=replace(COMMIT_LOCK.later, epoch=4)),
        CHAINED,
        "epochs",
    ),
    "a PRECOMMIT vote locks nobody": (
        replace(BASIC_LOCK, voted=vote(9, LOW, phase=Phase.PRECOMMIT)),
        BASIC,
        "no lock follows",
    ),
    "a later phase needs no lock": (
        replace(BASIC_LOCK, later=vote(21, BASIC_FORK.id, phase=Phase.PRECOMMIT)),
        BASIC,
        "this protocol",
    ),
    "batches of two epochs": (replace(BATCHES, second=replace(BATCHES.second, epoch=4)), CHAINED, "epochs"),
    "batches of two authors": (replace(BATCHES, second=replace(BATCHES.second, author=3)), CHAINED, "two authors"),
    "batches of two numbers": (replace(BATCHES, second=replace(BATCHES.second, seq=42)), CHAINED, "two numbers"),
    "one batch twice": (replace(BATCHES, second=BATCHES.first), CHAINED, "same batch"),
    "batches in the wrong order": (DoubleBatch(BATCHES.second, BATCHES.first), CHAINED, "order"),
}


@pytest.mark.parametrize("name", FLAWS)
def test_flaws(name: str) -> None:
    found, mode, expected = FLAWS[name]
    flaw = found.flaw(mode)
    assert flaw is not None and expected in flaw


def test_the_lock_itself_is_no_violation() -> None:
    """justify.view == lock is allowed: an honest replica goes on from what it is locked on."""
    for justified, sound in ((17, True), (18, False), (19, False)):
        fork = replace(FORK, justify=replace(QC_8, view=justified))
        found = LockViolation(vote(20, LOW, HIGH), (), vote(21, fork.id), fork)
        assert (found.flaw(CHAINED) is None) is sound


def test_a_later_lock_is_no_violation() -> None:
    found = LockViolation(vote(21, LOW, HIGH), (), vote(21, FORK.id), FORK)
    assert found.flaw(CHAINED) == "the later vote is not of a later view"


@pytest.mark.parametrize(
    "make", [DoubleProposal.of, DoubleVote.of, DoubleBatch.of], ids=["proposals", "votes", "batches"]
)
def test_one_pair_is_one_evidence(make: Callable[[Any, Any], Evidence]) -> None:
    pairs: dict[Any, Any] = {DoubleProposal.of: PROPOSALS, DoubleVote.of: COMMIT_IDS, DoubleBatch.of: BATCHES}
    pair = pairs[make]
    assert make(pair.first, pair.second) == make(pair.second, pair.first) == pair


# ---- identity


def test_an_offence_is_the_same_whatever_proves_it() -> None:
    again = DoubleVote(vote(9, LOW), replace(vote(9, fill("third")), signature=b"\1" * 96))
    assert again.offence == VOTES.offence
    assert again.key != VOTES.key


def test_offences_differ_by_kind_epoch_view_and_culprits() -> None:
    others = [
        DoubleVote(replace(VOTES.first, epoch=4), replace(VOTES.second, epoch=4)),
        DoubleVote(replace(VOTES.first, view=10), replace(VOTES.second, view=10)),
        DoubleVote(replace(VOTES.first, signer=2), replace(VOTES.second, signer=2)),
        QCS,
        PROPOSALS,
    ]
    assert len({VOTES.offence, *(other.offence for other in others)}) == 6


def test_offences_are_in_the_order_of_views_and_short() -> None:
    views = [1, 2, 255, 256, 2**40]
    found = [DoubleVote(replace(VOTES.first, view=v), replace(VOTES.second, view=v)).offence for v in views]
    assert found == sorted(found)
    everyone = DoubleVote(qc(9, LOW, b"\xff" * 128), qc(9, HIGH, b"\xff" * 128))
    assert len(everyone.offence) == 17 + MAX_VALIDATORS // 8


@given(value=evidence)
@wire_settings
def test_anything_that_decodes_can_be_asked_anything(value: Evidence) -> None:
    """Hostile bytes reach these questions before any signature is looked at."""
    for mode in Mode:
        flaw = value.flaw(mode)
        assert flaw is None or flaw
    assert all(value.said)
    assert value.accused >= 0
    assert len(value.key) == 32
    assert value.offence
    assert len(value.statements) == 2


# ---- bytes


def test_the_kind_comes_first() -> None:
    assert [int(kind) for kind in EvidenceKind] == [1, 2, 3, 4, 5]
    for found, *_ in SOUND.values():
        assert found.encoding[0] == found.kind


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_unknown_kinds_are_refused(kind: int) -> None:
    assert f"got kind {kind}" in refused(decode_evidence, bytes([kind]) + VOTES.encoding[1:])


def test_layouts() -> None:
    place = struct.pack(">QQH", 3, 9, 1)
    assert PROPOSALS.first.encoding == place + LOW + SIGNED_BLOCK.signature
    assert BATCHES.first.encoding == struct.pack(">QHQ", 3, 2, 41) + LOW + SIGNED_BATCH.signature
    assert SHARE.encoding == struct.pack(">QQQH", 3, 11, 2, 0) + SHARE.signature
    assert PROPOSALS.encoding == b"\1" + PROPOSALS.first.encoding + PROPOSALS.second.encoding
    mixed = DoubleVote(VOTE, QC_8)
    assert mixed.encoding == b"\2\0" + VOTE.encoding + b"\1" + QC_8.encoding
    assert TimeoutLie(VOTE, None, SHARE).encoding == b"\3\0" + VOTE.encoding + b"\0\0" + SHARE.encoding
    with_header = TimeoutLie(QC_8, PLAIN, TC_9)
    assert with_header.encoding == b"\3\1" + QC_8.encoding + b"\1" + PLAIN.encoding + b"\1" + TC_9.encoding
    lock = LockViolation(VOTE, (PLAIN, PLAIN), QC_8, PLAIN)
    headers = b"\2" + PLAIN.encoding * 2
    assert lock.encoding == b"\4\0" + VOTE.encoding + headers + b"\1" + QC_8.encoding + PLAIN.encoding


@pytest.mark.parametrize("tag", [2, 255])
def test_tags_are_0_or_1(tag: int) -> None:
    encoded = bytearray(VOTES.encoding)
    encoded[1] = tag
    assert f"got tag {tag}" in refused(decode_evidence, bytes(encoded))


def test_headers_are_counted() -> None:
    three = LockViolation(VOTE, (PLAIN,) * 3, VOTE, PLAIN)
    assert "got 3 headers, allowed: at most 2" in refused(decode_evidence, three.encoding)
    two = TimeoutLie(VOTE, PLAIN, SHARE).encoding.replace(b"\1" + PLAIN.encoding, b"\2" + PLAIN.encoding * 2)
    assert "got 2 headers, allowed: at most 1" in refused(decode_evidence, two)


def test_the_largest_fits_and_more_is_not_even_read() -> None:
    groups = tuple(TimeoutGroup(v, b"\xff" * 128) for v in range(MAX_VALIDATORS, 0, -1))
    crowd = TC(3, 9, groups, bytes(96), replace(QC_8, signers=b"\xff" * 128))
    largest = TimeoutLie(replace(QC_8, signers=b"\xff" * 128), PLAIN, crowd)
    assert decode_evidence(largest.encoding) == largest
    assert len(largest.encoding) < MAX_EVIDENCE_BYTES
    assert "allowed: at most" in refused(decode_evidence, b"\2" + bytes(MAX_EVIDENCE_BYTES))


# ---- words


def test_what_was_said() -> None:
    assert PROPOSALS.said == (f"proposed block {'11' * 8}", f"proposed block {'22' * 8}")
    assert COMMIT_IDS.said[1] == f"voted for block {'11' * 8} in view 9, committing {'22' * 8}"
    assert QCS.said[0] == f"voted for block {'11' * 8} in view 9 (in a QC)"
    assert LATER_LIE.said[0].startswith("voted (PRECOMMIT) for block")
    assert LIE.said[1] == "gave up on view 20, reporting a QC of view 7 as the highest"
    assert LIES.said[1] == "gave up on view 25, reporting a QC of view 18 or lower as the highest"
    assert CHAINED_LOCK.said[0].endswith("locked on a QC of view 5")
    assert CHAINED_LOCK.said[1].endswith("which is justified by a QC of view 4")
    assert BATCHES.said[0] == f"signed batch {'11' * 8} as number 41"
