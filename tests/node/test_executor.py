from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import CONTEXT, NETWORK, Frames, frame_data, make_batch, make_block, make_chain, transaction

from hotstuff import native
from hotstuff.app.ordered_log import OrderedLog
from hotstuff.app.sessions import MAX_GAPS
from hotstuff.errors import InvariantViolation
from hotstuff.node.executor import ClientAnswer, Executor
from hotstuff.storage.chain import ChainStore, Executed
from hotstuff.storage.datadir import DataDir
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.client import Answer

LANES = 3
ALICE, BOB = b"a" * 16, b"b" * 16


class Bench:
    """An executor and the bodies that it may ask for."""

    def __init__(self, executed: Executed | None = None, sessions: dict[bytes, bytes] | None = None) -> None:
        self.executor = Executor(executed or Executed.nothing(CONTEXT, LANES), sessions or {})
        self.bodies: dict[BatchRef, Batch] = {}

    def run(self, payloads: Sequence[Sequence[Batch]]) -> list[ClientAnswer]:
        """Execute a chain that starts at the first block."""
        self.bodies |= {batch.ref: batch for batches in payloads for batch in batches}
        answers, _ = self.executor.execute(make_chain(payloads), self.bodies.__getitem__)
        return answers


def root_of(client_id: bytes, first: int, count: int) -> bytes:
    return native.parse_body(frame_data(client_id, first, count), 1)[0].root


def state_after(*runs: tuple[bytes, int, int]) -> bytes:
    log = OrderedLog()
    for client_id, first, count in runs:
        log.execute(root_of(client_id, first, count), count)
    return log.state


def test_frames_in_their_order() -> None:
    bench = Bench()
    answers = bench.run([[make_batch(0, 1, [(ALICE, 1, 3), (BOB, 1, 2)])], [], [make_batch(2, 5, [(ALICE, 4, 1)])]])
    first, second = state_after((ALICE, 1, 3)), state_after((ALICE, 1, 3), (BOB, 1, 2))
    last = state_after((ALICE, 1, 3), (BOB, 1, 2), (ALICE, 4, 1))
    assert answers == [
        ClientAnswer(ALICE, Answer(1, 3, 3, 1, first)),
        ClientAnswer(BOB, Answer(1, 2, 2, 1, second)),
        ClientAnswer(ALICE, Answer(4, 1, 1, 3, last)),
    ]
    executed = bench.executor.executed
    assert (executed.height, executed.state, executed.tx_count) == (3, last, 6)
    assert executed.included == (1, 0, 5)


def test_a_frame_that_was_executed_is_answered_and_not_executed() -> None:
    bench = Bench()
    frame = (ALICE, 1, 3)
    answers = bench.run([[make_batch(0, 1, [frame, frame]), make_batch(1, 1, [frame])], [make_batch(2, 1, [frame])]])
    state = state_after(frame)
    assert [a.answer for a in answers] == [
        Answer(1, 3, 3, 1, state),
        Answer(1, 3, 0, 1, state),
        Answer(1, 3, 0, 1, state),
        Answer(1, 3, 0, 2, state),
    ]
    assert bench.executor.executed.tx_count == 3


def test_of_an_overlapping_frame_only_the_new_part_is_executed() -> None:
    bench = Bench()
    answers = bench.run([[make_batch(0, 1, [(ALICE, 3, 2), (ALICE, 7, 1), (ALICE, 1, 10)])]])
    state = state_after((ALICE, 3, 2), (ALICE, 7, 1), (ALICE, 1, 2), (ALICE, 5, 2), (ALICE, 8, 3))
    assert answers[-1].answer == Answer(1, 10, 7, 1, state)
    assert bench.executor.executed.tx_count == 10


def test_a_frame_that_would_open_too_many_gaps_is_answered_as_not_executed() -> None:
    bench = Bench()
    scattered = [(ALICE, 10 * i, 1) for i in range(1, MAX_GAPS + 1)]
    far = (ALICE, 10 * MAX_GAPS + 10, 2)
    answers = bench.run([[make_batch(0, 1, [*scattered, far])], [make_batch(0, 2, [(ALICE, 1, 9), far])]])
    state = state_after(*scattered)
    assert answers[MAX_GAPS].answer == Answer(far[1], 2, 0, 1, state, executed=False)
    assert answers[-1].answer.executed
    assert answers[-1].answer.fresh == 2
    assert bench.executor.executed.tx_count == MAX_GAPS + 9 + 2


def test_the_same_numbers_of_two_clients_are_two_transactions() -> None:
    bench = Bench()
    answers = bench.run([[make_batch(0, 1, [(ALICE, 1, 2), (BOB, 1, 2)])]])
    assert [a.answer.fresh for a in answers] == [2, 2]


def test_a_frame_that_leaves_too_many_gaps_is_answered_and_not_executed() -> None:
    bench = Bench()
    frames = [(ALICE, 2 * i, 1) for i in range(1, 66)]
    answers = bench.run([[make_batch(0, 1, frames)], [make_batch(1, 1, [(ALICE, 1, 1), frames[-1]])]])
    state = state_after(*frames[:64])
    last = state_after(*frames[:64], (ALICE, 1, 1), frames[-1])
    assert [a.answer.executed for a in answers] == [True] * 64 + [False, True, True]
    assert answers[64].answer == Answer(130, 1, 0, 1, state, executed=False)
    assert answers[66].answer == Answer(130, 1, 1, 2, last)
    assert bench.executor.executed.tx_count == 66


def test_a_block_that_does_not_follow_is_our_own_bug() -> None:
    bench = Bench()
    blocks = make_chain([[], [], []])
    for wrong in (blocks[1:], (blocks[0], blocks[2]), (blocks[0], blocks[0])):
        with pytest.raises(InvariantViolation, match="does not follow the executed one at"):
            Bench().executor.execute(wrong, {}.__getitem__)
    bench.executor.execute(blocks[:2], {}.__getitem__)
    with pytest.raises(InvariantViolation, match="block at height 9 does not follow the executed one at 2"):
        bench.executor.execute((make_block(9, blocks[0].id),), {}.__getitem__)
    bench.executor.execute(blocks[2:], {}.__getitem__)
    assert bench.executor.executed.height == 3


def test_nothing_to_execute_changes_nothing() -> None:
    bench = Bench()
    before = bench.executor.executed
    answers, _ = bench.executor.execute((), {}.__getitem__)
    assert (answers, bench.executor.executed) == ([], before)


# ---- any schedule

FRAMES = st.tuples(st.sampled_from([ALICE, BOB]), st.integers(1, 30), st.integers(1, 8))
PAYLOADS = st.lists(st.lists(st.lists(FRAMES, min_size=1, max_size=4), max_size=3), max_size=6)


def batches_of(payloads: Sequence[Sequence[Frames]]) -> list[list[Batch]]:
    """Authors take turns; numbers in a lane ascend."""
    made, count = [], 0
    for payload in payloads:
        made.append([])
        for frames in payload:
            made[-1].append(make_batch(count % LANES, 1 + count // LANES, frames))
            count += 1
    return made


@given(PAYLOADS)
def test_each_transaction_once(payloads: list[list[list[tuple[bytes, int, int]]]]) -> None:
    """Against a set of numbers and a hash that is computed transaction run by transaction run."""
    bench, log = Bench(), OrderedLog()
    done: set[tuple[bytes, int]] = set()
    expected: list[tuple[int, bytes]] = []
    for frames in (frames for payload in payloads for frames in payload):
        for client_id, first, count in frames:
            fresh = [n for n in range(first, first + count) if (client_id, n) not in done]
            starts = [n for n in fresh if n - 1 not in fresh]
            for start in starts:
                stop = next(n for n in range(start, first + count + 1) if n not in fresh)
                log.execute(root_of(client_id, start, stop - start), stop - start)
            done |= {(client_id, n) for n in fresh}
            expected.append((len(fresh), log.state))
    answers = bench.run(batches_of(payloads))
    assert [(a.answer.fresh, a.answer.state) for a in answers] == expected
    assert bench.executor.executed.tx_count == len(done) == log.executed


@given(PAYLOADS)
def test_how_blocks_are_grouped_makes_no_difference(payloads: list[list[list[tuple[bytes, int, int]]]]) -> None:
    batches = batches_of(payloads)
    together, apart = Bench(), Bench()
    answers = together.run(batches)
    apart.bodies = together.bodies
    one_by_one: list[ClientAnswer] = []
    for block in make_chain(batches):
        one_by_one += apart.executor.execute((block,), apart.bodies.__getitem__)[0]
    assert one_by_one == answers
    assert apart.executor.executed == together.executor.executed


# ---- restart


def random_payloads(seed: int, blocks: int) -> list[list[Batch]]:
    rng = random.Random(seed)
    clients = [bytes([i]) * 16 for i in range(1, 6)]
    payloads = [
        [[(rng.choice(clients), rng.randint(1, 300), rng.randint(1, 20)) for _ in range(4)] for _ in range(2)]
        for _ in range(blocks)
    ]
    return batches_of(payloads)


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_goes_on_identically(data: DataDir, store: ChainStore, seed: int) -> None:
    payloads = random_payloads(seed, 24)
    always = Bench()
    expected = always.run(payloads)
    blocks, rng = make_chain(payloads), random.Random(seed)
    store.store_batches(list(always.bodies.values()))
    answers: list[ClientAnswer] = []

    def body_of(ref: BatchRef) -> Batch:
        found = store.load_batch(ref)
        assert found is not None
        return found

    while True:
        executed = store.load_executed(CONTEXT, LANES)
        executor = Executor(executed, store.load_sessions())
        todo: tuple[Block, ...] = blocks[executed.height :]
        if not todo:
            break
        for _ in range(rng.randint(1, 3)):
            part, todo = todo[:2], todo[2:]
            new, records = executor.execute(part, body_of)
            answers += new
            store.persist((), records)
        data.close()
        data = DataDir.open(data.path, NETWORK, 0, fsync=False, create_if_missing=False)
        store = ChainStore(data)
    data.close()
    assert answers == expected
    assert executor.executed == always.executor.executed


def test_what_was_not_saved_is_executed_again(store: ChainStore) -> None:
    """The write after an execution may be lost with the process; the blocks are then executed again."""
    payloads = random_payloads(9, 6)
    always = Bench()
    expected = always.run(payloads)
    blocks = make_chain(payloads)
    first = Executor(store.load_executed(CONTEXT, LANES), store.load_sessions())
    _, records = first.execute(blocks[:2], always.bodies.__getitem__)
    store.persist((), records)
    first.execute(blocks[2:5], always.bodies.__getitem__)
    second = Executor(store.load_executed(CONTEXT, LANES), store.load_sessions())
    assert second.executed.height == 2
    answers, _ = second.execute(blocks[2:], always.bodies.__getitem__)
    assert answers == [a for a in expected if a.answer.height > 2]
    assert second.executed == always.executor.executed


def test_the_transactions_of_the_helpers_differ() -> None:
    assert transaction(ALICE, 1) != transaction(ALICE, 2) != transaction(BOB, 2)
