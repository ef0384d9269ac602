"""A data plane without data: every leader always has one batch to order, and everybody always holds it."""

from __future__ import annotations

from hotstuff.consensus.effects import Commit, Effect, Event
from hotstuff.consensus.payload import Availability, Payload
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.encoding import U16, U64
from hotstuff.types.hashing import Domain, digest


class ModelPayload(Payload):
    """One reference for each block, of which no other instance or view has the like.

    `origin` is a number that no other life of any instance has, so a twin's two blocks of a view differ. Blocks are
    executed as soon as they are committed.
    """

    def __init__(self, author: int, origin: int, effects: list[Effect]) -> None:
        self._author = author
        self._origin = origin
        self._effects = effects

    def propose(self, included: tuple[int, ...], view: int) -> tuple[BatchRef, ...]:
        content = digest(Domain.BATCH, U16.pack(self._origin), U64.pack(view))
        return (BatchRef(self._author, included[self._author] + 1, content, 1, 1),)

    def extend(self, included: tuple[int, ...], refs: tuple[BatchRef, ...]) -> tuple[int, ...] | None:
        after = list(included)
        for ref in refs:
            if ref.seq != after[ref.author] + 1:
                return None
            after[ref.author] = ref.seq
        return tuple(after)

    def availability(self, refs: tuple[BatchRef, ...], view: int, now_us: int) -> Availability:
        return Availability.AVAILABLE

    def placed(self, refs: tuple[BatchRef, ...]) -> None:
        pass

    def has_work(self, included: tuple[int, ...]) -> bool:
        return True

    def view_failed(self, view: int) -> None:
        pass

    def committed(self, blocks: tuple[Block, ...], now_us: int) -> None:
        self._effects.append(Commit(blocks))

    def backlog(self) -> int:
        return 0

    def step(self, event: Event, now_us: int, *, may_ack: bool, may_author: bool) -> None:
        pass

    def synced(self) -> None:
        """Nothing waits for a disk here."""

    def deadline_us(self) -> int | None:
        return None
