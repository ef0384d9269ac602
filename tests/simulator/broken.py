"""Broken cores, which must not get past the checkers. A module of its own, so that other processes can import it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from hotstuff.consensus.replica import Replica
from hotstuff.consensus.rules import RULES, Chained
from hotstuff.consensus.tree import BlockTree, Node
from hotstuff.simulator.campaign import Campaign, run_seed
from hotstuff.simulator.world import Result
from hotstuff.types.block import Block
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase


class CommitsAcrossGaps(Chained):
    """Three blocks in a chain commit, whatever their views."""

    def commit_id(self, tree: BlockTree, node: Node, phase: Phase) -> bytes:
        parent = tree.parent(node)
        grandparent = parent and tree.parent(parent)
        return grandparent.id if grandparent else ZERO_HASH


@contextmanager
def commits_across_gaps() -> Iterator[None]:
    """The rule of consecutive views is missing."""
    before = RULES[Mode.CHAINED]
    RULES[Mode.CHAINED] = CommitsAcrossGaps()
    try:
        yield
    finally:
        RULES[Mode.CHAINED] = before


@contextmanager
def forgets_on_restart() -> Iterator[None]:
    """A replica that starts again does not know what it has voted for and which views it has given up."""
    restore = Replica._restore

    def forgetful(self: Replica, blocks: Iterable[Block]) -> None:
        restore(self, blocks)
        record = self.safety.record
        self.safety.record = replace(record, voted_view=0, timed_out_view=0, last_vote=None, last_timeout=None)

    Replica._restore = forgetful  # type: ignore[method-assign]
    try:
        yield
    finally:
        Replica._restore = restore  # type: ignore[method-assign]


def seed_with_gaps(campaign: Campaign, seed: int) -> Result:
    """In the place of `campaign.run_seed`."""
    with commits_across_gaps():
        return run_seed(campaign, seed)


def deadly_seed(campaign: Campaign, seed: int) -> Result:
    """Seed 2 ends its process, seed 3 never ends."""
    if seed == 2:
        os._exit(7)
    if seed == 3:
        time.sleep(3600)
    return run_seed(campaign, seed)


def raising_seed(campaign: Campaign, seed: int) -> Result:
    """The first step of any replica raises."""

    def tick(self: Replica) -> None:
        raise ZeroDivisionError("in the core")

    before = Replica._advance
    Replica._advance = tick  # type: ignore[method-assign]
    try:
        return run_seed(campaign, seed)
    finally:
        Replica._advance = before  # type: ignore[method-assign]
