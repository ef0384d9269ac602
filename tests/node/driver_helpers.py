"""A driver between a scripted core, a real store that can fail, and links that write everything down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from node_helpers import CONTEXT, run

from hotstuff.consensus import effects as fx
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.crypto.aggregate import Collected
from hotstuff.node.driver import Driver
from hotstuff.node.executor import ClientAnswer, Executor
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.environment import Record
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import ChainResponse, Vote

LANES = 4
FRESH = SafetyRecord.initial(CONTEXT, passive=False)


def voted(view: int) -> fx.Persist:
    """The record of a vote in `view`."""
    return fx.Persist(safety=replace(FRESH, voted_view=view))


def vote(view: int) -> Vote:
    return Vote(1, view, Phase.GENERIC, b"\1" * 32, b"\2" * 32, 0, b"\3" * 96)


class Core:
    """Stands in for `Replica`: `reply` says what a step returns."""

    index = 0

    def __init__(self, calls: list[Any]) -> None:
        self.safety = SimpleNamespace(record=FRESH)
        self.steps: list[fx.Event] = []
        self.more: list[bool] = []
        self.reply: Callable[[fx.Event], list[fx.Effect]] = lambda _: []
        self.deadline: int | None = None
        self._calls = calls

    def step(self, event: fx.Event, now_us: int, *, more: bool = False) -> list[fx.Effect]:
        self._calls.append(("step", event))
        self.steps.append(event)
        self.more.append(more)
        return self.reply(event)

    def deadline_us(self) -> int | None:
        return self.deadline

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.steps)


class Store:
    """A real store; errors and delays as the test wants them."""

    def __init__(self, store: ChainStore, calls: list[Any]) -> None:
        self.store = store
        self.errors: list[Exception] = []
        self.body_errors: list[Exception] = []
        self.page_error: Exception | None = None
        self.pages = 0
        self.gate = threading.Event()
        self.gate.set()
        self._calls = calls

    def persist(self, writes: Sequence[fx.Persist], extra: Iterable[Record] = ()) -> None:
        extra = list(extra)
        if self.errors:
            self._calls.append(("failed persist", len(writes)))
            raise self.errors.pop(0)
        self.store.persist(writes, extra)
        self._calls.append(("persist", len(writes), len(extra)))

    def store_batches(self, batches: Sequence[Batch]) -> None:
        if self.body_errors:
            raise self.body_errors.pop(0)
        self.store.store_batches(batches)

    def load_batch(self, ref: BatchRef) -> Batch | None:
        return self.store.load_batch(ref)

    def chain_page(self, from_height: int) -> ChainResponse:
        assert self.gate.wait(10)
        self.pages += 1
        if self.page_error is not None:
            raise self.page_error
        return self.store.chain_page(from_height)


class Verifier:
    """Says yes; raises what it is told to. `threads` says where each check ran."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.error: Exception | None = None
        self.valid = True

    def check(self, item: object) -> bool:
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        return self.valid

    def collect(self, shares: Iterable[fx.Share]) -> Collected:
        self.threads.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        return Collected(b"\7" * 96, tuple(share.signer for share in shares), ())


class Links:
    """Writes down what leaves."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def send(self, peer: int, kind: int, *parts: Any, bulk: bool = False) -> bool:
        self._calls.append(("send", peer, int(kind), b"".join(parts), bulk))
        return True

    def broadcast(self, kind: int, *parts: Any, bulk: bool = False) -> int:
        self._calls.append(("broadcast", int(kind), b"".join(parts)))
        return 3

    def strike(self, peer: int, reason: str) -> None:
        self._calls.append(("strike", peer, reason))


class Bench:
    """One driver and the order of everything it did, in `calls`."""

    def __init__(self, store: ChainStore) -> None:
        self.calls: list[Any] = []
        self.core = Core(self.calls)
        self.store = Store(store, self.calls)
        self.verifier = Verifier()
        self.answers: list[ClientAnswer] = []
        self.crashes: list[BaseException] = []
        core: Any = self.core
        fake_store: Any = self.store
        verifier: Any = self.verifier
        self.driver = Driver(
            replica=core,
            store=fake_store,
            verifier=verifier,
            executor=Executor(store.load_executed(CONTEXT, LANES), store.load_sessions()),
            answer=self._answer,
            fatal=self.crashes.append,
        )
        self.driver.links = Links(self.calls)

    def _answer(self, answers: Sequence[ClientAnswer]) -> None:
        self.calls.append(("answer", len(answers)))
        self.answers += answers

    def post(self, *events: fx.Event) -> None:
        for event in events:
            self.driver.post(event)

    def script(self, *effects: list[fx.Effect]) -> None:
        """What the next steps return; nothing after that."""
        left = list(effects)
        self.core.reply = lambda _: left.pop(0) if left else []

    def names(self) -> list[str]:
        """What happened, without the steps of the core."""
        return [call[0] for call in self.calls if call[0] != "step"]

    def sent(self) -> list[Any]:
        return [call for call in self.calls if call[0] in ("send", "broadcast")]


def go(test: Callable[[Bench], Coroutine[Any, Any, None]], store: ChainStore) -> None:
    """Runs one test of a driver and stops it."""

    async def main() -> None:
        bench = Bench(store)
        try:
            await test(bench)
        finally:
            bench.store.gate.set()
            bench.driver.stop()
            for _ in range(3):
                await asyncio.sleep(0)  # callbacks of threads that have ended

    run(main)


async def turns(count: int = 5) -> None:
    """So many turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
