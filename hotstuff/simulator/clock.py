"""A node's own monotonic clock, which is never quite right."""

from __future__ import annotations

MILLION = 1_000_000
# Clocks of different machines have nothing in common: each starts somewhere else.
START_US = 1_000_000


class Clock:
    """Runs `ppm` millionths too fast (or, below zero, too slow). It never goes back, also when its rate changes."""

    def __init__(self, ppm: int = 0, start_us: int = START_US) -> None:
        self._true_us = 0
        self._local_us = start_us
        self._rate = MILLION + ppm

    def local_us(self, true_us: int) -> int:
        """What it shows."""
        return self._local_us + (true_us - self._true_us) * self._rate // MILLION

    def true_us(self, local_us: int) -> int:
        """When it shows at least this."""
        return self._true_us - (self._local_us - local_us) * MILLION // self._rate

    def set_rate(self, ppm: int, true_us: int) -> None:
        """Runs at another rate from now on."""
        self._local_us, self._true_us, self._rate = self.local_us(true_us), true_us, MILLION + ppm
