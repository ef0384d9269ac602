"""What came of many seeds, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotstuff.simulator.observer import Violation
from hotstuff.simulator.world import Result


@dataclass(frozen=True)
class Failure:
    """A violation, and the seed that shows it again."""

    seed: int
    invariant: str
    text: str
    at_us: int

    @classmethod
    def of(cls, seed: int, violation: Violation) -> Failure:
        """A violation of that seed."""
        return cls(seed, violation.invariant, violation.text, violation.at_us)

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at_us / 1_000_000:.6f} s: {self.text}"


@dataclass
class Summary:
    """Sums over seeds. `wall_s`: how long it took, over all sessions of a campaign."""

    seeds: int = 0
    failures: list[Failure] = field(default_factory=list)
    commits: int = 0
    views: int = 0
    crashes: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    coverage: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        """One more seed; its wall time is not the campaign's."""
        failures = [Failure.of(result.seed, violation) for violation in result.violations]
        figures = (result.commits, result.views, result.crashes, result.simulated_s)
        self.merge(Summary(1, failures, *figures, coverage=result.coverage))

    def merge(self, other: Summary) -> None:
        """All seeds of another summary."""
        self.seeds += other.seeds
        self.failures = sorted([*self.failures, *other.failures], key=lambda failure: failure.seed)
        self.commits += other.commits
        self.views += other.views
        self.crashes += other.crashes
        self.simulated_s += other.simulated_s
        self.wall_s += other.wall_s
        self.coverage.update(other.coverage)

    def encode(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**vars(self), "failures": [vars(failure) for failure in self.failures]}

    @classmethod
    def decode(cls, stored: Mapping[str, Any]) -> Summary:
        """Inverse of `encode`."""
        failures = [Failure(**failure) for failure in stored["failures"]]
        return cls(**{**stored, "failures": failures, "coverage": Counter(stored["coverage"])})
