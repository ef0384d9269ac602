"""The tree of blocks above the last committed one.

Every block in it has its parent in it. Commits walk by hash and nothing else: arithmetic on views or heights skips or
repeats ancestors as soon as a view failed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hotstuff.errors import InvariantViolation
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC

# Committed blocks kept to answer requests of peers that are only a little behind.
RECENT_BLOCKS = 512


@dataclass(frozen=True)
class Node:
    """A block in its place, or the root of an epoch (`block` is None).

    `included[a]` is the highest batch number of author `a` on the branch up to here; `payload_height` is the height
    of the last block on it that is not empty.
    """

    id: bytes
    parent_id: bytes
    view: int
    height: int
    included: tuple[int, ...]
    payload_height: int
    block: Block | None

    @property
    def justify(self) -> QC:
        """The certificate inside the block; the root has none."""
        if self.block is None:
            raise InvariantViolation("the root of an epoch has no justify")
        return self.block.header.justify


class BlockTree:
    """Blocks by id, from the last committed block (`root`) upwards."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self._nodes: dict[bytes, Node] = {root.id: root}
        self._recent: OrderedDict[bytes, Node] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, block_id: bytes) -> Node | None:
        """The root or a node above it."""
        return self._nodes.get(block_id)

    def find(self, block_id: bytes) -> Node | None:
        """Like `get`, and among recently committed blocks too."""
        return self._nodes.get(block_id) or self._recent.get(block_id)

    def parent(self, node: Node) -> Node | None:
        """The parent, unless it was committed too long ago."""
        return self.find(node.parent_id)

    def add(self, block: Block, included: tuple[int, ...]) -> Node:
        """Adds a block whose parent is here."""
        header = block.header
        parent = self._nodes[header.parent_id]
        payload_height = header.height if block.payload else parent.payload_height
        node = Node(block.id, header.parent_id, header.view, header.height, included, payload_height, block)
        self._nodes[node.id] = node
        return node

    def tail_uncommitted(self, node: Node) -> bool:
        """Does the branch up to `node` hold a non-empty block that is not committed?"""
        return node.payload_height > self.root.height

    def commit(self, target: Node) -> list[Node]:
        """Makes `target` the root; returns the newly committed nodes, oldest first.

        Raises `InvariantViolation` if the branch does not go through the root: two conflicting blocks were
        committed, so a third or more of the power is Byzantine, and nothing that this replica says can be relied on.
        """
        path: list[Node] = []
        node: Node | None = target
        while node is not None and node.height > self.root.height:
            path.append(node)
            node = self._nodes.get(node.parent_id)
        if node is None or node.id != self.root.id:
            raise InvariantViolation(
                f"safety violation: commit of {target.id.hex()} at height {target.height} does not extend "
                f"{self.root.id.hex()} at height {self.root.height}"
            )
        path.reverse()
        self._move_root(path)
        return path

    def _move_root(self, path: list[Node]) -> None:
        for node in [self.root, *path[:-1]]:
            self._recent[node.id] = node
        while len(self._recent) > RECENT_BLOCKS:
            self._recent.popitem(last=False)
        if path:
            self.root = path[-1]
        # Nodes are in insertion order, so a parent is judged before its children.
        kept = {self.root.id: self.root}
        for node in self._nodes.values():
            if node.parent_id in kept and node.height > self.root.height:
                kept[node.id] = node
        self._nodes = kept

    def ancestors(self, block_id: bytes, above_height: int, limit: int) -> list[Block]:
        """The block and its ancestors, descending, as far as they are here."""
        found: list[Block] = []
        node = self.find(block_id)
        while node is not None and node.block is not None and node.height > above_height and len(found) < limit:
            found.append(node.block)
            node = self.find(node.parent_id)
        return found
