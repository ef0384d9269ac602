"""Leaders that say two things, nothing, the wrong thing, or the right thing too late."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.forger import Forger
from hotstuff.types.block import BatchRef
from hotstuff.types.certificates import QC, TC
from hotstuff.types.messages import Message, Proposal, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

MAX_HELD = 256


class SilentLeader(Strategy):
    """Proposes nothing."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        return () if isinstance(message, Proposal) else ((to, message),)


class EquivocatingLeader(Strategy):
    """Signs two blocks for each of its views: one for some, the other for others, both for a few."""

    MODES = ("payload", "order", "justify")

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._of = b""
        self._rival: Proposal | None = None
        self._left: tuple[int, ...] = ()
        self._both: tuple[int, ...] = ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if not isinstance(message, Proposal) or message.block.header.proposer != self.index:
            return ((to, message),)
        if message.block.id != self._of:
            self._divide(message)
        if self._rival is None:
            return ((to, message),)
        pair = (message, self._rival) if to in self._left else (self._rival, message)
        return tuple((to, block) for block in (pair if to in self._both else pair[:1]))

    def _divide(self, proposal: Proposal) -> None:
        self._of, self._rival = proposal.block.id, self._make_rival(proposal)
        self._left, self._both = self.half(), self.some(self.others, self.chance.randrange(2))
        if self._rival is not None:
            self.forger.saw(self._rival)

    def _make_rival(self, proposal: Proposal) -> Proposal | None:
        """The variant that `mode` says, or another one if there is nothing to vary in that way."""
        header, refs = proposal.block.header, proposal.block.payload
        payloads = {"order": self._reordered(refs), "payload": refs[:-1]}
        for payload in (payloads.get(self.mode, refs), *payloads.values()):
            justify = self._other_qc(header.justify) if self.mode == "justify" else header.justify
            rival = self.forger.proposal(self.index, header.view, justify, payload, proposal.entry_tc)
            if rival is not None and rival.block.id != proposal.block.id:
                return rival
        return None

    def _other_qc(self, qc: QC) -> QC:
        """Another certificate for the same block: its id covers the signers, so this is another block."""
        slot = (qc.view, qc.phase, qc.block_id, qc.commit_id)
        made = (self.forger.qc(slot, without=(i,)) for i in self.honest)
        return next((other for other in made if other is not None and other != qc), qc)

    @staticmethod
    def _reordered(refs: tuple[BatchRef, ...]) -> tuple[BatchRef, ...]:
        """Each lane in its order, the lanes in another one: the same batches."""
        ascending = tuple(sorted(refs, key=lambda ref: ref.author))
        return ascending if ascending != refs else tuple(sorted(refs, key=lambda ref: -ref.author))


def lowest_entry(forger: Forger, view: int) -> TC | None:
    """The TC into `view` that hides the most, of those that we know or can make."""
    made = forger.tc(view - 1)
    known = [tc for tc in forger.tcs.values() if tc.view + 1 == view]
    return min((*known, *(() if made is None else (made,))), key=lambda tc: tc.high_qc.rank, default=None)


class StaleQcLeader(Strategy):
    """After a failed view, proposes on an old QC and so cuts off the tail: the oldest that voters accept, or older."""

    MODES = ("accepted", "older")
    DEEPEST = 6

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._of = b""
        self._changed: Proposal | None = None

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Proposal) and message.block.header.proposer == self.index and message.entry_tc:
            if message.block.id != self._of:
                self._of, self._changed = message.block.id, self._stale(message)
            return ((to, self._changed or message),)
        return ((to, message),)

    def _stale(self, proposal: Proposal) -> Proposal | None:
        header = proposal.block.header
        entry_tc = lowest_entry(self.forger, header.view)
        if entry_tc is None:
            return None
        oldest = self._older(header.justify) if self.mode == "older" else self._oldest(proposal, entry_tc)
        if oldest == header.justify:
            return None
        return self.forger.proposal(self.index, header.view, oldest, (), entry_tc)

    def _oldest(self, proposal: Proposal, entry_tc: TC) -> QC:
        qc = proposal.block.header.justify
        while (block := self.forger.blocks.get(qc.block_id)) is not None:
            if not self.acceptable(proposal.block.header.view, block.header.justify, entry_tc):
                break
            qc = block.header.justify
        return qc

    def _older(self, qc: QC) -> QC:
        """Some blocks down, whatever voters think of that."""
        for _ in range(1 + self.chance.randrange(self.DEEPEST)):
            block = self.forger.blocks.get(qc.block_id)
            qc = qc if block is None else block.header.justify
        return qc


class Late(Strategy):
    """Base of strategies that send late."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._held: list[tuple[int, Outgoing]] = []

    def hold(self, percent: int, to: int, message: Message) -> None:
        """Send it when that much of the view's timer, if it started now, has run."""
        delay_us = self.view_us * percent // 100
        if len(self._held) < MAX_HELD:
            self._held.append((self.world.now_us + delay_us, (to, message)))
            self.wake(delay_us)

    def acting(self) -> Iterable[Outgoing]:
        now_us = self.world.now_us
        due = [act for at_us, act in self._held if at_us <= now_us]
        self._held = [(at_us, act) for at_us, act in self._held if at_us > now_us]
        return (*super().acting(), *due)


class SlowLeader(Late):
    """Proposes at the last moment, so that votes come just before the timers or just after."""

    MODES = ("70", "85", "95")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if not isinstance(message, Proposal) or message.block.header.proposer != self.index:
            return ((to, message),)
        self.hold(int(self.mode), to, message)
        return ()


class TimerDoubling(Late):
    """Drives apart timers that grow with each failure: half of the others see it in time, the rest just too late."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._in_time: tuple[int, ...] = ()

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        """Always the same ones are in time."""
        super().attach(world, node, forger)
        self._in_time = self.half()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if not isinstance(message, (Proposal, Vote)):
            return ((to, message),)
        self.hold(90 if to in self._in_time else 110, to, message)
        return ()
