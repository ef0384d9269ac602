"""Exactly once: which numbers of which client have been executed.

A transaction is named by (client id, sequence number). It may arrive in batches of several authors, because a client
that gets no answer sends it again elsewhere; it is executed the first time and skipped after that. The table is part
of the replicated state: every rule here depends on nothing but the order of execution.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from hotstuff.types.encoding import U32, U64, Buffer, Reader, decode_all

# Gaps that a client may leave open: frames it has under way, and earlier ones that never came. What would open one
# more is not executed, and its answer says so; closing a gap instead would leave numbers in doubt for ever.
MAX_GAPS = 64
# Clients remembered; the one that has been silent longest is forgotten first (about 100 bytes each).
MAX_SESSIONS = 200_000

Span = tuple[int, int]
"""A range of sequence numbers: first, and one past the last."""


@dataclass
class Session:
    """Numbers of one client: everything below `floor` is settled, and so is every span above it.

    `touched` is the number of the last frame that used the session, for eviction.
    """

    floor: int = 1
    spans: list[Span] = field(default_factory=list)
    touched: int = 0

    def take(self, first: int, count: int) -> list[Span] | None:
        """Marks [first, first + count) as executed; returns the parts that were not before, ascending.

        None: that would open too many gaps, so nothing of it is executed, now or before.
        """
        stop = first + count
        fresh: list[Span] = []
        at = max(first, self.floor)
        for start, end in self.spans:
            if at < min(start, stop):
                fresh.append((at, min(start, stop)))
            at = max(at, end)
        if at < stop:
            fresh.append((at, stop))
        floor, spans = self._merged([*self.spans, *fresh])
        if len(spans) > MAX_GAPS:
            return None
        self.floor, self.spans = floor, spans
        return fresh

    def _merged(self, spans: list[Span]) -> tuple[int, list[Span]]:
        """Floor and spans after these, as few as possible."""
        floor = self.floor
        merged: list[Span] = []
        for start, end in sorted(spans):
            if start <= floor:
                floor = max(floor, end)
            elif merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((start, end))
        return floor, merged

    def encode(self) -> bytes:
        """floor u64 | touched u64 | count u32 | spans (u64, u64)."""
        spans = b"".join(U64.pack(start) + U64.pack(end) for start, end in self.spans)
        return U64.pack(self.floor) + U64.pack(self.touched) + U32.pack(len(self.spans)) + spans

    @classmethod
    def decode(cls, data: Buffer) -> Session:
        """Inverse of `encode`."""
        return decode_all(data, "session", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> Session:
        floor, touched = reader.u64(), reader.u64()
        count = reader.count(MAX_GAPS, 16)
        return cls(floor, [(reader.u64(), reader.u64()) for _ in range(count)], touched)


class Sessions:
    """The table of all clients, with what has changed since it was last saved."""

    def __init__(self, stored: dict[bytes, Session]) -> None:
        by_age = sorted(stored.items(), key=lambda item: item[1].touched)
        self._table: OrderedDict[bytes, Session] = OrderedDict(by_age)
        self._changed: dict[bytes, Session | None] = {}
        self._clock = max((session.touched for session in stored.values()), default=0)

    def __len__(self) -> int:
        return len(self._table)

    def take(self, client_id: bytes, first: int, count: int) -> list[Span] | None:
        """Marks a client's numbers as executed; returns the parts that were not before, None if refused."""
        self._clock += 1
        session = self._table.get(client_id)
        if session is None:
            session = self._table[client_id] = Session()
        session.touched = self._clock
        self._table.move_to_end(client_id)
        self._changed[client_id] = session
        if len(self._table) > MAX_SESSIONS:
            silent, _ = self._table.popitem(last=False)
            self._changed[silent] = None
        return session.take(first, count)

    def changes(self) -> dict[bytes, bytes | None]:
        """Encoded sessions that changed since the last call; None for the forgotten ones."""
        changed, self._changed = self._changed, {}
        return {client_id: None if session is None else session.encode() for client_id, session in changed.items()}
