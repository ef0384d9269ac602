from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest
from driver_helpers import FRESH, Bench, go, turns, vote, voted
from node_helpers import CONTEXT, make_batch, make_block, make_chain, until

from hotstuff.consensus import effects as fx
from hotstuff.errors import CorruptRecord, DiskFull, InvalidEncoding, InvariantViolation, StorageFailed
from hotstuff.node import bodies as bodies_module
from hotstuff.node import driver as module
from hotstuff.node.driver import (
    PAIRINGS_PER_TURN,
    SERVING_PER_PEER,
    SHARES_AT_ONCE,
    TURN_EVENTS,
)
from hotstuff.storage.chain import ChainStore, execution_records
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import (
    BatchMessage,
    BatchRequest,
    ChainRequest,
    ChainResponse,
    Kind,
    NewView,
    Proposal,
    RecoveryRequest,
    Timeout,
    decode_message,
)

CLIENT = b"c" * 16
GENESIS_QC = QC.genesis(CONTEXT)
HELLO = fx.Received(1, RecoveryRequest())
NEW_VIEW = NewView(GENESIS_QC, None)
A_TC = TC(1, 5, (TimeoutGroup(0, b"\7"),), b"\5" * 96, GENESIS_QC)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.005)
    monkeypatch.setattr(bodies_module, "RETRY_S", 0.005)


def timeout(view: int) -> Timeout:
    return Timeout(1, view, 0, b"\3" * 96, GENESIS_QC, None)


def proposal(height: int = 1) -> Proposal:
    return Proposal(make_block(height, CONTEXT.root_id), b"\4" * 64, None)


def shares(job: int, count: int) -> fx.Collect:
    return fx.Collect(job, tuple(fx.Share(i, b"m" * 32, b"s" * 96) for i in range(count)))


# ---- durable before visible


def test_everything_of_a_turn_is_durable_before_anything_leaves(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script(
            [voted(1), fx.Send(1, vote(1))],
            [fx.Send(2, NEW_VIEW)],
            [fx.Broadcast(NEW_VIEW), voted(2), fx.Broadcast(vote(2))],
        )
        bench.post(HELLO, HELLO, HELLO)
        await until(bench.sent)
        assert bench.names() == ["persist", "send", "send", "broadcast", "broadcast"]
        assert bench.calls[3] == ("persist", 2, 0), "one transaction after all three steps"
        assert [call[1] for call in bench.sent()] == [1, 2, Kind.NEW_VIEW, Kind.VOTE]
        assert store.load_safety() == voted(2).safety

    go(main, store)


def test_without_anything_to_persist_the_disk_is_left_alone(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script([fx.Send(1, NEW_VIEW)])
        bench.post(HELLO)
        await until(bench.sent)
        assert bench.names() == ["send"]

    go(main, store)


@pytest.mark.parametrize(
    ("message", "field"),
    [(vote(7), "voted_view"), (timeout(7), "timed_out_view"), (proposal(7), "proposed_view")],
    ids=["vote", "timeout", "proposal"],
)
@pytest.mark.parametrize("broadcast", [False, True])
def test_a_signed_message_needs_its_record(store: ChainStore, message: Any, field: str, broadcast: bool) -> None:
    effect = fx.Broadcast(message) if broadcast else fx.Send(2, message)
    others = {"voted_view": 99, "timed_out_view": 99, "proposed_view": 99}

    async def main(bench: Bench) -> None:
        below = fx.Persist(safety=replace(FRESH, **{**others, field: 6}))
        bench.script([below, effect, fx.Send(1, NEW_VIEW)])
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        (crash,) = bench.crashes
        assert isinstance(crash, InvariantViolation)
        assert "would leave before its safety record is durable" in str(crash)
        assert bench.sent() == []

    async def covered(bench: Bench) -> None:
        bench.script([fx.Persist(safety=replace(FRESH, **{field: 7})), effect])
        bench.post(HELLO)
        await until(bench.sent)
        assert bench.crashes == []

    go(main, store)
    go(covered, store)


def test_the_record_of_the_last_life_covers_what_is_sent_again(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script([voted(3), fx.Send(1, vote(3))], [fx.Persist(), fx.Send(1, vote(3))], [fx.Send(2, vote(4))])
        for i in range(2):
            bench.post(HELLO)
            await until(lambda i=i: len(bench.sent()) == i + 1)
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        assert len(bench.sent()) == 2

    go(main, store)


def test_a_message_to_ourselves_comes_back_after_the_sync(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script([voted(1), fx.Send(0, vote(1))])
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 2)
        assert bench.core.steps[1] == fx.Received(0, vote(1))
        assert [call[0] for call in bench.calls] == ["step", "persist", "step"]

    go(main, store)


# ---- turns and timers


def test_a_turn_takes_a_bounded_number_of_events(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.core.reply = lambda _: [fx.Persist(blocks=(make_block(1, CONTEXT.root_id),))]
        bench.post(*[HELLO] * (2 * TURN_EVENTS + 1))
        await until(lambda: bench.names() == ["persist"] * 3)
        assert [call[1] for call in bench.calls if call[0] == "persist"] == [TURN_EVENTS, TURN_EVENTS, 1]

    go(main, store)


def test_the_core_acts_once_for_all_events_of_a_turn(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.post(HELLO, HELLO, HELLO)
        await until(lambda: len(bench.core.steps) == 3)
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 4)
        assert bench.core.more == [True, True, False, False]

    go(main, store)


def test_effects_stay_in_the_order_of_the_steps(store: ChainStore) -> None:
    """Among them are safety records, and the last one counts."""

    async def main(bench: Bench) -> None:
        bench.script([fx.Check(1, GENESIS_QC), voted(1)], [voted(2), fx.Send(1, vote(2))])
        bench.post(HELLO)
        await until(lambda: bench.sent() or bench.crashes)
        assert bench.crashes == []
        record = store.load_safety()
        assert record is not None and record.voted_view == 2

    go(main, store)


@pytest.mark.parametrize(
    "earlier",
    [
        {"voted_view": 1},
        {"voted_phase": Phase.PREPARE},
        {"timed_out_view": 1},
        {"proposed_view": 1},
        {"locked_qc": GENESIS_QC},
        {"high_qc": GENESIS_QC},
        {"high_tc": None},
        {"passive": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_record_never_replaces_a_later_one(store: ChainStore, earlier: dict[str, Any]) -> None:
    qc = replace(GENESIS_QC, view=2)
    numbers = {"voted_view": 2, "timed_out_view": 2, "proposed_view": 2, "voted_phase": Phase.COMMIT}
    later = replace(FRESH, **numbers, high_qc=qc, locked_qc=qc, high_tc=A_TC)

    async def main(bench: Bench) -> None:
        bench.script([fx.Persist(safety=later)], [fx.Persist(safety=replace(later, **earlier))])
        bench.post(HELLO)
        await until(lambda: "persist" in bench.names())
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        assert "earlier one" in str(bench.crashes[0])
        assert store.load_safety() == later

    go(main, store)


def test_a_timer_is_acted_on_after_what_had_arrived(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.core.deadline = 0  # long ago

        def reply(event: fx.Event) -> list[fx.Effect]:
            if isinstance(event, fx.Tick):
                bench.core.deadline = None
            return []

        bench.core.reply = reply
        bench.post(*[HELLO] * (TURN_EVENTS + 10))
        await until(lambda: bench.core.count(fx.Tick))
        assert bench.core.steps == [*[HELLO] * (TURN_EVENTS + 10), fx.Tick()]

    go(main, store)


def test_an_endless_flood_does_not_hold_up_a_timer(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.core.deadline = 0

        def reply(event: fx.Event) -> list[fx.Effect]:
            if isinstance(event, fx.Tick):
                bench.core.deadline = None
            elif not bench.core.count(fx.Tick):
                bench.post(HELLO, HELLO)
            return []

        bench.core.reply = reply
        bench.post(HELLO)
        await until(lambda: bench.core.count(fx.Tick))

    go(main, store)


def test_what_arrives_while_the_timer_waits_comes_first(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        loop = asyncio.get_running_loop()

        def reply(event: fx.Event) -> list[fx.Effect]:
            bench.core.deadline = None if isinstance(event, fx.Tick) else int(loop.time() * 1e6) + 20_000
            return []

        bench.core.reply = reply
        bench.post(HELLO)
        await turns()
        deadline = bench.core.deadline
        assert deadline is not None
        # Just after the deadline, as if the process had been held up and the message was read only now.
        bench.core.reply = lambda event: reply(event) if isinstance(event, fx.Tick) else []
        loop.call_at(deadline / 1e6 - 0.0001, bench.driver.post, HELLO)
        await until(lambda: bench.core.count(fx.Tick))
        assert bench.core.steps == [HELLO, HELLO, fx.Tick()]

    go(main, store)


def test_a_timer_that_moves(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        bench.core.deadline = int(loop.time() * 1e6) + 3_600_000_000
        bench.post(HELLO)
        await turns()
        bench.core.deadline = int(loop.time() * 1e6) + 1000
        bench.post(HELLO)
        await turns(1)
        assert bench.core.count(fx.Tick) == 0

        def reply(_: fx.Event) -> list[fx.Effect]:
            bench.core.deadline = None
            return []

        bench.core.reply = reply
        await until(lambda: bench.core.count(fx.Tick))
        await turns(50)
        assert bench.core.count(fx.Tick) == 1

    go(main, store)


# ---- a full disk


def test_nothing_leaves_while_the_disk_is_full(store: ChainStore, caplog: pytest.LogCaptureFixture) -> None:
    async def main(bench: Bench) -> None:
        bench.script([voted(1), fx.Send(1, vote(1)), fx.Broadcast(NEW_VIEW)])
        bench.store.errors = [DiskFull("full")] * 3
        bench.post(HELLO)
        await until(lambda: bench.driver.disk_full)
        assert bench.names()[0] == "failed persist"
        assert bench.sent() == []
        assert store.load_safety() is None
        submitted: Any = fx.Submitted(b"", None)  # type: ignore[arg-type]
        bench.post(HELLO, submitted, fx.Connected(2), fx.Checked(5, True))
        await until(bench.sent)
        await until(lambda: not bench.driver.disk_full)
        assert bench.names() == ["failed persist"] * 3 + ["persist", "send", "broadcast"]
        assert store.load_safety() == voted(1).safety
        await until(lambda: len(bench.core.steps) == 3)
        assert bench.core.steps == [HELLO, fx.Connected(2), fx.Checked(5, True)], "messages were dropped"
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 4)
        assert bench.crashes == []

    with caplog.at_level(logging.WARNING, "hotstuff.node"):
        go(main, store)
    assert [record.getMessage() for record in caplog.records] == [
        "disk full: not voting until there is space",
        "disk has space again: taking part again",
    ]


def test_the_core_stands_still_while_the_disk_is_full(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.core.deadline = 0
        bench.script([voted(1)])
        bench.store.errors = [DiskFull("full")] * 2
        bench.core.reply = lambda event: [voted(1)] if event == HELLO else []
        bench.post(HELLO)
        await until(lambda: bench.driver.disk_full)
        bench.post(fx.Connected(1))
        steps = len(bench.core.steps)
        while bench.driver.disk_full:
            assert len(bench.core.steps) == steps
            await asyncio.sleep(0)
        bench.core.deadline = None
        await until(lambda: fx.Connected(1) in bench.core.steps)

    go(main, store)


def test_another_error_while_the_disk_was_full_is_fatal(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script([voted(1), fx.Send(1, vote(1))])
        error = StorageFailed("broken")
        bench.store.errors = [DiskFull("full"), error]
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        assert bench.crashes == [error]
        assert bench.sent() == []

    go(main, store)


def test_a_full_disk_for_bodies_stops_us_too_and_ends(store: ChainStore) -> None:
    batch = make_batch(1, 1, [(CLIENT, 1, 1)])

    async def main(bench: Bench) -> None:
        bench.store.body_errors = [DiskFull("full")] * 2
        bench.script([fx.StoreBatch(batch)])
        bench.post(HELLO)
        await until(lambda: bench.driver.disk_full)
        bench.post(HELLO)
        assert store.load_batch(batch.ref) is None
        await until(lambda: not bench.driver.disk_full)
        await until(lambda: len(bench.core.steps) == 2)
        assert bench.core.steps == [HELLO, fx.BatchStored(batch)]
        assert store.load_batch(batch.ref) is not None

    go(main, store)


def test_a_full_disk_met_by_an_idle_replica_ends_by_itself(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of what execution changed is the only one that an idle replica makes."""
    monkeypatch.setattr(module, "LAZY_WRITE_S", 0.001)

    async def main(bench: Bench) -> None:
        bench.script([fx.Commit(make_chain([[]]))])
        bench.store.errors = [DiskFull("full")]
        bench.post(HELLO)
        await until(lambda: bench.driver.disk_full)
        await until(lambda: not bench.driver.disk_full)
        assert store.load_executed(CONTEXT, 4).height == 1
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 2)

    go(main, store)


# ---- execution


def chain_of_two() -> tuple[tuple[Block, ...], list[Any]]:
    batches = [make_batch(0, 1, [(CLIENT, 1, 3)]), make_batch(1, 1, [(CLIENT, 1, 5)])]
    return make_chain([[batches[0]], [batches[1]]]), batches


def test_a_commit_is_executed_and_answered_after_the_sends(store: ChainStore) -> None:
    blocks, batches = chain_of_two()
    store.store_batches(batches)

    async def main(bench: Bench) -> None:
        bench.script([voted(1), fx.Send(1, vote(1)), fx.Commit(blocks)])
        bench.post(HELLO)
        await until(lambda: bench.answers)
        assert bench.names() == ["persist", "send", "answer"]
        assert [(a.client_id, a.answer.fresh) for a in bench.answers] == [(CLIENT, 3), (CLIENT, 2)]
        assert bench.driver.executed.height == 2
        assert bench.driver.counters["blocks"] == 2

    go(main, store)
    assert store.load_executed(CONTEXT, 4).tx_count == 5, "stop writes what execution changed"
    assert list(store.load_sessions()) == [CLIENT]


def test_what_execution_changed_goes_with_the_next_durable_write(store: ChainStore) -> None:
    blocks, batches = chain_of_two()
    store.store_batches(batches)

    async def main(bench: Bench) -> None:
        bench.script([fx.Commit(blocks)], [voted(1)])
        bench.post(HELLO)
        await until(lambda: bench.answers)
        assert bench.names() == ["answer"]
        bench.store.errors = [DiskFull("full")]
        bench.post(HELLO)
        await until(lambda: "persist" in bench.names())
        assert bench.names() == ["answer", "failed persist", "persist"]
        assert bench.calls[-1] == ("persist", 1, 4), "two heights, a session, the state"
        assert store.load_executed(CONTEXT, 4) == bench.driver.executed

    go(main, store)


def test_it_is_written_alone_if_nothing_else_is(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAZY_WRITE_S", 0.001)
    blocks, batches = chain_of_two()
    store.store_batches(batches)

    async def main(bench: Bench) -> None:
        bench.script([fx.Commit(blocks)])
        bench.post(HELLO)
        await until(lambda: "persist" in bench.names())
        assert store.load_executed(CONTEXT, 4) == bench.driver.executed

    go(main, store)


def test_a_full_disk_at_the_end_costs_a_replay(store: ChainStore, caplog: pytest.LogCaptureFixture) -> None:
    async def main(bench: Bench) -> None:
        bench.script([fx.Commit(make_chain([[]]))])
        bench.post(HELLO)
        await until(lambda: bench.answers or bench.driver.executed.height)
        bench.store.errors = [DiskFull("full")]

    go(main, store)
    assert "will be executed again after the restart" in caplog.text
    assert store.load_executed(CONTEXT, 4).height == 0


def test_a_body_that_is_gone_is_fatal(store: ChainStore) -> None:
    blocks, _ = chain_of_two()

    async def main(bench: Bench) -> None:
        bench.script([fx.Commit(blocks)])
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        assert isinstance(bench.crashes[0], InvariantViolation)
        assert "batch 0/1 was stored and is gone" in str(bench.crashes[0])

    go(main, store)
    assert store.load_executed(CONTEXT, 4).height == 0, "half an execution was saved"


# ---- threads


def test_checks_come_back_as_events(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        items = (GENESIS_QC, proposal(), make_batch(1, 1, [(CLIENT, 1, 1)]), A_TC)
        bench.script([fx.Check(i, item) for i, item in enumerate(items)])
        bench.verifier.valid = False
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 5)
        assert set(bench.core.steps[1:]) == {fx.Checked(i, False) for i in range(4)}

    go(main, store)


def test_collected_shares_come_back_as_an_event(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.script([shares(7, 2)], [shares(8, SHARES_AT_ONCE + 1)])
        bench.post(HELLO, HELLO)
        await until(lambda: len(bench.core.steps) == 4)
        few, many = fx.Collected(7, b"\7" * 96, (0, 1), ()), fx.Collected(8, b"\7" * 96, tuple(range(9)), ())
        assert bench.core.steps[1::2] == [few, many]

    go(main, store)


@pytest.mark.parametrize(
    ("ask", "at_once"),
    [
        (fx.Check(1, GENESIS_QC), True),
        (fx.Check(1, proposal()), True),
        (fx.Check(1, A_TC), False),
        (shares(1, SHARES_AT_ONCE), True),
        (shares(1, SHARES_AT_ONCE + 1), False),
    ],
    ids=["qc", "proposal", "tc", "few shares", "many shares"],
)
def test_what_takes_long_is_done_by_a_thread_and_the_rest_in_the_same_turn(
    store: ChainStore, ask: fx.Effect, at_once: bool
) -> None:
    async def main(bench: Bench) -> None:
        bench.script([ask], [voted(1), fx.Send(1, vote(1))])
        bench.post(HELLO)
        await until(bench.sent)
        assert [thread == threading.get_ident() for thread in bench.verifier.threads] == [at_once]
        assert bench.names() == ["persist", "send"]

    go(main, store)


def test_a_batch_is_spread_from_disk_and_holds_up_no_vote(store: ChainStore) -> None:
    batch = make_batch(0, 1, [(CLIENT, 1, 3)])
    store.store_batches([batch])

    async def main(bench: Bench) -> None:
        bench.script([fx.SpreadBatch(batch.ref, (1, 3))])
        bench.post(HELLO)
        await until(bench.sent)
        assert bench.sent() == [("send", peer, Kind.BATCH, batch.encoding, True) for peer in (1, 3)]

    go(main, store)


def test_a_flood_of_certificates_does_not_stop_the_loop(store: ChainStore) -> None:
    """Beyond a few in a turn they go to threads, where the core bounds how many of a peer wait."""

    async def main(bench: Bench) -> None:
        for _ in range(2):
            bench.core.steps.clear()
            bench.verifier.threads.clear()
            bench.script(*[[fx.Check(i, GENESIS_QC)] for i in range(10)])
            bench.post(*[HELLO] * 10)
            await until(lambda: len(bench.core.steps) == 20)
            assert bench.verifier.threads.count(threading.get_ident()) == PAIRINGS_PER_TURN, "in each turn"

    go(main, store)


def test_a_vote_leaves_before_what_is_committed_is_executed(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        flushed: list[int] = []

        def answer(answers: object) -> None:
            flushed.append(len(bench.sent()))

        bench.driver._answer = answer
        bench.script([fx.Commit(make_chain([[]])), voted(1), fx.Send(1, vote(1))])
        bench.post(HELLO)
        await until(lambda: flushed)
        assert flushed == [1]

    go(main, store)


def test_a_small_batch_is_at_hand_at_once_and_durable_with_the_next_record(store: ChainStore) -> None:
    batch = make_batch(1, 1, [(CLIENT, 1, 3)])

    async def main(bench: Bench) -> None:
        bench.script([fx.Persist(batches=(batch,), lazy=True)], [voted(1), fx.Send(1, vote(1))])
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 1)
        await turns()
        assert store.load_batch(batch.ref) is None
        assert bench.driver._bodies.get(batch.ref) is batch
        bench.post(HELLO)
        await until(bench.sent)
        found = store.load_batch(batch.ref)
        assert found is not None and found.encoding == batch.encoding
        assert bench.names() == ["persist", "send"]
        assert bench.driver._bodies._small == {}, "and from now on the cache or the disk has it"

    go(main, store)


def test_a_record_of_nothing_makes_what_waits_durable(store: ChainStore) -> None:
    batch = make_batch(0, 1, [(CLIENT, 1, 3)])

    async def main(bench: Bench) -> None:
        small = fx.Persist(batches=(batch,), lazy=True)
        bench.script([small, fx.Persist(), fx.SpreadBatch(batch.ref, (1,))])
        bench.post(HELLO)
        await until(bench.sent)
        assert bench.names() == ["persist", "send"]
        assert store.load_batch(batch.ref) is not None

    go(main, store)


def test_strikes_and_reports(store: ChainStore, caplog: pytest.LogCaptureFixture) -> None:
    async def main(bench: Bench) -> None:
        bench.script(
            [fx.Strike(2, "bad"), fx.Strike(0, "our own"), fx.Report("entered"), fx.Report("timed_out", {"view": 3})]
        )
        bench.post(HELLO)
        await until(lambda: bench.driver.counters["timed_out"])
        assert bench.names() == ["strike"]
        assert bench.driver.counters == {"strikes": 2, "entered": 1, "timed_out": 1}

    go(main, store)
    assert [record.getMessage() for record in caplog.records] == ["timed_out"]
    assert caplog.records[0].fields == {"view": 3}  # type: ignore[attr-defined]


# ---- serving


def stored_chain(store: ChainStore) -> tuple[Block, ...]:
    blocks = make_chain([[]] * 3)
    certificate = QC(1, 5, Phase.GENERIC, b"\1" * 32, blocks[-1].id, b"\1", b"\2" * 96)
    executed = replace(store.load_executed(CONTEXT, 4), height=3)
    writes = [fx.Persist(blocks=blocks), fx.Persist(commit_qc=certificate, commit_height=3)]
    store.persist(writes, execution_records(executed, blocks, {}))
    return blocks


def ask(bench: Bench, peer: int, message: Any) -> None:
    bench.driver.frame_received(peer, message.kind, message.encoding)


def test_old_blocks_are_served_from_disk(store: ChainStore) -> None:
    blocks = stored_chain(store)

    async def main(bench: Bench) -> None:
        for height in (2, 0, 4):
            ask(bench, 3, ChainRequest(height))
        await until(lambda: len(bench.sent()) == 3)
        pages = [decode_message(call[2], call[3]) for call in bench.sent()]
        assert all(isinstance(page, ChainResponse) for page in pages)
        assert [page.blocks for page in pages] == [blocks[1:], blocks, ()]  # type: ignore[union-attr]
        assert [call[1] for call in bench.sent()] == [3, 3, 3]
        assert all(call[4] for call in bench.sent()), "in bulk"
        assert bench.core.steps == []
        assert bench.crashes == []

    go(main, store)


def test_bodies_are_served_from_disk(store: ChainStore) -> None:
    batches = [make_batch(1, seq, [(CLIENT, seq, 1)]) for seq in (1, 2, 3)]
    store.store_batches(batches[:2])

    async def main(bench: Bench) -> None:
        ask(bench, 2, BatchRequest(tuple(batch.ref for batch in reversed(batches))))
        await until(lambda: len(bench.sent()) == 2)
        ask(bench, 3, BatchRequest((batches[0].ref,)))
        await until(lambda: len(bench.sent()) == 3)
        found = [decode_message(call[2], call[3]) for call in bench.sent()]
        refs = [message.batch.ref for message in found if isinstance(message, BatchMessage)]
        assert refs == [batches[1].ref, batches[0].ref, batches[0].ref]
        assert [call[1] for call in bench.sent()] == [2, 2, 3]

    go(main, store)


def test_each_peer_is_served_a_bounded_number_at_a_time(store: ChainStore) -> None:
    stored_chain(store)

    async def main(bench: Bench) -> None:
        bench.store.gate.clear()
        for _ in range(SERVING_PER_PEER + 50):
            ask(bench, 1, ChainRequest(1))
        ask(bench, 2, ChainRequest(1))
        bench.store.gate.set()
        await until(lambda: len(bench.sent()) == SERVING_PER_PEER + 1)
        await turns()
        assert bench.store.pages == SERVING_PER_PEER + 1
        assert [call[1] for call in bench.sent()].count(2) == 1
        ask(bench, 1, ChainRequest(1))
        await until(lambda: len(bench.sent()) == SERVING_PER_PEER + 2)

    go(main, store)


@pytest.mark.parametrize(("kind", "body"), [(15, b""), (99, b""), (Kind.VOTE, b"x"), (Kind.CHAIN_REQUEST, b"\0")])
def test_frames_that_are_none_of_ours(store: ChainStore, kind: int, body: bytes) -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(InvalidEncoding):
            bench.driver.frame_received(1, kind, body)
        await turns()
        assert (bench.core.steps, bench.crashes) == ([], [])

    go(main, store)


def test_other_frames_go_to_the_core(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        ask(bench, 2, vote(3))
        await until(lambda: bench.core.steps)
        assert bench.core.steps == [fx.Received(2, vote(3))]

    go(main, store)


# ---- the end


def break_core(bench: Bench) -> None:
    def reply(_: fx.Event) -> list[fx.Effect]:
        raise ZeroDivisionError("core")

    bench.core.reply = reply


def break_persist(bench: Bench) -> None:
    bench.script([voted(1), fx.Send(1, vote(1))])
    bench.store.errors = [StorageFailed("persist")]


def break_check(bench: Bench) -> None:
    bench.verifier.error = ZeroDivisionError("verifier")
    bench.script([fx.Check(1, A_TC)])


def break_check_at_once(bench: Bench) -> None:
    bench.verifier.error = ZeroDivisionError("verifier")
    bench.script([fx.Check(1, proposal())])


def break_bodies(bench: Bench) -> None:
    bench.store.body_errors = [StorageFailed("bodies")]
    bench.script([fx.StoreBatch(make_batch(0, 1, [(CLIENT, 1, 1)]))])


def break_serving(bench: Bench) -> None:
    bench.store.page_error = CorruptRecord("page")
    ask(bench, 1, ChainRequest(1))


def break_commit(bench: Bench) -> None:
    bench.script([fx.Commit((make_block(5, b"\1" * 32),))])


def break_lazy_write(bench: Bench) -> None:
    bench.script([fx.Commit(make_chain([[]]))])
    bench.store.errors = [StorageFailed("lazy")]


BREAKS = [
    *(break_core, break_persist, break_check, break_check_at_once),
    *(break_bodies, break_serving, break_commit, break_lazy_write),
]


@pytest.mark.parametrize("cause", BREAKS)
def test_what_cannot_go_on_is_told_once(store: ChainStore, monkeypatch: pytest.MonkeyPatch, cause: Any) -> None:
    monkeypatch.setattr(module, "LAZY_WRITE_S", 0.001)

    async def main(bench: Bench) -> None:
        cause(bench)
        bench.post(HELLO, HELLO)
        await until(lambda: bench.crashes)
        steps = len(bench.core.steps)
        break_core(bench)
        bench.post(HELLO, HELLO, fx.Tick())
        await turns(50)
        assert len(bench.crashes) == 1
        assert len(bench.core.steps) == steps, "it goes on after it said that it cannot"
        assert bench.sent() == []

    go(main, store)


def test_a_second_failure_in_a_thread_is_quiet(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.verifier.error = ZeroDivisionError("verifier")
        bench.script([fx.Check(1, A_TC), fx.Check(2, A_TC), shares(3, SHARES_AT_ONCE + 1)])
        bench.post(HELLO)
        await until(lambda: bench.crashes)
        await turns(50)
        assert len(bench.crashes) == 1

    go(main, store)


def test_nothing_happens_after_stop(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.core.deadline = 0
        bench.script([fx.Check(1, A_TC), fx.Send(0, NEW_VIEW)])
        bench.post(HELLO)
        await turns(1)
        bench.driver.stop()
        calls = len(bench.calls)
        bench.post(HELLO)
        await turns(50)
        assert [call for call in bench.calls[calls:] if call[0] != "persist"] == []
        assert bench.crashes == []

    go(main, store)


def test_a_life_begins_with_start(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        assert bench.driver.links is not None
        bench.driver.start(bench.driver.links)
        bench.post(HELLO)
        await until(lambda: len(bench.core.steps) == 2)
        assert bench.core.steps == [fx.Start(), HELLO]

    go(main, store)


# ---- durable before visible, once more


def test_a_vote_of_a_later_phase_needs_its_record(store: ChainStore) -> None:
    """In basic a view has several votes, and the record of one does not cover the next."""
    prepare, precommit = (replace(vote(7), phase=phase) for phase in (Phase.PREPARE, Phase.PRECOMMIT))
    record = fx.Persist(safety=replace(FRESH, voted_view=7, voted_phase=Phase.PREPARE))

    async def main(bench: Bench) -> None:
        bench.script([record, fx.Send(1, prepare)], [fx.Send(1, precommit)])
        bench.post(HELLO, HELLO)
        await until(lambda: bench.crashes)
        assert [call[3] for call in bench.sent()] == [prepare.encoding]

    go(main, store)


def test_what_is_lazy_waits_for_a_write_that_is_not(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        lazy = fx.Persist(blocks=(make_block(1, CONTEXT.root_id),), lazy=True)
        bench.script([lazy, fx.Send(1, NEW_VIEW)], [voted(1), fx.Send(1, vote(1))])
        bench.post(HELLO)
        await until(bench.sent)
        assert bench.names() == ["send"], "nothing that was sent depends on it"
        bench.post(HELLO)
        await until(lambda: len(bench.sent()) == 2)
        assert bench.names() == ["send", "persist", "send"]
        assert bench.calls[-2] == ("persist", 2, 0)

    go(main, store)


def test_who_was_not_heard_while_the_disk_was_full_is_greeted_again(store: ChainStore) -> None:
    """What they sent meanwhile is lost, as after a broken link; in an idle network nothing else would follow."""

    async def main(bench: Bench) -> None:
        bench.post(fx.Connected(1), fx.Connected(2))
        await until(lambda: len(bench.core.steps) == 2)
        bench.script([voted(1)])
        bench.store.errors = [DiskFull("full")] * 2
        bench.post(HELLO)
        await until(lambda: bench.driver.disk_full)
        bench.post(fx.Connected(2))
        await until(lambda: len(bench.core.steps) == 5)
        assert bench.core.steps[3:] == [fx.Connected(2), fx.Connected(1)]

    go(main, store)
