"""Makes `cluster` importable, and the number of long random schedules an option."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

# Seconds of work; a campaign is the same with a larger number.
SCHEDULES = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schedules", type=int, default=SCHEDULES, help="seeds of long random schedules")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "schedule_seed" in metafunc.fixturenames:
        # The option is unknown when the whole suite runs: pytest reads this file after the command line then.
        count = metafunc.config.getoption("--schedules", default=SCHEDULES)
        metafunc.parametrize("schedule_seed", range(count))
