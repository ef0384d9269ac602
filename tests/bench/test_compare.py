"""Two reports side by side: what is compared, and what is said when they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from hotstuff.bench.compare import compare, comparison_table, load_report
from hotstuff.errors import ConfigError


def report(**changed: Any) -> dict[str, Any]:
    fixed = {"nodes": 4, "protocol": "chained", "tx_size": 512, "fsync": True, "tls": True, "offered_tps": None}
    return {**fixed, "tps": 100.0, "latency_ms": {"p50": 10.0, "p99": 20.0}, "failed": 0, **changed}


def test_ratios_are_the_second_over_the_first() -> None:
    other = report(tps=150.0, latency_ms={"p50": 5.0, "p99": 40.0})
    measures = compare(report(), other)["measures"]
    assert measures["tps"] == {"values": [100.0, 150.0], "ratio": 1.5}
    assert measures["latency_ms.p50"]["ratio"] == 0.5
    assert measures["failed"] == {"values": [0, 0], "ratio": None}
    assert "rss_mib_max" not in measures


def test_better_and_worse_follow_what_is_wanted_more_of() -> None:
    other = report(tps=150.0, latency_ms={"p50": 5.0, "p99": 40.0}, failed=1)
    lines = comparison_table(compare(report(), other), ("a", "b")).splitlines()
    verdict = {line.split()[0]: line.split()[-1] for line in lines if line.split()[-1] in ("better", "worse")}
    assert verdict == {"tx/s": "better", "p50": "better", "p99": "worse"}


def test_what_single_runs_differ_by_is_no_verdict() -> None:
    table = comparison_table(compare(report(), report(tps=104.0)), ("a", "b"))
    assert "better" not in table and "worse" not in table


def test_another_setup_is_named() -> None:
    result = compare(report(), report(nodes=7, tls=False))
    assert result["differs"] == {"nodes": [4, 7], "tls": [True, False]}
    assert "not the same in both: nodes (4 and 7)" in comparison_table(result, ("a", "b"))


def test_sweeps_are_compared_rate_by_rate() -> None:
    sweep = {"closed_loop": report(), "points": [report(offered_tps=10), report(offered_tps=20)]}
    assert list(compare(sweep, sweep)) == ["closed loop", "rate 1", "rate 2"]
    with pytest.raises(ConfigError, match="two reports of one kind"):
        compare(sweep, report())


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="--compare"):
        load_report(path)


def test_a_report_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(orjson.dumps(report()))
    assert load_report(path) == report()
