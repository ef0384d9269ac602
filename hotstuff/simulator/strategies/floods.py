"""Much of what costs the receiver something: the far future, the past, requests, and everything once more."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.strategies.certificates import FAR
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import PHASES
from hotstuff.types.messages import (
    BatchRequest,
    BlockRequest,
    ChainRequest,
    Message,
    NewView,
    RecoveryRequest,
)

FLOOD_TARGETS = 2
REQUESTED_BODIES = 8
REPLAYED_MESSAGES = 256


class FutureFlooder(Strategy):
    """Votes, timeouts, proposals and new-views of views far ahead, without what would prove them."""

    def entering(self, view: int) -> Iterator[Outgoing]:
        for to in self.some(self.others, FLOOD_TARGETS):
            for ahead in FAR:
                yield from ((to, message) for message in self._about(view + ahead))

    def _about(self, view: int) -> Iterator[Message]:
        qc = self.forger.high_qc
        phase = self.chance.choice(PHASES[self.world.context.mode])
        yield self.forger.vote(self.index, view, phase, self.chance.randbytes(32), bytes(32))
        yield self.forger.timeout(self.index, view, qc, None)
        yield NewView(replace(qc, view=view), None)
        ours = next((v for v in range(view, view + len(self.others) + 1) if self.leader(v) == self.index), view)
        proposal = self.forger.proposal(self.index, ours, qc, (), next(reversed(self.forger.tcs.values()), None))
        if proposal is not None:
            yield proposal


class HelpFlooder(Strategy):
    """Asks for help all the time: old timeouts and new-views, and requests for blocks, pages and bodies."""

    def entering(self, view: int) -> Iterator[Outgoing]:
        for to in self.some(self.others, FLOOD_TARGETS):
            yield from ((to, message) for message in self._cries(view))

    def _cries(self, view: int) -> Iterator[Message]:
        old = [qc for qc in self.forger.qcs.values() if qc.view + 1 < view]
        for qc in self.chance.sample(old, min(4, len(old))):
            yield self.forger.timeout(self.index, qc.view + 1, qc, None)
            yield NewView(qc, None)
        yield NewView(QC.genesis(self.world.context), None)
        blocks = tuple(self.forger.blocks)
        for block_id in (*self.chance.sample(blocks, min(2, len(blocks))), self.chance.randbytes(32)):
            yield BlockRequest(block_id, self.chance.choice((0, 2**62)), self.chance.choice((0, 1, 2**32 - 1)))
        yield ChainRequest(self.chance.choice((0, 1, view, 2**62)))
        yield BatchRequest(tuple(self.forger.refs)[-REQUESTED_BODIES:])
        yield RecoveryRequest()


class Replayer(Strategy):
    """Repeats what it has heard and said, from whomever it was, to anybody."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._heard: deque[Message] = deque(maxlen=REPLAYED_MESSAGES)

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        self._heard.append(message)
        return (message,)

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        self._heard.append(message)
        return ((to, message),)

    def entering(self, view: int) -> Iterator[Outgoing]:
        for message in self.chance.sample(self._heard, min(16, len(self._heard))):
            yield self.chance.choice(self.others), message
