"""The good end of a liveness run: from GST on a core works, and everybody in it must commit something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hotstuff.simulator.observer import Observer
from hotstuff.types.block import Block
from hotstuff.types.messages import Message, Proposal

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

# Delays in the core are this fraction of the view timeout at most.
DELAYS_PER_VIEW = 10
# View timeouts after GST until a run is given up: timers may have grown 130-fold, and faulty leaders come first.
VIEWS_MAX = 5000
# View timeouts that a run goes on after its goal is reached, so that checkers see that it really works.
VIEWS_AFTER = 5


class FirstCommit(NamedTuple):
    """When a core member first executed a block that was proposed after GST: its view then, and the block's."""

    at_us: int
    view: int
    block_view: int


class Stabilisation(Observer):
    """Heals the core at GST; fills `world.gst_views` and `world.first_commits`, by instance; ends the run."""

    def __init__(self) -> None:
        self._proposed_us: dict[bytes, int] = {}

    def begin(self, world: World) -> None:
        """GST is now."""
        core = [world.nodes[i] for i in world.core]
        world.network.calm(core, world.timing.view_timeout_ms * 1000 // DELAYS_PER_VIEW)
        for node in core:
            node.heal()
        for node in core:
            world.gst_views[node.instance] = node.view

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        """Remembers when each block was proposed."""
        if isinstance(message, Proposal):
            self._proposed_us.setdefault(message.block.id, world.now_us)

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        """Is this the first new one of a core member?"""
        if world.now_us <= world.gst_us or node.instance not in world.core or node.instance in world.first_commits:
            return
        fresh = [block for block in blocks if self._proposed_us.get(block.id, 0) > world.gst_us]
        if fresh:
            world.first_commits[node.instance] = FirstCommit(world.now_us, node.view, fresh[0].header.view)
            if len(world.first_commits) == len(world.core):
                view_us = world.timing.view_timeout_ms * 1000
                world.end_us = min(world.end_us, world.now_us + VIEWS_AFTER * view_us)
