"""What executing the chain does: I10 the same everywhere and once, I12 what clients were told stays true."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger, Tally
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.encoding import ZERO_HASH, Buffer
from hotstuff.types.messages import Message, StateReport

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

Transaction = tuple[bytes, int]
"""Client and sequence number."""

_FRAME = struct.Struct(">16sQII")


def transactions(body: Buffer) -> Iterator[Transaction]:
    """Who submitted what in a batch: frames of client id, first number, count, size and that many bytes."""
    at = 0
    while at < len(body):
        client, first, count, size = _FRAME.unpack_from(body, at)
        yield from ((client, seq) for seq in range(first, first + count))
        at += _FRAME.size + size


@dataclass
class State:
    """What comes of executing one block after another state: the same for whoever does it."""

    height: int
    root: bytes
    included: tuple[int, ...]
    """The last batch number of each author."""
    block_id: bytes = b""
    answers: dict[Transaction, int] = field(default_factory=dict)
    """Each transaction in the block, and its first place there."""


class Execution(Checker):
    """I10: a block is executed once it is certified as committed, with the bodies that it names, each batch once.

    The state root of a height is a hash over everything executed so far: block ids and bodies. Whoever executes the
    same block on the same root with the same bodies shares a `State`; a second root for a height is a violation. Lanes
    go on without a gap, so no batch is executed twice or skipped. (A client may have a transaction ordered in two
    batches. What counts is its first occurrence in the chain: see `Answers`.)
    """

    invariant = "I10"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._start = State(0, bytes(32), (0,) * len(self.powers.of))
        self._after: dict[tuple[bytes, bytes], State] = {}
        self._root_at: dict[int, bytes] = {}
        self._bodies: dict[bytes, bytes] = {}
        self._reported: dict[int, bytes] = {}
        self._committed: set[bytes] = {ledger.context.root_id}
        self.path: dict[int, list[State]] = {}
        """Of each validator: the states after height 0, 1, 2, ..."""

    def certifiable(self, tally: Tally) -> None:
        commit_id = tally.preimage[1]
        if commit_id != ZERO_HASH:
            self._committed.update(b.id for b in self.ledger.ancestors(commit_id, self._committed.__contains__))

    def sent(self, node: SimNode, message: Message) -> None:
        """What an application reports of its state is the same everywhere."""
        if (
            isinstance(message, StateReport)
            and self._reported.setdefault(message.height, message.state) != message.state
        ):
            self.fail(f"validator {node.index} reports another state after height {message.height} than another one")

    def started(self, node: SimNode) -> None:
        # A crash may have taken the end of what was executed, a lost disk all of it.
        path, executed = self.path.setdefault(node.index, [self._start]), node.disk.executed
        del path[len(executed) + 1 :]
        for block in executed[len(path) - 1 :]:
            self._execute(node, block)

    def executed(self, node: SimNode, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.id not in self._committed:
                self.fail(f"validator {node.index} executes {_named(block)}, which no certificate can have committed")
            self._execute(node, block)

    def _execute(self, node: SimNode, block: Block) -> None:
        path = self.path[node.index]
        batches = [self._body(node, block, ref) for ref in block.payload]
        state = self._after.get((path[-1].root, block.id))
        if state is None:
            state = self._after[path[-1].root, block.id] = self._apply(path[-1], block, batches)
        if self._root_at.setdefault(state.height, state.root) != state.root:
            self.fail(f"validator {node.index} has another state after height {state.height} than others have")
        path.append(state)

    def _body(self, node: SimNode, block: Block, ref: BatchRef) -> bytes:
        batch = node.disk.batches.get(ref)
        if batch is None:
            self.fail(f"validator {node.index} executes {_named(block)} without the body {ref.author}/{ref.seq}")
        body = self._bodies.get(ref.digest)
        if body is None and batch.ref == ref:
            body = self._bodies[ref.digest] = bytes(batch.body)
        if body is None or body != batch.body:
            self.fail(f"validator {node.index} executes {_named(block)} with a wrong body {ref.author}/{ref.seq}")
        return body

    def _apply(self, before: State, block: Block, bodies: Sequence[bytes]) -> State:
        included = list(before.included)
        for ref in block.payload:
            if ref.author >= len(included) or ref.seq != included[ref.author] + 1:
                self.fail(f"{_named(block)} has batch {ref.author}/{ref.seq} after {included}: repeated or skipped")
            included[ref.author] = ref.seq
        answers: dict[Transaction, int] = {}
        for place, transaction in enumerate(t for body in bodies for t in transactions(body)):
            answers.setdefault(transaction, place)
        root = sha256(b"".join((before.root, block.id, *(sha256(body).digest() for body in bodies)))).digest()
        return State(before.height + 1, root, tuple(included), block.id, answers)


def _named(block: Block) -> str:
    return f"block {block.id.hex()[:8]} of height {block.header.height}"


class Answers(Checker):
    """I12: what a client may have believed is never contradicted by a later execution.

    The first execution of a transaction in a chain is an answer: height, state root and place in the block. A client
    believes an answer that power of at least P/3 gives. Byzantine validators give every answer at any time, so what
    honest power and all Byzantine power together bring to the threshold counts as believed.
    """

    invariant = "I12"

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._heard: dict[int, int] = {}
        self._first: dict[Transaction, list[State]] = {}
        self._executors: dict[bytes, set[int]] = {}
        self._contradictions: list[tuple[Transaction, State, State]] = []

    def started(self, node: SimNode) -> None:
        height = len(self._execution.path[node.index]) - 1
        self._heard[node.index] = min(height, self._heard.get(node.index, 0))
        self._hear(node)

    def executed(self, node: SimNode, blocks: Sequence[Block]) -> None:
        self._hear(node)

    def _hear(self, node: SimNode) -> None:
        path = self._execution.path[node.index]
        for state in path[self._heard[node.index] + 1 :]:
            executors = self._executors.get(state.root)
            if executors is None:
                executors = self._executors[state.root] = set()
                self._register(path, state)
            executors.add(node.index)
        self._heard[node.index] = len(path) - 1
        for transaction, one, other in self._contradictions:
            if self._believed(one) or self._believed(other):
                self.fail(
                    f"transaction {transaction[1]} was answered with height {one.height} place "
                    f"{one.answers[transaction]}, and with height {other.height} place {other.answers[transaction]}"
                )

    def _register(self, path: Sequence[State], state: State) -> None:
        for transaction in state.answers:
            others = self._first.setdefault(transaction, [])
            if any(other.height < state.height and path[other.height] is other for other in others):
                continue  # executed before in this chain: this occurrence answers nothing new
            self._contradictions += [(transaction, other, state) for other in others]
            others.append(state)

    def _believed(self, state: State) -> bool:
        honest = self.powers.sum(self._executors[state.root])
        return self.powers.is_third(honest + self.powers.byzantine_total)
