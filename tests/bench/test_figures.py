"""The median of several runs is what is reported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))

from figures import FIGURES, row, summary


def run(tps: float, p50: float, share: float | None = None, offered: float | None = None) -> dict[str, Any]:
    report = {"tps": tps, "latency_ms": {"p50": p50, "p99": 2 * p50}, "offered_tps": offered, "timeouts": 0}
    report |= {"p50_in_bls_verifications": p50, "agreement": True}
    return report if share is None else report | {"floor_tps": tps / share, "share_of_floor": share}


def test_a_closed_loop_is_summed_up_by_its_throughput_and_the_share_by_its_own_median() -> None:
    runs = [run(300, 9, 0.4), run(100, 5, 0.6), run(200, 7, 0.5)]
    report = summary("512", FIGURES["512"], runs)
    assert (report["tps"], report["latency_ms"]["p50"], report["share_of_floor"]) == (200, 7, 0.5)
    assert [short["tps"] for short in report["runs"]] == [100, 200, 300]
    assert row(report).startswith("| `hotstuff-bench --nodes 4 --tps` | 200 tx/s | 0.50 | 7 ms | 14 ms |")


def test_a_fixed_rate_is_summed_up_by_its_latency() -> None:
    runs = [run(1000, 9, offered=1000), run(990, 5, offered=1000), run(1010, 7, offered=1000)]
    report = summary("rate-1000", FIGURES["rate-1000"], runs)
    assert report["latency_ms"]["p50"] == 7
    assert "share_of_floor" not in report
