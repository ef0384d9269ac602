"""What came of many seeds, and a directory that remembers it if a campaign is interrupted."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hotstuff.errors import ConfigError
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.world import Result

# Seeds of one line in the journal. An unfinished chunk is run again as a whole.
CHUNK_SEEDS = 20


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


class Journal:
    """A directory that says what of a campaign is done.

    campaign.json   which campaign this is
    done.jsonl      a line for each finished chunk: its number, and the summary of its seeds
    """

    def __init__(self, directory: Path, campaign: Mapping[str, Any], first: int, last: int) -> None:
        """`campaign` is everything that results depend on. Raises `ConfigError` if the directory belongs to another
        one or is in use."""
        self._directory = directory
        self._first = first
        self._last = last
        self._chunks: set[int] = set()
        self._open: dict[int, Summary] = {}
        self.done = Summary()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._claim(json.loads(json.dumps(campaign)))
            self._file = (directory / "done.jsonl").open("r+" if (directory / "done.jsonl").exists() else "x+")
        except OSError as error:
            raise self._refusal(f"a writable directory ({error.strerror})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise self._refusal("a directory that no other campaign is using") from None
        self._load()

    def _refusal(self, allowed: str) -> ConfigError:
        return ConfigError("--resume", str(self._directory), allowed)

    def _claim(self, ours: dict[str, Any]) -> None:
        path = self._directory / "campaign.json"
        if not path.exists():
            path.write_text(json.dumps(ours, indent=2) + "\n")
            return
        try:
            theirs = dict(json.loads(path.read_text()))
        except ValueError:
            raise self._refusal("the directory of a campaign; its campaign.json is damaged") from None
        differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        if differing:
            told = ", ".join(f"{name} was {theirs.get(name)!r}, is now {ours.get(name)!r}" for name in differing)
            raise self._refusal(f"the directory of this same campaign; {told}")

    def _load(self) -> None:
        """A line that was cut short is as if it had never been written."""
        whole, newline, _ = self._file.read().rpartition("\n")
        for line in whole.splitlines():
            stored = json.loads(line)
            self._chunks.add(stored.pop("chunk"))
            self.done.merge(Summary.decode(stored))
        self._file.seek(len((whole + newline).encode()))
        self._file.truncate()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def has(self, seed: int) -> bool:
        """Is it part of a finished chunk?"""
        return self._chunk(seed) in self._chunks

    def _chunk(self, seed: int) -> int:
        return (seed - self._first) // CHUNK_SEEDS

    def add(self, result: Result, wall_s: float) -> None:
        """One more seed, and how much of the campaign's time it took."""
        number = self._chunk(result.seed)
        chunk = self._open.setdefault(number, Summary())
        chunk.add(result)
        chunk.wall_s += wall_s
        if chunk.seeds == min(CHUNK_SEEDS, self._last + 1 - self._first - number * CHUNK_SEEDS):
            self._file.write(json.dumps({"chunk": number, **chunk.encode()}) + "\n")
            self._file.flush()
            self._chunks.add(number)
            del self._open[number]
