"""What one instance has made durable, and what it is about to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hotstuff.consensus import effects as fx
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.consensus.tree import Node
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.certificates import QC
from hotstuff.types.evidence import Evidence
from hotstuff.types.hashing import Context
from hotstuff.types.messages import MAX_PAGE_BLOCKS, ChainResponse

# Blocks in an answer to a chain request: few, so that long gaps take several pages.
PAGE_BLOCKS = 16


@dataclass
class Disk:
    """`waiting`, `executed[written:]` and the `unsynced` batches are still in memory: a crash may lose them, the rest
    survives."""

    safety: SafetyRecord
    blocks: dict[bytes, Block] = field(default_factory=dict)
    executed: list[Block] = field(default_factory=list)
    batches: dict[BatchRef, Batch] = field(default_factory=dict)
    commit_qcs: dict[bytes, QC] = field(default_factory=dict)
    commit_qc: QC | None = None
    evidence: list[Evidence] = field(default_factory=list)

    waiting: list[fx.Persist] = field(default_factory=list)
    written: int = 0
    unsynced: set[BatchRef] = field(default_factory=set)

    def put(self, write: fx.Persist) -> None:
        """Goes to disk with the next transaction; small batches are at hand meanwhile, like everything that waits."""
        self.waiting.append(write)
        for batch in write.batches:
            self.batches[batch.ref] = batch
            self.unsynced.add(batch.ref)

    def durable(self, ref: BatchRef) -> bool:
        """Would a crash leave this batch here?"""
        return ref in self.batches and ref not in self.unsynced

    def write(self) -> Sequence[fx.Persist]:
        """One durable transaction of everything that waits; returns what it held."""
        writes, self.waiting = self.waiting, []
        for write in writes:
            self.safety = write.safety or self.safety
            for block in write.blocks:
                self.blocks[block.id] = block
            if write.commit_qc is not None:
                self.commit_qc = write.commit_qc
                self.commit_qcs[write.commit_qc.commit_id] = write.commit_qc
            self.evidence += write.evidence
        self.written = len(self.executed)
        self.unsynced.clear()
        return writes

    def lose_waiting(self) -> None:
        """The process died before it was written."""
        self.waiting = []
        del self.executed[self.written :]
        for ref in self.unsynced:
            del self.batches[ref]
        self.unsynced.clear()

    def root(self, context: Context, validators: int) -> Node:
        """The last executed block, where a life begins."""
        included = [0] * validators
        for block in self.executed:
            for ref in block.payload:
                included[ref.author] = ref.seq
        if not self.executed:
            return Node(context.root_id, bytes(32), 0, 0, tuple(included), 0, None)
        last = self.executed[-1]
        header = last.header
        return Node(last.id, header.parent_id, header.view, header.height, tuple(included), 0, last)

    def blocks_above(self, height: int) -> list[Block]:
        """Stored blocks above a height, ascending."""
        above = [block for block in self.blocks.values() if block.header.height > height]
        return sorted(above, key=lambda block: block.header.height)

    def held_above(self, included: Sequence[int]) -> list[BatchRef]:
        """Stored batches that are not executed."""
        return [ref for ref in self.batches if ref.seq > included[ref.author]]

    def page(self, from_height: int) -> ChainResponse:
        """Executed blocks from a height on, up to one that a stored certificate commits."""
        start = max(from_height, 1) - 1
        page = self.executed[start : min(self.written, start + MAX_PAGE_BLOCKS)]
        certified = [count for count, block in enumerate(page, 1) if block.id in self.commit_qcs]
        if not certified:
            return ChainResponse(from_height, (), None)
        # One commit may be longer than a page should be; then the page ends with it.
        size = max((count for count in certified if count <= PAGE_BLOCKS), default=certified[0])
        return ChainResponse(from_height, tuple(page[:size]), self.commit_qcs[page[size - 1].id])
