"""Commits walk by hash, over gaps in views and past forks of equal height."""

from __future__ import annotations

import pytest
from cluster import Cluster
from forge import Forge, ref

from hotstuff.consensus import tree as tree_module
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.errors import InvariantViolation

NONE = (0, 0, 0, 0)


def root_of(forge: Forge) -> Node:
    return Node(forge.genesis.block_id, bytes(32), 0, 0, NONE, 0, None)


def grow(views: list[int]) -> tuple[Forge, BlockTree, list[Node]]:
    forge = Forge(Cluster(4, fast=True))
    tree = BlockTree(root_of(forge))
    return forge, tree, [tree.add(block, NONE) for block, _ in forge.chain(views)]


def test_a_commit_delivers_all_ancestors_oldest_first_over_view_gaps() -> None:
    _, tree, nodes = grow([1, 4, 9, 10, 11])
    assert tree.commit(nodes[3]) == nodes[:4]
    assert tree.root == nodes[3]
    assert tree.commit(nodes[4]) == [nodes[4]]


def test_a_commit_is_delivered_once() -> None:
    _, tree, nodes = grow([1, 2, 3])
    tree.commit(nodes[1])
    assert tree.commit(nodes[1]) == []


def test_a_fork_of_equal_height_is_dropped_with_all_its_descendants() -> None:
    forge, tree, nodes = grow([1, 2, 3])
    fork = tree.add(forge.block(5, nodes[1].justify, 2), NONE)
    above = tree.add(forge.block(6, forge.qc(5, fork.id), 3), NONE)
    tree.commit(nodes[1])
    assert tree.get(fork.id) is None
    assert tree.get(above.id) is None
    assert tree.get(nodes[2].id) == nodes[2]
    assert len(tree) == 2


@pytest.mark.parametrize("height", ["equal", "above"])
def test_a_commit_beside_the_root_is_a_violation(height: str) -> None:
    forge, tree, nodes = grow([1, 2])
    fork = tree.add(forge.block(5, forge.genesis, 1), NONE)
    above = tree.add(forge.block(6, forge.qc(5, fork.id), 2), NONE)
    tree.commit(nodes[0])
    with pytest.raises(InvariantViolation, match="does not extend"):
        tree.commit(fork if height == "equal" else above)


def test_committed_blocks_are_served_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "RECENT_BLOCKS", 3)
    _, tree, nodes = grow([1, 2, 3, 4, 5, 6])
    tree.commit(nodes[5])
    assert [node.id for node in nodes if tree.find(node.id)] == [node.id for node in nodes[2:]]
    assert tree.get(nodes[4].id) is None
    assert tree.parent(nodes[5]) == nodes[4]


def test_ancestors_stop_at_height_limit_and_gap() -> None:
    _, tree, nodes = grow([1, 2, 3, 4])
    blocks = [node.block for node in nodes]
    assert tree.ancestors(nodes[3].id, 0, 10) == blocks[::-1]
    assert tree.ancestors(nodes[3].id, 2, 10) == [blocks[3], blocks[2]]
    assert tree.ancestors(nodes[3].id, 0, 1) == [blocks[3]]
    assert tree.ancestors(b"?" * 32, 0, 10) == []


def test_the_tail_is_uncommitted_until_the_last_block_with_a_payload_is() -> None:
    forge = Forge(Cluster(4, fast=True))
    tree = BlockTree(root_of(forge))
    full = tree.add(forge.block(1, forge.genesis, 1, payload=(ref(),)), (1, 0, 0, 0))
    empty = tree.add(forge.block(2, forge.qc(1, full.id), 2), (1, 0, 0, 0))
    assert not tree.tail_uncommitted(tree.root)
    assert tree.tail_uncommitted(full)
    assert tree.tail_uncommitted(empty)
    tree.commit(full)
    assert not tree.tail_uncommitted(empty)


def test_a_commit_walks_by_hash_past_a_fork_of_equal_height() -> None:
    forge, tree, (one,) = grow([1])
    fork = tree.add(forge.block(2, forge.qc(1, one.id), 2), NONE)
    two = tree.add(forge.block(3, forge.qc(1, one.id), 2), NONE)
    three = tree.add(forge.block(4, forge.qc(3, two.id), 3), NONE)
    assert fork.height == two.height
    assert tree.commit(three) == [one, two, three]
