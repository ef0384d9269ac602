"""Links between instances: delay, loss, duplication, reordering, partitions and clogs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.errors import InvalidEncoding
from hotstuff.simulator.observer import Violation
from hotstuff.types.messages import BatchMessage, Message, decode_message

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.process import Process
    from hotstuff.simulator.world import World

# Drawn once: every link walks through the same table from its own place, so removing one fault leaves the delays of
# other links as they were. A prime, so that links do not fall into step.
JITTERS = 4093
# A clogged link holds this many messages, as a write buffer does; then it breaks.
HELD_MAX = 4096
NEVER_US = 2**62


class Link:
    """One direction between two instances. `cuts` and `clogs` count what is in force; zero: none."""

    __slots__ = (
        "base_us",
        "broken",
        "calm",
        "clogs",
        "cursor",
        "cuts",
        "duplicate",
        "held",
        "last_us",
        "loss",
        "most_us",
        "plain",
        "receiver",
        "sender",
        "slow_us",
    )

    def __init__(self, sender: SimNode, receiver: SimNode, base_us: int, cursor: int) -> None:
        self.sender = sender
        self.receiver = receiver
        self.base_us = base_us
        self.cursor = cursor
        self.cuts = self.clogs = self.loss = self.duplicate = self.slow_us = self.last_us = 0
        self.held: list[Message] = []
        self.most_us = NEVER_US
        self.broken = self.calm = False
        self.plain = True

    def judge(self) -> None:
        """Is nothing wrong with it? Asked for each message, so kept."""
        self.plain = not (self.cuts or self.clogs or self.loss or self.duplicate or self.slow_us)


class Network:
    """All links of a world."""

    def __init__(self, world: World) -> None:
        parameters = world.parameters
        self._world = world
        self._ordered = parameters.ordered
        self._silent = parameters.silent_heals
        self._chance = random.Random(f"{world.setup.seed}/network")
        self._jitter = [self._draw() for _ in range(JITTERS)]
        self._links = [
            [
                Link(
                    sender,
                    receiver,
                    parameters.delay_us + self._chance.randrange(parameters.spread_us + 1),
                    self._chance.randrange(JITTERS),
                )
                for receiver in world.nodes
            ]
            for sender in world.nodes
        ]

    def _draw(self) -> int:
        """One jitter in us. Integer arithmetic on 32 random bits: the same on every machine."""
        parameters = self._world.parameters
        bits = self._chance.getrandbits(32) | 1
        if parameters.tail:
            return min(parameters.jitter_us * (1 << 31) // bits, parameters.jitter_us * 1000) // 4
        halvings = 33 - bits.bit_length()  # geometric, with the exponential's mean after the linear part
        return parameters.jitter_us * (halvings * 1024 + self._chance.randrange(1024)) // 2200

    def link(self, sender: int, receiver: int) -> Link:
        """The link from one instance to another."""
        return self._links[sender][receiver]

    # ---- messages

    def send(self, sender: SimNode, receiver: SimNode, message: Message) -> None:
        """Put a message on its way, if its link lets it."""
        link = self._links[sender.instance][receiver.instance]
        if link.plain:
            self._put(link, message, 0)
        elif link.cuts:
            self._world.coverage["cut"] += 1
        elif link.clogs:
            self._hold(link, message)
        elif link.loss and self._chance.randrange(1000) < link.loss:
            self._world.coverage["loss"] += 1
        else:
            extra_us = link.slow_us if type(message) is BatchMessage else 0
            self._put(link, message, extra_us)
            if link.duplicate and self._chance.randrange(1000) < link.duplicate:
                self._world.coverage["duplicate"] += 1
                self._put(link, message, self._chance.randrange(self._world.parameters.delay_us * 20))

    def _put(self, link: Link, message: Message, extra_us: int) -> None:
        world = self._world
        link.cursor = cursor = (link.cursor + 1) % JITTERS
        delay_us = link.base_us + self._jitter[cursor]
        at_us = world.now_us + (delay_us if delay_us < link.most_us else link.most_us)
        if self._ordered and not extra_us:
            at_us = link.last_us = max(at_us, link.last_us)
        world.schedule(at_us + extra_us, self._deliver, link, message)

    def _deliver(self, link: Link, message: Message) -> None:
        world = self._world
        if world.setup.wire:
            try:
                message = decode_message(message.kind, bytes(message.encoding))
            except InvalidEncoding as error:
                if link.sender.honest:
                    raise Violation("wire", f"{type(message).__name__}: {error}", world.now_us) from error
                world.coverage["invalid_encoding"] += 1
                return
        link.receiver.arrive(link.sender.index, message)

    def _hold(self, link: Link, message: Message) -> None:
        if len(link.held) < HELD_MAX:
            link.held.append(message)
        else:
            link.broken = True
            link.held.clear()

    # ---- what happens to links

    def cut(self, links: Sequence[Link]) -> None:
        """Messages are lost from now on."""
        for link in links:
            if not link.calm:
                link.cuts += 1
                link.judge()

    def mend(self, links: Sequence[Link]) -> None:
        """Undoes one `cut`; links that work again in both directions are connected again."""
        healed: dict[tuple[int, int], Link] = {}
        for link in links:
            if not link.calm:
                link.cuts -= 1
                link.judge()
                ends = sorted((link.sender.instance, link.receiver.instance))
                healed[ends[0], ends[1]] = link
        if not self._silent:
            for link in healed.values():
                self.connect(link.sender, link.receiver)

    def clog(self, links: Sequence[Link]) -> None:
        """Messages wait from now on."""
        for link in links:
            if not link.calm:
                link.clogs += 1
                link.judge()

    def unclog(self, links: Sequence[Link]) -> None:
        """Undoes one `clog`: what waits goes on its way, unless it was too much and the link broke."""
        for link in links:
            if link.calm:
                continue
            link.clogs -= 1
            link.judge()
            if not link.clogs:
                self._release(link)

    def _release(self, link: Link) -> None:
        held, link.held = link.held, []
        if link.broken:
            link.broken = False
            self.connect(link.sender, link.receiver)
        for message in held:
            self.send(link.sender, link.receiver, message)

    def disturb(self, links: Sequence[Link], *, loss: int = 0, duplicate: int = 0, slow_us: int = 0) -> None:
        """Adds to the share of messages lost and duplicated (per mille), and to the delay of bodies (us)."""
        for link in links:
            if not link.calm:
                link.loss += loss
                link.duplicate += duplicate
                link.slow_us += slow_us
                link.judge()

    def calm(self, nodes: Sequence[SimNode], most_us: int) -> None:
        """Between these, nothing is lost any more, and delays are `most_us` at most."""
        links = [self._links[a.instance][b.instance] for a in nodes for b in nodes if a is not b]
        for link in links:
            link.cuts = link.clogs = link.loss = link.duplicate = link.slow_us = 0
            link.calm, link.most_us = True, most_us
            link.last_us = min(link.last_us, self._world.now_us + most_us)
            link.judge()
        for link in links:
            self._release(link)
            if link.sender.instance < link.receiver.instance:
                self.connect(link.sender, link.receiver)

    def connect(self, one: SimNode, other: SimNode) -> None:
        """Both ends learn that their link is up, if it is."""
        forth, back = self._links[one.instance][other.instance], self._links[other.instance][one.instance]
        if forth.cuts or back.cuts or one.process is None or other.process is None:
            return
        if forth.clogs or back.clogs:
            forth.broken = back.broken = True
            return
        at_us = self._world.now_us + max(forth.base_us, back.base_us)
        for end, peer in ((one, other), (other, one)):
            self._world.schedule(at_us, _connected, end.process, peer.process)

    def joined(self, node: SimNode) -> None:
        """An instance has started: its links come up."""
        for other in self._world.nodes:
            if other is not node:
                self.connect(node, other)


def _connected(end: Process, peer: Process) -> None:
    """The link is up, unless either process has died meanwhile."""
    if not peer.dead:
        end.happen(end.post, (fx.Connected(peer.node.index),))
