"""Has anything become slower?

    python bench/regression.py              compare with baseline.json; exit status 1 if something is 15 % slower
    python bench/regression.py --update     write baseline.json
    python bench/regression.py -k vote      only some of them, as pytest's -k

A time is divided by that of a fixed piece of work (`conftest.calibration_s`) measured right before and after it, so
another machine, or a busy one, changes little; the fastest round counts, because noise only ever adds. What looks
slower is measured again, up to twice, and the best counts: a slower commit stays slower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
ALLOWED = 1.15
TRIES = 3


def measure(only: str) -> dict[str, float]:
    """Each benchmark's time in units of the calibration, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", "-q", "-p", "no:cacheprovider"]
        command += ["--benchmark-json", str(report), *(["-k", only] if only else [])]
        # Not as a part of the tests that may have started this: their workers measure nothing.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        pipe, cwd = subprocess.PIPE, HERE.parent
        done = subprocess.run(command, cwd=cwd, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(done.stdout)
        found = json.loads(report.read_text())["benchmarks"]
    return {one["name"]: one["stats"]["min"] / one["extra_info"]["calibration_s"] for one in found}


def best_of(only: str, baseline: dict[str, float]) -> dict[str, float]:
    """What is slower than the baseline is measured again."""
    best = measure(only)
    for _ in range(TRIES - 1):
        slow = [name for name, ratio in best.items() if ratio > ALLOWED * baseline.get(name, ratio)]
        if not slow:
            break
        again = measure(" or ".join(name.partition("[")[0] for name in slow))
        best |= {name: min(ratio, best[name]) for name, ratio in again.items() if name in best}
    return best


def main() -> int:
    """Exit status: 0 nothing is slower, 1 something is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="make what is measured now the baseline")
    parser.add_argument(
        "--baseline", type=Path, default=BASELINE, metavar="FILE", help="(default: bench/baseline.json)"
    )
    parser.add_argument("-k", default="", metavar="NAME", help="only benchmarks that match")
    options = parser.parse_args()
    baseline: dict[str, float] = json.loads(options.baseline.read_text()) if options.baseline.exists() else {}
    found = best_of(options.k, {} if options.update else baseline)
    slower = []
    print(f"{'':<44}{'now':>10}{'baseline':>10}{'ratio':>8}")
    for name, now in sorted(found.items()):
        before = baseline.get(name)
        ratio = "new" if before is None else f"{now / before:.2f}"
        print(f"{name:<44}{now:>10.3f}{before or 0:>10.3f}{ratio:>8}")
        if before is not None and now > ALLOWED * before:
            slower.append(name)
    if options.update:
        options.baseline.write_text(json.dumps(dict(sorted({**baseline, **found}.items())), indent=1) + "\n")
        return 0
    for name in slower:
        print(f"slower by more than {ALLOWED - 1:.0%}: {name}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
