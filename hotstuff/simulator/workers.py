"""Many calls in several processes, any of which may die or never end.

A pool of the standard library gives up as a whole when one process dies, and cannot stop one that hangs. Here each call
runs in a process of its own pool place; if that dies or takes too long, the call is lost and the place gets a new one.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# "spawn" on every platform: a forked copy of a process with threads may hang, and would inherit what a test patched.
_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Lost:
    """There is no result, and why. `died`: the process ended; else it was stopped because it went on for too long."""

    why: str
    died: bool


@dataclass
class _Place:
    """One process, and the item that it works on since `since_s`."""

    function: Callable[[Any], Any]
    item: Any = None
    since_s: float = 0.0
    connection: Connection = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.connection, theirs = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_work, args=(theirs, self.function), daemon=True)
        with _interrupts_ignored():
            self.process.start()
        theirs.close()  # so that its end is heard of here

    def give(self, item: Any) -> None:
        self.item, self.since_s = item, time.monotonic()
        with suppress(OSError):  # it has died; `take` will say so
            self.connection.send(item)

    def take(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            status = self.process.exitcode
            self.renew()
            return Lost(f"its process ended with exit status {status}", died=True)

    def renew(self) -> None:
        self.end()
        self._begin()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    """In the process: one item after the other, until nobody is there any more."""
    while True:
        try:
            connection.send(function(connection.recv()))
        except (EOFError, BrokenPipeError):
            return


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process started now never sees Ctrl-C: it is its parent's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Workers(Generic[T, R]):
    """Calls `function`, which must be importable, on items; `limit_s` is the wall time that one call may take."""

    def __init__(self, function: Callable[[T], R], jobs: int, limit_s: float) -> None:
        self._function = function
        self._jobs = jobs
        self._limit_s = limit_s

    def results(self, items: Iterable[T]) -> Generator[tuple[T, R | Lost], None, None]:
        """Each item with its result, as they come. Items are taken from the iterable one by one, as places are free.

        Closing the iterator ends all processes.
        """
        places: list[_Place] = []
        busy: dict[Connection, _Place] = {}
        try:
            for item in items:
                if len(places) < self._jobs:
                    place = _Place(self._function)
                    places.append(place)
                else:
                    place, done, result = self._next(busy)
                    yield done, result
                place.give(item)
                busy[place.connection] = place
            while busy:
                _, done, result = self._next(busy)
                yield done, result
        finally:
            for place in places:
                place.end()

    def _next(self, busy: dict[Connection, _Place]) -> tuple[_Place, T, R | Lost]:
        """Waits until one of them is done, dead or overdue."""
        while True:
            now_s = time.monotonic()
            overdue = next((c for c, place in busy.items() if now_s - place.since_s > self._limit_s), None)
            if overdue is not None:
                place = busy.pop(overdue)
                place.renew()
                return place, place.item, Lost(f"no end after {self._limit_s:g} s", died=False)
            first_s = min(place.since_s for place in busy.values()) + self._limit_s
            ready = [c for c in wait(list(busy), max(0.0, first_s - now_s) + 0.01) if isinstance(c, Connection)]
            if ready:
                place = busy.pop(ready[0])
                return place, place.item, place.take()
