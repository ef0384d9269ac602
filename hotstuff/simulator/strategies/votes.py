"""Voters and timeout signers that say too much, too little or nonsense."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.forger import Forger
from hotstuff.simulator.strategies.proposals import lowest_entry
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import PHASES
from hotstuff.types.messages import Message, Timeout, Vote
from hotstuff.types.validators import BLS_SIGNATURE_BYTES

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class DoubleVoter(Strategy):
    """Votes for every block it sees and for another one in the same view, also in views that it gave up."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._voted: dict[bytes, int] = {}

    def acting(self) -> Iterable[Outgoing]:
        self._voted = {block_id: view for block_id, view in self._voted.items() if view + 4 > self.view}
        votes: list[Outgoing] = []
        for view in range(max(self.view - 2, 1), self.view + 2):
            for proposal in self.forger.proposals.get(view, {}).values():
                if proposal.block.id not in self._voted:
                    self._voted[proposal.block.id] = view
                    votes += self._votes(proposal.block)
        return votes

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        yield to, message
        if isinstance(message, Timeout) and to in self.collectors(message.view):
            for proposal in self.forger.proposals.get(message.view, {}).values():
                yield from (vote for vote in self._votes(proposal.block) if vote[0] == to)

    def _votes(self, block: Block) -> Iterator[Outgoing]:
        """The vote that honest replicas give, and one for the parent in this view, in some order."""
        view = block.header.view
        for phase in PHASES[self.world.context.mode]:
            honest = self.vote(block, phase)
            other = self.forger.vote(self.index, view, phase, block.header.parent_id, ZERO_HASH)
            for to in self.collectors(view):
                pair = [other] if honest is None else [honest, other]
                self.chance.shuffle(pair)
                yield from ((to, vote) for vote in pair)


class VoteWithholder(Strategy):
    """Keeps its votes to itself: all of them, some, or those for certain leaders."""

    MODES = ("all", "random", "leaders")

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        super().attach(world, node, forger)
        self._disliked = self.half()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if not isinstance(message, Vote):
            return ((to, message),)
        kept = {"all": True, "random": self.chance.random() < 0.5, "leaders": to in self._disliked}[self.mode]
        return () if kept else ((to, message),)


class LowestHighQc(Strategy):
    """Reports the lowest high_qc that its proof of entry allows, or one that is lower than that."""

    MODES = ("legal", "lie")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Timeout) and message.signer == self.index:
            qc, tc = self._lie(message) if self.mode == "lie" else self._lowest(message)
            if qc.rank < message.high_qc.rank:
                message = self.forger.timeout(self.index, message.view, qc, tc)
        return ((to, message),)

    def _lowest(self, timeout: Timeout) -> tuple[QC, TC | None]:
        """What leads to the view by itself, or the TC that hides the most."""
        found: list[tuple[QC, TC | None]] = [(timeout.high_qc, timeout.prev_tc)]
        found += [(qc, None) for qc in self.forger.qcs.values() if qc.leads_to == timeout.view]
        tc = lowest_entry(self.forger, timeout.view)
        if tc is not None and tc.high_qc.leads_to < timeout.view:
            found.append((tc.high_qc, tc))
        return min(found, key=lambda entry: entry[0].rank)

    def _lie(self, timeout: Timeout) -> tuple[QC, TC | None]:
        """A QC that does not lead to the view, with the honest proof."""
        block = self.forger.blocks.get(timeout.high_qc.block_id)
        return (timeout.high_qc if block is None else block.header.justify), timeout.prev_tc


class InvalidShares(Strategy):
    """Signs votes and timeouts with something that does not verify."""

    MODES = ("garbage", "encoding", "other message")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, (Vote, Timeout)) and message.signer == self.index:
            return ((to, replace(message, signature=self._signature(message))),)
        return ((to, message),)

    def _signature(self, message: Vote | Timeout) -> bytes:
        if self.mode == "garbage":
            return self.chance.randbytes(BLS_SIGNATURE_BYTES)
        if self.mode == "encoding":
            return self.chance.choice(ENCODINGS)(message.signature)
        # A genuine signature, over the same words about the view before.
        return self.forger.signed(replace(message, view=message.view - 1)).signature


ENCODINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda share: bytes([share[0] ^ 0x20]) + share[1:],  # the opposite point
    lambda share: bytes([share[0] ^ 0x80]) + share[1:],  # claims to be uncompressed
    lambda share: b"\xc0" + bytes(95),  # the point at infinity
    lambda share: b"\xe0" + bytes(95),  # infinity with a sign
    lambda share: b"\xc0" + bytes(94) + b"\1",  # infinity with something behind it
    lambda share: b"\x9f" + b"\xff" * 95,  # a coordinate above the modulus
    lambda share: bytes(BLS_SIGNATURE_BYTES),
)
"""Other encodings of a point, and encodings of none."""


class CancellingShares(Strategy):
    """Two colluding signers send s1+d and s2-d: both are wrong and their sum is right. One alone is just wrong."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Vote) and message.signer == self.index:
            message = replace(message, signature=self.forger.shifted(message))
        return ((to, message),)
