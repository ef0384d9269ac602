"""Many Twins scenarios in several processes: all of one size, or a sample of them.

All: view by view (`trials.Judge.expand`). The beginnings of so many views are cut into parts, the parts' results are
merged, and what is left are the beginnings of one view more. A sample: scenarios by their numbers in a shuffled order,
so none is judged twice. Either way the same arguments give the same summary, in any number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

from hotstuff.errors import ConfigError
from hotstuff.simulator.ledger import Ledger, code_hash
from hotstuff.simulator.rounds import Arena
from hotstuff.simulator.scenarios import PLAIN, Scenario, Space, Variant, burnside, drawn, shuffled
from hotstuff.simulator.trials import Beginning, Goal, Judge, Tally, merge
from hotstuff.simulator.workers import Lost, Workers
from hotstuff.types.hashing import Mode

# Blocks that everybody must commit in the calm: the full measure, and what is enough to see that it goes on where a
# million cases are judged.
SAMPLE_BLOCKS = 10
EXHAUSTIVE_BLOCKS = 3
# What one process is given at a time: some seconds of work.
PART_BEGINNINGS = 50
PART_SCENARIOS = 100
# Wall time after which a part counts as hung; hundreds of times the usual.
LIMIT_S = 3600.0


@dataclass(frozen=True)
class Twins:
    """What is run. `sample`: so many scenarios; None: all of them."""

    protocol: Mode
    nodes: int
    twins: int
    views: int
    sample: int | None
    seed: int
    variant: Variant = PLAIN
    blocks: int = SAMPLE_BLOCKS

    @property
    def goal(self) -> Goal:
        """Blocks in the calm, and the views that they may take: a round of leaders until certificates are even, and as
        many again as there are blocks, for twins that lead."""
        return Goal(self.blocks, 2 * (self.blocks + self.nodes))

    @property
    def control(self) -> bool:
        """Are there so many twins that there must be forks?"""
        return 3 * self.twins >= self.nodes

    @property
    def numbered(self) -> bool:
        """Are the scenarios of a sample made from their numbers?"""
        return (self.nodes - self.twins) % 2 == 1 and not self.control

    @cached_property
    def space(self) -> Space:
        """All scenarios."""
        return Space(self.nodes, self.twins, self.views, self.variant)

    @cached_property
    def total(self) -> int:
        """How many there are, by the formula."""
        return burnside(self.nodes, self.twins, self.views, self.variant)

    @cached_property
    def scenarios(self) -> int:
        """How many are judged."""
        if self.sample is None:
            return self.total
        return min(self.sample, self.total) if self.numbered else len(self.drawn)

    @cached_property
    def drawn(self) -> list[Scenario]:
        """The sample, where scenarios have no numbers."""
        return list(islice(drawn(self.nodes, self.twins, self.views, self.variant, self._key), self.sample))

    @property
    def _key(self) -> str:
        return f"{self.seed}/twins/{self.nodes}/{self.twins}/{self.views}/{self.variant.name}"

    def judge(self) -> Judge:
        """A judge for them. Only single scenarios are worth looking for evidence in: a merged one has several pasts."""
        watch = self.sample is not None
        arena = Arena(self.protocol, self.nodes, self.twins, self.views, self.variant, watch=watch)
        return Judge(arena, self.goal)

    def part(self, number: int) -> Iterator[Scenario]:
        """The scenarios of one part of a sample."""
        for position in range(number * PART_SCENARIOS, min((number + 1) * PART_SCENARIOS, self.scenarios)):
            if self.numbered:
                yield self.space.scenario(shuffled(position, self.total, self._key))
            else:
                yield self.drawn[position]

    def described(self) -> dict[str, Any]:
        """Everything that results depend on."""
        return {
            "protocol": self.protocol.name.lower(),
            "nodes": self.nodes,
            "twins": self.twins,
            "views": self.views,
            "variant": self.variant.name,
            "sample": self.sample,
            "seed": self.seed,
            "blocks": self.goal.blocks,
            "max_views": self.goal.max_views,
            "control": self.control,
        }


def good(summary: Mapping[str, Any]) -> bool:
    """Is this as it should be? No violation and nothing stuck; but a control has to fork, with evidence for each fork,
    and must break no other invariant."""
    if summary["control"]:
        return bool(0 < summary["forks"] == summary["proven"] == summary["unsafe"])
    return bool(summary["scenarios"] and not summary["unsafe"] and not summary["stuck"])


@dataclass(frozen=True)
class Progress:
    """One moment. `view` is the one being carried out, of all scenarios at once (None: one scenario after the other);
    `done` of `parts` are done with it."""

    view: int | None
    done: int
    parts: int
    tally: Tally
    total: int
    wall_s: float

    @property
    def line(self) -> str:
        """For people."""
        stage = "" if self.view is None else f"view {self.view}, part {self.done:,} of {self.parts:,}, "
        counts = f"{self.tally.scenarios:,} of {self.total:,} scenarios, "
        return f"{stage}{counts}{self.tally.unsafe:,} unsafe, {self.tally.stuck:,} stuck, {self.wall_s:,.0f} s"


def run_twins(
    protocol: Mode,
    nodes: int,
    twins: int,
    views: int,
    sample: int | None,
    seed: int,
    jobs: int,
    progress: Callable[[Progress], None],
    resume_dir: Path | None = None,
    *,
    variant: Variant = PLAIN,
    blocks: int | None = None,
) -> dict[str, Any]:
    """Judges scenarios and returns the summary: `twins` of `nodes` validators are doubled, over `views` views.

    With `resume_dir` finished parts are stored and not judged again. Raises `ConfigError`.
    """
    if blocks is None:
        blocks = EXHAUSTIVE_BLOCKS if sample is None else SAMPLE_BLOCKS
    run = Twins(protocol, nodes, twins, views, sample, seed, variant, blocks)
    if sample is None and (nodes - twins) % 2 == 0:
        raise ConfigError("nodes - twins", nodes - twins, "an odd number, or a sample")
    with Ledger(resume_dir, {**run.described(), "code": code_hash()}) as ledger:
        campaign = _Campaign(run, jobs, progress, ledger)
        if sample is None:
            campaign.judge_all()
        else:
            campaign.judge_sample()
        return campaign.summary()


class _Campaign:
    """One call of `run_twins`."""

    def __init__(self, run: Twins, jobs: int, progress: Callable[[Progress], None], ledger: Ledger) -> None:
        self._run = run
        self._jobs = jobs
        self._progress = progress
        self._ledger = ledger
        self._tally = Tally()
        self._started_s = time.monotonic()

    def judge_all(self) -> None:
        space = self._run.space
        beginnings = [Beginning((), turn, 1) for turn, _ in space.turns(space.root)]
        judge = self._run.judge() if self._jobs == 1 else None
        function = partial(_expand, replace(self._run), judge)  # a copy: what this one has cached cannot be sent
        for view in range(1, self._run.views + 1):
            parts = [beginnings[i : i + PART_BEGINNINGS] for i in range(0, len(beginnings), PART_BEGINNINGS)]
            items = [[beginning.encode() for beginning in part] for part in parts]
            results = self._parts(f"view{view}", items, function, view)
            layers = [{key: Beginning.decode(data) for key, data in result["next"]} for result in results]
            beginnings = list(merge(layers).values())
        if self._tally.scenarios != self._run.total:
            raise ArithmeticError(f"judged {self._tally.scenarios} scenarios, the formula says {self._run.total}")

    def judge_sample(self) -> None:
        parts = -(-self._run.scenarios // PART_SCENARIOS)
        self._parts("sample", range(parts), partial(_sample, replace(self._run)), None)

    def _parts(
        self, stage: str, items: Sequence[Any], function: Callable[[tuple[int, Any]], Any], view: int | None
    ) -> list[dict[str, Any]]:
        """The results of all parts of a stage, in order."""
        done = self._ledger.load(stage)
        for result in done.values():
            self._tally.add(Tally.decode(result["tally"]))
        left = [(part, item) for part, item in enumerate(items) if part not in done]
        self._tell(view, len(done), len(items))
        for part, result in self._results(left, function):
            self._ledger.add(stage, part, result)
            done[part] = result
            self._tally.add(Tally.decode(result["tally"]))
            self._tell(view, len(done), len(items))
        return [done[part] for part in range(len(items))]

    def _results(
        self, items: list[tuple[int, Any]], function: Callable[[tuple[int, Any]], Any]
    ) -> Iterator[tuple[int, Any]]:
        if self._jobs == 1:
            for part, item in items:
                yield part, function((part, item))
            return
        workers: Workers[tuple[int, Any], Any] = Workers(function, self._jobs, LIMIT_S)
        with closing(workers.results(items)) as results:
            for (part, _), result in results:
                if isinstance(result, Lost):
                    raise ChildProcessError(f"part {part}: {result.why}")
                yield part, result

    def _tell(self, view: int | None, done: int, parts: int) -> None:
        wall_s = time.monotonic() - self._started_s
        self._progress(Progress(view, done, parts, self._tally, self._run.scenarios, wall_s))

    def summary(self) -> dict[str, Any]:
        tally = self._tally.encode()
        figures = {
            "code": code_hash(),
            "total": self._run.total,
            **tally,
            "merged": self._tally.scenarios - self._tally.leaves,
            "wall_s": round(time.monotonic() - self._started_s, 3),
        }
        return {**self._run.described(), **figures}


def _expand(run: Twins, judge: Judge | None, item: tuple[int, Any]) -> dict[str, Any]:
    """A part of a view. In a process of its own the judge stays from part to part, for what it has seen before."""
    if judge is None:
        judge = _JUDGES[run] = _JUDGES.get(run) or run.judge()
    judge.tally = Tally()
    _, beginnings = item
    found = merge(judge.expand(run.space, Beginning.decode(data)) for data in beginnings)
    return {"tally": judge.tally.encode(), "next": [[key, beginning.encode()] for key, beginning in found.items()]}


def _sample(run: Twins, item: tuple[int, Any]) -> dict[str, Any]:
    """A part of a sample."""
    judge = run.judge()
    for scenario in run.part(item[0]):
        judge.judge(scenario)
    return {"tally": judge.tally.encode()}


_JUDGES: dict[Twins, Judge] = {}
