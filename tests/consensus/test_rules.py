"""What differs between the protocols: what is committed, locked and safe."""

from __future__ import annotations

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus.rules import RULES
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import PHASES, Mode, Phase

TWO_CHAIN = [Mode.HOTSTUFF2, Mode.JOLTEON]
LOCKING = [Mode.BASIC, Mode.CHAINED, Mode.HOTSTUFF2]


def grow(mode: Mode, views: list[int]) -> tuple[Forge, BlockTree, list[Node]]:
    forge = Forge(Cluster(4, fast=True, mode=mode))
    tree = BlockTree(Node(forge.genesis.block_id, bytes(32), 0, 0, (0, 0, 0, 0), 0, None))
    return forge, tree, [tree.add(block, (0, 0, 0, 0)) for block, _ in forge.chain(views)]


def commit_id(mode: Mode, tree: BlockTree, node: Node) -> bytes:
    return RULES[mode].commit_id(tree, node, PHASES[mode][-1])


@pytest.mark.parametrize("mode", Mode)
def test_each_protocol_has_its_rules(mode: Mode) -> None:
    assert RULES[mode].mode is mode
    assert RULES[mode].phases == PHASES[mode]
    assert RULES[mode].phases[-1].ends_view


# ---- commit


def test_chained_commits_the_first_of_three_consecutive_views() -> None:
    _, tree, nodes = grow(Mode.CHAINED, [3, 4, 5])
    assert commit_id(Mode.CHAINED, tree, nodes[2]) == nodes[0].id


@pytest.mark.parametrize("views", [[1, 3, 4], [1, 2, 4], [1, 3, 5], [2, 4, 8]])
def test_chained_never_commits_over_a_view_gap_s6(views: list[int]) -> None:
    _, tree, nodes = grow(Mode.CHAINED, views)
    assert commit_id(Mode.CHAINED, tree, nodes[2]) == ZERO_HASH


def test_chained_commits_nothing_with_two_blocks() -> None:
    _, tree, nodes = grow(Mode.CHAINED, [7, 8])
    assert commit_id(Mode.CHAINED, tree, nodes[1]) == ZERO_HASH


@pytest.mark.parametrize("mode", TWO_CHAIN)
def test_two_chain_commits_the_parent_of_the_view_before(mode: Mode) -> None:
    _, tree, nodes = grow(mode, [3, 4])
    assert commit_id(mode, tree, nodes[1]) == nodes[0].id


@pytest.mark.parametrize("mode", TWO_CHAIN)
def test_two_chain_never_commits_over_a_view_gap_s6(mode: Mode) -> None:
    _, tree, nodes = grow(mode, [3, 5])
    assert commit_id(mode, tree, nodes[1]) == ZERO_HASH


@pytest.mark.parametrize("phase", PHASES[Mode.BASIC])
def test_basic_commits_its_own_block_in_the_last_phase_only(phase: Phase) -> None:
    _, tree, nodes = grow(Mode.BASIC, [3, 7])
    expected = nodes[1].id if phase is Phase.COMMIT else ZERO_HASH
    assert RULES[Mode.BASIC].commit_id(tree, nodes[1], phase) == expected


@pytest.mark.parametrize("mode", Mode)
def test_the_commit_id_does_not_depend_on_what_is_committed_already(mode: Mode) -> None:
    _, tree, nodes = grow(mode, [1, 2, 3, 4])
    before = [commit_id(mode, tree, node) for node in nodes[2:]]
    tree.commit(nodes[1])
    assert [commit_id(mode, tree, node) for node in nodes[2:]] == before


# ---- lock


def test_chained_locks_on_the_head_of_the_two_chain_also_over_a_gap() -> None:
    forge, _, nodes = grow(Mode.CHAINED, [1, 4])
    assert RULES[Mode.CHAINED].lock(forge.qc(4, nodes[1].id), nodes[1]) == nodes[1].justify
    assert nodes[1].justify.view == 1


def test_chained_locks_on_nothing_at_the_root_or_without_the_block() -> None:
    forge, tree, _ = grow(Mode.CHAINED, [1])
    assert RULES[Mode.CHAINED].lock(forge.genesis, tree.root) is None
    assert RULES[Mode.CHAINED].lock(forge.qc(4, b"x" * 32), None) is None


def test_hotstuff2_locks_on_every_qc_also_without_its_block() -> None:
    forge, _, _ = grow(Mode.HOTSTUFF2, [1])
    qc = forge.qc(4, b"x" * 32)
    assert RULES[Mode.HOTSTUFF2].lock(qc, None) == qc


@pytest.mark.parametrize("phase", PHASES[Mode.BASIC])
def test_basic_locks_on_precommit_and_also_on_commit(phase: Phase) -> None:
    forge, _, _ = grow(Mode.BASIC, [1])
    qc = forge.qc(4, b"x" * 32, phase=phase)
    assert RULES[Mode.BASIC].lock(qc, None) == (None if phase is Phase.PREPARE else qc)


def test_jolteon_has_no_lock() -> None:
    forge, _, nodes = grow(Mode.JOLTEON, [1])
    assert RULES[Mode.JOLTEON].lock(forge.qc(1, nodes[0].id), nodes[0]) is None


# ---- safe


def qc_of(forge: Forge, view: int) -> QC:
    return forge.qc(view, b"y" * 32, phase=forge.last_phase)


@pytest.mark.parametrize("mode", LOCKING)
def test_a_branch_justified_below_the_lock_is_refused_s7(mode: Mode) -> None:
    forge, _, _ = grow(mode, [1])
    assert not RULES[mode].safe(9, qc_of(forge, 4), None, qc_of(forge, 5))


@pytest.mark.parametrize("mode", LOCKING)
@pytest.mark.parametrize("view", [5, 6])
def test_a_branch_justified_at_or_above_the_lock_is_safe_s8(mode: Mode, view: int) -> None:
    forge, _, _ = grow(mode, [1])
    assert RULES[mode].safe(9, qc_of(forge, view), None, qc_of(forge, 5))


def test_jolteon_needs_the_qc_of_the_view_before_or_a_tc() -> None:
    forge, _, _ = grow(Mode.JOLTEON, [1])
    safe = RULES[Mode.JOLTEON].safe
    assert safe(5, qc_of(forge, 4), None, forge.genesis)
    assert not safe(6, qc_of(forge, 4), None, forge.genesis)


def test_jolteon_refuses_a_justify_below_what_the_tc_reports() -> None:
    forge, _, _ = grow(Mode.JOLTEON, [1])
    tc = forge.tc(8, {0: qc_of(forge, 3), 1: qc_of(forge, 5), 2: qc_of(forge, 4)})
    assert not RULES[Mode.JOLTEON].safe(9, qc_of(forge, 4), tc, forge.genesis)
    assert RULES[Mode.JOLTEON].safe(9, qc_of(forge, 5), tc, forge.genesis)
    assert RULES[Mode.JOLTEON].safe(9, qc_of(forge, 6), tc, forge.genesis)


def test_jolteon_takes_no_tc_of_another_view() -> None:
    forge, _, _ = grow(Mode.JOLTEON, [1])
    tc = forge.tc(7, dict.fromkeys(range(3), qc_of(forge, 3)))
    assert not RULES[Mode.JOLTEON].safe(9, qc_of(forge, 5), tc, forge.genesis)


def test_jolteon_has_no_test_against_its_own_qc_or_hidden_locks_would_stall_it() -> None:
    forge, _, _ = grow(Mode.JOLTEON, [1])
    tc = forge.tc(8, dict.fromkeys(range(3), qc_of(forge, 3)))
    assert RULES[Mode.JOLTEON].safe(9, qc_of(forge, 3), tc, qc_of(forge, 7))
