"""Events that wait for the next turn, bounded for each peer."""

from __future__ import annotations

from collections import Counter, deque

from hotstuff.consensus.effects import Event, Received
from hotstuff.types.messages import Message

# What one peer may have waiting. An honest one has a handful of messages there, a few hundred after a stall; what is
# dropped beyond that is asked for or repeated later.
PEER_EVENTS = 1024
PEER_BYTES = 64 * 1024 * 1024


class Inbox:
    """First in, first out. Our own events are never dropped: each answers something we asked for."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Event, int]] = deque()
        self._events: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, event: Event) -> None:
        """One of our own events."""
        self._queue.append((event, -1))

    def put_message(self, peer: int, message: Message, size_bytes: int) -> bool:
        """A peer's message; False if too much of it waits already."""
        if self._events[peer] >= PEER_EVENTS or self._bytes[peer] + size_bytes > PEER_BYTES:
            return False
        self._events[peer] += 1
        self._bytes[peer] += size_bytes
        self._queue.append((Received(peer, message), size_bytes))
        return True

    def take(self) -> Event:
        """The event that has waited longest."""
        event, size_bytes = self._queue.popleft()
        if size_bytes >= 0 and isinstance(event, Received):
            self._events[event.peer] -= 1
            self._bytes[event.peer] -= size_bytes
        return event
