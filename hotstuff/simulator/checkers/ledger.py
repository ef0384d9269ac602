"""What has been said in a run: blocks and TCs that anybody sent, votes and timeouts that honest validators signed.

Facts only. A vote or timeout counts as signed from the moment its record is durable (the next life will repeat it) or
it leaves, whichever is first; what was lost in a crash before that was never said. Everything is kept for all lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from hotstuff.simulator.checkers.power import Powers
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import BlockResponse, ChainResponse, Message, NewView, Proposal, Timeout, Vote

Slot = tuple[int, int, Phase]
"""Epoch, view and phase: an honest validator votes once in it."""
Preimage = tuple[bytes, bytes]
"""Block id and commit id."""


@dataclass
class Tally:
    """Honest votes for one preimage."""

    slot: Slot
    preimage: Preimage
    power: int = 0
    signers: dict[int, None] = field(default_factory=dict)
    certifiable: bool = False
    """Would all Byzantine power make it a QC?"""


class Ledger:
    """Shared by all checkers of a run."""

    def __init__(self, context: Context, powers: Powers) -> None:
        self.context = context
        self.powers = powers
        self.genesis = QC.genesis(context)
        self.blocks: dict[bytes, Block] = {}
        self.tcs: dict[bytes, TC] = {}
        self.votes: dict[Slot, dict[Preimage, Tally]] = {}
        self.lost_data: set[int] = set()
        """Honest validators whose disk was empty when one of their lives began, and not the first one."""
        self.timeouts: dict[tuple[int, int], dict[int, dict[int, None]]] = {}
        """By epoch and view: signer -> views of the highest QC it has reported."""

    # ---- facts come in

    def saw(self, message: Message) -> None:
        """A message of anybody, honest or not, enters the network."""
        if isinstance(message, Proposal):
            self.add_block(message.block)
            self.add_tc(message.entry_tc)
        elif isinstance(message, (BlockResponse, ChainResponse)):
            for block in message.blocks:
                self.add_block(block)
        elif isinstance(message, Timeout):
            self.add_tc(message.prev_tc)
        elif isinstance(message, NewView):
            self.add_tc(message.high_tc)

    def add_block(self, block: Block) -> None:
        """A block that exists."""
        self.blocks.setdefault(block.header.id, block)

    def add_tc(self, tc: TC | None) -> None:
        """A TC that somebody claims."""
        if tc is not None:
            self.tcs.setdefault(tc.key, tc)

    def has_vote(self, vote: Vote) -> bool:
        """Is it in here already?"""
        tallies = self.votes.get((vote.epoch, vote.view, vote.phase))
        tally = tallies.get((vote.block_id, vote.commit_id)) if tallies else None
        return tally is not None and vote.signer in tally.signers

    def has_timeout(self, timeout: Timeout) -> bool:
        """Is it in here already?"""
        signers = self.timeouts.get((timeout.epoch, timeout.view))
        return signers is not None and timeout.high_qc.view in signers.get(timeout.signer, ())

    def add_vote(self, vote: Vote) -> Tally:
        """An honest vote that is not in here yet."""
        slot, preimage = (vote.epoch, vote.view, vote.phase), (vote.block_id, vote.commit_id)
        tallies = self.votes.setdefault(slot, {})
        tally = tallies.get(preimage)
        if tally is None:
            tally = tallies[preimage] = Tally(slot, preimage)
        tally.signers[vote.signer] = None
        tally.power += self.powers.of[vote.signer]
        return tally

    def add_timeout(self, timeout: Timeout) -> None:
        """An honest timeout that is not in here yet."""
        signers = self.timeouts.setdefault((timeout.epoch, timeout.view), {})
        signers.setdefault(timeout.signer, {})[timeout.high_qc.view] = None

    # ---- what follows from them

    def reaches_quorum(self, tally: Tally) -> bool:
        """Honest power that signed it and all Byzantine power: could its QC exist?"""
        return self.powers.is_quorum(tally.power + self.powers.byzantine_total)

    def view_of(self, block_id: bytes) -> int | None:
        """View of a block; 0 for the root of the epoch, None if nobody has sent it."""
        if block_id == self.context.root_id:
            return 0
        block = self.blocks.get(block_id)
        return None if block is None else block.header.view

    def ancestors(self, block_id: bytes, enough: Callable[[bytes], bool]) -> Iterator[Block]:
        """The block and what is below it, up to the root or the first of which there is `enough`."""
        while not enough(block_id) and (block := self.blocks.get(block_id)) is not None:
            yield block
            block_id = block.header.parent_id

    def commits(self, block_id: bytes, phase: Phase) -> bytes | None:
        """What a QC for this block in this phase commits; zero for nothing, None if a block below it is unknown.

        basic               itself, in the last phase
        hotstuff2, jolteon  the parent, if the two views are consecutive
        chained             the grandparent, if the three views are consecutive
        """
        mode = self.context.mode
        if mode == Mode.BASIC:
            return block_id if phase == Phase.COMMIT else ZERO_HASH
        generations = 2 if mode == Mode.CHAINED else 1
        for _ in range(generations):
            block = self.blocks.get(block_id)
            if block is None:
                return ZERO_HASH if block_id == self.context.root_id else None
            below = self.view_of(block.header.parent_id)
            if below is None:
                return None
            if block.header.view != below + 1:
                return ZERO_HASH
            block_id = block.header.parent_id
        return block_id

    def lock_by_vote(self, vote: Vote) -> int:
        """The view of the lock that this vote's signer has shown to have.

        basic      a COMMIT vote is cast on a PRECOMMIT-QC of its view, and locks on it
        chained    a vote for b is cast on a QC for b's parent, which locks on the QC inside the parent
        hotstuff2  a vote for b locks on the QC inside b
        jolteon    no lock
        """
        mode = self.context.mode
        if mode == Mode.BASIC:
            return vote.view if vote.phase == Phase.COMMIT else 0
        block = self.blocks.get(vote.block_id)
        if mode == Mode.CHAINED and block is not None:
            block = self.blocks.get(block.header.parent_id)
        return 0 if block is None or mode == Mode.JOLTEON else block.header.justify.view


def certificates(message: Message) -> Iterable[QC | TC]:
    """Every certificate in a message, those inside blocks included."""
    if isinstance(message, Proposal):
        found: tuple[QC | TC | None, ...] = (message.block.header.justify, message.entry_tc)
    elif isinstance(message, Timeout):
        found = (message.high_qc, message.prev_tc)
    elif isinstance(message, (BlockResponse, ChainResponse)):
        proof = message.commit_qc if isinstance(message, ChainResponse) else None
        found = (*(block.header.justify for block in message.blocks), proof)
    else:
        found = (getattr(message, "high_qc", None), getattr(message, "high_tc", None))
    return tuple(certificate for certificate in found if certificate is not None)
