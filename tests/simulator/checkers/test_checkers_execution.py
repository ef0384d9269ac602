"""I1, I10, I11 and I12: what is executed, in which order, with which bodies, and what clients hear of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stage import Stage, violates

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.checkers.bodies import BodiesExist
from hotstuff.simulator.checkers.execution import Answers, Execution, transactions
from hotstuff.simulator.disk import Disk
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block
from hotstuff.types.messages import StateReport


def blocks_of(stage: Stage, *payloads: list[Batch]) -> list[Block]:
    """A chain with these batches; nobody has voted."""
    found: list[Block] = []
    for view, batches in enumerate(payloads, 1):
        justify = stage.qc(found[-1]) if found else None
        found.append(stage.shows(stage.block(view, justify, height=view, refs=[batch.ref for batch in batches])))
    return found


# ---- I1 --------------------------------------------------------------------------------------------------------------


def test_chains_may_differ_in_length() -> None:
    stage = Stage(Agreement())
    blocks = blocks_of(stage, [], [], [], [])
    stage.executes(0, *blocks[:3])
    stage.executes(1, blocks[0])
    stage.executes(1, blocks[1])
    stage.executes(3, blocks[2])  # Byzantine
    stage.executes(1, blocks[2])
    stage.executes(0, blocks[3])


@pytest.mark.parametrize("order", [(1,), (0, 2), (0, 1, 0), (0, 0)])
def test_gaps_repetitions_and_disorder_are_found(order: tuple[int, ...]) -> None:
    stage = Stage(Agreement())
    blocks = blocks_of(stage, [], [], [])
    with violates("I1", "not the child of"):
        for i in order:
            stage.executes(0, blocks[i])


def test_a_wrong_height_is_found() -> None:
    stage = Stage(Agreement())
    with violates("I1", "executes height 2 in the place of 1"):
        stage.executes(0, stage.block(1, height=2))


def test_a_fork_is_found() -> None:
    stage = Stage(Agreement())
    stage.executes(0, stage.block(1))
    with violates("I1", "validator 1 executes .* at height 1, another one"):
        stage.executes(1, stage.block(2))


def test_in_a_control_run_a_fork_is_noted() -> None:
    agreement = Agreement(may_fork=True)
    stage = Stage(agreement)
    block = stage.block(2)
    stage.executes(0, stage.block(1))
    stage.executes(1, block)
    stage.executes(1, stage.block(3, stage.qc(block), height=2))
    assert agreement.fork is not None and "height 1" in agreement.fork


def test_a_life_goes_on_where_its_disk_ends() -> None:
    stage = Stage(Agreement())
    blocks = blocks_of(stage, [], [], [])
    stage.executes(0, *blocks)
    del stage.node(0).disk.executed[1:]
    stage.restarts(0)
    stage.executes(0, *blocks[1:])
    del stage.node(0).disk.executed[2:]
    stage.restarts(0)
    with violates("I1"):
        stage.executes(0, blocks[1])


def test_a_later_life_repeats_the_same_blocks() -> None:
    stage = Stage(Agreement())
    stage.executes(0, stage.block(1))
    stage.restarts(0, Disk(stage.node(0).disk.safety))
    with violates("I1", "another one"):
        stage.executes(0, stage.block(2))


# ---- I10 -------------------------------------------------------------------------------------------------------------


def committed(stage: Stage, *payloads: list[Batch]) -> list[Block]:
    """A chain whose blocks a certificate each could have committed; the bodies are everywhere."""
    blocks = blocks_of(stage, *payloads)
    for block in blocks:
        stage.votes(range(2 * len(stage.world.nodes) // 3), block, block.id)
    for i in range(len(stage.world.nodes)):
        stage.stores(i, *(batch for batches in payloads for batch in batches))
    return blocks


def test_the_same_blocks_and_bodies_give_the_same_state() -> None:
    execution = Execution()
    stage = Stage(execution)
    blocks = committed(stage, [stage.batch(0, 1), stage.batch(1, 1)], [], [stage.batch(0, 2, first_tx=5)])
    for i in (0, 1):
        stage.executes(i, *blocks)
    stage.restarts(0)
    assert execution.path[0] == execution.path[1]
    assert execution.path[0][-1].included == (2, 1, 0, 0)


def test_a_block_that_no_certificate_commits_is_not_executed() -> None:
    stage = Stage(Execution())
    blocks = blocks_of(stage, [], [], [])
    stage.votes((0, 1), blocks[1], blocks[1].id)
    stage.executes(0, blocks[0])  # an ancestor of what was committed
    stage.executes(0, blocks[1])
    with violates("I10", "which no certificate can have committed"):
        stage.executes(0, blocks[2])


def test_too_few_votes_commit_nothing() -> None:
    stage = Stage(Execution())
    (block,) = blocks_of(stage, [])
    stage.votes((0,), block, block.id)
    with violates("I10", "no certificate"):
        stage.executes(0, block)


def test_a_missing_body_is_found() -> None:
    stage = Stage(Execution())
    (block,) = committed(stage, [stage.batch()])
    stage.executes(0, block)
    stage.node(1).disk.batches.clear()
    with violates("I10", "without the body 0/1"):
        stage.executes(1, block)


@pytest.mark.parametrize("first", [True, False])
def test_a_body_that_is_not_the_one_in_the_block_is_found(first: bool) -> None:
    stage = Stage(Execution())
    batch = stage.batch()
    (block,) = committed(stage, [batch])
    if not first:
        stage.executes(0, block)
    stage.node(1).disk.batches[batch.ref] = stage.batch(first_tx=9)
    with violates("I10", "wrong body"):
        stage.executes(1, block)


@pytest.mark.parametrize("seqs", [(1, 1), (1, 3), (2, 3)])
def test_a_batch_repeated_or_skipped_is_found(seqs: tuple[int, int]) -> None:
    stage = Stage(Execution())
    blocks = committed(stage, [stage.batch(0, seqs[0])], [stage.batch(0, seqs[1])])
    with violates("I10", "repeated or skipped"):
        stage.executes(0, *blocks)


def test_a_batch_of_nobody_is_found() -> None:
    stage = Stage(Execution())
    (block,) = committed(stage, [replace(stage.batch(), author=4)])
    with violates("I10", "has batch 4/1"):
        stage.executes(0, block)


def test_another_state_at_a_height_is_found() -> None:
    stage = Stage(Execution())
    (block,) = committed(stage, [stage.batch()])
    other = stage.shows(stage.block(2))
    stage.votes((1, 2), other, other.id)
    stage.executes(0, block)
    with violates("I10", "another state after height 1"):
        stage.executes(1, other)


def test_another_state_reported_by_an_application_is_found() -> None:
    stage = Stage(Execution())
    for i, height, state in ((0, 32, b"a"), (1, 32, b"a"), (0, 64, b"b"), (3, 32, b"c")):
        stage.sends(i, StateReport(height, state * 32))
    with violates("I10", "validator 2 reports another state after height 64"):
        stage.sends(2, StateReport(64, b"a" * 32))


def test_transactions_are_read_from_the_body() -> None:
    stage = Stage(Execution())
    one, other = stage.batch(count=3), stage.batch(first_tx=7)
    client = b"client-of-checks"
    assert list(transactions(bytes(one.body) + bytes(other.body))) == [
        (client, 1),
        (client, 2),
        (client, 3),
        (client, 7),
    ]


# ---- I11 -------------------------------------------------------------------------------------------------------------


def test_a_block_that_could_be_certified_has_its_bodies() -> None:
    stage = Stage(BodiesExist())
    (block,) = blocks_of(stage, [stage.batch()])
    stage.stores(3, stage.batch())
    stage.votes((0,), block)
    with violates("I11", "could be certified, and nobody honest holds batch 0/1"):
        stage.votes((1,), block)


def test_one_honest_holder_is_enough() -> None:
    stage = Stage(BodiesExist())
    (block,) = blocks_of(stage, [stage.batch()])
    stage.stores(2, stage.batch())
    stage.votes((0, 1), block)


@pytest.mark.parametrize(
    ("executed", "holders", "fine"), [((), (2,), False), ((), (1, 2), True), ((0, 1, 2), (2,), True)]
)
def test_the_last_copy_is_not_lost_while_it_may_be_needed(
    executed: tuple[int, ...], holders: tuple[int, ...], fine: bool
) -> None:
    stage = Stage(BodiesExist())
    (block,) = blocks_of(stage, [stage.batch()])
    for i in holders:
        stage.stores(i, stage.batch())
    stage.votes((0, 1), block)
    for i in executed:
        stage.executes(i, block)
    empty = Disk(SafetyRecord.initial(stage.context, passive=True), executed=list(stage.node(2).disk.executed))
    if fine:
        stage.restarts(2, empty)
    else:
        with violates("I11", "after validator 2 lost its disk"):
            stage.restarts(2, empty)


# ---- I12 -------------------------------------------------------------------------------------------------------------


class Forked(Execution):
    """Lets a fork pass, so that it is the clients who notice."""

    def fail(self, text: str) -> None:  # type: ignore[override]
        assert "another state" in text


def histories(byzantine: tuple[int, ...]) -> tuple[Stage, Block, Block]:
    """Two blocks of height 1: transaction 5 comes first in one and second in the other."""
    execution = Forked()
    stage = Stage(execution, Answers(execution), powers=(1,) * 7, byzantine=byzantine)
    (one,) = committed(stage, [stage.batch(first_tx=5)])
    late = stage.batch(1, first_tx=4, count=2)
    other = stage.shows(stage.block(2, refs=[late.ref]))
    stage.votes((1, 2, 3, 4), other, other.id)
    for i in range(7):
        stage.stores(i, late, stage.batch(first_tx=5))
    return stage, one, other


def test_an_answer_that_was_believed_is_not_contradicted() -> None:
    stage, one, other = histories((5, 6))
    stage.executes(0, one)  # with both Byzantine ones, a third
    with violates("I12", "transaction 5 was answered with height 1 place 0, .*height 1 place 1"):
        stage.executes(1, other)


def test_an_answer_that_nobody_could_believe_contradicts_nothing_yet() -> None:
    stage, one, other = histories((6,))
    stage.executes(0, one)
    stage.restarts(0)
    stage.executes(1, other)
    with violates("I12"):
        stage.executes(2, other)


def test_a_transaction_ordered_twice_is_answered_once() -> None:
    execution = Execution()
    stage = Stage(execution, Answers(execution))
    blocks = committed(stage, [stage.batch(0, 1, first_tx=5)], [stage.batch(1, 1, first_tx=5, count=2)])
    for i in (0, 1):
        stage.executes(i, *blocks)
    stage.restarts(0)
    stage.executes(2, *blocks)
