"""I15: the allowance is what its derivation says, and whoever needs more is found."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Stage, violates

from hotstuff.simulator.checkers.liveness import Allowance, Progress, Situation, allowance, timer_us
from hotstuff.types.hashing import Mode

GST_US = 1_000_000
NOW = Situation(Mode.CHAINED, view=20, commit_view=17, base_us=1000, delay_us=100, catch_up_us=0)


def turns(n: int, *faulty: int) -> Any:
    """Round robin with these faulty leaders."""
    return lambda view: view % n not in faulty


@pytest.mark.parametrize(("steps", "length"), [(-3, 1000), (0, 1000), (1, 1500), (2, 2250), (12, 129746), (40, 129746)])
def test_timers_grow_and_stop_growing(steps: int, length: int) -> None:
    assert timer_us(1000, steps) == length


@pytest.mark.parametrize(
    ("mode", "views"),
    [
        # From view 20 + depth + 7 on timers are long; nobody is faulty, so the run starts there.
        (Mode.CHAINED, 3 + 7 + 3),
        (Mode.JOLTEON, 2 + 7 + 2),
        (Mode.HOTSTUFF2, 2 + 7 + 2),
        (Mode.BASIC, 1 + 7 + 1),
    ],
)
def test_views_without_faulty_leaders(mode: Mode, views: int) -> None:
    assert allowance(replace(NOW, mode=mode), lambda _: True).views == views


def test_the_run_of_core_leaders_is_looked_up() -> None:
    # View 30 is the first with long timers. Leader 3 is faulty: views 31, 35, ... (n = 4). Then 32, 33, 34 commit.
    assert allowance(NOW, turns(4, 3)).views == 32 + 3 - 20
    # Of ten, three are faulty: runs of two, and one of three.
    assert allowance(NOW, turns(10, 0, 3, 6)).views == 37 + 3 - 20
    assert allowance(replace(NOW, mode=Mode.JOLTEON), turns(10, 0, 3, 6)).views == 31 + 2 - 20


def test_without_such_a_run_nothing_can_be_promised() -> None:
    assert allowance(replace(NOW, mode=Mode.BASIC), turns(2, 0)).views > 0
    with pytest.raises(ValueError, match="the core never leads 3 views in a row"):
        allowance(NOW, turns(2, 0))


def test_catching_up_takes_views_of_growing_length() -> None:
    # 1500 + 2250 < 5000 <= 1500 + 2250 + 3375
    assert allowance(replace(NOW, catch_up_us=5000), lambda _: True).views == allowance(NOW, lambda _: True).views + 3


def test_time_is_the_sum_of_the_timers() -> None:
    # 14 views, the current one included. Of them 20 to 26 are within 3 + 6 views of the commit of view 17.
    timers = [1000] * 7 + [1500, 2250, 3375, 5062, 7593, 11390, 17085]
    assert allowance(NOW, lambda _: True).time_us == sum(timers) + 14 * 600 + 2_000_000


# ---- the checker -----------------------------------------------------------------------------------------------------


class Run:
    """Core members 0, 1 and 2 at GST, in the view after their last commit."""

    def __init__(self) -> None:
        self.progress = Progress()
        leaders = SimpleNamespace(leader=lambda view: view % 4)
        self.stage = Stage(self.progress, core=(0, 1, 2), gst_us=GST_US, now_us=GST_US + 1, leaders=leaders)
        self.old = self.stage.proposes(self.stage.block(1))
        for i in range(3):
            self.becomes(i, 5, b"root", tell=False)
        self.stage.steps(0)
        assert self.progress.allowed is not None
        self.allowed: Allowance = self.progress.allowed

    def becomes(self, i: int, view: int, root_id: bytes, *, tell: bool = True) -> None:
        """A step of a member, after which it is in this view and has committed that block."""
        tree = SimpleNamespace(root=SimpleNamespace(id=root_id, view=4))
        self.stage.node(i).replica = SimpleNamespace(view=view, tree=tree)
        if tell:
            self.stage.steps(i)


@pytest.fixture
def run() -> Run:
    return Run()


def test_too_many_views_without_a_commit_are_found(run: Run) -> None:
    run.becomes(1, 5 + run.allowed.views, b"root")
    with violates("I15", "validator 1 is 15 views above GST without a commit"):
        run.becomes(1, 5 + run.allowed.views + 1, b"root")


def test_a_commit_of_an_old_block_is_none(run: Run) -> None:
    run.becomes(1, 6, run.old.id)
    with violates("I15"):
        run.becomes(1, 5 + run.allowed.views + 1, run.old.id)


def test_after_a_new_commit_views_are_free_and_time_is_not(run: Run) -> None:
    block = run.stage.proposes(run.stage.block(7))
    run.becomes(1, 9, block.id)
    run.becomes(0, 500, block.id)
    run.stage.executes(0, block)
    run.stage.executes(1, run.old, block)
    run.stage.executes(2, run.old)
    run.stage.world.now_us = run.stage.world.gst_us + run.allowed.time_us
    run.becomes(0, 501, block.id)
    run.stage.ends()
    run.stage.world.now_us += 1
    with violates("I15", r"validators \[2\] have nothing new"):
        run.becomes(0, 501, block.id)
    with violates("I15", r"validators \[2\] have nothing new"):
        run.stage.ends()


def test_what_it_took_is_measured(run: Run) -> None:
    block = run.stage.proposes(run.stage.block(7))
    run.becomes(1, 9, block.id)
    for i in range(3):
        run.stage.world.now_us += 100
        run.stage.executes(i, block)
    run.stage.world.now_us += 10**12
    run.becomes(0, 50, b"root")
    run.stage.ends()
    assert run.progress.measured == Allowance(4, 301)


def test_before_gst_nothing_is_asked_for(run: Run) -> None:
    progress = Progress()
    stage = Stage(progress, core=(0, 1, 2), gst_us=GST_US, now_us=GST_US)
    stage.node(0).replica = run.stage.node(0).replica
    stage.steps(0)
    assert progress.allowed is None
