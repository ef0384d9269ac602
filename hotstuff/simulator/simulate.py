"""One run from one seed: network, faults, Byzantine replicas, checkers. What campaigns, tests and the shrinker call."""

from __future__ import annotations

import random
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from hotstuff.simulator import faults
from hotstuff.simulator.byzantine import arm
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.checkers.suite import checkers
from hotstuff.simulator.observer import Observer, Violation
from hotstuff.simulator.setup import Action, Plan, Setup
from hotstuff.simulator.strategies import MIXED_MAX, STRATEGIES
from hotstuff.simulator.world import Result, World

Chosen = tuple[tuple[int, tuple[str, ...]], ...]
"""Byzantine instances, and the names of the strategies of each."""


@dataclass(frozen=True)
class Case:
    """Everything that decides a run, spelled out.

    `control`: Byzantine power may reach a third. Forks are counted then (`coverage["fork"]`), and what must hold is
    that after one evidence names at least a third, and that it never names anybody honest.
    """

    setup: Setup
    plan: Plan
    strategies: Chosen
    control: bool = False


def case_of(setup: Setup, *, strategy: str = "") -> Case:
    """What the seed decides; `strategy`: every Byzantine replica does only that."""
    return Case(setup, faults.plan(setup), choose(setup, strategy))


def split_case(setup: Setup) -> Case:
    """A control: each Byzantine validator runs twice, once in each half of a network that is cut for half of the time.

    Both halves believe themselves a quorum if Byzantine power is a third, and commit what they like.
    """
    setup = replace(setup, twins=setup.byzantine)
    chance = random.Random(f"{setup.seed}/split")
    honest = [index for index in range(setup.nodes) if index not in setup.byzantine]
    half = chance.sample(honest, len(honest) // 2)
    side = sum(1 << instance for instance in (*setup.byzantine, *half))
    begin_us = chance.randrange(setup.duration_us // 4 + 1)
    cut = Action(begin_us, "partition", argument=side, for_us=setup.duration_us // 2)
    return Case(setup, replace(faults.plan(setup), actions=(cut,)), (), control=True)


def choose(setup: Setup, strategy: str = "") -> Chosen:
    """One to three strategies for each Byzantine instance, or the one named."""
    chance = random.Random(f"{setup.seed}/strategies")
    chosen: list[tuple[int, tuple[str, ...]]] = []
    for instance, index in enumerate((*range(setup.nodes), *setup.twins)):
        if index in setup.byzantine:
            mixed = tuple(chance.sample(list(STRATEGIES), chance.randrange(MIXED_MAX) + 1))
            chosen.append((instance, (strategy,) if strategy else mixed))
    return tuple(chosen)


def simulate(
    setup: Setup,
    plan: Plan | None = None,
    observers: Sequence[Observer] = (),
    *,
    strategies: Chosen | None = None,
    control: bool = False,
) -> Result:
    """A whole run with all checkers; `observers` see each event before the checkers may stop it.

    What is left out follows from the seed. An exception in a run is a violation, too ("crash").
    """
    plan = faults.plan(setup) if plan is None else plan
    return run(Case(setup, plan, choose(setup) if strategies is None else strategies, control), observers)


def run(case: Case, observers: Sequence[Observer] = ()) -> Result:
    """As `simulate`, of a case."""
    setup, suite = case.setup, checkers(control=case.control)
    world = World(setup, case.plan, (*observers, suite))
    made = {
        # A stream for each: taking one strategy away leaves the others as they were.
        instance: [STRATEGIES[name](random.Random(f"{setup.seed}/strategy/{instance}/{name}")) for name in names]
        for instance, names in case.strategies
    }
    try:
        arm(world, made)
        result = world.run()
    except Exception as error:
        violation = Violation("crash", _told(error), world.now_us)
        violation.__cause__ = error
        return Result(setup.seed, [violation], simulated_s=world.now_us / 1_000_000, coverage=world.coverage)
    agreement = next(checker for checker in suite.checkers if isinstance(checker, Agreement))
    result.coverage["fork"] += agreement.fork is not None
    return result


def _told(error: Exception) -> str:
    """What and where, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {PurePath(last.filename).name}, line {last.lineno} ({last.name}): {error}"
