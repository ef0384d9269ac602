"""The benchmarks use the virtual cluster of the tests; each is timed beside a fixed piece of work (`regression.py`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

CALIBRATIONS = 15


def calibration_s() -> float:
    """Seconds for a fixed mix of interpreter, allocation and hashing: what this machine is worth at this moment."""
    best = 1e9
    for _ in range(CALIBRATIONS):
        start = time.perf_counter()
        table: dict[int, bytes] = {}
        for i in range(2000):
            table[i % 97] = i.to_bytes(8, "big") + bytes(24)
        for value in [table[i % 97] for i in range(500)]:
            sha256(value).digest()
        sha256(bytes(262_144)).digest()
        best = min(best, time.perf_counter() - start)
    return best


@pytest.fixture(autouse=True)
def calibrated(benchmark: BenchmarkFixture) -> Iterator[None]:
    """Before and after, because a shared machine changes its speed."""
    before = calibration_s()
    yield
    benchmark.extra_info["calibration_s"] = min(before, calibration_s())
