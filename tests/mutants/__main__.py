"""Tries mutants and prints what became of each."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from mutants.mutant import Mutant
from mutants.readme import README, text
from mutants.table import MUTANTS
from mutants.trial import Trial, Verdict, try_mutant, try_nothing


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all of them are killed."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("part", nargs="*", help="only those with this in their name or place")
    parser.add_argument("--readme", action="store_true", help="write README.md and try nothing")
    parser.add_argument("-n", type=int, default=2, help="processes (default: %(default)s)")
    given = parser.parse_args(arguments)
    chosen = [m for m in MUTANTS if not given.part or any(part in m.name or part in m.where for part in given.part)]
    if not given.readme:
        clean = try_nothing([killer for mutant in chosen for killer in mutant.kill])
        if clean.verdict is not Verdict.SURVIVED:
            print(clean.why)
            return 1
        with ThreadPoolExecutor(given.n) as pool:
            verdicts = [_told(mutant, *result) for mutant, result in zip(chosen, pool.map(_timed, chosen), strict=True)]
        print(f"{verdicts.count(Verdict.KILLED)} of {len(chosen)} killed")
        if set(verdicts) - {Verdict.KILLED}:
            return 1
    if not given.part:
        README.write_text(text())
    return 0


def _timed(mutant: Mutant) -> tuple[Trial, float]:
    begin = time.monotonic()
    return try_mutant(mutant), time.monotonic() - begin


def _told(mutant: Mutant, trial: Trial, seconds: float) -> Verdict:
    killer = mutant.kill[0].partition("::")[2]
    print(f"{trial.verdict.value:8} {seconds:5.1f} s  {mutant.name}  [{mutant.rule}]  {killer}", flush=True)
    if trial.verdict is not Verdict.KILLED:
        print(trial.why)
    return trial.verdict


if __name__ == "__main__":
    sys.exit(main())
