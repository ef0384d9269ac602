"""Latencies and throughput of one run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

PERCENTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
BUCKET_S = 0.25


@dataclass(frozen=True)
class Sample:
    """`count` transactions confirmed at `at_s` with the same latency; `at_s` counts from the start of the run.

    `first_s`: latency of the first replica's answer, which alone proves nothing.
    """

    at_s: float
    latency_s: float
    count: int
    first_s: float = 0.0


@dataclass
class Recorder:
    """Everything that happened; what counts is cut out afterwards."""

    started: float = field(default_factory=time.monotonic)
    samples: list[Sample] = field(default_factory=list)
    submitted: int = 0
    committed: int = 0
    failed: int = 0

    def now_s(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self.started

    def confirm(self, sent_s: float, count: int, first_at_s: float) -> None:
        """`count` transactions that were (or should have been) sent at `sent_s` are confirmed now."""
        now = self.now_s()
        self.samples.append(Sample(now, now - sent_s, count, first_at_s - sent_s))
        self.committed += count

    def window(self, start_s: float, end_s: float) -> Window:
        """What was confirmed in a span of the run."""
        return Window(start_s, end_s, [s for s in self.samples if start_s <= s.at_s < end_s])


@dataclass(frozen=True)
class Window:
    """A span of a run."""

    start_s: float
    end_s: float
    samples: list[Sample]

    @property
    def count(self) -> int:
        """Transactions confirmed in it."""
        return sum(sample.count for sample in self.samples)

    @property
    def tps(self) -> float:
        """Confirmed transactions a second."""
        return self.count / (self.end_s - self.start_s) if self.end_s > self.start_s else 0.0

    def latency_ms(self) -> dict[str, float]:
        """Percentiles over transactions, from sending to enough answers; nothing confirmed: zeros."""
        return self._percentiles(sorted((sample.latency_s, sample.count) for sample in self.samples))

    def first_answer_ms(self) -> dict[str, float]:
        """The same, to the first replica's answer."""
        return self._percentiles(sorted((sample.first_s, sample.count) for sample in self.samples))

    def _percentiles(self, ordered: list[tuple[float, int]]) -> dict[str, float]:
        total, result = self.count, {}
        position, covered = 0, 0
        for name, share in PERCENTILES:
            while position < len(ordered) - 1 and covered + ordered[position][1] < share * total:
                covered += ordered[position][1]
                position += 1
            result[name] = round(ordered[position][0] * 1000, 3) if ordered else 0.0
        return result

    def timeline(self) -> list[tuple[float, float, float, float]]:
        """(time, tps, p50 ms, p99 ms) of each `BUCKET_S` of the window, time in seconds from its start."""
        rows = []
        buckets: dict[int, list[Sample]] = {}
        for sample in self.samples:
            buckets.setdefault(int((sample.at_s - self.start_s) / BUCKET_S), []).append(sample)
        for index in range(int((self.end_s - self.start_s) / BUCKET_S)):
            start = self.start_s + index * BUCKET_S
            part = Window(start, start + BUCKET_S, buckets.get(index, []))
            latency = part.latency_ms()
            rows.append((index * BUCKET_S, part.tps, latency["p50"], latency["p99"]))
        return rows
