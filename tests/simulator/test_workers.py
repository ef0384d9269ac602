"""Calls in other processes: all of them answered, also those whose process dies or never ends."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import pytest

from hotstuff.simulator.workers import Lost, Workers

LIMIT_S = 60.0


def squared(number: int) -> int:
    return number * number


def troubled(number: int) -> int:
    if number == 3:
        os._exit(7)
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 6:
        raise ValueError("not a result")
    return number


def endless(number: int) -> int:
    while number == 1:
        time.sleep(1)
    return number


def ended(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_item_has_its_result(jobs: int) -> None:
    found = list(Workers(squared, jobs, LIMIT_S).results(range(20)))
    assert sorted(found) == [(i, i * i) for i in range(20)]


def test_no_item_no_process() -> None:
    assert list(Workers(squared, 4, LIMIT_S).results([])) == []


def test_who_dies_costs_one_item(capfd: pytest.CaptureFixture[str]) -> None:
    found = dict(Workers(troubled, 2, LIMIT_S).results(range(10)))
    assert [found[i] for i in (0, 1, 2, 4, 7, 8, 9)] == [0, 1, 2, 4, 7, 8, 9]
    assert found[3] == Lost("its process ended with exit status 7", died=True)
    assert found[5] == Lost("its process ended with exit status -9", died=True)
    assert found[6] == Lost("its process ended with exit status 1", died=True)
    assert "ValueError: not a result" in capfd.readouterr().err


def test_who_hangs_is_stopped() -> None:
    found = dict(Workers(endless, 2, 3.0).results(range(6)))
    assert found == {0: 0, 1: Lost("no end after 3 s", died=False), 2: 2, 3: 3, 4: 4, 5: 5}


def test_nobody_is_left_behind() -> None:
    with closing(Workers(ended, 1, LIMIT_S).results(range(100))) as results:
        pid = next(results)[1]
        assert isinstance(pid, int)
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_items_are_taken_as_places_are_free() -> None:
    taken = []

    def items() -> object:
        for i in range(100):
            taken.append(i)
            yield i

    with closing(Workers(squared, 2, LIMIT_S).results(items())) as results:  # type: ignore[arg-type]
        next(results)
    assert len(taken) <= 4
