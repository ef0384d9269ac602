"""Authors and witnesses that cheat about bodies."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.forger import Forger
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef
from hotstuff.types.messages import Ack, BatchMessage, Message

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

MAX_RIVALS = 64
MAX_LIES = 16


class BatchEquivocator(Strategy):
    """Signs two batches with one number: one for half of the others, one for the rest."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._rivals: OrderedDict[int, Batch] = OrderedDict()

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        super().attach(world, node, forger)
        self._left = self.half()

    def entering(self, view: int) -> Iterable[Outgoing]:
        self.author()
        return ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if not isinstance(message, BatchMessage) or message.batch.author != self.index or to in self._left:
            return ((to, message),)
        seq = message.batch.seq
        if seq not in self._rivals:
            self._rivals[seq] = self.forger.batch(self.index, seq)
            if len(self._rivals) > MAX_RIVALS:
                self._rivals.popitem(last=False)
        return ((to, BatchMessage(self._rivals[seq])),)


class BatchWithholder(Strategy):
    """Its blocks name bodies that reach nobody, one other, or just enough for others to vote."""

    MODES = ("nobody", "one", "enough")

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        super().attach(world, node, forger)
        order = self.some(self.honest, len(self.honest))
        enough = next(k for k in range(len(order) + 1) if world.validators.has_honest(order[:k]) or k == len(order))
        self._served = order[: {"nobody": 0, "one": 1, "enough": enough}[self.mode]]

    def entering(self, view: int) -> Iterable[Outgoing]:
        self.author()
        return ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, BatchMessage) and to not in self._served:
            return ()
        return ((to, message),)


class AckLiar(Strategy):
    """Acknowledges bodies that it never kept, and some that nobody ever made."""

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        """Half of all bodies are lost on the way to its core."""
        lost = isinstance(message, BatchMessage) and self.chance.random() < 0.5
        return () if lost else (message,)

    def entering(self, view: int) -> Iterator[Outgoing]:
        held = self.node.disk.batches
        missing = [ref for ref in self.forger.refs if ref not in held][-MAX_LIES:]
        yield from self.to_all(Ack((*missing, *self._invented())))

    def _invented(self) -> Iterator[BatchRef]:
        for author in range(len(self.world.validators)):
            last = max((ref.seq for ref in self.forger.refs if ref.author == author), default=0)
            yield BatchRef(author, last + 1 + self.chance.randrange(3), self.chance.randbytes(32), 100, 1)
