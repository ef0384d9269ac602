"""Gives the replicas work: small frames at random honest nodes, all the time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hotstuff import native
from hotstuff.consensus import effects as fx

if TYPE_CHECKING:
    from hotstuff.simulator.world import World

CLIENT_ID = b"simulated-client"
TRANSACTIONS_MAX = 3


class Client:
    """Submits a frame every `client_us` on average; one that nobody takes is dropped."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = random.Random(f"{world.setup.seed}/client")
        self._next = 1

    def begin(self) -> None:
        """The first frame."""
        self._later()

    def _later(self) -> None:
        world = self._world
        pause_us = self._chance.randrange(2 * world.parameters.client_us) + 1
        world.schedule(world.now_us + pause_us, self._submit)

    def _submit(self) -> None:
        first, count = self._next, self._chance.randrange(TRANSACTIONS_MAX) + 1
        size = self._world.parameters.tx_bytes
        data = native.build_frame(CLIENT_ID, first, [b"%d" % (first + i) + bytes(size) for i in range(count)])
        (frame,) = native.parse_body(data, 1)
        if self._chance.choice(self._world.honest()).submit(fx.Submitted(data, frame)):
            self._next += count
            self._world.coverage["submitted"] += count
        self._later()
