"""Byzantine replicas: an honest core, and strategies that lie between it and the network.

    core --> sending() --> network        what the core says is changed, dropped, doubled
    core <-- receiving() <-- network      what it hears is kept from it
             acting() --> network         messages out of nothing, after each step and every now and then

The core of a Byzantine node believes itself honest, so the attack goes on from wherever the protocol is. Everything
that any Byzantine node sees goes to one `Forger`, which holds the keys of all of them and nobody else's: they collude
without delay, and whatever they can prove or sign together, they can use.

What leaves is what a peer could decode, no more: the transport of the others drops the rest before a core sees it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from hotstuff.consensus.pacemaker import Pacemaker
from hotstuff.consensus.tree import Node
from hotstuff.errors import InvalidEncoding
from hotstuff.simulator.forger import Forger
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import Phase
from hotstuff.types.messages import (
    Message,
    Vote,
    decode_message,
)

if TYPE_CHECKING:
    from hotstuff.consensus.safety import SafetyRecord
    from hotstuff.simulator.node import Disk, SimNode
    from hotstuff.simulator.world import World

Outgoing = tuple[int, Message]
"""A validator index and what is sent to it."""

# A flood that starves the simulation shows nothing. Bounds of what one node makes out of nothing in a window of time
# (a bound for each step would not do: every answer is a step), and out of one message.
WINDOW_US = 10_000
MAX_ACTS = 128
MAX_COPIES = 8
# A Byzantine author has something to order this often.
AUTHOR_US = 50_000


class Strategy:
    """One way in which a Byzantine node departs from its honest core. The defaults change nothing.

    One instance for each node and run. `chance` is its own stream; nothing else may decide anything.
    """

    MODES: ClassVar[tuple[str, ...]] = ()
    """Variants; the stream picks one unless the constructor is told."""

    world: World
    node: SimNode
    forger: Forger
    index: int
    others: tuple[int, ...]

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        self.chance = chance
        self.mode = mode or (chance.choice(self.MODES) if self.MODES else "")
        self._acted_view = 0
        self._authored_us = -AUTHOR_US

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        """Called once, before the first life of the node."""
        self.world, self.node, self.forger = world, node, forger
        self.index = node.index
        self.others = tuple(i for i in range(len(world.validators)) if i != node.index)

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        """What is sent instead of a message of the core to another validator."""
        return ((to, message),)

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        """What reaches the core instead of a message."""
        return (message,)

    def acting(self) -> Iterable[Outgoing]:
        """Messages out of nothing; called after each step of the core and every now and then."""
        view = self.view
        if view == self._acted_view or view == 0:
            return ()
        self._acted_view = view
        return self.entering(view)

    def entering(self, view: int) -> Iterable[Outgoing]:
        """Messages out of nothing, once for each view that the core enters."""
        return ()

    def restarting(self, disk: Disk) -> Disk:
        """The disk that the next life starts from."""
        return disk

    # ---- what strategies ask

    @property
    def record(self) -> SafetyRecord | None:
        """The safety record of our own core; None while it is down."""
        return None if self.node.replica is None else self.node.replica.safety.record

    @property
    def view(self) -> int:
        """The view of our own core; 0 while it is down."""
        return 0 if self.node.replica is None else self.node.replica.view

    @property
    def view_us(self) -> int:
        """How long an honest replica waits in this view, failed views before it counted in."""
        replica = self.node.replica
        pacemaker = Pacemaker(self.world.timing.view_timeout_ms * 1000, self.world.rules.commit_depth, self.view)
        return pacemaker.timeout_us(0 if replica is None else replica.tree.root.view)

    @property
    def honest(self) -> tuple[int, ...]:
        """Everybody whose keys we do not have."""
        return tuple(i for i in self.others if i not in self.forger.signers)

    def leader(self, view: int) -> int:
        """Who leads a view."""
        return self.world.leaders.leader(view)

    def collectors(self, view: int) -> tuple[int, ...]:
        """Whom votes of a view go to."""
        return tuple(dict.fromkeys((self.leader(view + 1), self.leader(view))))

    def to_all(self, message: Message) -> Iterator[Outgoing]:
        """To every other validator."""
        return ((to, message) for to in self.others)

    def some(self, validators: tuple[int, ...], count: int) -> tuple[int, ...]:
        """That many of them (or all), by chance, in ascending order."""
        return tuple(sorted(self.chance.sample(validators, min(count, len(validators)))))

    def half(self) -> tuple[int, ...]:
        """Half of the others."""
        return self.some(self.others, (len(self.others) + 1) // 2)

    def wake(self, delay_us: int) -> None:
        """Have `acting` called after so long, if this life lasts."""
        if self.node.process is not None:
            self.node.process.later(delay_us, self.node.act)

    def author(self) -> None:
        """Gives our own core something to put into a batch now and then: clients go to honest replicas only."""
        if self.world.now_us - self._authored_us >= AUTHOR_US:
            self._authored_us = self.world.now_us
            self.world.schedule(self.world.now_us, self._submit)

    def _submit(self) -> None:
        self.node.submit(self.forger.frame())

    def commit_id(self, block: Block, phase: Phase) -> bytes | None:
        """What honest votes for a block commit; None if its parent is not here."""
        replica = self.node.replica
        parent = None if replica is None else replica.tree.find(block.header.parent_id)
        if replica is None or parent is None:
            return None
        header = block.header
        node = Node(block.id, header.parent_id, header.view, header.height, parent.included, 0, block)
        return self.world.rules.commit_id(replica.tree, node, phase)

    def acceptable(self, view: int, justify: QC, entry_tc: TC | None) -> bool:
        """Would honest replicas vote for a block on this QC? Their locks are judged by our own core's."""
        return self.record is not None and self.world.rules.safe(view, justify, entry_tc, self.record.locked_qc)

    def vote(self, block: Block, phase: Phase) -> Vote | None:
        """Our own vote for a block, whatever the rules say; None if its parent is not here."""
        commit_id = self.commit_id(block, phase)
        if commit_id is None:
            return None
        return self.forger.vote(self.index, block.header.view, phase, block.id, commit_id)


class Stack(Strategy):
    """The strategies of one node as one: what leaves one goes through those after it.

    Messages to the node itself pass unchanged: it has nothing to gain from a confused core.
    """

    def __init__(self, strategies: Iterable[Strategy]) -> None:
        self.strategies = tuple(strategies)
        self._checked: tuple[Message, Message | None] | None = None
        self._said: Message | None = None
        self._window = self._acts = 0

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        super().attach(world, node, forger)
        for strategy in self.strategies:
            strategy.attach(world, node, forger)

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if message is not self._said:  # it comes once for each destination
            self._said = message
            self.forger.saw(message)
        if to == self.index:
            return ((to, message),)
        sent = self._through(0, ((to, message),))[:MAX_COPIES]
        return tuple(self._decodable((copy, message) for copy in sent))

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        if peer not in self.forger.signers:
            self.forger.saw(message)
        heard: tuple[Message, ...] = (message,)
        for strategy in self.strategies if peer != self.index else ():
            heard = tuple(after for before in heard for after in strategy.receiving(peer, before))
        return heard

    def acting(self) -> Iterable[Outgoing]:
        acts: list[Outgoing] = []
        for i, strategy in enumerate(self.strategies):
            acts += self._through(i + 1, tuple(strategy.acting()))
        acts = [(to, message) for to, message in acts if to != self.index][: self._allowance()]
        self._acts += len(acts)
        return tuple(self._decodable((act, None) for act in acts))

    def _allowance(self) -> int:
        window = self.world.now_us // WINDOW_US
        if window != self._window:
            self._window, self._acts = window, 0
        return MAX_ACTS - self._acts

    def restarting(self, disk: Disk) -> Disk:
        for strategy in self.strategies:
            disk = strategy.restarting(disk)
        return disk

    def _through(self, start: int, acts: tuple[Outgoing, ...]) -> tuple[Outgoing, ...]:
        for strategy in self.strategies[start:]:
            acts = tuple(after for to, message in acts for after in strategy.sending(to, message))
        return acts

    def _decodable(self, acts: Iterable[tuple[Outgoing, Message | None]]) -> Iterator[Outgoing]:
        """What a peer's transport would let through. The core's own messages need no test."""
        for (to, message), original in acts:
            if message is original:
                yield to, message
                continue
            if self._checked is None or self._checked[0] is not message:
                self._checked = message, decoded(message)
            if self._checked[1] is not None:
                yield to, self._checked[1]
            else:
                self.world.coverage["undecodable"] += 1


def decoded(message: Message) -> Message | None:
    """The message as a peer decodes it; None if its transport would refuse the bytes."""
    try:
        return decode_message(message.kind, bytes(message.encoding))
    except (InvalidEncoding, struct.error):
        return None


def arm(world: World, chosen: Mapping[int, Iterable[Strategy]]) -> Forger:
    """Puts strategies between the cores of Byzantine instances and the network; they share one forger."""
    forger = Forger(world, {i: world.members[i] for i in sorted(world.byzantine)})
    stacks: dict[int, list[Stack]] = {}
    for instance, strategies in sorted(chosen.items()):
        stack = Stack(strategies)
        stack.attach(world, world.nodes[instance], forger)
        stacks[instance] = [stack]
    world.arm(stacks)
    return forger
