"""What differs between protocols: what a certificate commits, what it locks, when a proposal is safe.

Pacemaker, tree, storage and network do not know which of these runs.
"""

from __future__ import annotations

from typing import Protocol

from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode


class Rules(Protocol):
    """One protocol."""

    mode: Mode
    commit_depth: int
    """Consecutive views that a commit takes: a QC of view v commits a block of view v - commit_depth + 1."""

    def commit_id(self, tree: BlockTree, node: Node) -> bytes:
        """The block that a QC for `node` commits; zero if none. A function of the block and its ancestors only."""
        ...

    def lock(self, locked_qc: QC, certified: Node) -> QC:
        """The lock of a replica that has seen a QC for `certified`."""
        ...

    def safe(self, header: Header, locked_qc: QC) -> bool:
        """May a replica with this lock vote for a block with this header?"""
        ...


class Chained:
    """Chained HotStuff (arXiv 1803.05069, section 5), three-chain.

    Safety: let b3 <- b2 <- b1 have consecutive views and QCs. Each honest voter of b1 saw the QC of b2 first, so it is
    locked on the QC of b3 or higher. One view certifies one block, so the first conflicting block certified above b3
    has a view above b1's, and needs a voter of b1 to accept a justify below b3's view. Its lock forbids that.
    """

    mode = Mode.CHAINED
    commit_depth = 3

    def commit_id(self, tree: BlockTree, node: Node) -> bytes:
        """The grandparent, if the three views are consecutive.

        A chain of parents is not enough: with b3@1 <- b2@3 <- b1@4, view 2 may have certified a block that conflicts
        with b3, and replicas locked there can go on from it.
        """
        parent = tree.parent(node)
        grandparent = parent and tree.parent(parent)
        if not parent or not grandparent:
            return ZERO_HASH
        consecutive = node.view == parent.view + 1 == grandparent.view + 2
        return grandparent.id if consecutive else ZERO_HASH

    def lock(self, locked_qc: QC, certified: Node) -> QC:
        """The head of the two-chain: the justify inside the certified block, if higher."""
        if certified.block is None or certified.justify.view <= locked_qc.view:
            return locked_qc
        return certified.justify

    def safe(self, header: Header, locked_qc: QC) -> bool:
        """`justify.view >= locked_qc.view`.

        This is "extends the lock, or is justified higher" (safeNode): an equal view means the same block, and a
        branch justified below the lock cannot extend it.
        """
        return header.justify.view >= locked_qc.view


RULES: dict[Mode, Rules] = {Mode.CHAINED: Chained()}
