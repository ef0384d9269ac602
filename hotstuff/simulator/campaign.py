"""Many seeds, in several processes, for as long as it takes."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hotstuff.simulator.ledger import Ledger, code_hash
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.scheme import Signatures, members, validator_set
from hotstuff.simulator.setup import SECOND_US, Setup
from hotstuff.simulator.simulate import Case, case_of, run, split_case
from hotstuff.simulator.summary import Summary
from hotstuff.simulator.workers import Lost, Workers
from hotstuff.simulator.world import Result
from hotstuff.types.hashing import Mode

# Seeds of one line in a resume directory.
CHUNK_SEEDS = 20
# Wall time that one seed may take before it counts as hung; hundreds of times the usual.
LIMIT_S = 600.0
# One seed in so many sends every message through its encoding.
WIRE_SEEDS = 8
# Views in a row for each leader, unless the campaign says otherwise.
STICKY = (1, 1, 1, 4)
# Last seed of a campaign that only time or Ctrl-C ends.
ENDLESS = 2**62
# Counters that a report always has, also where there was nothing to count.
COUNTERS = ("view_change", "tc_formed", "block_fetch", "evidence", "restart")


@dataclass(frozen=True)
class Campaign:
    """What is the same for all seeds from `first` to `last`.

    `byzantine`: so many validators, others for each seed; with unequal `powers` as many of them as may be. `sticky`:
    views in a row for each leader; 0: by the seed. `duration_s`: simulated time in which faults happen. `control`: see
    `simulate.split_case`.
    """

    protocol: str = "chained"
    nodes: int = 4
    byzantine: int = 1
    mode: Literal["safety", "liveness"] = "safety"
    first: int = 0
    last: int = 99
    signatures: Signatures = "stand-in"
    powers: tuple[int, ...] = ()
    sticky: int = 0
    strategy: str = ""
    duration_s: float = 2.0
    control: bool = False

    def setup(self, seed: int) -> Setup:
        """The configuration of one seed."""
        return Setup(
            seed=seed,
            protocol=Mode[self.protocol.upper()],
            nodes=self.nodes,
            sticky=self.sticky or random.Random(f"{seed}/sticky").choice(STICKY),
            powers=self.powers,
            byzantine=self._byzantine(seed),
            mode=self.mode,
            signatures=self.signatures,
            wire=seed % WIRE_SEEDS == 0,
            duration_us=int(self.duration_s * SECOND_US),
        )

    def case(self, seed: int) -> Case:
        """The whole run of one seed, spelled out."""
        setup = self.setup(seed)
        return split_case(setup) if self.control else case_of(setup, strategy=self.strategy)

    def _byzantine(self, seed: int) -> tuple[int, ...]:
        order = random.Random(f"{seed}/byzantine").sample(range(self.nodes), self.nodes)
        validators = validator_set(members(self.nodes), self.powers)
        chosen: list[int] = []
        for index in order:
            if len(chosen) < self.byzantine and (self.control or not validators.has_honest([*chosen, index])):
                chosen.append(index)
        return tuple(sorted(chosen))


def byzantine_max(nodes: int, powers: Sequence[int] = ()) -> int:
    """How many validators can have less than a third of the power together."""
    ascending = sorted(powers or (1,) * nodes)
    return sum(3 * total < sum(ascending) for total in itertools.accumulate(ascending))


def splittable(nodes: int) -> int:
    """How many Byzantine validators of equal power it takes so that two halves of a network are quorums."""
    quorum = 2 * nodes // 3 + 1
    return next(byzantine for byzantine in range(nodes + 1) if byzantine + (nodes - byzantine) // 2 >= quorum)


def report(campaign: Campaign, summary: Summary) -> dict[str, Any]:
    """What `hotstuff sim --json` writes."""
    return {
        "protocol": campaign.protocol,
        "nodes": campaign.nodes,
        "byzantine": campaign.byzantine,
        "mode": campaign.mode,
        "seeds": summary.seeds,
        "violations": len(summary.failures),
        "failing_seeds": sorted({failure.seed for failure in summary.failures}),
        "commits": summary.commits,
        "views": summary.views,
        "crashes": summary.crashes,
        "simulated_s": round(summary.simulated_s, 3),
        "wall_s": round(summary.wall_s, 3),
        "coverage": dict(sorted({**dict.fromkeys(COUNTERS, 0), **summary.coverage}.items())),
    }


def run_seed(campaign: Campaign, seed: int) -> Result:
    """What the processes do, seed by seed."""
    return run(campaign.case(seed))


# ---- many seeds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Means:
    """How a campaign is run; has no influence on what comes of it. `minutes`: no new seed after that time."""

    jobs: int = 1
    minutes: float | None = None
    resume: Path | None = None
    limit_s: float = LIMIT_S


@dataclass(frozen=True)
class Progress:
    """One moment. `seeds` were done in this session, in `session_s`; `summary` includes earlier ones."""

    summary: Summary
    total: int
    seeds: int
    session_s: float

    @property
    def rate(self) -> float:
        """Seeds per second."""
        return self.seeds / self.session_s if self.session_s else 0.0

    @property
    def endless(self) -> bool:
        """Only time or Ctrl-C ends it."""
        return self.total >= ENDLESS

    @property
    def left_s(self) -> float | None:
        """How long the rest will take, if that can be told."""
        return (self.total - self.summary.seeds) / self.rate if self.rate and not self.endless else None


def run_campaign(
    campaign: Campaign, means: Means = Means(), show: Callable[[Progress], None] = lambda _: None
) -> tuple[Summary, bool]:
    """Runs all seeds that are not done yet. Returns what came of all, and False if Ctrl-C has ended it early.

    With `means.resume`, raises `ConfigError` if that directory is of another campaign.
    """
    described = {**asdict(campaign), "powers": list(campaign.powers), "code": code_hash()}
    with Ledger(means.resume, described) as ledger:
        return _Session(campaign, means, show, _Chunks(campaign, ledger)).run()


class _Chunks:
    """What is done already. Seeds of an unfinished chunk are run again."""

    def __init__(self, campaign: Campaign, ledger: Ledger) -> None:
        self._campaign = campaign
        self._ledger = ledger
        self._open: dict[int, Summary] = {}
        self._done: set[int] = set()
        self.before = Summary()
        for number, stored in ledger.load("seeds").items():
            self._done.add(number)
            self.before.merge(Summary.decode(stored))

    def has(self, seed: int) -> bool:
        return self._chunk(seed) in self._done

    def _chunk(self, seed: int) -> int:
        return (seed - self._campaign.first) // CHUNK_SEEDS

    def add(self, result: Result, wall_s: float) -> None:
        """One more seed, and how much of the campaign's time it took."""
        number = self._chunk(result.seed)
        chunk = self._open.setdefault(number, Summary())
        chunk.add(result)
        chunk.wall_s += wall_s
        if chunk.seeds == min(CHUNK_SEEDS, self._campaign.last + 1 - self._campaign.first - number * CHUNK_SEEDS):
            self._ledger.add("seeds", number, chunk.encode())
            self._done.add(number)
            del self._open[number]


class _Session:
    def __init__(self, campaign: Campaign, means: Means, show: Callable[[Progress], None], chunks: _Chunks) -> None:
        self._campaign = campaign
        self._means = means
        self._show = show
        self._chunks = chunks
        self._summary = chunks.before
        self._before_s = self._summary.wall_s
        self._started_s = self._last_s = time.monotonic()
        self._seeds = 0

    def run(self) -> tuple[Summary, bool]:
        workers = Workers(partial(run_seed, self._campaign), self._means.jobs, self._means.limit_s)
        self._tell()
        try:
            with closing(workers.results(self._left())) as results:
                for seed, result in results:
                    self._done(_lost(seed, result) if isinstance(result, Lost) else result)
        except KeyboardInterrupt:
            return self._summary, False
        return self._summary, True

    def _left(self) -> Iterator[int]:
        end_s = float("inf") if self._means.minutes is None else self._started_s + 60 * self._means.minutes
        for seed in range(self._campaign.first, self._campaign.last + 1):
            if time.monotonic() >= end_s:
                return
            if not self._chunks.has(seed):
                yield seed

    def _done(self, result: Result) -> None:
        now_s = time.monotonic()
        self._chunks.add(result, now_s - self._last_s)
        self._last_s = now_s
        self._summary.add(result)
        self._seeds += 1
        self._tell()

    def _tell(self) -> None:
        session_s = time.monotonic() - self._started_s
        self._summary.wall_s = self._before_s + session_s
        total = self._campaign.last + 1 - self._campaign.first
        self._show(Progress(self._summary, total, self._seeds, session_s))


def _lost(seed: int, lost: Lost) -> Result:
    """A seed whose process died or hung has failed."""
    return Result(seed, [Violation("crash" if lost.died else "hang", lost.why, 0)])
