"""For pytest: one mutant is in force, and what became of each test is written down.

A test kills a mutant by failing in its own body, on what it asserts or on what the code raises deliberately. A mutant
that cannot even run (a wrong name in it, say) proves nothing about the rule, and neither does a broken fixture.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from mutants.mutation import MUTANT, REPORT, Mutation
from mutants.table import BY_NAME

# Raised by code that does not fit together.
NONSENSE = (NameError, SyntaxError, ImportError, AttributeError, TypeError)
# How long tests with a real event loop wait for what a mutant may never do. They take ten seconds otherwise.
PATIENCE_S = 2

_name = os.environ.get(MUTANT)
_mutation = None if _name is None else Mutation(BY_NAME[_name])
_passed: list[str] = []
_failed: list[str] = []
_broken: list[str] = []

if _mutation is not None:
    _mutation.install()

# The same examples every time. One that fails is enough, however large it is, and is not for the next run of the suite.
_phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
hypothesis.settings.register_profile("mutants", derandomize=True, database=None, phases=_phases)
hypothesis.settings.load_profile("mutants")


def pytest_collection_finish() -> None:
    """All test modules are imported."""
    helpers = sys.modules.get("node_helpers")
    if helpers is not None:
        helpers.until.__defaults__ = (PATIENCE_S,)


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
