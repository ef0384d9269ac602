"""For pytest: one mutant is in force, and what became of each test is written down.

A test kills a mutant by failing in its own body, on what it asserts or on what the code raises deliberately. A mutant
that cannot even run (a wrong name in it, say) proves nothing about the rule, and neither does a broken fixture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from mutants.mutation import MUTANT, REPORT, Mutation
from mutants.table import BY_NAME

# Raised by code that does not fit together.
NONSENSE = (NameError, SyntaxError, ImportError, AttributeError, TypeError)

_name = os.environ.get(MUTANT)
_mutation = None if _name is None else Mutation(BY_NAME[_name])
_passed: list[str] = []
_failed: list[str] = []
_broken: list[str] = []

if _mutation is not None:
    _mutation.install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Sorts the outcome of each phase of each test."""
    report = yield
    if report.failed and (report.when != "call" or call.excinfo is None or call.excinfo.errisinstance(NONSENSE)):
        what = call.excinfo.exconly() if call.excinfo else ""
        _broken.append(f"{item.nodeid} ({report.when}): {what}")
    elif report.failed:
        _failed.append(item.nodeid)
    elif report.passed and report.when == "call":
        _passed.append(item.nodeid)
    return report


def pytest_unconfigure() -> None:
    """The last thing that happens."""
    if path := os.environ.get(REPORT):
        applied = _mutation is None or _mutation.applied
        told = {"passed": _passed, "failed": _failed, "broken": _broken, "applied": applied}
        Path(path).write_text(json.dumps(told))
