"""Runs with Byzantine nodes on a stable network, and what was seen in them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hotstuff.consensus import effects as fx
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.safety import Safety
from hotstuff.consensus.tree import Node
from hotstuff.mempool.mempool import Mempool
from hotstuff.simulator.byzantine import Strategy, arm
from hotstuff.simulator.forger import Forger
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.strategies import STRATEGIES
from hotstuff.simulator.world import Result, World
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC
from hotstuff.types.messages import Message

# Short views and much to order: half a second holds many attacks.
PARAMETERS = Parameters(delay_us=1200, spread_us=600, view_timeout_ms=40, spread_ms=6, fetch_retry_ms=8, client_us=6000)
# As between machines in one room: messages overtake what is done about them.
NEAR = replace(PARAMETERS, delay_us=300, spread_us=300)
SECOND = 1_000_000

M = TypeVar("M")


@dataclass(frozen=True)
class Sent:
    """A message that left an instance."""

    at_us: int
    sender: int
    to: int
    message: Any


@dataclass
class Seen(Observer):
    """What Byzantine nodes sent, what honest ones sent, and what the honest ones thought of it."""

    lies: list[Sent] = field(default_factory=list)
    words: list[Sent] = field(default_factory=list)
    strikes: Counter[tuple[int, str]] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    executed_us: dict[int, int] = field(default_factory=dict)
    qcs: dict[bytes, QC] = field(default_factory=dict)
    deadlines: list[int] = field(default_factory=list)

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        if to != node.index:
            (self.words if node.honest else self.lies).append(Sent(world.now_us, node.index, to, message))

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        if not node.honest or node.replica is None:
            return
        qc = node.replica.safety.record.high_qc
        self.qcs[qc.block_id] = qc
        for effect in effects:
            if isinstance(effect, fx.Strike):
                self.strikes[effect.peer, effect.reason] += 1
            elif isinstance(effect, fx.Report):
                self.reports[effect.name] += 1

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        self.executed_us[node.index] = world.now_us


@dataclass
class Attack:
    """A run and what was seen in it."""

    world: World
    forger: Forger
    seen: Seen
    result: Result

    def lies(self, kind: type[M]) -> list[tuple[int, M]]:
        """Receiver and message, for what Byzantine nodes sent of a kind."""
        return [(lie.to, lie.message) for lie in self.seen.lies if isinstance(lie.message, kind)]

    def words(self, kind: type[M]) -> list[tuple[int, M]]:
        """Receiver and message, for what honest nodes sent of a kind."""
        return [(word.to, word.message) for word in self.seen.words if isinstance(word.message, kind)]

    def struck(self, reason: str) -> int:
        """How often an honest node complained of this."""
        return sum(count for (_, why), count in self.seen.strikes.items() if reason in why)

    def chain(self) -> list[Block]:
        """The longest chain of an honest node."""
        return max((node.disk.executed for node in self.world.honest()), key=len)

    def assert_harmless(self) -> None:
        """Chains are prefixes of one another and were growing at the end; no honest node was blamed or halted."""
        assert not self.result.violations
        chain = [block.id for block in self.chain()]
        for node in self.world.honest():
            own = [block.id for block in node.disk.executed]
            assert own == chain[: len(own)], f"{node.index} disagrees"
            assert self.seen.executed_us.get(node.index, 0) > self.world.now_us * 6 // 10, f"{node.index} stands still"
        assert {peer for peer, _ in self.seen.strikes} <= self.world.byzantine


def mempool(node: SimNode, safety: Safety, root: Node, effects: list[fx.Effect], desk: Desk) -> Mempool:
    """The real one, which asks again for bodies as quickly as these short views need."""
    return Mempool(
        validators=node.world.validators,
        safety=safety,
        config=node.world.mempool_config,
        executed=root.included,
        held=node.disk.held_above(root.included),
        effects=effects,
        desk=desk,
    )


def strategy(name: str, mode: str = "", seed: int = 1) -> Strategy:
    """A strategy by its name."""
    return STRATEGIES[name](random.Random(f"{seed}/{name}"), mode)


def attack(
    strategies: Mapping[int, Sequence[Strategy]],
    *,
    seconds: float = 1.0,
    before: Callable[[World], None] = lambda _: None,
    parameters: Parameters = PARAMETERS,
    **setup: Any,
) -> Attack:
    """Runs it. `before` may schedule more trouble."""
    seen = Seen()
    made = Setup(byzantine=tuple(sorted(strategies)), duration_us=int(seconds * SECOND), **setup)
    world = World(made, Plan(parameters), [seen], payload=mempool)
    forger = arm(world, strategies)
    before(world)
    return Attack(world, forger, seen, world.run())
