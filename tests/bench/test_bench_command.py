"""The whole command: real replicas, real load, one JSON object on standard output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from hotstuff.bench.sweep import SHARES, knee

TIMEOUT_S = 120


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hotstuff.cli.bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.mark.parametrize("rate", [None, 200])
def test_json_is_the_contract_and_the_replicas_agree(tmp_path: Path, rate: int | None) -> None:
    offered = [] if rate is None else [rate]
    done = bench("--tps", *offered, "--duration", 1, "--warmup", 0.5, "--json", "-", "--data-dir", tmp_path / "net")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = orjson.loads(done.stdout)
    assert (report["agreement"], report["failed"], report["nodes"]) == (True, 0, 4)
    assert (report["tls"], report["fsync"], report["protocol"], report["tx_size"]) == (True, True, "chained", 512)
    assert report["offered_tps"] == rate
    assert report["committed"] == report["submitted"] > 0
    assert report["tps"] > 0
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p999"] <= report["latency_ms"]["max"]
    # Neither bounds the other: blocks of views before the window are executed within it.
    assert report["blocks"] > 0 and report["views"] > 0
    assert (tmp_path / "net" / "node3" / "data").is_dir(), "--data-dir keeps what was written"


def test_a_sweep_measures_rates_up_to_the_maximum_and_can_be_compared(tmp_path: Path) -> None:
    kept, picture = tmp_path / "sweep.json", tmp_path / "sweep.svg"
    done = bench("--nodes", 1, "--sweep", "--duration", 0.5, "--warmup", 0.2, "--json", kept, "--plot", picture)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = orjson.loads(kept.read_bytes())
    offered = [point["offered_tps"] for point in report["points"]]
    assert offered == [round(share * report["closed_loop"]["tps"], 1) for share in SHARES]
    assert report["closed_loop"]["offered_tps"] is None
    assert all(point["agreement"] and point["committed"] > 0 for point in report["points"])
    assert report["knee"] == knee(report["points"])
    assert f"{offered[1]:,.0f}" in done.stdout
    assert picture.read_text().lstrip().startswith("<?xml")
    same = bench("--compare", kept, kept)
    assert same.returncode == 0, same.stderr
    assert "closed loop" in same.stdout and "worse" not in same.stdout


def test_a_picture_and_a_summary(tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    done = bench("--nodes", 1, "--tps", "--duration", 1, "--warmup", 0, "--no-tls", "--no-fsync", "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert "TLS           OFF" in done.stdout
    assert "fsync         OFF" in done.stdout
    assert picture.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nodes", "0"], "--nodes"),
        (["--duration", "0"], "--duration"),
        (["--tps", "-5"], "--tps"),
        (["--plot", "run.gif"], "--plot"),
        (["--protocol", "raft"], "--protocol"),
        (["--in-flight", "65"], "--in-flight"),
        (["--sweep", "--tps", "5"], "--sweep"),
        (["--compare", "absent.json", "absent.json"], "--compare"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(arguments: list[str], named: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
