"""I1: one chain for all honest nodes, delivered in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.simulator.checkers.base import Checker
from hotstuff.types.block import Block

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode


class Agreement(Checker):
    """I1: executed chains are prefixes of one another, by id; each life goes on where its disk ends, without a gap.

    A life may repeat what the one before had executed and not made durable; it is the same blocks then.
    `may_fork`: a control run with too much Byzantine power, where a fork is noted in `fork` and the run goes on.
    """

    invariant = "I1"

    def __init__(self, *, may_fork: bool = False) -> None:
        self.fork: str | None = None
        self._may_fork = may_fork
        self._chain: list[bytes] = []
        self._tip: dict[int, tuple[int, bytes]] = {}

    def started(self, node: SimNode) -> None:
        executed = node.disk.executed
        self._tip[node.index] = 0, self.ledger.context.root_id
        if executed:
            self._check(node, len(executed), executed[-1])
            self._tip[node.index] = len(executed), executed[-1].id

    def executed(self, node: SimNode, blocks: Sequence[Block]) -> None:
        height, last_id = self._tip[node.index]
        for block in blocks:
            height += 1
            if block.header.parent_id != last_id:
                self.fail(
                    f"validator {node.index} executes {block.id.hex()[:8]} of height {block.header.height}, which is "
                    f"not the child of {last_id.hex()[:8]} at height {height - 1}"
                )
            self._check(node, height, block)
            last_id = block.id
        self._tip[node.index] = height, last_id

    def _check(self, node: SimNode, height: int, block: Block) -> None:
        if block.header.height != height:
            self.fail(f"validator {node.index} executes height {block.header.height} in the place of {height}")
        if height > len(self._chain):
            self._chain.append(block.id)
        if self._chain[height - 1] == block.id:
            return
        here, there = block.id.hex()[:8], self._chain[height - 1].hex()[:8]
        self.fork = self.fork or f"validator {node.index} executes {here} at height {height}, another one {there}"
        if not self._may_fork:
            self.fail(self.fork)
