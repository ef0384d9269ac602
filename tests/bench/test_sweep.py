"""The knee of a curve, and the table of it."""

from __future__ import annotations

from typing import Any

from hotstuff.bench.sweep import knee, sweep_table


def point(offered: float | None, tps: float, p50: float) -> dict[str, Any]:
    latency = {"p50": p50, "p99": 2 * p50, "p999": 3 * p50}
    return {"offered_tps": offered, "tps": tps, "latency_ms": latency, "cpu_s_per_100k_tx": 1.0}


def test_the_knee_has_the_most_throughput_for_its_latency() -> None:
    curve = [point(100, 100, 10), point(500, 500, 11), point(900, 895, 14), point(1000, 990, 60)]
    assert knee(curve) == {"offered_tps": 900, "tps": 895, "p50_ms": 14, "p99_ms": 28}


def test_a_rate_that_was_not_carried_is_no_knee() -> None:
    best = {"offered_tps": 100, "tps": 100, "p50_ms": 10, "p99_ms": 20}
    assert knee([point(100, 100, 10), point(1000, 900, 10)]) == best
    assert knee([point(100, 50, 10), point(100, 0, 0)]) is None


def test_the_table_marks_it() -> None:
    points = [point(100, 100, 10), point(900, 895, 14)]
    report = {"points": points, "closed_loop": point(None, 1000, 99), "knee": knee(points)}
    marks = [("knee" in line, line.split()[0]) for line in sweep_table(report).splitlines()[1:]]
    assert marks == [(False, "100"), (True, "900"), (False, "closed")]
    assert "knee" not in sweep_table({**report, "knee": None})
