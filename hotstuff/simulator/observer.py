"""Those who watch a run and may stop it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.types.block import Block
from hotstuff.types.messages import Message

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.setup import Action
    from hotstuff.simulator.world import World


class Violation(Exception):
    """An invariant does not hold. The first one ends the run.

    `invariant` is "I1" to "I16", or "halt" (an honest node stopped itself), "spin" (it runs without time passing).
    """

    def __init__(self, invariant: str, text: str, at_us: int) -> None:
        super().__init__(f"{invariant} at {at_us} us: {text}")
        self.invariant = invariant
        self.text = text
        self.at_us = at_us

    def __reduce__(self) -> tuple[type[Violation], tuple[str, str, int]]:
        return Violation, (self.invariant, self.text, self.at_us)  # results travel between processes


class Observer:
    """Base of checkers and traces: overrides what it wants to see, raises `Violation`."""

    def started(self, world: World, node: SimNode) -> None:
        """A life begins: the disk is loaded, `Start` is not stepped yet."""

    def crashed(self, world: World, node: SimNode) -> None:
        """A life has ended; what the disk holds now is what the next one will find."""

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        """After each step of any node, honest or not."""

    def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        """The moment these writes became durable."""

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        """The moment a message enters the network, once for each destination, the sender itself included."""

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        """Blocks were executed, in this order; their bodies are in `node.disk.batches`."""

    def acted(self, world: World, action: Action) -> None:
        """Something was done to the world."""

    def finished(self, world: World) -> None:
        """The run is over without a violation."""


HOOKS = ("started", "crashed", "stepped", "persisted", "sent", "executed", "acted", "finished")
