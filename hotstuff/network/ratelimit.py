"""Rates per key: accepted connections per address, sessions per peer, log lines per culprit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable


class RateLimiter:
    """At most `burst` events at once and `per_second` in the long run, for each key separately.

    One float per key: the time at which the key's allowance is full again (GCRA, the "virtual scheduling" of ATM
    policing). A key that is unknown or was evicted has its full allowance, so the table can be bounded.
    """

    def __init__(self, *, per_second: float, burst: int, keys_max: int = 4096) -> None:
        self._interval_s = 1 / per_second
        self._slack_s = (burst - 1) / per_second
        self._keys_max = keys_max
        self._full_at: dict[Hashable, float] = {}

    def allow(self, key: Hashable, now: float) -> bool:
        """Count one event of `key`, unless it comes too early."""
        full_at = max(self._full_at.pop(key, now), now)
        allowed = full_at - now <= self._slack_s
        self._full_at[key] = full_at + self._interval_s if allowed else full_at
        if len(self._full_at) > self._keys_max:
            del self._full_at[next(iter(self._full_at))]  # the one seen least recently
        return allowed


class QuietLog:
    """Warnings that others can cause: at most one line per key in `interval_s`, with a count of those left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], *, interval_s: float = 1.0) -> None:
        self._logger = logger
        self._clock = clock
        self._limiter = RateLimiter(per_second=1 / interval_s, burst=1)
        self._left_out: dict[Hashable, int] = {}

    def warning(self, key: Hashable, text: str) -> None:
        """Log `text`, or count it. Control characters are replaced: part of the text may come from the network."""
        if not self._limiter.allow(key, self._clock()):
            if key in self._left_out or len(self._left_out) < 4096:
                self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        left_out = self._left_out.pop(key, 0)
        suffix = f" ({left_out} more like this left out)" if left_out else ""
        self._logger.warning("%s%s", printable(text), suffix)


def printable(text: str) -> str:
    """`text` without anything that could forge a log line or move a terminal's cursor."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
