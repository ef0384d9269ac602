"""I14: what a peer can make a replica remember is bounded (rule 4.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.types.hashing import Mode

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

VOTE_WINDOW = 10
VERIFIED = 4096
WAITING_PER_PEER = 64
WANTED_BLOCKS = 64
ORPHANS = 512
RECENT_BLOCKS = 512
WANTED_BODIES = 256
LANE_WINDOW = 4096
# The witness: evidence about the last 16 views, and about the votes above.
WITNESS_VIEWS = 16 + VOTE_WINDOW + 1
HEADERS_PER_VIEW = 8
CANDIDATES = 64
CANDIDATES_UNDER_WAY = 8
KINDS_WITH_VIEWS = 4
CONVICTIONS = 64
CHECKPOINTS = 16

Size = Callable[[Any], int]
"""Of a replica."""


class Bounded(Checker):
    """I14: after each step, each container of the replica that was stepped is within its bound.

    votes, and buckets of votes   of the views from the current one to 10 above, one of each signer in each phase
    timeouts                      of the current view, one of each signer
    blocks above the root         one proposal and one certified block for each view that it has been in since
    waiting for a check           64 messages of each peer
    numbers of a lane             4096; one lane is looked at for each step, in turn
    watched by the witness        16 views back and 10 ahead, 8 headers each
    everything else               a constant of its own
    """

    invariant = "I14"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        n = len(self.powers.of)
        votes = n * (VOTE_WINDOW + 1) * (3 if world.context.mode == Mode.BASIC else 1)
        charges = n * (KINDS_WITH_VIEWS * WITNESS_VIEWS + CONVICTIONS + CANDIDATES + CANDIDATES_UNDER_WAY)
        self._view: dict[int, int] = {}
        self._lane = 0
        self._limits: list[tuple[str, Size, int]] = [
            ("votes", lambda replica: len(replica._collector._voted), votes),
            ("buckets of votes", lambda replica: len(replica._collector._votes), votes),
            ("timeouts", lambda replica: len(replica._collector._timeout_of), n),
            ("verified items", lambda replica: len(replica._desk._verified), VERIFIED),
            ("checks under way", lambda replica: len(replica._desk._jobs), 3 * n * WAITING_PER_PEER),
            ("blocks asked for", lambda replica: len(replica._sync._wanted), WANTED_BLOCKS),
            ("orphans", lambda replica: len(replica._sync._orphans), ORPHANS),
            ("recent blocks", lambda replica: len(replica.tree._recent), RECENT_BLOCKS),
            ("peers helped", lambda replica: len(replica._helped), n),
            ("candidates for evidence", lambda replica: len(replica._witness._waiting), CANDIDATES),
            ("candidates under check", lambda replica: len(replica._witness._jobs), CANDIDATES_UNDER_WAY),
            ("charges", lambda replica: len(replica._witness._tried), charges),
            ("views watched", lambda replica: len(replica._witness._seen._ballots), WITNESS_VIEWS),
            ("headers watched", lambda replica: len(replica._witness._seen._headers), WITNESS_VIEWS * HEADERS_PER_VIEW),
        ]

    def stepped(self, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        replica: Any = node.replica
        self._lane = (self._lane + 1) % len(self.powers.of)
        for name, size, limit in self._limits:
            if size(replica) > limit:
                self._exceeded(node, name, size(replica), limit)
        self._view[node.index] = view = max(replica.view, self._view.get(node.index, 0))
        blocks, limit = len(replica.tree) - 1, 2 * (view - replica.tree.root.view)
        if blocks > limit:
            self._exceeded(node, "blocks above the root", blocks, limit)
        states = replica._divergence._states[self._lane]
        if len(states) > CHECKPOINTS:
            self._exceeded(node, "checkpoints of one validator", len(states), CHECKPOINTS)
        if isinstance(event, fx.Received):
            waiting = replica._desk._waiting.get(event.peer, 0)
            if waiting > WAITING_PER_PEER:
                self._exceeded(node, f"waiting messages of peer {event.peer}", waiting, WAITING_PER_PEER)
        if hasattr(node.payload, "_lanes"):  # not where a model takes its place
            self._check_mempool(node, node.payload)

    def _check_mempool(self, node: SimNode, mempool: Any) -> None:
        lane = mempool._lanes[self._lane]
        if len(mempool._wanted) > WANTED_BODIES:
            self._exceeded(node, "bodies asked for", len(mempool._wanted), WANTED_BODIES)
        if len(lane.slots) > LANE_WINDOW:
            self._exceeded(node, f"numbers of lane {self._lane}", len(lane.slots), LANE_WINDOW)

    def _exceeded(self, node: SimNode, name: str, size: int, limit: int) -> None:
        self.fail(f"validator {node.index} keeps {size} {name}, allowed: {limit}")
