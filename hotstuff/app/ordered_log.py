"""The application that ships for now: an ordered log. Its state is a running hash of everything executed.

The hash goes over frame roots, and a frame root pins client, numbers and every byte of the transactions, so two
replicas have the same state exactly if they executed the same transactions in the same order.
"""

from __future__ import annotations

from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Domain, digest


class OrderedLog:
    """`state` (32 B) after `executed` transactions."""

    def __init__(self, state: bytes = ZERO_HASH, executed: int = 0) -> None:
        self.state = state
        self.executed = executed

    def execute(self, frame_root: bytes, count: int) -> None:
        """Append the `count` transactions under one frame root."""
        self.state = digest(Domain.STATE, self.state, frame_root)
        self.executed += count
