"""Several replicas in one process: the real core and mempool, real signatures, virtual time, no I/O.

Messages travel through a list that a test may reorder, hold or drop. Every signature that leaves a replica in any of
its lives is remembered, and what it had persisted at that moment is compared with it. Every block that is executed in
any life is compared with what the others executed at that height.

`Cluster(fast=True)` takes the simulator's stand-in signatures: about ten times faster, for tests of schedules. Whatever
tests signatures themselves uses the real ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from hotstuff import native
from hotstuff.consensus import effects as fx
from hotstuff.consensus.leaders import Weighted
from hotstuff.consensus.replica import Replica, Timing
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.tree import Node
from hotstuff.consensus.verifier import Verifier
from hotstuff.mempool.mempool import Mempool, MempoolConfig
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.scheme import Signatures, members, scheme_of, validator_set
from hotstuff.types.block import Block
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import (
    Ack,
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

CLIENT = b"client-of-tests!"


class Killed(Exception):
    """Raised by a crash point: the process ends here."""


@dataclass
class Envelope:
    """A message under way."""

    sender: int
    to: int
    message: Message


class Cluster:
    """`n` replicas and the messages between them."""

    def __init__(
        self,
        n: int = 4,
        *,
        powers: list[int] | None = None,
        seed: int | None = 0,
        passive: int | None = None,
        fast: bool = False,
        mode: Mode = Mode.CHAINED,
        mempool: MempoolConfig | None = None,
    ) -> None:
        """`seed` shuffles deliveries (None: in the order of sending); `passive` has lost its safety record."""
        signatures: Signatures = "stand-in" if fast else "bls"
        self.members = members(n, signatures)
        self.validators = validator_set(self.members, powers or ())
        self.context = Context(mode, b"\7" * 32, 1, self.validators.hash)
        self.verifier = Verifier(self.context, self.validators, scheme_of(signatures))
        self.rules = RULES[mode]
        self.random = None if seed is None else random.Random(seed)
        self.mempool_config = mempool or MempoolConfig()
        self.now_us = 0
        self.timing = Timing(view_timeout_ms=1000, spread_ms=50, fetch_retry_ms=100)
        self.disks = [Disk(SafetyRecord.initial(self.context, passive=i == passive)) for i in range(n)]
        self.replicas: list[Replica | None] = [None] * n
        self.network: list[Envelope] = []
        self.inbox: list[list[fx.Event]] = [[] for _ in range(n)]
        self.signed: dict[tuple[str, int, int], set[bytes]] = {}
        self.reports: list[tuple[int, fx.Report]] = []
        self.strikes: list[tuple[int, fx.Strike]] = []
        self.keep_lazy = True
        self.drop: Callable[[Envelope], bool] = lambda _: False
        self.point: Callable[[int, str], None] = lambda _replica, _name: None
        self.executed_at: dict[int, bytes] = {}
        self.sent = 0
        self.next_tx = 1
        for i in range(n):
            self.start(i)

    # ---- lives

    def start(self, i: int) -> None:
        """Starts replica `i` from its disk and connects it."""
        disk, member = self.disks[i], self.members[i]
        executed = [0] * len(self.members)
        for block in disk.executed:
            for ref in block.payload:
                executed[ref.author] = ref.seq
        last = disk.executed[-1] if disk.executed else None
        root = Node(
            last.id if last else self.context.root_id,
            last.header.parent_id if last else bytes(32),
            last.header.view if last else 0,
            last.header.height if last else 0,
            tuple(executed),
            0,
            last,
        )
        safety = Safety(i, self.context, self.rules, member.bls, member.node, disk.safety)
        held = [ref for ref in disk.batches if ref.seq > executed[ref.author]]
        above = sorted(
            (b for b in disk.blocks.values() if b.header.height > root.height), key=lambda b: b.header.height
        )
        self.replicas[i] = Replica(
            context=self.context,
            validators=self.validators,
            rules=self.rules,
            leaders=Weighted([v.power for v in self.validators.validators]),
            safety=safety,
            root=root,
            blocks=above,
            commit_qc=disk.commit_qc,
            payload=lambda effects, desk: Mempool(
                validators=self.validators,
                safety=safety,
                config=self.mempool_config,
                executed=root.included,
                held=held,
                effects=effects,
                desk=desk,
            ),
            timing=self.timing,
        )
        self.step(i, fx.Start())
        for j, other in enumerate(self.replicas):
            if other is not None and j != i:
                self.step(i, fx.Connected(j))
                self.step(j, fx.Connected(i))

    def kill(self, i: int) -> None:
        """Replica `i` loses everything that is not on its disk, and what it was about to receive.

        What waited to be written lazily is lost, too, unless `keep_lazy`.
        """
        if self.keep_lazy:
            self.disks[i].write()
        else:
            self.disks[i].lose_waiting()
        self.replicas[i] = None
        self.inbox[i].clear()
        self.network = [e for e in self.network if e.to != i]

    # ---- steps

    def step(self, i: int, event: fx.Event) -> None:
        """One event at one replica, and the driver's work after it."""
        replica = self.replicas[i]
        if replica is not None:
            try:
                self.run(i, replica.step(event, self.now_us))
            except Killed:
                self.kill(i)

    def run(self, i: int, effects: list[fx.Effect]) -> None:
        """What the driver does: persist everything first, then send in order, then the rest.

        `point` is called between any two of these; it may raise `Killed`.
        """
        disk = self.disks[i]
        self.point(i, "before Persist")
        for effect in effects:
            if isinstance(effect, fx.Persist):
                disk.put(effect)
        if not all(write.lazy for write in disk.waiting):
            disk.write()
        for effect in effects:
            if not isinstance(effect, (fx.Persist, fx.Report, fx.Strike, fx.Check, fx.Collect)):
                self.point(i, f"before {type(effect).__name__}")
            if isinstance(effect, fx.Send):
                self.send(i, effect.to, effect.message)
            elif isinstance(effect, fx.Broadcast):
                for to in range(len(self.members)):
                    if to != i:
                        self.send(i, to, effect.message)
            elif isinstance(effect, fx.SpreadBatch):
                for to in effect.to:
                    self.send(i, to, BatchMessage(disk.batches[effect.ref]))
            elif isinstance(effect, fx.Commit):
                self.execute(i, effect.blocks)
            elif isinstance(effect, fx.Check):
                self.inbox[i].append(fx.Checked(effect.job, self.verifier.check(effect.item)))
            elif isinstance(effect, fx.Collect):
                found = self.verifier.collect(effect.shares)
                self.inbox[i].append(fx.Collected(effect.job, found.signature, found.good, found.bad))
            elif isinstance(effect, fx.StoreBatch):
                disk.batches[effect.batch.ref] = effect.batch
                self.inbox[i].append(fx.BatchStored(effect.batch))
                self.point(i, "after StoreBatch")
            elif isinstance(effect, fx.Report):
                self.reports.append((i, effect))
            elif isinstance(effect, fx.Strike):
                self.strikes.append((i, effect))

    def execute(self, i: int, blocks: tuple[Block, ...]) -> None:
        """Everybody executes the same block at a height, in order, with every body durable."""
        disk = self.disks[i]
        for block in blocks:
            assert block.header.height == len(disk.executed) + 1, f"replica {i} skips or repeats a height"
            assert self.executed_at.setdefault(block.header.height, block.id) == block.id, f"replica {i} forks"
            assert all(ref in disk.batches for ref in block.payload), f"replica {i} executes without a body"
            disk.executed.append(block)

    def send(self, sender: int, to: int, message: Message) -> None:
        """Encode, check against the sender's disk, and put on the way."""
        self.check_signed(sender, message)
        envelope = Envelope(sender, to, decode_message(message.kind, bytes(message.encoding)))
        self.sent += 1
        if sender == to or not self.drop(envelope):
            self.network.append(envelope)

    def check_signed(self, sender: int, message: Message) -> None:
        """No second signature for a view in any life, and the record of this one is on the disk already."""
        disk = self.disks[sender]
        if isinstance(message, Vote) and message.signer == sender:
            what, view, said, durable = "vote", message.view, message.encoding, disk.safety.voted_view
            if message.phase is not Phase.GENERIC:
                what += f" {message.phase.name}"
        elif isinstance(message, Timeout) and message.signer == sender:
            what, view, said, durable = "timeout", message.view, message.encoding, disk.safety.timed_out_view
        elif isinstance(message, Proposal) and message.block.header.proposer == sender:
            header = message.block.header
            what, view, said, durable = "proposal", header.view, header.id, disk.safety.proposed_view
        else:
            refs = [message.batch.ref] if isinstance(message, BatchMessage) else []
            refs += message.refs if isinstance(message, Ack) else ()
            assert not disk.unsynced.intersection(refs), f"a body left replica {sender} before it was durable"
            return
        assert durable >= view, f"{what} of view {view} left replica {sender} before it was durable ({durable})"
        spoken = self.signed.setdefault((what, sender, view), set())
        if isinstance(message, Vote) and not spoken:
            assert ("timeout", sender, view) not in self.signed, f"replica {sender} voted in timed-out view {view}"
        spoken.add(said)
        assert len(spoken) == 1, f"replica {sender} signed two {what}s of view {view}"

    def deliver(self, envelope: Envelope) -> None:
        """Hand a message over; bodies and old blocks are served from the disk, as the driver does."""
        replica, disk = self.replicas[envelope.to], self.disks[envelope.to]
        message = envelope.message
        if replica is None:
            return
        if isinstance(message, BatchRequest):
            for ref in message.refs:
                if ref in disk.batches:
                    self.send(envelope.to, envelope.sender, BatchMessage(disk.batches[ref]))
        elif isinstance(message, ChainRequest):
            self.send(envelope.to, envelope.sender, self.chain_page(disk, message.from_height))
        else:
            self.step(envelope.to, fx.Received(envelope.sender, message))

    def chain_page(self, disk: Disk, from_height: int, limit: int = 8) -> ChainResponse:
        """A page of committed blocks that ends in one with a commit certificate."""
        page = disk.executed[from_height - 1 : from_height - 1 + limit]
        while page and page[-1].id not in disk.commit_qcs:
            page = page[:-1]
        return ChainResponse(from_height, tuple(page), disk.commit_qcs[page[-1].id] if page else None)

    def submit(self, i: int, transactions: int = 1) -> int:
        """A client's frame at replica `i`; returns its first number."""
        first = self.next_tx
        self.next_tx += transactions
        data = native.build_frame(CLIENT, first, [b"tx-%d" % (first + k) for k in range(transactions)])
        (frame,) = native.parse_body(data, 1)
        self.step(i, fx.Submitted(data, frame))
        return first

    def turn(self) -> bool:
        """Everything that can happen without time passing, one thing; False if there is nothing."""
        for i, events in enumerate(self.inbox):
            if events:
                self.step(i, events.pop(0))
                return True
        if self.network:
            self.deliver(self.network.pop(self.random.randrange(len(self.network)) if self.random else 0))
            return True
        return False

    def reconnect(self) -> None:
        """Every link breaks and comes up again: what was under way is lost."""
        self.network.clear()
        for i in self.alive():
            for j in self.alive():
                if i != j:
                    self.step(i, fx.Connected(j))

    def tick(self) -> bool:
        """Time passes until the next deadline, and its replica is stepped; False if no timer runs."""
        deadlines = [(d, i) for i in self.alive() if (d := self.replicas[i].deadline_us()) is not None]
        if not deadlines:
            return False
        deadline, i = min(deadlines)
        self.now_us = max(self.now_us, deadline)
        self.step(i, fx.Tick())
        return True

    def settle(self, limit: int = 100_000) -> None:
        """Until nothing more happens without time passing."""
        for _ in range(limit):
            if not self.turn():
                return
        raise AssertionError(f"still busy after {limit} turns: {self.network[:3]}")

    def advance(self, duration_ms: int) -> None:
        """Lets time pass, stepping replicas at their deadlines."""
        end, stuck = self.now_us + duration_ms * 1000, 0
        self.settle()
        while True:
            deadlines = [
                (deadline, i)
                for i, replica in enumerate(self.replicas)
                if replica is not None and (deadline := replica.deadline_us()) is not None
            ]
            if not deadlines or min(deadlines)[0] > end:
                break
            deadline, i = min(deadlines)
            stuck = stuck + 1 if deadline <= self.now_us else 0
            assert stuck < 100, f"replica {i} spins: its deadline {deadline} stays in the past"
            self.now_us = max(self.now_us, deadline)
            self.step(i, fx.Tick())
            self.settle()
        self.now_us = end

    # ---- what came of it

    def chain(self, i: int) -> list[bytes]:
        """Ids of the blocks that replica `i` has executed."""
        return [block.id for block in self.disks[i].executed]

    def ordered(self, i: int) -> int:
        """Transactions that replica `i` has executed."""
        return sum(ref.tx_count for block in self.disks[i].executed for ref in block.payload)

    def assert_agreement(self) -> None:
        """Chains are prefixes of one another, and nobody has executed a block twice."""
        chains = [self.chain(i) for i in range(len(self.members))]
        longest = max(chains, key=len)
        for i, chain in enumerate(chains):
            assert chain == longest[: len(chain)], f"replica {i} disagrees"
            assert len(set(chain)) == len(chain)

    def alive(self) -> list[int]:
        """Indices of running replicas."""
        return [i for i, replica in enumerate(self.replicas) if replica is not None]

    def views(self) -> list[int]:
        """Current view of each running replica."""
        return [replica.view for replica in self.replicas if replica is not None]
