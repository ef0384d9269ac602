"""One mutant against the tests that must notice it, in a process of its own."""

from __future__ import annotations

import atexit
import enum
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mutants.mutant import Mutant
from mutants.mutation import MUTANT, REPORT

TESTS = Path(__file__).parents[1]
# Far more than any killer takes; a mutant that makes a test hang is not killed by it.
LIMIT_S = 120
ALL_PASSED, SOME_FAILED = 0, 1
"""Exit codes of pytest."""
OUTPUT, TOLD, ENDED = "output", "told", "ended"
"""Files by which the process answers: what pytest printed, what the plugin wrote down, the exit code."""

# Processes are forked from one that has imported what takes long, and nothing of ours.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["pytest", "hypothesis", "cryptography.hazmat.primitives.asymmetric.ed25519", "lmdb"])


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
    exit_code: int | None
    output: str
    passed: Sequence[str] = ()
    failed: Sequence[str] = ()
    broken: Sequence[str] = ()
    applied: bool = False


def try_mutant(mutant: Mutant) -> Trial:
    """Killed if each of its tests fails on it, and properly."""
    run = _pytest(mutant.kill, mutant.name)
    if run.broken:
        return Trial(Verdict.BROKEN, "; ".join(run.broken))
    if run.exit_code == ALL_PASSED and run.applied:
        return Trial(Verdict.SURVIVED, "every test passes")
    if run.exit_code != SOME_FAILED or not run.applied:
        return Trial(Verdict.BROKEN, f"pytest ended with {run.exit_code}\n{run.output}")
    spared = [killer for killer in mutant.kill if not any(_is_of(test, killer) for test in run.failed)]
    return Trial(Verdict.SURVIVED, f"not noticed by {spared}") if spared else Trial(Verdict.KILLED)


def try_nothing(killers: Sequence[str]) -> Trial:
    """The same tests on the code as it is: survived is the good verdict here."""
    run = _pytest(killers, None)
    if run.exit_code != ALL_PASSED:
        return Trial(Verdict.BROKEN, f"fails without a mutant: {run.failed or run.broken}\n{run.output}")
    skipped = [killer for killer in killers if not any(_is_of(test, killer) for test in run.passed)]
    return Trial(Verdict.BROKEN, f"does not run: {skipped}") if skipped else Trial(Verdict.SURVIVED)


def _is_of(test: str, killer: str) -> bool:
    """Is this test the killer, or a case of it?"""
    return test == f"tests/{killer}" or test.startswith(f"tests/{killer}[")


def _pytest(killers: Sequence[str], mutant: str | None) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        process = _PROCESSES.Process(target=_main, args=(list(dict.fromkeys(killers)), mutant, folder, _bytecode()))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
        output, report, ended = (Path(folder) / name for name in (OUTPUT, TOLD, ENDED))
        # The process says itself how it ended: of several threads that wait, `multiprocessing` tells only one.
        exit_code = int(ended.read_text()) if ended.exists() else None
        told = json.loads(report.read_text()) if report.exists() else {}
        return _Run(exit_code, output.read_text() if output.exists() else "", **told)


@cache
def _bytecode() -> str:
    """Where compiled modules are kept from one process to the next (the mutant's is not)."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _main(killers: list[str], mutant: str | None, folder: str, bytecode: str) -> None:
    """What the process does."""
    sys.pycache_prefix, sys.dont_write_bytecode = bytecode, False
    written = os.open(Path(folder) / OUTPUT, os.O_WRONLY | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    # Nor is it to print differences in full, as it does for a CI: some are of whole chains.
    for name in [name for name in os.environ if name.startswith("PYTEST") or name in ("CI", "BUILD_NUMBER")]:
        del os.environ[name]
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", REPORT: str(Path(folder) / TOLD)}
    if mutant is not None:
        os.environ[MUTANT] = mutant
    os.chdir(TESTS.parent)
    sys.path.insert(0, str(TESTS))
    import pytest

    # The first two are about the tests themselves, not about what they test, and they collect garbage twice.
    without = ["unraisableexception", "threadexception", "cacheprovider"]
    options = ["-q", "--tb=line", "-p", "mutants.plugin", *(f"-pno:{name}" for name in without)]
    exit_code = pytest.main([*options, *(f"tests/{killer}" for killer in killers)])
    (Path(folder) / ENDED).write_text(str(int(exit_code)))
    sys.stdout.flush()
    os._exit(0)  # threads that a mutant left behind are not waited for
