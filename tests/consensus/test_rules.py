"""Chained HotStuff: what is committed, locked and safe."""

from __future__ import annotations

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus.rules import Chained
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.types.encoding import ZERO_HASH

RULES = Chained()


def grow(views: list[int]) -> tuple[Forge, BlockTree, list[Node]]:
    forge = Forge(Cluster(4, fast=True))
    tree = BlockTree(Node(forge.genesis.block_id, bytes(32), 0, 0, (0, 0, 0, 0), 0, None))
    return forge, tree, [tree.add(block, (0, 0, 0, 0)) for block, _ in forge.chain(views)]


def test_three_consecutive_views_commit_the_first() -> None:
    _, tree, nodes = grow([3, 4, 5])
    assert RULES.commit_id(tree, nodes[2]) == nodes[0].id


@pytest.mark.parametrize("views", [[1, 3, 4], [1, 2, 4], [1, 3, 5], [2, 4, 8]])
def test_a_view_gap_never_commits_s6(views: list[int]) -> None:
    _, tree, nodes = grow(views)
    assert RULES.commit_id(tree, nodes[2]) == ZERO_HASH


def test_two_blocks_commit_nothing() -> None:
    _, tree, nodes = grow([7, 8])
    assert RULES.commit_id(tree, nodes[1]) == ZERO_HASH


def test_the_commit_id_does_not_depend_on_what_is_committed_already() -> None:
    _, tree, nodes = grow([1, 2, 3, 4])
    before = [RULES.commit_id(tree, node) for node in nodes[2:]]
    tree.commit(nodes[1])
    assert [RULES.commit_id(tree, node) for node in nodes[2:]] == before


def test_the_lock_is_the_head_of_the_two_chain_also_over_a_gap() -> None:
    forge, _, nodes = grow([1, 4])
    assert RULES.lock(forge.genesis, nodes[1]) == nodes[1].justify
    assert nodes[1].justify.view == 1


def test_the_lock_never_falls() -> None:
    forge, _, nodes = grow([1, 2, 3])
    higher = forge.qc(9, b"x" * 32)
    assert RULES.lock(higher, nodes[2]) == higher


def test_the_root_of_an_epoch_locks_nothing() -> None:
    forge, tree, _ = grow([1])
    assert RULES.lock(forge.genesis, tree.root) == forge.genesis


def test_a_branch_justified_below_the_lock_is_refused_s7() -> None:
    forge, _, _ = grow([1])
    lock = forge.qc(5, b"x" * 32)
    assert not RULES.safe(forge.header(9, forge.qc(4, b"y" * 32), 3), lock)


@pytest.mark.parametrize("view", [5, 6])
def test_a_branch_justified_at_or_above_the_lock_is_safe_s8(view: int) -> None:
    forge, _, _ = grow([1])
    lock = forge.qc(5, b"x" * 32)
    assert RULES.safe(forge.header(9, forge.qc(view, b"y" * 32), 3), lock)
