from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from node_helpers import make_batch, run, until

from hotstuff.errors import CorruptRecord, DiskFull, InvariantViolation, StorageFailed
from hotstuff.node import bodies as module
from hotstuff.node.bodies import Bodies
from hotstuff.storage.chain import ChainStore
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef


class SlowStore:
    """A real store whose writes wait for the test and fail as told."""

    def __init__(self, store: ChainStore) -> None:
        self.store = store
        self.groups: list[list[Batch]] = []
        self.errors: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reads: list[BatchRef] = []

    def store_batches(self, batches: Sequence[Batch]) -> None:
        self.groups.append(list(batches))
        assert self.gate.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.store.store_batches(batches)

    def load_batch(self, ref: BatchRef) -> Batch | None:
        self.reads.append(ref)
        return self.store.load_batch(ref)


class Bench:
    """`Bodies` over a `SlowStore`, with everything it says written down."""

    def __init__(self, store: ChainStore) -> None:
        self.store = SlowStore(store)
        self.stored: list[Batch] = []
        self.full: list[bool] = []
        self.failed: list[Exception] = []
        fake: Any = self.store
        self.bodies = Bodies(fake, self._on_stored, self.full.append, self.failed.append)

    def _on_stored(self, batch: Batch) -> None:
        assert self.store.store.load_batch(batch.ref) is not None, "told before it was durable"
        self.stored.append(batch)


def go(bench_test: Any, store: ChainStore) -> None:
    async def main() -> None:
        bench = Bench(store)
        try:
            work: Coroutine[Any, Any, None] = bench_test(bench)
            await work
        finally:
            bench.store.gate.set()
            bench.bodies.close()

    run(main)


def batches(count: int, transactions: int = 1) -> list[Batch]:
    return [make_batch(0, seq, [(b"c" * 16, seq * 1000, transactions)]) for seq in range(1, count + 1)]


def test_what_comes_during_a_write_is_the_next_group(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.store.gate.clear()
        given = batches(5)
        for batch in given:
            bench.bodies.store(batch)
        await until(lambda: bench.store.groups)
        assert bench.stored == []
        bench.store.gate.set()
        await until(lambda: len(bench.stored) == 5)
        assert bench.stored == given
        assert bench.store.groups == [given[:1], given[1:]]
        bench.bodies.store(late := make_batch(1, 1, [(b"c" * 16, 1, 1)]))
        await until(lambda: bench.stored == [*given, late])
        assert len(bench.store.groups) == 3

    go(main, store)


def test_a_group_has_a_limit_of_bytes(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    given = batches(7)
    size = len(given[1].body)
    monkeypatch.setattr(module, "GROUP_BYTES", 3 * size)

    async def main(bench: Bench) -> None:
        bench.store.gate.clear()
        for batch in given:
            bench.bodies.store(batch)
        bench.store.gate.set()
        await until(lambda: bench.stored == given)
        assert [len(group) for group in bench.store.groups] == [1, 3, 3]

    go(main, store)


def test_a_kept_batch_needs_no_disk_until_it_is_written(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 0)

    async def main(bench: Bench) -> None:
        first, second = batches(2)
        bench.bodies.keep([first])
        bench.bodies.keep([second])
        assert bench.bodies.get(first.ref) is first and bench.bodies.find(second.ref) is second
        assert bench.store.reads == [] and bench.store.groups == []
        bench.bodies.written()
        with pytest.raises(InvariantViolation):  # from now on the disk is asked
            bench.bodies.get(first.ref)

    go(main, store)


def test_a_batch_above_the_limit_is_a_group_of_its_own(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES", 1)

    async def main(bench: Bench) -> None:
        given = batches(3)
        for batch in given:
            bench.bodies.store(batch)
        await until(lambda: bench.stored == given)
        assert [len(group) for group in bench.store.groups] == [1, 1, 1]

    go(main, store)


def test_recent_bodies_come_from_memory_and_old_ones_from_disk(
    store: ChainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batches(5)
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * len(given[0].body) + 1)

    async def main(bench: Bench) -> None:
        for batch in given:
            bench.bodies.store(batch)
        await until(lambda: bench.stored == given)
        for batch in given[3:]:
            assert bench.bodies.get(batch.ref) is batch
            assert bench.bodies.find(batch.ref) is batch
        assert bench.store.reads == []
        for batch in given[:3]:
            assert bench.bodies.get(batch.ref).encoding == batch.encoding
            found = bench.bodies.find(batch.ref)
            assert found is not None
            assert found.encoding == batch.encoding
        assert len(bench.store.reads) == 6

    go(main, store)


def test_a_batch_that_comes_again_takes_no_room_in_the_cache(
    store: ChainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = batches(2)
    monkeypatch.setattr(module, "CACHE_BYTES", 3 * len(given[0].body))

    async def main(bench: Bench) -> None:
        for batch in (given[0], given[1], given[1], given[1], given[1]):
            bench.bodies.store(batch)
        await until(lambda: len(bench.stored) == 5)
        assert bench.bodies.get(given[0].ref) is given[0]

    go(main, store)


def test_the_last_body_stays_in_memory_whatever_its_size(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 1)

    async def main(bench: Bench) -> None:
        given = batches(2)
        for batch in given:
            bench.bodies.store(batch)
        assert bench.bodies.find(given[1].ref) is given[1]
        await until(lambda: bench.stored == given)

    go(main, store)


def test_a_body_that_is_not_here(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        ref = batches(1)[0].ref
        assert bench.bodies.find(ref) is None
        with pytest.raises(InvariantViolation, match="batch 0/1 was stored and is gone"):
            bench.bodies.get(ref)

    go(main, store)


def test_a_full_disk_is_told_and_tried_again(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.005)

    async def main(bench: Bench) -> None:
        given = batches(3)
        bench.store.errors = [DiskFull("full"), DiskFull("full")]
        bench.bodies.store(given[0])
        await until(lambda: bench.full)
        for batch in given[1:]:
            bench.bodies.store(batch)
        await until(lambda: bench.stored == given)
        assert bench.full == [True, True, False]
        assert bench.store.groups[0] == given[:1]
        assert bench.store.groups[-1] == given, "what came meanwhile goes with the next try"
        assert bench.failed == []

    go(main, store)


def test_a_full_disk_is_left_alone_between_the_tries(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)

    async def main(bench: Bench) -> None:
        given = batches(3)
        bench.store.errors = [DiskFull("full")]
        bench.bodies.store(given[0])
        await until(lambda: bench.full)
        for batch in given[1:]:
            bench.bodies.store(batch)
        await until(lambda: bench.stored)
        assert bench.store.groups == [given[:1], given]
        assert bench.stored == given

    go(main, store)


@pytest.mark.parametrize("error", [StorageFailed("broken"), CorruptRecord("bad"), ZeroDivisionError()])
def test_a_failure_is_reported_and_nothing_is_stored(store: ChainStore, error: Exception) -> None:
    async def main(bench: Bench) -> None:
        bench.store.errors = [error]
        bench.bodies.store(batches(1)[0])
        await until(lambda: bench.failed)
        assert bench.failed == [error]
        assert (bench.stored, bench.full) == ([], [])

    go(main, store)


def test_close_waits_for_the_write_and_drops_what_is_behind_it(store: ChainStore) -> None:
    async def main(bench: Bench) -> None:
        bench.store.gate.clear()
        given = batches(3)
        for batch in given:
            bench.bodies.store(batch)
        await until(lambda: bench.store.groups)
        closing = asyncio.get_running_loop().run_in_executor(None, bench.bodies.close)
        bench.store.gate.set()
        await closing
        assert store.load_batch(given[0].ref) is not None
        await until(lambda: bench.stored)
        bench.bodies.store(make_batch(1, 1, [(b"c" * 16, 1, 1)]))
        await asyncio.sleep(0)
        assert bench.store.groups == [given[:1]]
        assert bench.stored == given[:1]
        assert store.load_batch(given[1].ref) is None

    go(main, store)


def test_close_ends_the_tries_on_a_full_disk(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)

    async def main(bench: Bench) -> None:
        bench.store.errors = [DiskFull("full")]
        full: list[bool] = bench.full
        # In the same callback that plans the next try.
        bench.bodies._on_disk_full = lambda flag: (full.append(flag), bench.bodies.close())
        bench.bodies.store(batches(1)[0])
        await until(lambda: full)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(bench.store.groups) == 1
        assert bench.stored == []

    go(main, store)
