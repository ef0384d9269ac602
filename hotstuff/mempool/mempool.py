"""The data plane of one replica, without I/O: who holds which batch, what may be proposed, what must be fetched.

    client frames -> sealed batch -> stored -> spread to all -> stored there -> acknowledged to all
                                                  |
    leader: may refer to what it holds            |  voter: votes for what it holds, or what f+1 others say they hold

Why a certified block's bodies exist (rule 8.2): a quorum voted, so honest power of at least P/3 holds each batch
durably or heard from peers with power of at least P/3, one of them honest, that it does. Digests pin the content.
Channels are authenticated and each voter judges for itself, so acknowledgements need no signature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hotstuff.consensus.desk import Desk
from hotstuff.consensus.effects import (
    BatchStored,
    Broadcast,
    Commit,
    Connected,
    Effect,
    Event,
    Persist,
    Received,
    Send,
    SpreadBatch,
    StoreBatch,
    Strike,
    Submitted,
)
from hotstuff.consensus.payload import Availability
from hotstuff.consensus.safety import Safety
from hotstuff.mempool.lanes import Lane, Slot
from hotstuff.mempool.sealer import Sealer
from hotstuff.types.batch import MAX_BODY_BYTES, Batch
from hotstuff.types.block import MAX_BATCH_REFS, BatchRef, Block
from hotstuff.types.messages import MAX_ACKS, MAX_BODY_REQUESTS, Ack, BatchMessage, BatchRequest
from hotstuff.types.validators import NODE_SIGNATURE_BYTES, ValidatorSet

# Bodies that one block may order: what a replica that missed them all has to fetch before it executes the block.
MAX_PAYLOAD_BYTES = 32 * 1024 * 1024
# Bodies being fetched at a time, in one catch-up or one proposal.
MAX_WANTED = 256
# For how many views an author is proposed only with a quorum of acks, after a body of it was missing in a failed view
# or had to be fetched from others.
SLOW_VIEWS = 64
# Own batches that are sent again to a peer that (re)connects; the rest it fetches when a block refers to them.
MAX_RESENT = 64


@dataclass(frozen=True)
class MempoolConfig:
    """Local tuning; may differ between replicas without harm to safety.

    `author_quota_bytes` bounds what each author may have stored here and not executed. An author stays below half of
    it by itself, so an honest one never hits it. Bodies up to `small_body_bytes` are written with the next durable
    record of consensus: at low load that is a sync less for each batch. Larger ones are written by a thread, and no
    vote waits for them.
    """

    batch_bytes: int = 256 * 1024
    small_body_bytes: int = 16 * 1024
    max_age_ms: int = 20
    ack_ms: int = 10
    resend_ms: int = 1000
    fetch_retry_ms: int = 250
    author_quota_bytes: int = 32 * 1024 * 1024


@dataclass
class _Wanted:
    sources: list[int]
    retry_us: int
    committed: bool
    asked: int = 0


class Mempool:
    """Implements `consensus.payload.Payload`."""

    def __init__(
        self,
        *,
        validators: ValidatorSet,
        safety: Safety,
        config: MempoolConfig,
        executed: tuple[int, ...],
        held: Iterable[BatchRef],
        effects: list[Effect],
        desk: Desk,
    ) -> None:
        """`executed[a]`: highest executed batch number of each author; `held`: stored batches above it."""
        self._validators = validators
        self._safety = safety
        self._config = config
        self._effects = effects
        self._desk = desk
        self._index = safety.index
        self._everyone = [i for i in range(len(validators)) if i != self._index]
        self._lanes = [Lane(seq) for seq in executed]
        self._own = self._lanes[self._index]
        self._sealer = Sealer(config.batch_bytes, config.max_age_ms * 1000)
        self._next_seq = 1
        self._sealed_seq = 0
        self._placed_seq = 0
        self._unacknowledged: list[BatchRef] = []
        self._unsynced = False
        self._ack_us: int | None = None
        self._resend_us: int | None = None
        self._wanted: dict[BatchRef, _Wanted] = {}
        self._missing_in_view: tuple[int, tuple[int, ...]] = (0, ())
        self._slow_until: dict[int, int] = {}
        self._unproven_view = 0
        self._careful_until = 0
        self._queue: deque[Block] = deque()
        self._unasked: deque[Block] = deque()
        self._may_ack = self._may_author = False
        for ref in held:
            self._lanes[ref.author].hold(ref)
            self._lanes[ref.author].ack(self._index, ref)
            if ref.author == self._index:
                self._sealed_seq = max(self._sealed_seq, ref.seq)

    # ---- events

    def step(self, event: Event, now_us: int, *, may_ack: bool, may_author: bool) -> None:
        """One event of the data plane; whatever is due by now happens after it."""
        self._may_ack, self._may_author = may_ack, may_author
        if isinstance(event, Submitted):
            self._sealer.add(event.data, event.frame, now_us)
        elif isinstance(event, BatchStored):
            self._on_stored(event.batch.ref, now_us)
        elif isinstance(event, Connected):
            self._greet(event.peer)
        elif isinstance(event, Received) and isinstance(event.message, BatchMessage):
            self._on_batch(event.peer, event.message, now_us)
        elif isinstance(event, Received) and isinstance(event.message, Ack):
            self._on_ack(event.peer, event.message)
        elif isinstance(event, Received):
            self._effects.append(Strike(event.peer, f"unexpected {type(event.message).__name__}"))
        self._seal(now_us)
        self._send_acks(now_us)
        self._resend(now_us)
        self._fetch(now_us)

    def deadline_us(self) -> int | None:
        """When something is due."""
        times = [wanted.retry_us for wanted in self._wanted.values()]
        if self._may_author and not self._window_full:
            times.append(_or_never(self._sealer.due_us(idle=self._idle)))
        times += [_or_never(self._ack_us), _or_never(self._resend_us)]
        earliest = min(times)
        return None if earliest == _NEVER else earliest

    def room_bytes(self) -> int:
        """How many more bytes of client frames may be submitted now; none while we cannot author."""
        if not self._may_author or self._window_full:
            return 0
        return self._config.author_quota_bytes // 2 - self._own.held_bytes - self._sealer.size_bytes

    # ---- authoring

    @property
    def _idle(self) -> bool:
        return self._sealed_seq <= max(self._placed_seq, self._own.executed)

    @property
    def _window_full(self) -> bool:
        """Small batches can fill the lane's window long before the quota; then they wait until some are executed."""
        return self._next_seq > self._own.last

    def _seal(self, now_us: int) -> None:
        due = self._sealer.due_us(idle=self._idle)
        if due is None or due > now_us or not self._may_author:
            return
        seq = self._next_seq = self._free_seq()
        if self._window_full:
            return
        body, frames = self._sealer.take()
        unsigned = Batch(self._validators.epoch, self._index, seq, bytes(NODE_SIGNATURE_BYTES), body, frames)
        signature = self._safety.sign_batch(seq, unsigned.ref.digest)
        batch = Batch(unsigned.epoch, self._index, seq, signature, body, frames)
        self._next_seq, self._sealed_seq = seq + 1, max(seq, self._sealed_seq)
        self._store(batch, now_us)

    def _store(self, batch: Batch, now_us: int) -> None:
        """Make it durable. A small one counts as held at once: nothing leaves that relies on it before it is on disk.

        A vote's own record takes it along, acknowledgements wait for such a record or make one, and our own batch is
        spread right away, so it makes one, too.
        """
        own = batch.author == self._index
        behind = own and any(slot.storing for slot in self._own.slots.values())  # a gap in our lane would block it
        self._lanes[batch.author].store(batch.ref)
        if behind or batch.ref.size_bytes > self._config.small_body_bytes:
            self._effects.append(StoreBatch(batch))
            return
        self._effects.append(Persist(batches=(batch,), lazy=not own))
        self._unsynced = True
        if own:
            self.synced()
        self._on_stored(batch.ref, now_us)

    def _free_seq(self) -> int:
        """Our next number. After a lost data directory, the numbers that f+1 others hold a batch for are taken."""
        seq = max(self._next_seq, self._own.executed + 1)
        while (slot := self._own.slots.get(seq)) is not None:
            taken = any(self._validators.has_honest(slot.ackers(ref)) for ref in slot.acks.values())
            if not (slot.held or slot.storing or taken):
                break
            seq += 1
        return seq

    def _on_stored(self, ref: BatchRef, now_us: int) -> None:
        """Held from now on: our own batch may be spread, another's acknowledged."""
        lane = self._lanes[ref.author]
        lane.hold(ref)
        lane.ack(self._index, ref)
        self._wanted.pop(ref, None)
        if ref.author == self._index:
            self._effects.append(SpreadBatch(ref, tuple(self._everyone)))
            if self._resend_us is None:
                self._resend_us = now_us + self._config.resend_ms * 1000
        else:
            self._acknowledge(ref, now_us)
        self._deliver()

    def _acknowledge(self, ref: BatchRef, now_us: int) -> None:
        self._unacknowledged.append(ref)
        if self._ack_us is None:
            self._ack_us = now_us + self._config.ack_ms * 1000

    def _resend(self, now_us: int) -> None:
        """Own batches that a quorum has not acknowledged go again to those who have not."""
        if self._resend_us is None or self._resend_us > now_us:
            return
        unproven = [ref for ref in self._own_refs() if not self._proven(ref)]
        for ref in unproven[:MAX_RESENT]:
            ackers = self._own.slots[ref.seq].ackers(ref)
            self._effects.append(SpreadBatch(ref, tuple(i for i in self._everyone if i not in ackers)))
        self._resend_us = now_us + self._config.resend_ms * 1000 if unproven else None

    def _own_refs(self) -> list[BatchRef]:
        return [slot.first for _, slot in sorted(self._own.slots.items()) if slot.first is not None]

    # ---- others' batches

    def _on_batch(self, peer: int, message: BatchMessage, now_us: int) -> None:
        """From its author, within the quota; or asked for, from anybody (then the digest pins it)."""
        batch = message.batch
        author = batch.author
        if author >= len(self._lanes) or batch.epoch != self._validators.epoch:
            self._effects.append(Strike(peer, f"batch of unknown author {author} or epoch {batch.epoch}"))
            return
        wanted = batch.ref in self._wanted
        lane = self._lanes[author]
        slot = lane.slot(batch.seq)
        if slot is None or batch.ref.digest in slot.storing:
            return
        if lane.holds(batch.ref):
            if peer == author:  # it sends again because our acknowledgement did not reach it
                self._acknowledge(batch.ref, now_us)
            return
        if not wanted:
            over_quota = lane.held_bytes + batch.ref.size_bytes > self._config.author_quota_bytes
            if peer != author or slot.first is not None or slot.storing or over_quota:
                return
        if not self._desk.ready(peer, message, [batch]):
            return
        if peer == author:
            lane.ack(author, batch.ref)
        else:
            self._slow_until[author] = self._missing_in_view[0] + SLOW_VIEWS  # others had it and we had to ask
        self._store(batch, now_us)

    def _on_ack(self, peer: int, message: Ack) -> None:
        for ref in message.refs:
            if ref.author < len(self._lanes):
                self._lanes[ref.author].ack(peer, ref)

    def _send_acks(self, now_us: int) -> None:
        if self._ack_us is None or self._ack_us > now_us:
            return
        self._sync()
        self._say_held()

    def _say_held(self) -> None:
        if self._may_ack:
            for start in range(0, len(self._unacknowledged), MAX_ACKS):
                self._effects.append(Broadcast(Ack(tuple(self._unacknowledged[start : start + MAX_ACKS]))))
        self._unacknowledged, self._ack_us = [], None

    def _sync(self) -> None:
        """What follows says that we hold batches: those that wait for a sync get one."""
        if self._unsynced:
            self._unsynced = False
            self._effects.append(Persist())

    def synced(self) -> None:
        """A vote or the like has made everything durable: acknowledgements can leave with it."""
        self._unsynced = False
        if self._unacknowledged:
            self._say_held()

    def _greet(self, peer: int) -> None:
        """A link came up: say again what we hold, and send what the peer has not acknowledged of ours."""
        held = [ref for lane in self._lanes for slot in lane.slots.values() for ref in slot.held.values()]
        if held and self._may_ack:
            self._sync()
            for start in range(0, len(held), MAX_ACKS):
                self._effects.append(Send(peer, Ack(tuple(held[start : start + MAX_ACKS]))))
        unknown = [ref for ref in self._own_refs() if peer not in self._own.slots[ref.seq].acks]
        self._effects += [SpreadBatch(ref, (peer,)) for ref in unknown[:MAX_RESENT]]

    # ---- what consensus asks

    def propose(self, included: tuple[int, ...], view: int) -> tuple[BatchRef, ...]:
        """One batch of each author in turn, starting with another author each view, until a limit is reached."""
        authors = [(view + i) % len(self._lanes) for i in range(len(self._lanes))]
        upcoming = {author: included[author] + 1 for author in authors}
        refs: list[BatchRef] = []
        size = 0
        self._unproven_view = 0
        while authors and len(refs) < MAX_BATCH_REFS:
            for author in list(authors):
                ref = self._eligible(author, upcoming[author], view)
                if ref is None or size + ref.size_bytes > MAX_PAYLOAD_BYTES or len(refs) == MAX_BATCH_REFS:
                    authors.remove(author)
                    continue
                refs.append(ref)
                size += ref.size_bytes
                upcoming[author] += 1
        return tuple(refs)

    def _eligible(self, author: int, seq: int, view: int) -> BatchRef | None:
        slot = self._lanes[author].slots.get(seq)
        if slot is None or slot.first is None:
            return None
        if self._proven(slot.first):
            return slot.first
        if max(self._slow_until.get(author, 0), self._careful_until) >= view:
            return None
        self._unproven_view = view
        return slot.first

    def extend(self, included: tuple[int, ...], refs: tuple[BatchRef, ...]) -> tuple[int, ...] | None:
        """Contiguous lanes, known authors, sizes within the limits."""
        after = list(included)
        size = 0
        for ref in refs:
            if ref.author >= len(after) or ref.seq != after[ref.author] + 1:
                return None
            if not 1 <= ref.size_bytes <= MAX_BODY_BYTES or ref.tx_count < 1:
                return None
            after[ref.author] = ref.seq
            size += ref.size_bytes
        return tuple(after) if size <= MAX_PAYLOAD_BYTES else None

    def availability(self, refs: tuple[BatchRef, ...], view: int, now_us: int) -> Availability:
        """Held here, or acknowledged by power of at least P/3; never on the leader's word."""
        missing = [ref for ref in refs if not self._available(ref)]
        if not missing:
            return Availability.AVAILABLE
        self._missing_in_view = (view, tuple(sorted({ref.author for ref in missing})))
        self._want(missing, now_us, committed=False)
        self._fetch(now_us)
        return Availability.MISSING

    def _available(self, ref: BatchRef) -> bool:
        lane = self._lanes[ref.author]
        if ref.seq <= lane.executed or lane.holds(ref):
            return True
        slot = lane.slots.get(ref.seq)
        return slot is not None and self._validators.has_honest(slot.ackers(ref))

    def _proven(self, ref: BatchRef) -> bool:
        slot: Slot | None = self._lanes[ref.author].slots.get(ref.seq)
        return slot is not None and self._validators.is_quorum(slot.ackers(ref))

    def placed(self, refs: tuple[BatchRef, ...]) -> None:
        """A block refers to our batch: the next one may be sealed."""
        for ref in refs:
            if ref.author == self._index:
                self._placed_seq = max(self._placed_seq, ref.seq)

    def has_work(self, included: tuple[int, ...]) -> bool:
        """Something that every honest leader will come to know: held by a quorum, or our own."""
        for author, seq in enumerate(included):
            slot = self._lanes[author].slots.get(seq + 1)
            ref = slot.first if slot is not None else None
            if ref is not None and (author == self._index or self._proven(ref)):
                return True
        return False

    def view_failed(self, view: int) -> None:
        """Bodies that were missing when a view failed make their authors slow for a while.

        If it was our view and we proposed what not everybody may have had, we are careful with every author for as
        long: where bodies travel more slowly than blocks, all such views would fail.
        """
        if view == self._unproven_view:
            self._careful_until = view + SLOW_VIEWS
        failed, authors = self._missing_in_view
        if failed == view:
            for author in authors:
                self._slow_until[author] = view + SLOW_VIEWS

    def committed(self, blocks: tuple[Block, ...], now_us: int) -> None:
        """Ordered for good; executed as soon as every body is here, strictly in order."""
        self._queue.extend(blocks)
        self._unasked.extend(blocks)
        self._deliver()
        self._fetch(now_us)

    def backlog(self) -> int:
        """Committed blocks that wait for bodies."""
        return len(self._queue)

    # ---- execution and fetching

    def _deliver(self) -> None:
        ready: list[Block] = []
        while self._queue and all(self._held(ref) for ref in self._queue[0].payload):
            block = self._queue.popleft()
            for ref in block.payload:
                self._lanes[ref.author].execute(ref.seq)
            ready.append(block)
        if ready:
            self._effects.append(Commit(tuple(ready)))

    def _held(self, ref: BatchRef) -> bool:
        return self._lanes[ref.author].holds(ref)

    def _want(self, refs: Iterable[BatchRef], now_us: int, *, committed: bool) -> None:
        """Ask for bodies: from who acknowledged them, then from the author, then from everybody.

        The author has sent it to everybody already; if it did not, asking it first would cost a retry every time.

        A proposal of made-up references must not keep out what is committed: half of the places are for that alone.
        """
        limit = MAX_WANTED if committed else MAX_WANTED // 2
        for ref in refs:
            slot = self._lanes[ref.author].slot(ref.seq)
            if committed and ref in self._wanted:
                self._wanted[ref].committed = True  # from now on it is not given up
            if ref in self._wanted or len(self._wanted) >= limit or slot is None or ref.digest in slot.storing:
                continue
            likely = [*slot.ackers(ref), ref.author]
            first = [i for i in dict.fromkeys(likely) if i in self._everyone]
            sources = first + [i for i in self._everyone if i not in first]
            if sources:
                self._wanted[ref] = _Wanted(sources, now_us, committed)

    def _ask_for(self, block: Block, now_us: int) -> bool:
        """Want every body of a committed block that is not here. False if there is no room for all of them now."""
        self._want((ref for ref in block.payload if not self._held(ref)), now_us, committed=True)
        return all(ref in self._wanted or self._settled(ref) for ref in block.payload)

    def _settled(self, ref: BatchRef) -> bool:
        """Executed, here, or being stored: nothing to ask for."""
        lane = self._lanes[ref.author]
        slot = lane.slots.get(ref.seq)
        return ref.seq <= lane.executed or lane.holds(ref) or (slot is not None and ref.digest in slot.storing)

    def _fetch(self, now_us: int) -> None:
        """Send the requests that are due; bodies of committed blocks come before anything newer."""
        while self._unasked and self._ask_for(self._unasked[0], now_us):
            self._unasked.popleft()
        due: dict[int, list[BatchRef]] = {}
        for ref, wanted in list(self._wanted.items()):
            lane = self._lanes[ref.author]
            given_up = not wanted.committed and wanted.asked >= 2 * len(wanted.sources)
            if ref.seq <= lane.executed or lane.holds(ref) or given_up:
                del self._wanted[ref]
            elif wanted.retry_us <= now_us:
                peer = wanted.sources[wanted.asked % len(wanted.sources)]
                wanted.asked, wanted.retry_us = wanted.asked + 1, now_us + self._config.fetch_retry_ms * 1000
                due.setdefault(peer, []).append(ref)
        for peer, refs in due.items():
            for start in range(0, len(refs), MAX_BODY_REQUESTS):
                self._effects.append(Send(peer, BatchRequest(tuple(refs[start : start + MAX_BODY_REQUESTS]))))


_NEVER = 2**63


def _or_never(time_us: int | None) -> int:
    return _NEVER if time_us is None else time_us
