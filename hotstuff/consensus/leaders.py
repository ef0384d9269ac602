"""Who leads a view: a pure function of the epoch's data and the view, integers only."""

from __future__ import annotations

from typing import Protocol


class Leaders(Protocol):
    """A schedule that every replica computes alike."""

    def leader(self, view: int) -> int:
        """Index of the validator that leads `view`."""
        ...


class RoundRobin:
    """Each of n validators in turn. One crashed validator of four leaves runs of three good leaders, which is what a
    three-chain needs because votes also go to the leader of their own view (rule 5.1)."""

    def __init__(self, validators: int) -> None:
        self._validators = validators

    def leader(self, view: int) -> int:
        """`view mod n`."""
        return view % self._validators
