"""Who leads a view: a pure function of the epoch's data and the view, integers only."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Protocol

# Slots of the table. Up to here shares are exact; token-sized powers are rounded to it, so that neither the cost of
# building the table nor its memory depends on their size.
MAX_SLOTS = 65536


class Leaders(Protocol):
    """A schedule that every replica computes alike."""

    def leader(self, view: int) -> int:
        """Index of the validator that leads `view`."""
        ...


class RoundRobin:
    """One after the other, each for `sticky` views in a row."""

    def __init__(self, validators: int, sticky: int = 1) -> None:
        self._validators = validators
        self._sticky = sticky

    def leader(self, view: int) -> int:
        """The validator whose turn it is."""
        return view // self._sticky % self._validators


class Weighted:
    """Turns in proportion to power, spread evenly; with equal powers simply one after the other.

    Why by power: a three-chain needs three good leaders in a row (votes also go to the leader of their own view, rule
    5.1). Faulty validators have less than a third of the slots; on a circle they leave a run of at least three others.
    With equal turns, light validators that are down could leave none.
    """

    def __init__(self, powers: Sequence[int], sticky: int = 1) -> None:
        self._table = _interleave(_shares(powers))
        self._sticky = sticky

    def leader(self, view: int) -> int:
        """The validator whose slot it is."""
        return self._table[view // self._sticky % len(self._table)]


def _shares(powers: Sequence[int]) -> list[int]:
    """Slots of each validator: its power in lowest terms, or rounded by largest remainder if that is too long."""
    divisor = gcd(*powers)
    shares = [power // divisor for power in powers]
    total = sum(shares)
    if total <= MAX_SLOTS:
        return shares
    rounded = [share * MAX_SLOTS // total for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (-(shares[i] * MAX_SLOTS % total), i))
    for i in by_remainder[: MAX_SLOTS - sum(rounded)]:
        rounded[i] += 1
    return rounded


def _interleave(shares: Sequence[int]) -> tuple[int, ...]:
    """Each validator's slots at even distances: its k-th of w at (2k + 1) / 2w of the table."""
    # As fixed-point integers: a float could order two slots differently on another machine.
    slots = [((2 * k + 1) * 2**40 // share, i) for i, share in enumerate(shares) for k in range(share)]
    return tuple(i for _, i in sorted(slots))
