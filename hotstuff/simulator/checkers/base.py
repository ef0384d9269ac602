"""What a checker sees. It hears of honest nodes only, and of each thing once.

A broadcast is one message, however many destinations it has; a vote or timeout is announced when it becomes a fact
(see `ledger`), in the order in which its signer signed, and not again when it is re-sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NoReturn

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.ledger import Ledger, Tally
from hotstuff.simulator.checkers.power import Powers
from hotstuff.simulator.observer import Violation
from hotstuff.types.block import Block
from hotstuff.types.messages import Message, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class Checker:
    """One invariant. Subclasses override what they want to hear of, and `fail`."""

    invariant: ClassVar[str]
    world: World
    ledger: Ledger
    powers: Powers

    def attach(self, world: World, ledger: Ledger) -> None:
        """Called once, before the first life."""
        self.world, self.ledger, self.powers = world, ledger, ledger.powers

    def fail(self, text: str) -> NoReturn:
        """The invariant does not hold."""
        raise Violation(self.invariant, text, self.world.now_us)

    def started(self, node: SimNode) -> None:
        """A life begins."""

    def crashed(self, node: SimNode) -> None:
        """A life has ended."""

    def stepped(self, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        """After a step."""

    def persisted(self, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        """These writes are durable now."""

    def sent(self, node: SimNode, message: Message) -> None:
        """A message enters the network."""

    def executed(self, node: SimNode, blocks: Sequence[Block]) -> None:
        """Blocks were executed."""

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        """An honest vote exists; `tally` counts it already."""

    def timed_out(self, node: SimNode, timeout: Timeout) -> None:
        """An honest timeout exists."""

    def certifiable(self, tally: Tally) -> None:
        """From now on a QC for this preimage could exist: honest votes and all Byzantine power are a quorum."""

    def finished(self) -> None:
        """The run is over."""


HOOKS = (
    *("started", "crashed", "stepped", "persisted", "sent", "executed"),
    *("voted", "timed_out", "certifiable", "finished"),
)


def lost_record(node: SimNode) -> bool:
    """Has this node lost what it signed, and not rejoined yet (rule 2.4)?"""
    record = node.disk.safety if node.replica is None else node.replica.safety.record
    return record.passive
