"""Takes away from a failing run what the failure does not need.

A reduction is kept if the run still violates the same invariant, perhaps elsewhere or earlier. Parts go in the order of
what a reader would miss least: everything after the violation, odd parameters, strategies and actions, these by delta
debugging (Zeller and Hildebrandt 2002): halves, quarters, down to each one alone; and the quiet time before it begins.
All of it again, until nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hotstuff.simulator.observer import Violation
from hotstuff.simulator.setup import Action, Parameters, Plan
from hotstuff.simulator.simulate import Case, run

T = TypeVar("T")

# Runs until it ends with what it has.
RUNS_MAX = 500
# Parameters that make a run harder to follow; each is set back to its default if that does no harm.
ODD = ("tail", "ordered", "silent_heals", "ppm", "jitter_us", "spread_us")


def first_violation(case: Case) -> Violation | None:
    """What a run ends with."""
    return next(iter(run(case).violations), None)


def same(one: Violation, other: Violation | None) -> bool:
    """Do they show the same fault? Of crashes, only those in the same place."""
    if other is None or one.invariant != other.invariant:
        return False
    return one.invariant != "crash" or one.text.partition(":")[0] == other.text.partition(":")[0]


@dataclass(frozen=True)
class Shrunk:
    """The least case found, its violation, and the number of runs that it took."""

    case: Case
    violation: Violation
    runs: int


class OutOfRuns(Exception):
    """The budget is used up."""


class Shrinker:
    """One reduction, from a case that fails."""

    def __init__(
        self,
        case: Case,
        judge: Callable[[Case], Violation | None] = first_violation,
        *,
        runs: int = RUNS_MAX,
        show: Callable[[Case, int], None] = lambda case, runs: None,
    ) -> None:
        """`judge` runs a case; `show` hears of each progress."""
        self._case = case
        self._judge = judge
        self._left = runs
        self._budget = runs
        self._show = show
        self._seen: dict[Case, Violation | None] = {}

    def shrink(self) -> Shrunk | None:
        """The least case that fails like the one given; None if that one does not fail."""
        found = self._judge(self._case)
        if found is None:
            return None
        self._violation = found
        self._left -= 1
        try:
            while self._pass():
                pass
        except OutOfRuns:
            pass
        return Shrunk(self._case, self._violation, self._budget - self._left)

    def _pass(self) -> bool:
        before = self._case
        self._cut_end()
        for name in ODD:
            self._simplify(name)
        self._reduce_strategies()
        self._reduce_actions()
        self._hurry()
        return self._case != before

    def _try(self, case: Case) -> bool:
        """Keeps a case if it fails in the same way."""
        if case == self._case:
            return False
        if case not in self._seen:
            if not self._left:
                raise OutOfRuns
            self._left -= 1
            self._seen[case] = self._judge(case)
        found = self._seen[case]
        if found is None or not same(self._violation, found):
            return False
        self._case, self._violation = case, found
        self._show(case, self._budget - self._left)
        return True

    def _with_plan(self, plan: Plan) -> Case:
        return replace(self._case, plan=plan)

    # ---- what may go

    def _cut_end(self) -> None:
        """Actions that have not begun when it happens, and the time after it."""
        plan, at_us = self._case.plan, self._violation.at_us
        until = tuple(action for action in plan.actions if action.at_us <= at_us)
        self._try(self._with_plan(replace(plan, actions=until)))
        if self._case.setup.mode == "safety":
            self._try(replace(self._case, setup=replace(self._case.setup, duration_us=self._violation.at_us + 1)))

    def _hurry(self) -> None:
        """All actions sooner, by what comes before the first of them or a part of that."""
        plan = self._case.plan
        if not plan.actions or self._case.setup.mode != "safety":
            return
        first_us = plan.actions[0].at_us
        for shift_us in (first_us, first_us * 3 // 4, first_us // 2):
            sooner = tuple(replace(action, at_us=action.at_us - shift_us) for action in plan.actions)
            if self._try(self._with_plan(replace(plan, actions=sooner))):
                return

    def _simplify(self, name: str) -> None:
        plan = self._case.plan
        usual: Any = getattr(Parameters(), name)
        self._try(self._with_plan(replace(plan, parameters=replace(plan.parameters, **{name: usual}))))

    def _reduce_strategies(self) -> None:
        def without(pairs: Sequence[tuple[int, str]]) -> Case:
            """The same instances stay Byzantine, some of them with nothing to do."""
            chosen = tuple(
                (instance, tuple(name for i, name in pairs if i == instance)) for instance, _ in self._case.strategies
            )
            return replace(self._case, strategies=chosen)

        pairs = [(instance, name) for instance, names in self._case.strategies for name in names]
        minimal(pairs, lambda kept: self._try(without(kept)))

    def _reduce_actions(self) -> None:
        def only(kept: Sequence[Action]) -> Case:
            return self._with_plan(replace(self._case.plan, actions=tuple(kept)))

        minimal(self._case.plan.actions, lambda kept: self._try(only(kept)))


def minimal(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """A part of `items` that fails and of which no single item can go; `items` itself fails."""
    kept = list(items)
    if not kept or fails([]):
        return []
    size = max(1, len(kept) // 2)
    while True:
        before = len(kept)
        kept = _without_pieces(kept, size, fails)
        if size == 1 and len(kept) == before:
            return kept
        size = max(1, size // 2)


def _without_pieces(items: list[T], size: int, fails: Callable[[Sequence[T]], bool]) -> list[T]:
    """Tries to do without each piece of that size, one after the other."""
    start = 0
    while start < len(items):
        rest = items[:start] + items[start + size :]
        if rest and fails(rest):
            items = rest
        else:
            start += size
    return items
