"""What happened: a hash over every event, and on request a line for each one that a reader would ask for.

The hash covers time, instance, event, message kind, view and the first bytes of ids, as integers and bytes. Two runs
with the same hash did the same things at the same times.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, get_args

from hotstuff.consensus import effects as fx
from hotstuff.simulator.observer import Observer
from hotstuff.types.block import Block
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    BlockRequest,
    BlockResponse,
    ChainRequest,
    ChainResponse,
    Message,
    NewView,
    Proposal,
    RecoveryRequest,
    RecoveryResponse,
    StateReport,
    Timeout,
    Vote,
)

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.setup import Action
    from hotstuff.simulator.world import World

# Time, instance, event, peer or count, message kind, its view, first bytes of its id.
_RECORD = struct.Struct(">QHBHBQ8s")
_NOTHING = bytes(8)
# The hash is fed in pieces: one call for each event would cost more than the rest.
_PIECE_BYTES = 1 << 16

_EVENTS: dict[type, int] = {event_type: code for code, event_type in enumerate(get_args(fx.Event))}
_SENT, _STARTED, _CRASHED, _EXECUTED, _ACTED, _PERSISTED = range(16, 22)

_BRIEFS: dict[type, Callable[[Any], tuple[int, bytes]]] = {
    Proposal: lambda m: (m.block.header.view, m.block.id),
    Vote: lambda m: (m.view, m.block_id),
    Timeout: lambda m: (m.view, m.high_qc.key),
    NewView: lambda m: (m.high_qc.view, m.high_qc.key if m.high_tc is None else m.high_tc.key),
    BlockRequest: lambda m: (m.above_height, m.block_id),
    BlockResponse: lambda m: (len(m.blocks), m.block_id),
    ChainRequest: lambda m: (m.from_height, _NOTHING),
    ChainResponse: lambda m: (m.from_height, m.blocks[-1].id if m.blocks else _NOTHING),
    RecoveryRequest: lambda m: (0, _NOTHING),
    RecoveryResponse: lambda m: (m.view, m.high_qc.key),
    BatchMessage: lambda m: (m.batch.seq, m.batch.ref.digest),
    Ack: lambda m: (len(m.refs), m.refs[0].digest if m.refs else _NOTHING),
    BatchRequest: lambda m: (len(m.refs), m.refs[0].digest if m.refs else _NOTHING),
    StateReport: lambda m: (m.height, m.state),
}


class TraceHash(Observer):
    """Always on."""

    def __init__(self) -> None:
        self._hasher = sha256()
        self._piece = bytearray()
        self._last: tuple[Message | None, int, int, bytes] = (None, 0, 0, _NOTHING)

    @property
    def hexdigest(self) -> str:
        """The hash of everything so far."""
        hasher = self._hasher.copy()
        hasher.update(self._piece)
        return hasher.hexdigest()

    def _add(self, at_us: int, instance: int, event: int, peer: int, message: Message | None) -> None:
        if message is not self._last[0] and message is not None:
            view, found = _BRIEFS[type(message)](message)
            self._last = (message, message.kind, view, found[:8])  # a broadcast is looked at once
        _, kind, view, found = self._last if message is not None else (None, 0, 0, _NOTHING)
        self._append(_RECORD.pack(at_us, instance, event, peer, kind, view, found))

    def _append(self, data: bytes) -> None:
        self._piece += data
        if len(self._piece) >= _PIECE_BYTES:
            self._hasher.update(self._piece)
            self._piece.clear()

    def started(self, world: World, node: SimNode) -> None:
        """A life begins."""
        self._add(world.now_us, node.instance, _STARTED, 0, None)

    def crashed(self, world: World, node: SimNode) -> None:
        """A life has ended."""
        self._add(world.now_us, node.instance, _CRASHED, 0, None)

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        """An event and how much it caused."""
        message = event.message if isinstance(event, fx.Received) else None
        self._add(world.now_us, node.instance, _EVENTS[type(event)], len(effects) & 0xFFFF, message)

    def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        """Something is durable."""
        self._add(world.now_us, node.instance, _PERSISTED, len(writes) & 0xFFFF, None)

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        """A message leaves."""
        self._add(world.now_us, node.instance, _SENT, to, message)

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        """Blocks are executed."""
        for block in blocks:
            header = block.header
            self._append(_RECORD.pack(world.now_us, node.instance, _EXECUTED, 0, 0, header.height, block.id[:8]))

    def acted(self, world: World, action: Action) -> None:
        """A fault begins."""
        self._add(world.now_us, action.node & 0xFFFF, _ACTED, action.peer & 0xFFFF, None)
        numbers = action.argument.to_bytes(160, "big", signed=True) + action.for_us.to_bytes(8, "big")
        self._append(action.kind.encode() + numbers)
