"""One mutant against the tests that must notice it, in a process of its own."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mutants.mutant import Mutant
from mutants.mutation import MUTANT, REPORT

TESTS = Path(__file__).parents[1]
# Far more than any killer takes; a mutant that makes a test hang is not killed by it.
LIMIT_S = 120
_ALL_PASSED, _SOME_FAILED = 0, 1  # exit codes of pytest


class Verdict(enum.Enum):
    """What came of it."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Trial:
    """Verdict, and why if it is not the good one."""

    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class _Run:
    exit_code: int
    output: str
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    applied: bool = False


def try_mutant(mutant: Mutant) -> Trial:
    """Killed if each of its tests fails on it, and properly."""
    run = _pytest(mutant.kill, mutant.name)
    if run.broken:
        return Trial(Verdict.BROKEN, "; ".join(run.broken))
    if run.exit_code == _ALL_PASSED and run.applied:
        return Trial(Verdict.SURVIVED, "every test passes")
    if run.exit_code != _SOME_FAILED or not run.applied:
        return Trial(Verdict.BROKEN, f"pytest ended with {run.exit_code}\n{run.output}")
    spared = [killer for killer in mutant.kill if not any(_is_of(test, killer) for test in run.failed)]
    return Trial(Verdict.SURVIVED, f"not noticed by {spared}") if spared else Trial(Verdict.KILLED)


def try_nothing(killers: Sequence[str]) -> Trial:
    """The same tests on the code as it is: survived is the good verdict here."""
    run = _pytest(killers, None)
    if run.exit_code != _ALL_PASSED:
        return Trial(Verdict.BROKEN, f"fails without a mutant: {run.failed or run.broken}\n{run.output}")
    skipped = [killer for killer in killers if not any(_is_of(test, killer) for test in run.passed)]
    return Trial(Verdict.BROKEN, f"does not run: {skipped}") if skipped else Trial(Verdict.SURVIVED)


def _is_of(test: str, killer: str) -> bool:
    """Is this test the killer, or a case of it?"""
    return test == f"tests/{killer}" or test.startswith(f"tests/{killer}[")


def _pytest(killers: Sequence[str], mutant: str | None) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        environment |= {
            "PYTHONPATH": str(TESTS),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            # What fails on a mutant is not for the next run of the suite.
            "HYPOTHESIS_STORAGE_DIRECTORY": folder,
            REPORT: str(report),
        }
        environment |= {} if mutant is None else {MUTANT: mutant}
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "mutants.plugin"]
        command += [f"tests/{killer}" for killer in dict.fromkeys(killers)]
        try:
            done = subprocess.run(
                command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return _Run(-1, f"not done after {LIMIT_S} s")
        told = json.loads(report.read_text()) if report.exists() else {}
        return _Run(done.returncode, done.stdout + done.stderr, **told)
