"""The whole command: real replicas, real load, one JSON object on standard output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

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
    assert report["blocks"] > 0
    assert report["views"] >= report["blocks"]
    assert (tmp_path / "net" / "node3" / "data").is_dir(), "--data-dir keeps what was written"


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
    ],
)
def test_mistakes_are_refused_before_anything_starts(arguments: list[str], named: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
