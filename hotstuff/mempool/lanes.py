"""The lane of one author: which of its batches are here, and who else has said to hold them.

A lane is numbered from 1 without a gap. Blocks continue each lane in order, so a batch cannot be included twice on a
branch and no batch can be skipped. Memory is bounded by a window of numbers above the executed one and by one
acknowledgement for each peer and number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hotstuff.types.block import BatchRef

# Numbers above the last executed one that are kept track of. At 100 batches a second: 40 s of lag.
LANE_WINDOW = 4096


@dataclass
class Slot:
    """One number of a lane. An author that signs two batches for it has two digests here; the first one held counts."""

    first: BatchRef | None = None
    held: dict[bytes, BatchRef] = field(default_factory=dict)
    storing: dict[bytes, BatchRef] = field(default_factory=dict)
    acks: dict[int, BatchRef] = field(default_factory=dict)

    def ackers(self, ref: BatchRef) -> list[int]:
        """Who holds exactly this batch, by their own word. The digest alone would let a wrong size through."""
        return [peer for peer, acked in self.acks.items() if acked == ref]


class Lane:
    """The numbers of one author above the last executed one."""

    def __init__(self, executed: int) -> None:
        self.executed = executed
        self.slots: dict[int, Slot] = {}
        self.held_bytes = 0

    @property
    def last(self) -> int:
        """The highest number inside the window."""
        return self.executed + LANE_WINDOW

    def slot(self, seq: int) -> Slot | None:
        """The slot of a number inside the window, made if need be."""
        if not self.executed < seq <= self.last:
            return None
        return self.slots.setdefault(seq, Slot())

    def store(self, ref: BatchRef) -> None:
        """The batch is being made durable; it counts as held from now on, or many at once would pass the quota."""
        slot = self.slot(ref.seq)
        if slot is not None and ref.digest not in slot.held and ref.digest not in slot.storing:
            slot.storing[ref.digest] = ref
            self.held_bytes += ref.size_bytes

    def hold(self, ref: BatchRef) -> None:
        """The batch is here: durable, or made so before anything leaves that relies on it."""
        self.store(ref)
        slot = self.slot(ref.seq)
        if slot is not None and slot.storing.pop(ref.digest, None) is not None:
            slot.held[ref.digest] = ref
            slot.first = slot.first or ref

    def holds(self, ref: BatchRef) -> bool:
        """Is exactly this batch here?"""
        slot = self.slots.get(ref.seq)
        return slot is not None and slot.held.get(ref.digest) == ref

    def ack(self, peer: int, ref: BatchRef) -> bool:
        """`peer` says that it holds `ref`. Its first word for each number counts; was this it?"""
        slot = self.slot(ref.seq)
        if slot is None or peer in slot.acks:
            return False
        slot.acks[peer] = ref
        return True

    def execute(self, seq: int) -> None:
        """Everything up to `seq` is executed: forget it."""
        while self.executed < seq:
            self.executed += 1
            slot = self.slots.pop(self.executed, None)
            if slot is not None:
                self.held_bytes -= sum(ref.size_bytes for ref in (*slot.held.values(), *slot.storing.values()))
