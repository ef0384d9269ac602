"""`bench/regression.py` passes what is as fast as before, and fails what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "bench" / "regression.py"
NAME = "test_tally_votes"


def compare(baseline: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--baseline", str(baseline), "-k", NAME, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_baseline_is_written_and_compared_with(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    assert compare(baseline, "--update").returncode == 0
    ((name, ratio),) = json.loads(baseline.read_text()).items()
    assert name == NAME and ratio > 0
    baseline.write_text(json.dumps({NAME: 2 * ratio}))
    assert compare(baseline).returncode == 0
    baseline.write_text(json.dumps({NAME: ratio / 2}))
    slower = compare(baseline)
    assert slower.returncode == 1
    assert f"slower by more than 15%: {NAME}" in slower.stderr


def test_the_stored_baseline_covers_every_benchmark() -> None:
    stored = json.loads((SCRIPT.parent / "baseline.json").read_text())
    command = [sys.executable, "-m", "pytest", str(SCRIPT.parent), "--collect-only", "-q", "-p", "no:cacheprovider"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1], timeout=120).stdout
    names = {line.rpartition("::")[2] for line in listed.splitlines() if "::" in line}
    assert stored.keys() == names
