"""I7: every vote is for a block that its voter was allowed to vote for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger, Tally
from hotstuff.types.block import Header
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class Justified(Checker):
    """I7, for each honest vote, so in particular for each block that could be certified.

    Each block:  it extends the block of its justify by one height, at a higher view. The justify ends the view before
                 (in `basic`, only a COMMIT-QC does), or the block names a TC of the view before, which is genuine (I9).
                 `jolteon`: and the justify is not below the QC that this TC reports.
    Each voter:  its lock allows it: justify.view is not below the lock that its earlier votes show (`lock_by_vote`).
                 `jolteon` has no lock. In `basic`, only a PREPARE vote needs that; a later one needs a block that could
                 be certified in the phase before.
    """

    invariant = "I7"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._locks: dict[int, int] = {}
        self._sound: dict[bytes, None] = {}

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        block = self.ledger.blocks.get(vote.block_id)
        if block is None or block.header.view != vote.view:
            self.fail(f"validator {node.index} voted in view {vote.view} for a block that nobody proposed in it")
        header = block.header
        if header.id not in self._sound:
            self._check_block(header)
            self._sound[header.id] = None
        lock = self._locks.get(node.index, 0)
        if vote.phase in (Phase.PRECOMMIT, Phase.COMMIT):
            self._check_phase_before(vote)
        elif header.justify.view < lock:
            self.fail(
                f"validator {node.index} voted in view {vote.view} for a block justified by view "
                f"{header.justify.view}, although it is locked on view {lock}"
            )
        self._locks[node.index] = max(lock, self.ledger.lock_by_vote(vote))

    def _check_phase_before(self, vote: Vote) -> None:
        before = Phase(vote.phase - 1)
        tallies = self.ledger.votes.get((vote.epoch, vote.view, before), {})
        if not any(tally.certifiable and block_id == vote.block_id for (block_id, _), tally in tallies.items()):
            self.fail(f"validator {vote.signer} voted {vote.phase.name} in view {vote.view} without a {before.name}-QC")

    def _check_block(self, header: Header) -> None:
        name = f"block {header.id.hex()[:8]} of view {header.view}"
        parent = self.ledger.blocks.get(header.parent_id)
        height = (
            0 if header.parent_id == self.ledger.context.root_id else None if parent is None else parent.header.height
        )
        below = self.ledger.view_of(header.parent_id)
        if height is None or below is None or header.justify.block_id != header.parent_id:
            self.fail(f"{name} does not extend a block that is known and that its QC certifies")
        if header.height != height + 1 or header.view <= below or header.justify.view != below:
            self.fail(f"{name} at height {header.height} does not fit its parent of view {below} at height {height}")
        if header.view == below + 1 and header.justify.phase in (Phase.COMMIT, Phase.GENERIC):
            return
        tc = self.ledger.tcs.get(header.entry_tc_hash)
        if header.entry_tc_hash == ZERO_HASH or tc is None or tc.view + 1 != header.view:
            self.fail(f"{name} is justified by view {below}, and no TC leads to it")
        if self.ledger.context.mode == Mode.JOLTEON and below < tc.high_qc.view:
            self.fail(f"{name} is justified by view {below}, below view {tc.high_qc.view} that its TC reports")
