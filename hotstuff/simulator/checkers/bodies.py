"""I11: whatever could be ordered can be executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotstuff.simulator.checkers.base import Checker, lost_record
from hotstuff.simulator.checkers.ledger import Ledger, Tally
from hotstuff.types.block import Block

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

# Blocks kept before those that everybody has executed are sorted out.
KEPT_BLOCKS = 1024


class BodiesExist(Checker):
    """I11: each batch of a block that could be certified is on the disk of an honest validator.

    Looked at when the block becomes certifiable and, until every honest validator has executed it, whenever a disk
    that may have held the only copy is lost. Nothing else removes a body.
    """

    invariant = "I11"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._honest = [node for node in world.nodes if node.honest]
        self._open: list[Block] = []

    def certifiable(self, tally: Tally) -> None:
        block = self.ledger.blocks[tally.preimage[0]]
        self._check(block, "could be certified")
        if block.payload:
            self._open.append(block)
        if len(self._open) > KEPT_BLOCKS:
            self._drop_executed()

    def started(self, node: SimNode) -> None:
        if lost_record(node):
            self._drop_executed()
            for block in self._open:
                self._check(block, f"can still be committed after validator {node.index} lost its disk")

    def _drop_executed(self) -> None:
        height = min(len(node.disk.executed) for node in self._honest)
        self._open = [block for block in self._open if block.header.height > height]

    def _check(self, block: Block, why: str) -> None:
        for ref in block.payload:
            if not any(ref in node.disk.batches for node in self._honest):
                name = f"block {block.id.hex()[:8]} of view {block.header.view}"
                self.fail(f"{name} {why}, and nobody honest holds batch {ref.author}/{ref.seq}")
