"""Every figure of the README and of docs/performance.md, measured anew.

    python bench/figures.py                  all of them, three times each, in turns: about 12 minutes
    python bench/figures.py 512 rate-1000    only these
    python bench/figures.py --repeat 1       once

Each goes to bench/reports/NAME.json: the report of the run with the median throughput (or, at a fixed rate, the median
p50), and under `runs` what the others said. Where a share of the floor is asked for, `bench/floor.py` runs right before
each of them. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floor import floor_tps

REPORTS = Path(__file__).parent / "reports"
PLAIN = ("--no-fsync", "--no-tls")
# As long as a benchmark runs: the floor becomes slower with what it writes, where the system has to find new pages.
FLOOR_S = 10.0


@dataclass(frozen=True)
class Figure:
    """Arguments of one run; with `floor`, its share of that is measured, too."""

    arguments: tuple[str, ...]
    nodes: int = 4
    tx_size: int = 512
    floor: bool = False

    @property
    def command(self) -> list[str]:
        size = [] if self.tx_size == 512 else ["--tx-size", str(self.tx_size)]
        return ["hotstuff-bench", "--nodes", str(self.nodes), *self.arguments, *size]


FIGURES = {
    "512": Figure(("--tps",), floor=True),
    "512-plain": Figure(("--tps", *PLAIN), floor=True),
    "128-plain": Figure(("--tps", *PLAIN), tx_size=128, floor=True),
    "rate-2": Figure(("--tps", "2")),
    "rate-1000": Figure(("--tps", "1000")),
    "rate-1000-jolteon": Figure(("--tps", "1000", "--protocol", "jolteon")),
    "rate-1000-hotstuff2": Figure(("--tps", "1000", "--protocol", "hotstuff2")),
    "rate-46000": Figure(("--tps", "46000")),
    "rate-90000": Figure(("--tps", "90000")),
    "nodes-7": Figure(("--tps",), nodes=7),
    "nodes-10": Figure(("--tps",), nodes=10),
    "nodes-16": Figure(("--tps",), nodes=16),
}


def measure(figure: Figure) -> dict[str, Any]:
    """One run, after one of the floor if that is asked for."""
    floor = floor_tps(figure.nodes, figure.tx_size, FLOOR_S) if figure.floor else None
    done = subprocess.run([*figure.command, "--json", "-"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(figure.command)}: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    if floor is not None:
        report |= {"floor_tps": round(floor), "share_of_floor": round(report["tps"] / floor, 3)}
    return report


def summary(name: str, figure: Figure, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median run, and a line for each of them."""
    by_rate = runs[0]["offered_tps"] is not None
    runs = sorted(runs, key=lambda run: run["latency_ms"]["p50"] if by_rate else run["tps"])
    median = runs[len(runs) // 2]
    kept = ("tps", "floor_tps", "share_of_floor", "p50_in_bls_verifications", "timeouts", "agreement")
    short = [{key: run[key] for key in kept if key in run} | {"latency_ms": run["latency_ms"]} for run in runs]
    shares = [run["share_of_floor"] for run in runs if "share_of_floor" in run]
    whole = {"command": " ".join(figure.command), **median, "runs": short}
    return whole | ({"share_of_floor": statistics.median(shares)} if shares else {})


def row(report: dict[str, Any]) -> str:
    latency = report["latency_ms"]
    share = f"{report['share_of_floor']:.2f}" if "share_of_floor" in report else ""
    return (
        f"| `{report['command']}` | {report['tps']:,.0f} tx/s | {share} | {latency['p50']:,.0f} ms | "
        f"{latency['p99']:,.0f} ms | {report['p50_in_bls_verifications']:.0f} | {report['timeouts']} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in FIGURES]
    if unknown:
        parser.error(f"got {unknown[0]}, allowed: {', '.join(FIGURES)}")
    names = arguments.names or list(FIGURES)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(arguments.repeat):
        for name in names:
            print(f"{turn + 1} of {arguments.repeat}: {' '.join(FIGURES[name].command)}", file=sys.stderr, flush=True)
            runs[name].append(measure(FIGURES[name]))
    REPORTS.mkdir(exist_ok=True)
    for name in names:
        report = summary(name, FIGURES[name], runs[name])
        (REPORTS / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
        print(row(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
