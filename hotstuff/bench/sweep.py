"""What latency costs what throughput: one closed loop to find the maximum, then fixed rates up to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hotstuff.bench.run import BenchPlan, Progress, run_bench

# Offered rates, as shares of what the closed loop carried.
SHARES = (0.02, 0.1, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
# A rate counts as carried from this share of it on.
CARRIED = 0.95


@dataclass(frozen=True)
class SweepOutcome:
    """The report (`points`: one report for each rate, the closed loop's apart) and what went wrong."""

    report: dict[str, Any]
    errors: list[str]


async def run_sweep(plan: BenchPlan, show: Callable[[Progress], None]) -> SweepOutcome:
    """Each rate with a cluster of its own, so that none starts with what another left behind."""
    errors: list[str] = []
    count = len(SHARES) + 1

    async def measure(number: int, rate: float | None) -> dict[str, Any]:
        home = None if plan.data_dir is None else plan.data_dir / f"rate{number}"
        one = replace(plan, rate=rate, data_dir=home)
        outcome = await run_bench(one, lambda at: show(replace(at, phase=f"{number + 1}/{count} {at.phase}")))
        errors.extend(outcome.errors)
        return outcome.report

    closed = await measure(0, None)
    points = [await measure(i, round(share * closed["tps"], 1)) for i, share in enumerate(SHARES, 1)]
    config = {name: closed[name] for name in ("nodes", "protocol", "tx_size", "fsync", "tls", "machine")}
    return SweepOutcome({**config, "closed_loop": closed, "knee": knee(points), "points": points}, errors)


def knee(points: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The carried rate with the most throughput for its latency ("power", Kleinrock 1979); None if none was carried.

    Below it latency hardly falls, above it throughput hardly rises.
    """
    carried = [point for point in points if 0 < CARRIED * point["offered_tps"] <= point["tps"]]
    best = max(carried, key=lambda point: float(point["tps"] / point["latency_ms"]["p50"]), default=None)
    if best is None:
        return None
    latency = best["latency_ms"]
    return {"offered_tps": best["offered_tps"], "tps": best["tps"], "p50_ms": latency["p50"], "p99_ms": latency["p99"]}


def sweep_table(report: dict[str, Any]) -> str:
    """The curve in numbers, the knee marked."""
    at_knee = (report["knee"] or {}).get("offered_tps")
    lines = [f"{'offered tx/s':>14}{'carried tx/s':>14}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'CPU s/100k':>12}"]
    for point in (*report["points"], report["closed_loop"]):
        offered = "closed loop" if point["offered_tps"] is None else f"{point['offered_tps']:,.0f}"
        latency = point["latency_ms"]
        numbers = f"{latency['p50']:>10,.1f}{latency['p99']:>10,.1f}{latency['p999']:>10,.1f}"
        mark = "  <- knee" if at_knee is not None and point["offered_tps"] == at_knee else ""
        lines.append(f"{offered:>14}{point['tps']:>14,.0f}{numbers}{point['cpu_s_per_100k_tx']:>12.2f}{mark}")
    return "\n".join(lines)
