"""Attacks that take several steps."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from hotstuff.consensus.pacemaker import LEADER_WAIT_DIVISOR
from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.forger import Slot
from hotstuff.simulator.strategies.proposals import lowest_entry
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import PHASES, Phase
from hotstuff.types.messages import Message, NewView, Proposal, Timeout, Vote

# The secret is given up after this many turns of all leaders.
SECRET_TURNS = 3
# The QC is shown about when the next proposal comes: too late for the victim to tell its leader.
SHOWN_ABOUT_US = 1000


class HiddenQc(Strategy):
    """Cuts off the tail and leaves a hidden lock: a QC that one honest replica alone learns of.

    In its own view it proposes to just enough replicas, keeps its votes back, and makes the QC in secret. The view
    fails, and our timeout reports nothing. Once the TC is out, one honest replica is shown the QC and may lock on it.
    "lock": our votes are missing for everything below the QC, so that replica's vote is needed. "fork": we help the
    others to go on, and at our next turn after a failed view propose on the secret QC, if the rules let us.
    """

    MODES = ("lock", "fork")

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._proposal: Proposal | None = None
        self._crowd: tuple[int, ...] = ()
        self._qc: QC | None = None
        self._show_us: int | None = None
        self._shown = self._gave_up = False

    # ---- what leaves

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Proposal) and message.block.header.proposer == self.index:
            return self._proposing(to, message)
        if isinstance(message, Timeout) and self._is_secret(message.high_qc):
            return self._denial(to, message)
        return () if self._tells(to, message) else ((to, message),)

    def _is_secret(self, qc: QC) -> bool:
        return qc.block_id in self.forger.hidden and qc.phase >= self.forger.hidden[qc.block_id]

    def _denial(self, to: int, timeout: Timeout) -> Iterable[Outgoing]:
        entry_tc = lowest_entry(self.forger, timeout.view)
        if entry_tc is None or self._is_secret(entry_tc.high_qc):
            return ()
        return ((to, self.forger.timeout(self.index, timeout.view, entry_tc.high_qc, entry_tc)),)

    def _tells(self, to: int, message: Message) -> bool:
        """Would this message give the secret away, or help a branch below it?"""
        if isinstance(message, NewView):
            return self._is_secret(message.high_qc)
        if not isinstance(message, Vote) or to in self.forger.signers:
            return False
        if message.block_id in self.forger.hidden:
            return True
        block = self.forger.blocks.get(message.block_id)
        below = block is not None and self._qc is not None and block.header.justify.view < self._qc.view
        return self.mode == "lock" and below

    def _proposing(self, to: int, message: Proposal) -> Iterable[Outgoing]:
        if self._proposal is None or self._proposal.block.header.view != message.block.header.view:
            revenge = self._revenge(message)
            self._forget()
            if revenge is None:
                self._hide(message)
            else:
                self.forger.saw(revenge)
                self._proposal, self._crowd = revenge, self.others
        return ((to, self._proposal),) if self._proposal is not None and to in self._crowd else ()

    def _revenge(self, message: Proposal) -> Proposal | None:
        """A block on a secret QC, ours or an ally's, if that leaves out what is certified and voters may accept it."""
        header, entry_tc = message.block.header, lowest_entry(self.forger, message.block.header.view)
        if entry_tc is None:
            return None
        passed_by = [qc for qc in self.forger.secrets.values() if qc.view < header.justify.view]
        legal = [qc for qc in passed_by if self.acceptable(header.view, qc, entry_tc)]
        return self.forger.proposal(self.index, header.view, legal[-1], (), entry_tc) if legal else None

    def _hide(self, proposal: Proposal) -> None:
        """Shows it to just enough; the next leader is the last one that we ask."""
        next_leader = self.leader(proposal.block.header.view + 1)
        order = sorted(self.some(self.honest, len(self.honest)), key=lambda i: (i == next_leader, self.chance.random()))
        quorum = self.world.validators.is_quorum
        enough = next((k for k in range(len(order)) if quorum((*self.forger.signers, *order[:k]))), len(order))
        self._proposal, self._crowd = proposal, (*order[:enough], *self.forger.signers)
        self.forger.hidden[proposal.block.id] = self._phase

    def _forget(self) -> None:
        if self._proposal is not None:
            self.forger.hidden.pop(self._proposal.block.id, None)
        self._proposal, self._qc, self._crowd, self._show_us = None, None, (), None
        self._shown = self._gave_up = False

    # ---- what comes out of nothing

    @property
    def _phase(self) -> Phase:
        """The one whose QC locks, or is the only one."""
        return PHASES[self.world.context.mode][-2:][0]

    def acting(self) -> Iterable[Outgoing]:
        proposal = self._proposal
        if proposal is None or proposal.block.id not in self.forger.hidden:
            return ()
        view = proposal.block.header.view
        if self.view > view + SECRET_TURNS * len(self.world.validators):
            self._forget()
            return ()
        if self._qc is None:
            slot = self._slot(proposal)
            self._qc = None if slot is None else self.forger.qc(slot)
            if self._qc is not None:
                self.forger.secrets.keep(self._qc.block_id, self._qc)
        return (*self._give_up(proposal, view), *self._show(view))

    def _slot(self, proposal: Proposal) -> Slot | None:
        block, phase = proposal.block, self._phase
        commit_id = self.commit_id(block, phase)
        return None if commit_id is None else (block.header.view, phase, block.id, commit_id)

    def _give_up(self, proposal: Proposal, view: int) -> Iterator[Outgoing]:
        """Our timeout of the view, as of somebody who never saw the QC, as soon as anybody honest gives up."""
        if self._gave_up or not any(i not in self.forger.signers for i in self.forger.timeouts.get(view, {})):
            return
        self._gave_up = True
        timeout = self.forger.timeout(self.index, view, proposal.block.header.justify, proposal.entry_tc)
        yield from self.to_all(timeout)

    def _show(self, view: int) -> Iterator[Outgoing]:
        """To one who does not lead the next view, just before that view's proposal comes."""
        if self._qc is None or self._shown or not self._gave_up or self.forger.tc(view) is None:
            return
        now_us = self.world.now_us
        if self._show_us is None:
            wait_us = self.view_us // LEADER_WAIT_DIVISOR if self.world.rules.leader_waits else SHOWN_ABOUT_US
            delay_us = max(wait_us + self.chance.randrange(-SHOWN_ABOUT_US, SHOWN_ABOUT_US), 0)
            self._show_us = now_us + delay_us
            self.wake(delay_us)
        if now_us < self._show_us:
            return
        self._shown = True
        yield self.chance.choice([i for i in self.honest if i != self.leader(view + 1)]), NewView(self._qc, None)


class SplitBrain(Strategy):
    """Keeps two halves of the honest replicas apart: each is shown its own block and its own QC in our views.

    Harmless while we have less than a third of the power: neither half makes a quorum with us. With more, and enough
    of our turns in a row, both halves commit. Runs that must fork use it.
    """

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._view = 0
        self._pair: tuple[Proposal, ...] = ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, Proposal) and message.block.header.proposer == self.index:
            if message.block.header.view > self._view:
                self._divide(message)
            return ((to, self._pair[self._side(to)]),)
        return ((to, message),)

    def _side(self, validator: int) -> int:
        """Every other honest one is on the right; our own are on the left."""
        honest = [i for i in range(len(self.world.validators)) if i not in self.forger.signers]
        return honest.index(validator) % 2 if validator in honest else 0

    def _divide(self, proposal: Proposal) -> None:
        header, refs = proposal.block.header, proposal.block.payload
        justify, entry_tc = self.forger.heads.get(1, header.justify), proposal.entry_tc
        if justify.view != header.justify.view:  # the halves have met again
            justify = header.justify
        other = refs[:-1] if justify == header.justify else ()
        rival = self.forger.proposal(self.index, header.view, justify, other, entry_tc) or proposal
        self._view, self._pair = header.view, (proposal, rival)
        self.forger.saw(rival)

    def acting(self) -> Iterable[Outgoing]:
        """The QCs of both halves as soon as there are such, each to its half."""
        shown: list[Outgoing] = []
        for side, proposal in enumerate(self._pair):
            for slot in self.forger.votes.get(self._view, {}):
                head = self.forger.heads.get(side)
                if slot[2] != proposal.block.id or (head is not None and head.rank >= slot[:2]):
                    continue
                qc = self.forger.qc(slot)
                if qc is not None:
                    self.forger.heads[side] = qc
                    shown += [(to, NewView(qc, None)) for to in self.others if self._side(to) == side]
        return shown
