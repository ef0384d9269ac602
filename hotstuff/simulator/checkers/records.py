"""What replicas remember: I4 nothing goes back, I8 durable before it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import Ack, BatchMessage, Message, Proposal, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.consensus.safety import SafetyRecord
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

NAMES = ("current view", "voted view and phase", "timed-out view", "proposed view", "high QC", "lock", "high TC")


def _figures(record: SafetyRecord) -> tuple[tuple[int, ...], ...]:
    """What must never decrease, in the order of `NAMES`."""
    high_tc = 0 if record.high_tc is None else record.high_tc.view
    return (
        (max(record.high_qc.leads_to, high_tc + 1),),
        (record.voted_view, record.voted_phase),
        (record.timed_out_view,),
        (record.proposed_view,),
        record.high_qc.rank,
        (record.locked_qc.view,),
        (high_tc,),
    )


class NothingGoesBack(Checker):
    """I4: views, certificates, locks and the committed height only grow; the durable ones across lives, too.

    A validator that lost its disk is exempt until it rejoins, and then has to be above everything it ever had.
    """

    invariant = "I4"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._record: dict[int, SafetyRecord] = {}
        self._height: dict[int, int] = {}
        self._durable: dict[int, SafetyRecord] = {}

    def started(self, node: SimNode) -> None:
        self._durably(node, "after a restart")
        self._record[node.index] = node.disk.safety
        self._height[node.index] = 0

    def stepped(self, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        replica, i = node.replica, node.index
        if replica is None:
            return
        record, before = replica.safety.record, self._record[i]
        if record is not before:
            self._compare(node, before, record, f"in a step ({type(event).__name__})")
            if before.passive and not record.passive and i in self._durable:
                self._compare(node, self._durable[i], record, "by rejoining")
            self._record[i] = record
        height = replica.tree.root.height
        if height < self._height[i]:
            self.fail(f"validator {i}: committed height went from {self._height[i]} to {height}")
        self._height[i] = height

    def persisted(self, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        self._durably(node, "on disk")

    def _durably(self, node: SimNode, when: str) -> None:
        record, before = node.disk.safety, self._durable.get(node.index)
        if record is before or record.passive:
            return
        if before is not None:
            self._compare(node, before, record, when)
        self._durable[node.index] = record

    def _compare(self, node: SimNode, before: SafetyRecord, after: SafetyRecord, when: str) -> None:
        for name, old, new in zip(NAMES, _figures(before), _figures(after), strict=True):
            if new < old:
                self.fail(f"validator {node.index}: {name} went from {old} to {new} {when}")


class DurableFirst(Checker):
    """I8: when a message that promises something leaves, its sender's disk already holds what a next life must know.

    vote       voted view and phase, the vote itself if it is the last, the block, the QC that it rests on or a better
               one, the lock that it shows
    timeout    timed-out view, the timeout itself if it is the last, the QC that it reports or a better one
    proposal   proposed view
    batch      its own body: a next life must not use the number again (passing on another's promises nothing)
    ack        each body
    """

    invariant = "I8"

    def sent(self, node: SimNode, message: Message) -> None:
        if isinstance(message, Vote):
            missing = self._for_vote(node, message)
        elif isinstance(message, Timeout):
            missing = self._for_timeout(node, message)
        elif isinstance(message, Proposal):
            header = message.block.header
            missing = "proposed view" if node.disk.safety.proposed_view < header.view else None
        elif isinstance(message, BatchMessage):
            own = message.batch.author == node.index
            missing = "body" if own and not node.disk.durable(message.batch.ref) else None
        elif isinstance(message, Ack):
            missing = None if all(node.disk.durable(ref) for ref in message.refs) else "body"
        else:
            return
        if missing is not None:
            self.fail(f"validator {node.index} sends {_named(message)}, and its disk lacks the {missing}")

    def _for_vote(self, node: SimNode, vote: Vote) -> str | None:
        record, ledger = node.disk.safety, self.ledger
        acted, says, last = (record.voted_view, record.voted_phase), (vote.view, vote.phase), record.last_vote
        if acted < says:
            return "voted view and phase"
        if last is None or (acted == says and last != vote):
            return "vote"
        if vote.block_id not in node.disk.blocks:
            return "block"
        # Of a later phase, the QC of the phase before; else the justify.
        rests_on = (vote.view, vote.phase - 1)
        if vote.phase in (Phase.PREPARE, Phase.GENERIC):
            rests_on = ledger.blocks[vote.block_id].header.justify.rank
        if record.high_qc.rank < rests_on:
            return "QC that it rests on"
        return "lock" if record.locked_qc.view < ledger.lock_by_vote(vote) else None

    def _for_timeout(self, node: SimNode, timeout: Timeout) -> str | None:
        record = node.disk.safety
        if record.timed_out_view < timeout.view:
            return "timed-out view"
        last = record.last_timeout
        if last is None or (last.view == timeout.view and last != timeout):
            return "timeout"
        return "reported QC" if record.high_qc.rank < timeout.high_qc.rank else None


def _named(message: Message) -> str:
    view = message.block.header.view if isinstance(message, Proposal) else getattr(message, "view", None)
    return type(message).__name__ if view is None else f"{type(message).__name__} of view {view}"
