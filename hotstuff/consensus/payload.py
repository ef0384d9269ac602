"""What consensus needs from the data plane: it orders references and knows nothing of bodies."""

from __future__ import annotations

import enum
from typing import Protocol

from hotstuff.consensus.effects import Event
from hotstuff.types.block import BatchRef, Block


class Availability(enum.Enum):
    """May a replica vote for a block with these references?"""

    AVAILABLE = "available"
    MISSING = "missing"


class Payload(Protocol):
    """The data plane as consensus sees it; `mempool.Mempool` in production.

    `included[a]` is the highest batch number of author `a` on a branch. References of a block continue each author's
    lane without a gap, so no batch can be included twice on a branch.
    """

    def propose(self, included: tuple[int, ...], view: int) -> tuple[BatchRef, ...]:
        """References for a block on a branch with these batches; empty if there is nothing to order."""
        ...

    def extend(self, included: tuple[int, ...], refs: tuple[BatchRef, ...]) -> tuple[int, ...] | None:
        """`included` after a block with `refs`, or None if they do not continue the lanes or break a limit."""
        ...

    def availability(self, refs: tuple[BatchRef, ...], view: int, now_us: int) -> Availability:
        """Are all bodies here, or with enough others? Asks for those that are not."""
        ...

    def placed(self, refs: tuple[BatchRef, ...]) -> None:
        """A block with these references is in the tree."""
        ...

    def has_work(self, included: tuple[int, ...]) -> bool:
        """Is there a batch, held by a quorum or by its author here, that the branch lacks?"""
        ...

    def view_failed(self, view: int) -> None:
        """The view timed out: authors whose bodies were missing in it are slow."""
        ...

    def committed(self, blocks: tuple[Block, ...], now_us: int) -> None:
        """These blocks are ordered for good. `Commit` follows when their bodies are here."""
        ...

    def backlog(self) -> int:
        """Committed blocks that wait for bodies."""
        ...

    def step(self, event: Event, now_us: int, *, may_ack: bool, may_author: bool) -> None:
        """Any event or message that consensus does not handle itself.

        `may_ack`: the safety record is not lost. `may_author`: and we know how far our own lane is committed.
        """
        ...

    def synced(self) -> None:
        """Everything persisted so far is durable before whatever is sent from now on."""
        ...

    def deadline_us(self) -> int | None:
        """When to step at the latest."""
        ...
