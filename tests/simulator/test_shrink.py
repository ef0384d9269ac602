"""What is left of a failing run: as little as possible, and it still fails in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from broken import forgets_on_restart
from hypothesis import given
from hypothesis import strategies as st

from hotstuff.simulator.campaign import Campaign
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.setup import Action, Parameters, Plan, Setup
from hotstuff.simulator.shrink import Shrinker, first_violation, minimal, same
from hotstuff.simulator.simulate import Case


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=4))
def test_what_is_needed_is_left_and_nothing_else(size: int, needed: set[int]) -> None:
    needed = {item for item in needed if item < size}
    asked = 0

    def fails(items: Sequence[int]) -> bool:
        nonlocal asked
        asked += 1
        return needed <= set(items)

    assert minimal(range(size), fails) == sorted(needed)
    assert asked <= 4 * size + 10


def test_either_of_two_is_enough() -> None:
    assert minimal("abcdefgh", lambda items: "c" in items or "f" in items) in (["c"], ["f"])


ACTIONS = tuple(Action(100 * i + 100, "pause", i % 4, for_us=50) for i in range(20))
CASE = Case(
    Setup(byzantine=(1,), duration_us=5000),
    Plan(Parameters(tail=True, jitter_us=7, silent_heals=True), ACTIONS),
    ((1, ("mutator", "replayer", "silent-leader")),),
)


def judge(case: Case) -> Violation | None:
    """Fails if the replayer meets actions 3 and 11, at the time of the later one."""
    kinds = {(action.node, action.at_us % 1000) for action in case.plan.actions}
    if {(3, 400), (3, 200)} <= kinds and "replayer" in case.strategies[0][1]:
        return Violation("I1", "chains differ", case.plan.actions[-1].at_us)
    return None


def test_everything_that_may_go_goes() -> None:
    heard: list[int] = []
    found = Shrinker(CASE, judge, show=lambda case, runs: heard.append(runs)).shrink()
    assert found is not None
    least = found.case
    assert least.plan.actions == (ACTIONS[3], ACTIONS[11])
    assert least.strategies == ((1, ("replayer",)),)
    assert least.plan.parameters == Parameters()
    assert least.setup == replace(CASE.setup, duration_us=ACTIONS[11].at_us + 1)
    assert judge(least) is not None and found.violation.invariant == "I1"
    assert heard == sorted(heard) and 0 < len(heard) < found.runs < 100


def test_another_failure_is_not_a_smaller_one() -> None:
    def other(case: Case) -> Violation:
        return Violation("I1" if len(case.plan.actions) == 20 else "I9", "", 10_000)

    found = Shrinker(CASE, other).shrink()
    assert found is not None
    assert len(found.case.plan.actions) == len(ACTIONS)


def test_runs_are_counted_and_end() -> None:
    asked: list[Case] = []

    def counting(case: Case) -> Violation | None:
        asked.append(case)
        return judge(case)

    found = Shrinker(CASE, counting, runs=9).shrink()
    assert found is not None
    assert found.runs == len(asked) == 9
    assert judge(found.case) is not None
    assert len(set(asked)) == 9, "the same case is not run twice"


def test_what_does_not_fail_is_not_reduced() -> None:
    assert Shrinker(replace(CASE, strategies=((1, ()),)), judge).shrink() is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (Violation("I1", "a", 1), Violation("I1", "b", 2), True),
        (Violation("I1", "a", 1), Violation("I2", "a", 1), False),
        (Violation("I1", "a", 1), None, False),
        (
            Violation("crash", "KeyError in x.py, line 3: 7", 1),
            Violation("crash", "KeyError in x.py, line 3: 8", 2),
            True,
        ),
        (
            Violation("crash", "KeyError in x.py, line 3: 7", 1),
            Violation("crash", "KeyError in y.py, line 3: 7", 1),
            False,
        ),
    ],
)
def test_the_same_failure(one: Violation, other: Violation | None, alike: bool) -> None:
    assert same(one, other) is alike


def test_a_broken_core_is_reduced_to_the_crash_that_shows_it() -> None:
    """The replica forgets its votes when it starts again: of all that goes wrong in this run, one crash is needed."""
    case = Campaign(duration_s=1.0).case(15)
    assert len(case.plan.actions) > 20
    with forgets_on_restart():
        found = Shrinker(case, runs=60).shrink()
        again = Shrinker(case, runs=60).shrink()
        assert found is not None and again is not None
        assert (found.case, str(found.violation), found.runs) == (again.case, str(again.violation), again.runs)
        assert len(found.case.plan.actions) == 1
        assert found.case.plan.actions[0].kind in ("crash", "power")
        assert same(found.violation, first_violation(found.case))
    assert first_violation(found.case) is None, "it is the core that is broken"
