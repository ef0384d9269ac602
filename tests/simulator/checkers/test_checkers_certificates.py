"""I9 fires on certificates that nobody can have formed honestly, wherever they turn up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from stage import Stage, violates

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.certificates import GenuineCertificates
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import BlockResponse, ChainResponse, NewView, RecoveryResponse


@pytest.fixture
def stage() -> Stage:
    return Stage(GenuineCertificates())


@pytest.fixture
def qc(stage: Stage) -> QC:
    """Two honest votes and the Byzantine one."""
    block = stage.proposes(stage.block(1))
    stage.votes((0, 1), block)
    return stage.qc(block, (0, 1, 3))


def test_genuine_certificates_pass(stage: Stage, qc: QC) -> None:
    stage.sends(0, NewView(qc, None))
    stage.sends(1, stage.timeout(1, 2, qc))
    stage.sends(2, stage.timeout(2, 2))
    stage.sends(1, NewView(qc, stage.tc(2, {1: qc, 2: stage.genesis, 3: stage.genesis})))
    stage.chain(1, 2, 3, 6, 7, 8, 9)


FORGED: list[tuple[Callable[[Stage, QC], QC], str]] = [
    (lambda stage, qc: stage.qc(stage.observer.ledger(stage.world).blocks[qc.block_id]), r"\[2\] have not signed that"),
    (lambda stage, qc: stage.qc(stage.observer.ledger(stage.world).blocks[qc.block_id], (0, 1)), "no quorum"),
    (lambda stage, qc: replace(qc, commit_id=b"c" * 32), "have not signed that"),
    (lambda stage, qc: replace(qc, phase=Phase.PREPARE), "of another epoch or protocol"),
    (lambda stage, qc: replace(qc, epoch=2), "of another epoch or protocol"),
    (lambda stage, qc: replace(qc, signers=qc.signers + b"\0"), "malformed"),
    (lambda stage, qc: replace(qc, signers=b"\x1b"), "malformed"),
    (lambda stage, qc: replace(qc, signature=bytes(96)), "not the sum"),
    (lambda stage, qc: replace(stage.genesis, signature=b"\1" * 96), "not the genesis certificate"),
]


@pytest.mark.parametrize(("forge", "what"), FORGED)
def test_a_forged_qc_is_found(stage: Stage, qc: QC, forge: Callable[[Stage, QC], QC], what: str) -> None:
    with violates("I9", f"sends a NewView with a QC of view .*{what}"):
        stage.sends(0, NewView(forge(stage, qc), None))


def test_certificates_of_byzantine_senders_are_their_own_business(stage: Stage, qc: QC) -> None:
    stage.sends(3, NewView(replace(qc, signature=bytes(96)), None))


def test_a_forged_qc_is_found_in_every_message_and_in_the_record(stage: Stage, qc: QC) -> None:
    forged = replace(qc, signature=bytes(96))
    block = stage.block(2, forged, height=2)
    tc = replace(stage.tc(2, dict.fromkeys((0, 1, 3), qc)), high_qc=forged)
    for i in (0, 1):
        stage.sends(i, stage.timeout(i, 2, qc))
    ways: list[Callable[[], object]] = [
        lambda: stage.proposes(block),
        lambda: stage.sends(0, stage.timeout(0, 2, forged)),
        lambda: stage.sends(0, stage.timeout(0, 3, qc, tc)),
        lambda: stage.sends(0, NewView(qc, tc)),
        lambda: stage.sends(0, BlockResponse(block.id, (block,))),
        lambda: stage.sends(0, ChainResponse(1, (stage.block(1),), forged)),
        lambda: stage.sends(0, RecoveryResponse(forged, None)),
        lambda: stage.writes(0, [block]),
        lambda: stage.writes(0, high_qc=forged),
        lambda: stage.writes(0, high_qc=qc, locked_qc=forged),
        lambda: stage.writes(0, high_qc=qc, locked_qc=qc, high_tc=tc),
        lambda: stage.observer.persisted(stage.world, stage.node(0), [fx.Persist(commit_qc=forged)]),
    ]
    for way in ways:
        with violates("I9"):
            way()


FORGED_TCS: list[tuple[Callable[[Stage, QC, TC], TC], str]] = [
    (lambda stage, qc, tc: stage.tc(2, {0: qc, 1: stage.genesis, 3: qc}), r"\[1\] have not signed that"),
    (lambda stage, qc, tc: stage.tc(2, {0: qc, 1: qc}), "no quorum"),
    (lambda stage, qc, tc: stage.tc(3, {0: qc, 1: qc, 3: qc}), r"\[0, 1\] have not signed that"),
    (lambda stage, qc, tc: replace(tc, groups=(*tc.groups, TimeoutGroup(0, b"\3"))), "overlapping"),
    (lambda stage, qc, tc: replace(tc, groups=(TimeoutGroup(0, b"\x08"), *tc.groups)), "descending"),
    (lambda stage, qc, tc: replace(tc, groups=(TimeoutGroup(1, b"\x03"), TimeoutGroup(1, b"\x08"))), "descending"),
    (lambda stage, qc, tc: replace(tc, groups=()), "empty"),
    (lambda stage, qc, tc: replace(tc, epoch=2), "another epoch"),
    (lambda stage, qc, tc: replace(tc, high_qc=stage.genesis), "its highest report is 1, its QC of view 0"),
    (lambda stage, qc, tc: replace(tc, high_qc=replace(qc, signature=bytes(96))), "its QC: the signature"),
    (lambda stage, qc, tc: replace(tc, signature=bytes(96)), "not the sum"),
]


@pytest.mark.parametrize(("forge", "what"), FORGED_TCS)
def test_a_forged_tc_is_found(stage: Stage, qc: QC, forge: Callable[[Stage, QC, TC], TC], what: str) -> None:
    for i in (0, 1):
        stage.sends(i, stage.timeout(i, 2, qc))
    tc = stage.tc(2, {0: qc, 1: qc, 3: qc})
    stage.sends(0, NewView(qc, tc))
    with violates("I9", f"sends a NewView with a TC of view .*{what}"):
        stage.sends(0, NewView(qc, forge(stage, qc, tc)))


def test_a_tc_reports_qcs_below_its_view_except_in_basic() -> None:
    for mode, phase in ((Mode.CHAINED, Phase.GENERIC), (Mode.BASIC, Phase.PREPARE)):
        stage = Stage(GenuineCertificates(), mode=mode)
        block = stage.proposes(stage.block(1))
        stage.votes((0, 1), block, phase=phase)
        qc = stage.qc(block, (0, 1, 3), phase=phase)
        for i in (0, 1):
            stage.sends(i, stage.timeout(i, 1, qc))
        message = NewView(qc, stage.tc(1, dict.fromkeys((0, 1, 3), qc)))
        if mode is Mode.BASIC:
            stage.sends(0, message)
        else:
            with violates("I9", "its highest report is 1"):
                stage.sends(0, message)


COMMITS = [
    (Mode.CHAINED, (1, 2, 3), 0),
    (Mode.CHAINED, (2, 3, 4), 0),
    (Mode.CHAINED, (1, 3, 4), None),
    (Mode.CHAINED, (1, 2, 4), None),
    (Mode.HOTSTUFF2, (1, 2, 3), 1),
    (Mode.HOTSTUFF2, (1, 2, 4), None),
    (Mode.JOLTEON, (1, 3, 4), 1),
    (Mode.JOLTEON, (1, 3, 5), None),
]


@pytest.mark.parametrize(("mode", "views", "committed"), COMMITS)
def test_votes_name_what_they_commit(mode: Mode, views: tuple[int, ...], committed: int | None) -> None:
    stage = Stage(GenuineCertificates(), mode=mode)
    blocks = stage.chain(*views)
    last, expected = blocks[-1], bytes(32) if committed is None else blocks[committed].id
    ledger = stage.observer.ledger(stage.world)
    assert ledger.commits(last.id, Phase.GENERIC) == expected
    for wrong in {bytes(32), *(block.id for block in blocks)} - {expected}:
        with violates("I9", "wrong commit id"):
            stage.votes((0,), last, wrong)


def test_in_basic_only_the_last_phase_commits() -> None:
    stage = Stage(GenuineCertificates(), mode=Mode.BASIC)
    block = stage.proposes(stage.block(1))
    for phase in (Phase.PREPARE, Phase.PRECOMMIT):
        stage.votes((0,), block, phase=phase)
        with violates("I9", "wrong commit id"):
            stage.votes((1,), block, block.id, phase=phase)
    stage.votes((0,), block, block.id, phase=Phase.COMMIT)
    with violates("I9", "wrong commit id"):
        stage.votes((1,), block, phase=Phase.COMMIT)
