"""Runs the core: events in, effects out, in the order that `consensus.effects` demands.

    events of one turn -> steps -> one durable transaction -> sends -> commits -> answers

Everything that arrived before a turn is stepped before the disk is touched once (group commit), and a timer fires only
after whatever had already arrived: a stall of this process must not look like a silent leader.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from hotstuff.consensus import effects as fx
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.consensus.verifier import Verifier
from hotstuff.crypto.aggregate import Collected
from hotstuff.errors import DiskFull, InvariantViolation, StorageError
from hotstuff.node.bodies import RETRY_S, Bodies
from hotstuff.node.executor import ClientAnswer, Executor
from hotstuff.node.inbox import Inbox
from hotstuff.storage.chain import ChainStore, Executed
from hotstuff.storage.environment import Record
from hotstuff.types.batch import Batch
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import Buffer
from hotstuff.types.messages import (
    BatchMessage,
    BatchRequest,
    ChainRequest,
    ChainResponse,
    Message,
    Proposal,
    Timeout,
    Vote,
    decode_message,
)

logger = logging.getLogger("hotstuff.node")
T = TypeVar("T")

# Events of one turn: enough to share a sync among everything that waits, few enough to keep timers honest.
TURN_EVENTS = 256
# What nothing that was sent depends on (learned certificates, what execution changed) is written with the next
# durable transaction, or alone after this long. Losing it costs a replay, nothing else.
LAZY_WRITE_S = 0.1
# Chain pages or bodies being served to one peer at a time; beyond that its requests are dropped and asked again.
SERVING_PER_PEER = 128
# So many signature shares are added up, and the bad ones among them found, in the event loop: a few pairings of 1 ms.
# A thread would not make a view shorter, it costs two more turns and the interpreter's lock. Beyond, it keeps us alive.
SHARES_AT_ONCE = 8
# Certificates checked and shares added up there in one turn; a view needs one or two. More go to threads.
PAIRINGS_PER_TURN = 4

_LOGGED_REPORTS = {
    "timed_out": logging.WARNING,
    "rejoined": logging.WARNING,
    "evidence": logging.WARNING,
    "record_ahead": logging.WARNING,
}


class Links(Protocol):
    """The network, as far as the driver needs it."""

    def send(self, peer: int, kind: int, *parts: Buffer, bulk: bool = False) -> bool:
        """False if the peer is not connected or takes no more."""
        ...

    def broadcast(self, kind: int, *parts: Buffer, bulk: bool = False) -> int:
        """To all peers."""
        ...

    def strike(self, peer: int, reason: str) -> None:
        """The peer broke a rule."""
        ...


class Driver:
    """One replica's event loop side. `post` is the way in; `fatal` is called once when it cannot go on."""

    def __init__(
        self,
        *,
        replica: Replica,
        store: ChainStore,
        verifier: Verifier,
        executor: Executor,
        answer: Callable[[Sequence[ClientAnswer]], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.replica = replica
        self.counters: Counter[str] = Counter()
        self.links: Links | None = None
        self._store = store
        self._verifier = verifier
        self._executor = executor
        self._answer = answer
        self._fatal = fatal
        self._loop = asyncio.get_running_loop()
        self._crypto = ThreadPoolExecutor(2, "crypto")
        self._serving = ThreadPoolExecutor(1, "serving")
        self._bodies = Bodies(store, self._batch_stored, partial(self._set_disk_full, "bodies"), self._fail)
        self._inbox = Inbox()
        self._before_tick: int | None = None
        self._pairings = 0
        self._turn_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._durable: SafetyRecord = replica.safety.record
        self._met: set[int] = set()
        self._unheard: set[int] = set()
        self._out_of_space: set[str] = set()
        self._stalled: list[fx.Effect] = []
        self._lazy_writes: list[fx.Persist] = []
        self._lazy_records: list[Record] = []
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._served: Counter[int] = Counter()
        self._stopped = False

    @property
    def executed(self) -> Executed:
        """Where execution stands."""
        return self._executor.executed

    @property
    def disk_full(self) -> bool:
        """Is there no space for something that must be written? Then the core stands still."""
        return bool(self._out_of_space)

    # ---- in

    def start(self, links: Links) -> None:
        """Begin a life."""
        self.links = links
        self.post(fx.Start())

    def post(self, event: fx.Event) -> None:
        """Queue an event for the next turn."""
        if self._stopped or (self.disk_full and isinstance(event, (fx.Received, fx.Submitted))):
            return  # we can promise nothing, and whoever sent this will send it again
        if isinstance(event, fx.Connected):
            self._met.add(event.peer)
            self._unheard.discard(event.peer)
        self._inbox.put(event)
        self._schedule()

    def frame_received(self, peer: int, kind: int, body: Buffer) -> None:
        """A peer's frame; raises `InvalidMessage` if it is none of ours."""
        message = decode_message(kind, body)
        if isinstance(message, (ChainRequest, BatchRequest)):
            self._serve(peer, message)
        elif not self._stopped and not self.disk_full:
            if not self._inbox.put_message(peer, message, len(body)):
                self.counters["messages_dropped"] += 1
            self._schedule()

    # ---- turns

    def _schedule(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._stopped or self.disk_full:
            return
        try:
            effects = self._step_events()
            self._finish(effects)
            self._arm()
        except Exception as error:
            self._fail(error)

    def _step_events(self) -> list[fx.Effect]:
        now_us = self._now_us()
        effects: list[fx.Effect] = []
        self._pairings = 0
        handled = min(len(self._inbox), TURN_EVENTS)
        for left in reversed(range(handled)):
            effects += self._step(self._inbox.take(), now_us, more=left > 0)
        if self._tick_is_due(handled, now_us):
            effects += self._step(fx.Tick(), now_us)
        return effects

    def _step(self, event: fx.Event, now_us: int, *, more: bool = False) -> list[fx.Effect]:
        """One event, then the results of everything that it asks for and that is not worth handing over.

        The effects stay in the order of the steps: among them are safety records, and the last one counts.
        """
        effects: list[fx.Effect] = []
        results: list[fx.Event] = []
        for effect in self.replica.step(event, now_us, more=more):
            result = self._at_once(effect)
            if result is None:
                effects.append(effect)
            else:
                results.append(result)
        for result in results:
            effects += self._step(result, now_us, more=more)
        return effects

    def _at_once(self, effect: fx.Effect) -> fx.Event | None:
        """The result of a cheap check, or of a pairing or few shares: with a thread these take longer.

        Only a few pairings in a turn: a flood of certificates goes to threads, where the core bounds what waits.
        """
        if isinstance(effect, fx.Check) and isinstance(effect.item, (Proposal, Batch)):
            return fx.Checked(effect.job, self._verifier.check(effect.item))
        if self._pairings == PAIRINGS_PER_TURN:
            return None
        if isinstance(effect, fx.Check) and isinstance(effect.item, QC):
            self._pairings += 1
            return fx.Checked(effect.job, self._verifier.check(effect.item))
        if isinstance(effect, fx.Collect) and len(effect.shares) <= SHARES_AT_ONCE:
            self._pairings += 1
            return _collected(effect, self._verifier.collect(effect.shares))
        return None

    def _tick_is_due(self, handled: int, now_us: int) -> bool:
        """Has the deadline passed, and everything been handled that had arrived when we first saw that?"""
        deadline = self.replica.deadline_us()
        if deadline is None or deadline > now_us:
            self._before_tick = None
            return False
        # What arrives from now on does not hold up the timer, or a flood of messages could stop it for ever.
        self._before_tick = len(self._inbox) if self._before_tick is None else self._before_tick - handled
        if self._before_tick > 0:
            return False
        self._before_tick = None
        return True

    def _arm(self) -> None:
        if self._inbox:
            self._schedule()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.replica.deadline_us()
        if deadline is not None:
            # A turn of its own after the timer, so that sockets that became readable meanwhile are read first.
            self._timer = self._loop.call_at(deadline / 1e6, self._schedule)

    def _now_us(self) -> int:
        return int(self._loop.time() * 1e6)

    # ---- effects

    def _finish(self, effects: list[fx.Effect]) -> None:
        """Durable before visible: nothing is performed unless everything that it depends on is on disk."""
        writes = [effect for effect in effects if isinstance(effect, fx.Persist)]
        self._lazy_writes += writes
        for write in writes:
            self._bodies.keep(write.batches)
        if writes:
            self._write_later()
        if not all(write.lazy for write in writes):
            try:
                self._write_all()
            except DiskFull:
                self._stall(effects)
                return
        self._perform(effects)

    def _perform(self, effects: list[fx.Effect]) -> None:
        commits: list[fx.Commit] = []
        for effect in effects:
            if isinstance(effect, fx.Commit):
                commits.append(effect)
            elif (handler := _HANDLERS.get(type(effect))) is not None:
                handler(self, effect)
        if commits:
            # Connections write at the end of this turn of the loop: a vote does not wait for the execution.
            self._loop.call_soon(self._commit, commits)

    def _write_all(self) -> None:
        """One durable transaction for everything that waits: in the order in which it came."""
        durable = self._durable
        for record in (write.safety for write in self._lazy_writes if write.safety is not None):
            if not record.follows(durable):
                raise InvariantViolation("a safety record would be replaced by an earlier one")
            durable = record
        self._store.persist(self._lazy_writes, self._lazy_records)
        self._durable = durable
        self._lazy_writes, self._lazy_records = [], []
        self._bodies.written()
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
            self._lazy_timer = None

    def _write_later(self) -> None:
        if self._lazy_timer is None:
            self._lazy_timer = self._loop.call_later(LAZY_WRITE_S, self._write_lazy)

    def _stall(self, effects: list[fx.Effect]) -> None:
        """No space: nothing was written, nothing leaves, and the core stands still until there is space again."""
        self._stalled = effects
        self._set_disk_full("consensus", True)
        self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        if self._stopped:
            return
        try:
            self._write_all()
        except DiskFull:
            self._loop.call_later(RETRY_S, self._retry)
        except Exception as error:
            self._fail(error)
        else:
            self._resume()

    def _resume(self) -> None:
        effects, self._stalled = self._stalled, []
        try:
            self._perform(effects)
            self._set_disk_full("consensus", False)
        except Exception as error:
            self._fail(error)

    def _set_disk_full(self, writer: str, full: bool) -> None:
        """One of those who write found no space, or found it again. Without bodies we do not vote either."""
        before = self.disk_full
        (self._out_of_space.add if full else self._out_of_space.discard)(writer)
        if self.disk_full == before or self._stopped:
            return
        if full:
            logger.error("disk full: not voting until there is space")
            self._unheard = set(self._met)
        else:
            logger.warning("disk has space again: taking part again")
            # What they sent meanwhile is lost, as after a broken link; in an idle network nothing else would follow.
            for peer in sorted(self._unheard):
                self.post(fx.Connected(peer))
            self._schedule()

    def _send(self, effect: fx.Send) -> None:
        self._assert_durable(effect.message)
        if effect.to == self.replica.index:
            self._inbox.put(fx.Received(effect.to, effect.message))
        elif self.links is not None:
            self.links.send(effect.to, effect.message.kind, effect.message.encoding)

    def _broadcast(self, effect: fx.Broadcast) -> None:
        self._assert_durable(effect.message)
        if self.links is not None:
            self.links.broadcast(effect.message.kind, effect.message.encoding)

    def _assert_durable(self, message: Message) -> None:
        record = self._durable
        covered = True
        if isinstance(message, Vote):
            covered = (message.view, message.phase) <= (record.voted_view, record.voted_phase)
        elif isinstance(message, Timeout):
            covered = message.view <= record.timed_out_view
        elif isinstance(message, Proposal):
            covered = message.block.header.view <= record.proposed_view
        if not covered:
            raise InvariantViolation(f"{type(message).__name__} would leave before its safety record is durable")

    def _spread(self, effect: fx.SpreadBatch) -> None:
        self._send_batch(BatchMessage(self._bodies.get(effect.ref)), effect.to)

    def _send_batch(self, message: BatchMessage, to: Sequence[int]) -> None:
        if self.links is not None:
            for peer in to:
                self.links.send(peer, message.kind, *message.batch.parts(), bulk=True)

    def _commit(self, commits: Sequence[fx.Commit]) -> None:
        if self._stopped:
            return  # it is executed in the next life
        try:
            for effect in commits:
                answers, records = self._executor.execute(effect.blocks, self._bodies.get)
                self.counters["blocks"] += len(effect.blocks)
                self._lazy_records += records
                self._write_later()
                self._answer(answers)
            for height, state in self._executor.take_checkpoints():
                self.post(fx.Executed(height, state))
        except Exception as error:
            self._fail(error)

    def _check(self, effect: fx.Check) -> None:
        check = partial(self._verifier.check, effect.item)
        self._in_thread(self._crypto, check, lambda valid: self.post(fx.Checked(effect.job, valid)))

    def _collect(self, effect: fx.Collect) -> None:
        collect = partial(self._verifier.collect, effect.shares)
        self._in_thread(self._crypto, collect, lambda found: self.post(_collected(effect, found)))

    def _store_batch(self, effect: fx.StoreBatch) -> None:
        self._bodies.store(effect.batch)

    def _strike(self, effect: fx.Strike) -> None:
        self.counters["strikes"] += 1
        if effect.peer != self.replica.index and self.links is not None:
            self.links.strike(effect.peer, effect.reason)

    def _report(self, effect: fx.Report) -> None:
        self.counters[effect.name] += 1
        if effect.name in _LOGGED_REPORTS:
            logger.log(_LOGGED_REPORTS[effect.name], effect.name, extra={"fields": effect.fields})

    # ---- threads and disk

    def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T], done: Callable[[T], None]) -> None:
        def finished(result: asyncio.Future[T]) -> None:
            if result.cancelled():
                return
            error = result.exception()  # looked at also when stopped, or asyncio reports it as forgotten
            if self._stopped:
                return
            try:
                if error is not None:
                    raise error
                done(result.result())
            except Exception as failure:
                self._fail(failure)

        self._loop.run_in_executor(pool, work).add_done_callback(finished)

    def _batch_stored(self, batch: Batch) -> None:
        self.post(fx.BatchStored(batch))

    def _serve(self, peer: int, request: ChainRequest | BatchRequest) -> None:
        """Old blocks and bodies are read from disk by a thread, a bounded number at a time for each peer."""
        if isinstance(request, ChainRequest):
            self._serve_one(peer, partial(self._store.chain_page, request.from_height), self._send_page)
            return
        for ref in request.refs:
            self._serve_one(peer, partial(self._bodies.find, ref), self._send_found)

    def _serve_one(self, peer: int, read: Callable[[], T], send: Callable[[int, T], None]) -> None:
        if self._served[peer] >= SERVING_PER_PEER:
            return

        def done(found: T) -> None:
            self._served[peer] -= 1
            send(peer, found)

        self._served[peer] += 1
        self._in_thread(self._serving, read, done)

    def _send_page(self, peer: int, page: ChainResponse) -> None:
        if self.links is not None:
            self.links.send(peer, page.kind, page.encoding, bulk=True)

    def _send_found(self, peer: int, batch: Batch | None) -> None:
        if batch is not None:
            self._send_batch(BatchMessage(batch), (peer,))

    def _write_lazy(self) -> None:
        self._lazy_timer = None
        if self._stopped or self._stalled:
            return
        try:
            self._write_all()
            self._set_disk_full("consensus", False)
        except DiskFull:
            self._set_disk_full("consensus", True)
            self._lazy_timer = self._loop.call_later(RETRY_S, self._write_lazy)
        except Exception as error:
            self._fail(error)

    # ---- end

    def _fail(self, error: BaseException) -> None:
        if not self._stopped:
            self._stopped = True
            self._fatal(error)

    def stop(self) -> None:
        """No more turns; waits for threads, writes what waits, such as what execution changed."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for pool in (self._crypto, self._serving):
            pool.shutdown(wait=True, cancel_futures=True)
        self._bodies.close()
        try:
            self._write_all()
        except (StorageError, InvariantViolation) as error:
            logger.warning("the last executed blocks will be executed again after the restart: %s", error)


def _collected(effect: fx.Collect, found: Collected) -> fx.Collected:
    return fx.Collected(effect.job, found.signature, found.good, found.bad)


_HANDLERS: dict[type, Callable[[Driver, Any], None]] = {
    fx.Send: Driver._send,
    fx.Broadcast: Driver._broadcast,
    fx.SpreadBatch: Driver._spread,
    fx.Check: Driver._check,
    fx.Collect: Driver._collect,
    fx.StoreBatch: Driver._store_batch,
    fx.Strike: Driver._strike,
    fx.Report: Driver._report,
}
