"""I15: after the network has become good, everybody in the core goes on, within a bound that can be computed before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.types.block import Block
from hotstuff.types.hashing import Mode

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

DEPTH = {Mode.BASIC: 1, Mode.HOTSTUFF2: 2, Mode.JOLTEON: 2, Mode.CHAINED: 3}
"""Views in a row with leaders of the core that a commit takes, votes going to the leader of their own view too."""
SLACK_VIEWS = 6
"""Views without a commit before timers grow."""
GROWTH_STEPS = 12
SCHEDULE_MAX = 1 << 17
"""Views in which every schedule repeats itself."""
REBROADCAST_US = 2_000_000
PAGE_BLOCKS = 16
BODIES_AT_A_TIME = 64


def timer_us(base_us: int, steps: int) -> int:
    """Length of a view that many steps into the backoff: base * 1.5^steps, at most 1.5^12."""
    steps = min(max(steps, 0), GROWTH_STEPS)
    return int(base_us * 3**steps // 2**steps)


@dataclass(frozen=True)
class Situation:
    """Where the core stands when the network becomes good. Times in us."""

    mode: Mode
    view: int
    """The highest view of a core member."""
    commit_view: int
    """The lowest view of a last committed block."""
    base_us: int
    delay_us: int
    catch_up_us: int
    """At most, until every core member has the blocks and bodies that another one has."""


@dataclass(frozen=True)
class Allowance:
    """What may pass until the first commit of a block that was proposed after that: views above `Situation.view`, and
    time until every core member has executed one."""

    views: int
    time_us: int


def allowance(now: Situation, is_core: Callable[[int], bool]) -> Allowance:
    """Views and time that the first commit may take; `is_core` tells whether a core member leads a view.

    No honest replica is above `view`, and no certificate is: its quorum shares a member with the core. So:

    1. Up to `view + depth + 6`, views may be too short. A replica gives a leader that it suspects only an eighth of the
       time, and a fault phase makes everybody suspected; it does so only while it sees no more than depth + 6 views
       without a commit. What was proposed until now cannot have a view above `view`, so whatever old commit becomes
       known meanwhile, timers are longer than the base from view + depth + 7 on, for all leaders and all replicas.
    2. While some core member lacks blocks or bodies that others have, its vote may be missing. Views go on meanwhile,
       each longer than the one before: the first m of them take `catch_up_us` together.
    3. From then on, `depth` views in a row led by the core commit: basic 1, hotstuff2 and jolteon 2, chained 3. A timer
       of at least 15 delays is enough for late entry (2: a timeout and the answer to it), proposal, fetching the
       parent, vote and certificate, and grows faster than a Byzantine leader before the run can hold anybody back.
       If leaders take turns by power, faulty ones have less than a third of the turns, so at least three of the core
       follow each other somewhere. The first such run at or after view + depth + 7 + m is looked up in the schedule.

    Time: each of these views lasts at most its timer, and six delays for what follows it (timeouts, TC, forwarding).
    Timers grow with the views since the *lowest* last commit in the core. On top of that come once: the catching up,
    and the interval at which a timeout lost before is sent again.
    """
    depth = DEPTH[now.mode]
    spent_us, first_long = 0, now.view + depth + SLACK_VIEWS + 1
    m = 0
    while spent_us < now.catch_up_us:
        m += 1
        spent_us += timer_us(now.base_us, m)
    possible = range(first_long + m, first_long + m + SCHEDULE_MAX)
    start = next((v for v in possible if all(is_core(v + i) for i in range(depth))), None)
    if start is None:
        raise ValueError(f"leaders: the core never leads {depth} views in a row")
    views = start + depth - now.view
    excess = now.view - now.commit_view - depth - SLACK_VIEWS
    timers_us = sum(timer_us(now.base_us, excess + i) + 6 * now.delay_us for i in range(views + 1))
    return Allowance(views, timers_us + now.catch_up_us + REBROADCAST_US)


class Progress(Checker):
    """I15: somebody in the core commits a block proposed after GST within the allowed views, and everybody in it
    executes one within the allowed time. `measured` tells what it took."""

    invariant = "I15"

    def __init__(self) -> None:
        self.allowed: Allowance | None = None
        self.measured: Allowance | None = None

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._core = frozenset(world.core)
        self._nodes = [node for node in world.nodes if node.honest and node.index in self._core]
        self._waiting = set(self._core)
        self._old: frozenset[bytes] = frozenset()
        self._view = 0
        self._views: int | None = None

    def stepped(self, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        if self.world.now_us <= self.world.gst_us or node.replica is None or not self._waiting:
            return
        allowed = self.allowed or self._begin()
        if node.index in self._core and self._views is None:
            views = node.replica.view - self._view
            if self._is_new(node.replica.tree.root.id):
                self._views = views
            elif views > allowed.views:
                self.fail(f"validator {node.index} is {views} views above GST without a commit, allowed: {allowed}")
        if self.world.now_us > self.world.gst_us + allowed.time_us:
            self._late(allowed)

    def executed(self, node: SimNode, blocks: Sequence[Block]) -> None:
        if self.allowed is None or node.index not in self._waiting:
            return
        if any(self._is_new(block.id) for block in blocks):
            self._waiting.discard(node.index)
        if not self._waiting:
            self.measured = Allowance(self._views or 0, self.world.now_us - self.world.gst_us)

    def finished(self) -> None:
        if self._waiting and self.allowed and self.world.now_us > self.world.gst_us + self.allowed.time_us:
            self._late(self.allowed)

    def _late(self, allowed: Allowance) -> None:
        after_us = self.world.now_us - self.world.gst_us
        self.fail(f"{after_us} us after GST, validators {sorted(self._waiting)} have nothing new, allowed: {allowed}")

    def _is_new(self, block_id: bytes) -> bool:
        return block_id not in self._old and block_id in self.ledger.blocks

    def _begin(self) -> Allowance:
        """GST: everything that exists now is old."""
        world = self.world
        self._old = frozenset(self.ledger.blocks)
        replicas = [node.replica for node in self._nodes if node.replica is not None]
        self._view = max(replica.view for replica in replicas)
        base_us = world.parameters.view_timeout_ms * 1000
        now = Situation(
            mode=world.context.mode,
            view=self._view,
            commit_view=min(replica.tree.root.view for replica in replicas),
            base_us=base_us,
            delay_us=base_us // 10,
            catch_up_us=self._catch_up_us(base_us // 10),
        )
        self.allowed = allowance(now, lambda view: world.leaders.leader(view) in self._core)
        return self.allowed

    def _catch_up_us(self, delay_us: int) -> int:
        """Blocks come in pages, one after the other; bodies many at a time. A peer that does not answer costs a retry,
        and each that is not in the core may be asked before one that is."""
        parameters = self.world.parameters
        ahead = max((node.disk.executed for node in self._nodes), key=len)
        tries = len(self.powers.of) - len(self._core) + 1
        answer_us = 2 * delay_us + parameters.disk_us
        worst_us = 0
        for node in self._nodes:
            missing = ahead[len(node.disk.executed) :]
            bodies = sum(ref not in node.disk.batches for block in missing for ref in block.payload)
            pages, rounds = len(missing) // PAGE_BLOCKS + 1, bodies // BODIES_AT_A_TIME + 1
            blocks_us = pages * answer_us + tries * parameters.fetch_retry_ms * 1000
            bodies_us = rounds * (answer_us + tries * parameters.fetch_retry_ms * 1000)
            worst_us = max(worst_us, blocks_us + bodies_us if missing else 0)
        return worst_us
