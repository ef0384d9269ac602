"""One run: what the seed decides, what can be put in its place, and what counts as a violation."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from broken import raising_seed, seed_with_gaps

from hotstuff.simulator import faults
from hotstuff.simulator.campaign import Campaign, run_seed
from hotstuff.simulator.setup import Plan, Setup
from hotstuff.simulator.simulate import Case, case_of, choose, run, simulate, split_case
from hotstuff.simulator.strategies import STRATEGIES
from hotstuff.simulator.timeline import Timeline
from hotstuff.types.hashing import Mode

SETUP = Setup(seed=4, byzantine=(2,), duration_us=300_000)


def test_what_is_not_given_follows_from_the_seed() -> None:
    whole = simulate(SETUP)
    assert whole.violations == []
    assert whole.commits > 0
    spelled = simulate(SETUP, faults.plan(SETUP), strategies=choose(SETUP))
    assert spelled.trace_hash == whole.trace_hash == run(case_of(SETUP)).trace_hash


def test_plan_and_strategies_can_be_replaced() -> None:
    assert simulate(SETUP, Plan()).trace_hash != simulate(SETUP).trace_hash
    hashes = {simulate(SETUP, strategies=((2, names),)).trace_hash for names in [(), ("silent-leader",), ("mutator",)]}
    assert len(hashes) == 3


def test_observers_see_the_run_and_do_not_change_it() -> None:
    timeline = Timeline()
    assert simulate(SETUP, observers=[timeline]).trace_hash == simulate(SETUP).trace_hash
    assert len(timeline.lines) > 100


def test_strategies_are_drawn_for_byzantine_instances_only() -> None:
    seen: set[str] = set()
    for seed in range(60):
        chosen = choose(Setup(seed=seed, nodes=7, byzantine=(1, 5), twins=(5,)))
        assert [instance for instance, _ in chosen] == [1, 5, 7]
        assert all(1 <= len(names) == len({*names}) <= 3 for _, names in chosen)
        seen.update(name for _, names in chosen for name in names)
    assert seen == {*STRATEGIES}
    assert choose(Setup(byzantine=(0, 3)), "mutator") == ((0, ("mutator",)), (3, ("mutator",)))


def test_a_strategy_draws_from_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking one away must not change what another one draws, or a reduction would be another run."""
    drawn: list[object] = []

    class Spying(STRATEGIES["mutator"]):  # type: ignore[misc]
        def __init__(self, chance: random.Random) -> None:
            drawn.append(chance.getstate())
            super().__init__(chance)

    monkeypatch.setitem(STRATEGIES, "mutator", Spying)
    for names in (("mutator",), ("silent-leader", "mutator", "replayer")):
        run(Case(SETUP, Plan(), ((2, names),)))
    assert len(drawn) == 2 and drawn[0] == drawn[1]


def test_a_broken_invariant_is_a_violation() -> None:
    campaign = Campaign(duration_s=0.3)
    assert not any(run_seed(campaign, seed).violations for seed in range(4))
    broken = [violation for seed in range(4) for violation in seed_with_gaps(campaign, seed).violations]
    assert broken and {violation.invariant for violation in broken} <= {"I1", "I9"}


def test_an_exception_is_a_violation_and_says_where() -> None:
    result = raising_seed(Campaign(duration_s=0.2, byzantine=0), 11)
    (violation,) = result.violations
    assert result.seed == 11
    assert violation.invariant in ("crash", "halt")
    assert "ZeroDivisionError" in violation.text
    assert "in the core" in violation.text


def test_an_exception_in_an_observer_is_one_too() -> None:
    class Falls(Timeline):
        def sent(self, *_: object) -> None:
            raise KeyError("nowhere")

    (violation,) = simulate(SETUP, observers=[Falls()]).violations
    assert violation.invariant == "crash"
    assert violation.text.startswith("KeyError in test_simulate.py, line ")
    assert violation.text.endswith("(sent): 'nowhere'")


@pytest.mark.parametrize("mode", Mode)
def test_a_split_network_forks_and_that_is_no_violation_by_itself(mode: Mode) -> None:
    case = split_case(Setup(seed=1, protocol=mode, byzantine=(0, 3), duration_us=1_000_000))
    assert case.setup.twins == (0, 3)
    (cut,) = case.plan.actions
    assert cut.kind == "partition"
    assert [cut.argument >> i & 1 for i in (0, 3, 4, 5)] == [1, 1, 0, 0]
    assert (cut.argument >> 1 ^ cut.argument >> 2) & 1, "one honest validator on each side"
    result = run(case)
    assert result.coverage["fork"] == 1
    assert not [v for v in result.violations if v.invariant != "I16"]
    with_all_honest = run(replace(case, setup=replace(case.setup, byzantine=(), twins=())))
    assert with_all_honest.coverage["fork"] == 0
