"""I16 fires when an honest validator is accused, and when those behind a fork are not all named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import Stage, violates

from hotstuff.consensus import effects as fx
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.checkers.accountability import Accountability
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.disk import Disk
from hotstuff.types.evidence import DoubleBatch, DoubleVote, Evidence
from hotstuff.types.statements import SignedBatch


@pytest.fixture
def stage() -> Stage:
    return accountable()


def accountable(byzantine: tuple[int, ...] = (3,)) -> Stage:
    """Four validators under both checkers that it takes, and the verifier that an audit asks."""
    from hotstuff.consensus.verifier import Verifier
    from hotstuff.simulator.scheme import STAND_IN

    agreement = Agreement(may_fork=True)
    stage = Stage(agreement, Accountability(agreement), byzantine=byzantine)
    stage.world.verifier = Verifier(stage.context, stage.validators, STAND_IN)
    return stage


def stores(stage: Stage, evidence: Evidence) -> None:
    """Validator 0 makes it durable."""
    stage.observer.persisted(stage.world, stage.node(0), [fx.Persist(evidence=(evidence,))])


def double_vote(stage: Stage, i: int) -> DoubleVote:
    """Evidence with valid signatures."""
    rival = stage.block(1, refs=[stage.batch().ref])
    return DoubleVote.of(stage.vote(i, stage.block(1)), stage.vote(i, rival))


def test_who_is_byzantine_may_be_accused(stage: Stage) -> None:
    stores(stage, double_vote(stage, 3))
    stage.ends()


def test_who_is_honest_may_not(stage: Stage) -> None:
    with violates("I16", "validator 0 accuses validator 1, who is honest, of a double vote in view 1"):
        stores(stage, double_vote(stage, 1))


def test_evidence_that_does_not_verify_is_found(stage: Stage) -> None:
    evidence = double_vote(stage, 3)
    with violates("I16", "does not verify"):
        stores(stage, replace(evidence, first=replace(evidence.first, signature=bytes(96))))


def test_only_who_lost_its_data_may_have_signed_two_batches(stage: Stage) -> None:
    evidence = DoubleBatch.of(*(SignedBatch.of(stage.batch(1, first_tx=tx)) for tx in (1, 2)))
    stage.writes(1, [stage.block(1)])
    stage.restarts(1, replace(stage.node(1).disk, safety=SafetyRecord.initial(stage.context, passive=True)))
    with violates("I16", "accuses validator 1, who is honest, of a double batch"):
        stores(stage, evidence)
    stage.restarts(1, Disk(SafetyRecord.initial(stage.context, passive=True)))
    stores(stage, evidence)
    with violates("I16", "double vote"):
        stores(stage, double_vote(stage, 1))


@pytest.mark.parametrize(("byzantine", "fine"), [((2, 3), True), ((3,), False)])
def test_after_a_fork_enough_are_named(byzantine: tuple[int, ...], fine: bool) -> None:
    stage = accountable(byzantine)
    stage.executes(0, stage.block(1))
    stage.executes(1, stage.block(2))
    for i in byzantine:
        stores(stage, double_vote(stage, i))
    if fine:
        stage.ends()
    else:
        with violates("I16", r"at height 1, another one .*, and all evidence names only \[3\]"):
            stage.ends()


def test_an_audit_finds_what_nobody_saw_alone() -> None:
    stage = accountable((2, 3))
    blocks = [stage.shows(stage.block(1, refs=refs)) for refs in ([], [stage.batch().ref])]
    for i, block in enumerate(blocks):
        stage.writes(i, [block], high_qc=stage.qc(block, (i, 2, 3)))
        stage.executes(i, block)
    stage.ends()
    (_, accountability) = stage.observer.checkers
    assert isinstance(accountability, Accountability)
    assert sorted(accountability.named) == [2, 3]


def test_an_audit_that_names_an_honest_validator_is_found() -> None:
    stage = accountable((3,))
    blocks = [stage.shows(stage.block(1, refs=refs)) for refs in ([], [stage.batch().ref])]
    for i, block in enumerate(blocks):
        stage.writes(i, [block], high_qc=stage.qc(block, (i, 2, 3)))
    with violates("I16", "an audit accuses validator 2, who is honest, of a double vote"):
        stage.ends()
