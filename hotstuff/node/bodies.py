"""Bodies of batches: on disk, written in groups by a thread; the most recent ones in memory too."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hotstuff.errors import DiskFull, InvariantViolation
from hotstuff.storage.chain import ChainStore
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef

# What is spread, acknowledged and executed within a second or two under full load; older bodies are read from disk.
CACHE_BYTES = 64 * 1024 * 1024
# Bytes of one group: larger ones would make the first batch in it wait.
GROUP_BYTES = 8 * 1024 * 1024
# How often a full disk is tried again.
RETRY_S = 0.5


class Bodies:
    """Stores batches durably without holding up the event loop, and gives them back."""

    def __init__(
        self,
        store: ChainStore,
        on_stored: Callable[[Batch], None],
        on_disk_full: Callable[[bool], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._on_stored = on_stored
        self._on_disk_full = on_disk_full
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._cache: OrderedDict[BatchRef, Batch] = OrderedDict()
        self._cache_bytes = 0
        self._waiting: list[Batch] = []
        self._small: dict[BatchRef, Batch] = {}
        self._writing = False
        self._closed = False

    def store(self, batch: Batch) -> None:
        """Write with the next group; `on_stored` is called when it is durable."""
        self._remember(batch)
        self._waiting.append(batch)
        if not self._writing:
            self._write_group()

    def keep(self, batches: Sequence[Batch]) -> None:
        """Small ones that the driver writes with the next record of consensus; `written` says when it has."""
        for batch in batches:
            self._remember(batch)
            self._small[batch.ref] = batch

    def written(self) -> None:
        """Those are on disk."""
        self._small.clear()

    def get(self, ref: BatchRef) -> Batch:
        """A batch that is here, durable or kept."""
        batch = self.find(ref)
        if batch is None:
            raise InvariantViolation(f"batch {ref.author}/{ref.seq} was stored and is gone")
        return batch

    def find(self, ref: BatchRef) -> Batch | None:
        """A batch, if it is here."""
        return self._cache.get(ref) or self._small.get(ref) or self._store.load_batch(ref)

    def close(self) -> None:
        """Waits for the group that is being written; what is waiting behind it is dropped, unacknowledged."""
        self._closed = True
        self._thread.shutdown(wait=True)

    def _remember(self, batch: Batch) -> None:
        if batch.ref not in self._cache:
            self._cache_bytes += len(batch.body)
        self._cache[batch.ref] = batch
        while self._cache_bytes > CACHE_BYTES and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cache_bytes -= len(oldest.body)

    def _write_group(self) -> None:
        if self._closed:
            return
        group: list[Batch] = []
        size = 0
        for batch in self._waiting:
            if group and size + len(batch.body) > GROUP_BYTES:
                break
            group.append(batch)
            size += len(batch.body)
        self._writing = True
        future = self._loop.run_in_executor(self._thread, self._store.store_batches, group)
        future.add_done_callback(lambda done: self._written(group, done))

    def _written(self, group: list[Batch], done: asyncio.Future[None]) -> None:
        if done.cancelled():
            return  # the loop is being torn down: nothing is known to be on disk
        error = done.exception()
        self._writing = False
        if isinstance(error, DiskFull):
            self._on_disk_full(True)
            self._writing = True
            self._loop.call_later(RETRY_S, self._write_group)
            return
        if isinstance(error, Exception):
            self._on_failed(error)
            return
        self._on_disk_full(False)
        del self._waiting[: len(group)]
        for batch in group:
            self._on_stored(batch)
        if self._waiting:
            self._write_group()
