"""Scenarios together give what they give one by one; broken rules and too many twins are found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hotstuff.consensus import rules as core
from hotstuff.consensus.safety import Safety
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.simulator import rounds
from hotstuff.simulator.rounds import Arena
from hotstuff.simulator.scenarios import PLAIN, Scenario, Space, Variant
from hotstuff.simulator.trials import Beginning, Goal, Judge, Tally, decode_scenario, led, merge
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase

GOAL = Goal(3, 20)
# The twin leads every view, each instance in its own part: two branches grow in turn.
IN_TURN = (0b00111, 0b11010, 0b01111, 0b11010)
IN_TURN_LONGER = (0b01111, 0b11100, 0b00111, 0b11110, 0b01011, 0b11010)


def led_by_twin(parts: tuple[int, ...]) -> Scenario:
    return decode_scenario([0, None, part] for part in parts)


def together(space: Space, judge: Judge) -> Tally:
    """All scenarios of a space, as `twins.run_twins` goes about it."""
    beginnings = [Beginning((), turn, 1) for turn, _ in space.turns(space.root)]
    for _ in range(space.views):
        beginnings = list(merge(judge.expand(space, beginning) for beginning in beginnings).values())
    return judge.tally


def figures(tally: Tally) -> dict[str, Any]:
    return {name: value for name, value in vars(tally).items() if name not in ("leaves", "findings")}


# ---- mutants of the commit rule -------------------------------------------------------------------------------------


def commit_at_once(_rules: object, _tree: BlockTree, node: Node, _phase: Phase) -> bytes:
    """One certificate is enough."""
    return node.id


def commit_parent(_rules: object, _tree: BlockTree, node: Node, _phase: Phase) -> bytes:
    """Two-chain by parent links, whatever the views."""
    return node.parent_id if node.block is not None else ZERO_HASH


def commit_grandparent(_rules: object, tree: BlockTree, node: Node, _phase: Phase) -> bytes:
    """Three-chain by parent links, whatever the views."""
    parent = tree.parent(node)
    grandparent = parent and tree.parent(parent)
    return grandparent.id if grandparent else ZERO_HASH


MUTANTS = [
    (core.Chained, commit_at_once, IN_TURN[:2]),
    (core.Jolteon, commit_at_once, IN_TURN[:2]),
    (core.HotStuff2, commit_at_once, IN_TURN[:2]),
    (core.Jolteon, commit_parent, IN_TURN),
    (core.HotStuff2, commit_parent, IN_TURN),
    (core.Chained, commit_grandparent, IN_TURN_LONGER),
]


@pytest.mark.parametrize(("rules", "mutant", "parts"), MUTANTS)
def test_a_broken_commit_rule_is_found_out(
    rules: type, mutant: Callable[..., bytes], parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in (False, True):
        if broken:
            monkeypatch.setattr(rules, "commit_id", mutant)
        judge = Judge(Arena(rules.mode, 4, 1, len(parts)), GOAL)
        judge.judge(led_by_twin(parts))
        assert (judge.tally.unsafe, judge.tally.stuck) == (int(broken), 0)
        assert (judge.tally.forks, judge.tally.proven) == (int(broken), 0), "nobody lied, so nobody can be blamed"


@pytest.mark.parametrize(("variant", "broken"), [(PLAIN, False), (PLAIN, True), (Variant(late=True), False)])
def test_together_is_one_by_one(variant: Variant, broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_DELIVERIES", 2000)  # after a fork nothing may ever come to rest
    if broken:
        monkeypatch.setattr(core.Jolteon, "commit_id", commit_at_once)
    arena, space = Arena(Mode.JOLTEON, 4, 1, 2, variant), Space(4, 1, 2, variant)
    merged, single = Judge(arena, GOAL, lambda _: []), Judge(arena, GOAL, lambda _: [])
    together(space, merged)
    for scenario in space:
        single.judge(scenario)
    assert figures(merged.tally) == figures(single.tally)
    assert merged.tally.scenarios == single.tally.leaves == 425
    assert (merged.tally.unsafe > 50) == broken
    assert variant.late or merged.tally.leaves < 425
    assert merged.tally.diverged > 0 and merged.tally.committed > 0


def test_a_violation_counts_for_every_scenario_that_begins_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.Jolteon, "commit_id", commit_at_once)
    space = Space(4, 1, 3)
    judge = Judge(Arena(Mode.JOLTEON, 4, 1, 3), GOAL, lambda _: [])

    def kinds(beginning: Beginning) -> int:
        return beginning.weight * space.cut_completions(led(space, beginning), 2 - len(beginning.rounds))

    first = Beginning((), space.turns(space.root)[1][0], 1)
    beginnings = [*judge.expand(space, first).values()][-12:]
    for beginning in beginnings:
        before = judge.tally.scenarios
        left = judge.expand(space, beginning).values()
        assert kinds(beginning) == judge.tally.scenarios - before + sum(map(kinds, left))
    assert judge.tally.unsafe > 0


# ---- too many twins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
def test_two_twins_of_four_fork_and_are_named(mode: Mode) -> None:
    # Each part holds one instance of both twins and one honest validator: a quorum.
    judge = Judge(Arena(mode, 4, 2, 5), GOAL)
    judge.judge(decode_scenario([view % 2, None, 0b000111] for view in range(5)))
    assert (judge.tally.unsafe, judge.tally.forks, judge.tally.proven) == (1, 1, 1)
    (finding,) = judge.tally.findings
    assert finding.accused == [0, 1]


def test_evidence_against_too_few_proves_nothing() -> None:
    arena = Arena(Mode.CHAINED, 4, 2, 5)
    scenario = decode_scenario([view % 2, None, 0b000111] for view in range(5))
    judge = Judge(arena, GOAL, on_fork=lambda _: [])
    judge.judge(scenario)
    assert (judge.tally.forks, judge.tally.proven) == (1, 0)


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_no_commits_in_the_calm_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core.Chained, "commit_id", lambda *_: ZERO_HASH)
    judge = Judge(Arena(Mode.CHAINED, 4, 1, 1), GOAL)
    judge.judge(led_by_twin(IN_TURN[:1]))
    assert (judge.tally.stuck, judge.tally.unsafe) == (1, 0)
    assert "no 3 commits in 20 views" in judge.tally.findings[0].what


def test_a_view_without_end_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Safety, "timeout", lambda _: None)
    judge = Judge(Arena(Mode.CHAINED, 4, 1, 1), GOAL)
    judge.judge(decode_scenario([[0, None, 0b10011]]))
    assert (judge.tally.stuck, judge.tally.unsafe) == (1, 0)
    assert "instance 0 cannot leave view 1" in judge.tally.findings[0].what


def test_tallies_add_up_and_survive_a_file() -> None:
    judge = Judge(Arena(Mode.CHAINED, 4, 2, 5), GOAL)
    judge.judge(decode_scenario([view % 2, None, 0b000111] for view in range(5)))
    total = Tally(longest_calm=7)
    for _ in range(12):
        total.add(Tally.decode(judge.tally.encode()))
    assert (total.scenarios, total.forks, total.longest_calm, len(total.findings)) == (12, 12, 7, 10)
    assert Tally.decode(total.encode()) == total
