"""Power arithmetic of the checkers, on bare integers and bitmaps: what `ValidatorSet` computes, written again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Powers:
    """Power of each validator, and which of them are Byzantine."""

    of: tuple[int, ...]
    byzantine: frozenset[int]

    @cached_property
    def total(self) -> int:
        """Power of all."""
        return sum(self.of)

    @cached_property
    def byzantine_total(self) -> int:
        """Power of the Byzantine ones."""
        return sum(self.of[i] for i in self.byzantine)

    def sum(self, indices: Iterable[int]) -> int:
        """Power of distinct validators."""
        return sum(self.of[i] for i in indices)

    def is_quorum(self, power: int) -> bool:
        """More than two thirds."""
        return 3 * power > 2 * self.total

    def is_third(self, power: int) -> bool:
        """At least one third: more than the faulty ones may have."""
        return 3 * power >= self.total

    def signers(self, bitmap: bytes) -> tuple[int, ...] | None:
        """The indices in a bitmap, bit 0 of byte 0 first; None if it has a wrong length or bits beyond the last."""
        n = len(self.of)
        if len(bitmap) != n // 8 + (n % 8 > 0):
            return None
        found = tuple(8 * at + bit for at, byte in enumerate(bitmap) if byte for bit in range(8) if byte & 1 << bit)
        return None if found and found[-1] >= n else found
