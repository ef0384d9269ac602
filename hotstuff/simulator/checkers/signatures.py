"""What honest validators sign: I2 one certificate a slot, I3 one signature, I5 closed views, I6 true timeouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger, Tally
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import BatchMessage, Message, Proposal, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class OneCertificate(Checker):
    """I2: in each (epoch, view, phase), at most one (block, commit id) could reach a quorum.

    Honest power that signed it counts, and all Byzantine power: a certificate that nobody has formed yet, but somebody
    could, is a violation already. Looking at formed certificates only would miss most of them.
    """

    invariant = "I2"

    def certifiable(self, tally: Tally) -> None:
        rivals = [t for t in self.ledger.votes[tally.slot].values() if t.certifiable and t is not tally]
        if rivals:
            _, view, phase = tally.slot
            told = " and ".join(_shown(t) for t in (rivals[0], tally))
            self.fail(f"view {view} phase {phase.name}: {told} could both be certified")


def _shown(tally: Tally) -> str:
    block_id, commit_id = tally.preimage
    return f"block {block_id.hex()[:8]} committing {commit_id.hex()[:8]} (signed by {sorted(tally.signers)})"


class OneSignature(Checker):
    """I3: an honest validator signs one vote a slot, one timeout and one proposal a view, one batch a number; ever.

    "Ever" is all its lives, also those after its record was lost: rule 2.4 is there to make that true. Only an author
    that lost its bodies, too, may take a number again that it had used.
    """

    invariant = "I3"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._proposals: dict[tuple[int, int, int], bytes] = {}
        self._batches: dict[tuple[int, int, int], bytes] = {}

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        for other in self.ledger.votes[tally.slot].values():
            if other is not tally and vote.signer in other.signers:
                self.fail(
                    f"validator {vote.signer} voted twice in view {vote.view} phase {vote.phase.name}: "
                    f"{_shown(other)}, {_shown(tally)}"
                )

    def timed_out(self, node: SimNode, timeout: Timeout) -> None:
        reported = self.ledger.timeouts[timeout.epoch, timeout.view][timeout.signer]
        if len(reported) > 1:
            self.fail(f"validator {timeout.signer} signed timeouts of view {timeout.view} reporting {list(reported)}")

    def sent(self, node: SimNode, message: Message) -> None:
        if isinstance(message, Proposal):
            header = message.block.header
            slot = (header.proposer, header.epoch, header.view)
            if header.proposer == node.index and self._proposals.setdefault(slot, header.id) != header.id:
                self.fail(f"validator {node.index} proposed two blocks in view {header.view}")
        elif isinstance(message, BatchMessage):
            batch = message.batch
            if batch.author in self.powers.byzantine or batch.author in self.ledger.lost_data:
                return
            digest = batch.ref.digest
            if self._batches.setdefault((batch.author, batch.epoch, batch.seq), digest) != digest:
                self.fail(f"validator {batch.author} signed two batches with number {batch.seq}")


@dataclass
class _Signed:
    """What one validator has signed, in the order in which it did."""

    timed_out: int = 0
    votes: list[tuple[int, int]] = field(default_factory=list)
    """View, and the view of the highest QC that a timeout must not hide after this vote."""
    highest_vote: int = 0
    least_report: int = 0
    """The maximum of both over all votes."""


class ClosedViews(Checker):
    """I5: nobody votes at or below a view that it has timed out; a vote signed before may be sent again."""

    invariant = "I5"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._closed: dict[int, int] = {}

    def timed_out(self, node: SimNode, timeout: Timeout) -> None:
        self._closed[node.index] = max(timeout.view, self._closed.get(node.index, 0))

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        closed = self._closed.get(node.index, 0)
        if vote.view <= closed:
            self.fail(f"validator {node.index} voted in view {vote.view} after its timeout of view {closed}")


class TrueTimeouts(Checker):
    """I6: a timeout of view w reports at least the justify of every block that its signer voted for at views <= w.

    In `basic`, a PRECOMMIT or COMMIT vote of view v is itself cast on a QC of view v, which must not be hidden either.
    """

    invariant = "I6"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._signed: dict[int, _Signed] = {}

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        signed = self._signed.setdefault(node.index, _Signed())
        block = self.ledger.blocks.get(vote.block_id)
        if block is None:
            self.fail(f"validator {node.index} voted in view {vote.view} for a block that nobody has sent")
        shown = vote.view if vote.phase in (Phase.PRECOMMIT, Phase.COMMIT) else block.header.justify.view
        signed.votes.append((vote.view, shown))
        signed.highest_vote = max(signed.highest_vote, vote.view)
        signed.least_report = max(signed.least_report, shown)

    def timed_out(self, node: SimNode, timeout: Timeout) -> None:
        signed = self._signed.get(node.index)
        if signed is None:
            return
        least = signed.least_report
        if signed.highest_vote > timeout.view:  # no rule of this invariant, so it may be
            least = max((shown for view, shown in signed.votes if view <= timeout.view), default=0)
        if timeout.high_qc.view < least:
            self.fail(
                f"validator {node.index} reports view {timeout.high_qc.view} in its timeout of view {timeout.view}, "
                f"but has voted on a QC of view {least}"
            )
