"""A world made by hand: validators with keys and disks, and nothing that moves by itself.

A test says what happens, in the order in which a run would report it; every method tells the checkers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hotstuff import native
from hotstuff.consensus import effects as fx
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.suite import Checkers
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.scheme import STAND_IN, members, validator_set
from hotstuff.simulator.setup import Parameters, Setup
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import BlockResponse, Message, Proposal, Timeout, Vote

CHAIN_ID = b"\7" * 32


def violates(invariant: str, text: str = "") -> AbstractContextManager[Any]:
    """The block ends in a violation of this invariant whose text matches."""
    return pytest.raises(Violation, match=rf"^{invariant} at .*{text}")


@dataclass
class ActorNode:
    """What checkers see of a `SimNode`."""

    instance: int
    index: int
    honest: bool
    disk: Disk
    life: int = 1
    replica: Any = None
    payload: Any = None


@dataclass
class StageWorld:
    """What checkers see of a `World`."""

    setup: Setup
    context: Context
    validators: Any
    byzantine: frozenset[int]
    nodes: list[ActorNode] = field(default_factory=list)
    parameters: Parameters = field(default_factory=Parameters)
    leaders: Any = None
    core: tuple[int, ...] = ()
    gst_us: int = 0
    now_us: int = 0


class Stage:
    """Four validators by default, the last one Byzantine."""

    def __init__(
        self,
        *checkers: Checker,
        mode: Mode = Mode.CHAINED,
        powers: Sequence[int] = (1, 1, 1, 1),
        byzantine: Iterable[int] = (3,),
        **world: Any,
    ) -> None:
        """`world`: what else is known of it."""
        n = len(powers)
        self.members = members(n)
        self.validators = validator_set(self.members, tuple(powers))
        self.context = Context(mode, CHAIN_ID, 1, self.validators.hash)
        self.genesis = QC.genesis(self.context)
        setup = Setup(protocol=mode, nodes=n)
        self.world: Any = StageWorld(setup, self.context, self.validators, frozenset(byzantine), **world)
        for i in range(n):
            disk = Disk(SafetyRecord.initial(self.context, passive=False))
            self.world.nodes.append(ActorNode(i, i, i not in self.world.byzantine, disk))
        self.observer = Checkers(checkers)
        for node in self.world.nodes:
            self.observer.started(self.world, node)

    def node(self, i: int) -> Any:
        """A validator."""
        return self.world.nodes[i]

    # ---- things

    def batch(self, author: int = 0, seq: int = 1, *, first_tx: int = 1, count: int = 1) -> Batch:
        """A batch of one client's transactions."""
        body = native.build_frame(b"client-of-checks", first_tx, [b"x"] * count)
        batch = Batch(1, author, seq, bytes(64), body, tuple(native.parse_body(body, 1)))
        return replace(batch, signature=self.members[author].node.sign(batch.message(self.context)))

    def block(
        self,
        view: int,
        justify: QC | None = None,
        *,
        height: int = 1,
        tc: TC | None = None,
        refs: Sequence[BatchRef] = (),
    ) -> Block:
        """A block on what `justify` certifies (the root)."""
        context, justify = self.context, justify or self.genesis
        entry = ZERO_HASH if tc is None else tc.key
        place = (1, context.vset_hash, view, height, justify.block_id, justify, entry, payload_root(tuple(refs)))
        return Block(Header(context.mode, context.chain_id, *place, view % len(self.validators)), tuple(refs))

    def vote(self, i: int, block: Block, commit_id: bytes = ZERO_HASH, phase: Phase = Phase.GENERIC) -> Vote:
        """The share of one validator."""
        view = block.header.view
        message = self.context.vote_message(view, phase, block.id, commit_id)
        return Vote(1, view, phase, block.id, commit_id, i, self.members[i].bls.sign(message))

    def qc(
        self,
        block: Block,
        signers: Sequence[int] = (0, 1, 2),
        *,
        commit_id: bytes = ZERO_HASH,
        phase: Phase = Phase.GENERIC,
    ) -> QC:
        """A QC with a valid signature, whether or not anybody has voted."""
        view = block.header.view
        message = self.context.vote_message(view, phase, block.id, commit_id)
        bitmap = self.validators.bitmap(signers)
        return QC(1, view, phase, block.id, commit_id, bitmap, self._sum([(i, message) for i in signers]))

    def timeout(self, i: int, view: int, high_qc: QC | None = None, prev_tc: TC | None = None) -> Timeout:
        """The share of one validator."""
        high_qc = high_qc or self.genesis
        message = self.context.timeout_message(view, high_qc.view)
        return Timeout(1, view, i, self.members[i].bls.sign(message), high_qc, prev_tc)

    def tc(self, view: int, reports: dict[int, QC]) -> TC:
        """A TC with a valid signature, in which each signer reports that QC."""
        views = sorted({qc.view for qc in reports.values()}, reverse=True)
        bitmap = self.validators.bitmap
        groups = tuple(TimeoutGroup(v, bitmap(i for i, qc in reports.items() if qc.view == v)) for v in views)
        shares = [(i, self.context.timeout_message(view, qc.view)) for i, qc in reports.items()]
        return TC(1, view, groups, self._sum(shares), max(reports.values(), key=lambda qc: qc.view))

    def _sum(self, signed: Sequence[tuple[int, bytes]]) -> bytes:
        shares = [
            (at, self.members[i].bls.public_key().to_bytes(), message, self.members[i].bls.sign(message))
            for at, (i, message) in enumerate(signed)
        ]
        signature = STAND_IN.collect(shares).signature
        assert signature is not None
        return signature

    # ---- what happens

    def sends(self, i: int, message: Message) -> None:
        """It enters the network."""
        self.observer.sent(self.world, self.node(i), (i + 1) % len(self.validators), message)

    def steps(self, i: int, *effects: fx.Effect, event: fx.Event | None = None) -> None:
        """A step of its core with these effects."""
        self.observer.stepped(self.world, self.node(i), event or fx.Tick(), effects)

    def writes(self, i: int, blocks: Sequence[Block] = (), **changes: Any) -> None:
        """Blocks and changes of the safety record become durable."""
        disk = self.node(i).disk
        write = fx.Persist(safety=replace(disk.safety, **changes), blocks=tuple(blocks))
        disk.waiting.append(write)
        self.observer.persisted(self.world, self.node(i), disk.write())

    def proposes(self, block: Block, tc: TC | None = None) -> Block:
        """The proposer of a block sends it."""
        proposer = block.header.proposer
        self.sends(proposer, Proposal(block, bytes(64), tc))
        return block

    def shows(self, block: Block) -> Block:
        """A Byzantine validator sends a block, so that the checkers know it."""
        self.sends(min(self.world.byzantine), BlockResponse(block.id, (block,)))
        return block

    def votes(self, voters: Iterable[int], block: Block, commit_id: bytes = ZERO_HASH, **more: Any) -> None:
        """These send their votes, without a disk."""
        for i in voters:
            self.sends(i, self.vote(i, block, commit_id, **more))

    def stores(self, i: int, *batches: Batch) -> None:
        """Bodies are on the disk."""
        self.node(i).disk.batches.update((batch.ref, batch) for batch in batches)

    def executes(self, i: int, *blocks: Block) -> None:
        """In this order."""
        self.node(i).disk.executed += blocks
        self.observer.executed(self.world, self.node(i), blocks)

    def restarts(self, i: int, disk: Disk | None = None) -> None:
        """A crash and a new life, with another disk if one is given."""
        node = self.node(i)
        self.observer.crashed(self.world, node)
        node.disk = disk or node.disk
        node.life += 2
        self.observer.started(self.world, node)

    def ends(self) -> None:
        """The run is over."""
        self.observer.finished(self.world)

    # ---- chains

    def chain(self, *views: int, voters: Sequence[int] = (0, 1, 2)) -> list[Block]:
        """Blocks of these views on top of each other, proposed and voted for with the right commit ids."""
        ledger = self.observer.ledger(self.world)
        blocks: list[Block] = []
        justify, tc = self.genesis, None
        for height, view in enumerate(views, 1):
            if view != justify.view + 1:
                tc = self.tc(view - 1, dict.fromkeys(voters, justify))
                for i in voters:
                    self.sends(i, self.timeout(i, view - 1, justify))
            block = self.proposes(self.block(view, justify, height=height, tc=tc), tc)
            commit_id = ledger.commits(block.id, Phase.GENERIC)
            assert commit_id is not None
            self.votes(voters, block, commit_id)
            justify, tc = self.qc(block, voters, commit_id=commit_id), None
            blocks.append(block)
        return blocks
