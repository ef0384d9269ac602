"""One instance of a validator: its disk, its clock, its lives, and what lies between its core and the network."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from hotstuff.consensus import effects as fx
from hotstuff.consensus.payload import Payload
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.mempool.mempool import Mempool
from hotstuff.simulator.clock import Clock
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.process import Killed, Process
from hotstuff.types.messages import BatchMessage, BatchRequest, ChainRequest, Message

if TYPE_CHECKING:
    from hotstuff.simulator.world import World

__all__ = ["Disk", "SimNode", "Strategy"]


class Strategy(Protocol):
    """What a Byzantine instance does between its core and the network; see `byzantine`."""

    def sending(self, to: int, message: Message) -> Iterable[tuple[int, Message]]:
        """What is sent instead."""
        ...

    def receiving(self, peer: int, message: Message) -> Iterable[Message]:
        """What the core gets instead."""
        ...

    def acting(self) -> Iterable[tuple[int, Message]]:
        """What is sent besides."""
        ...

    def restarting(self, disk: Disk) -> Disk:
        """What the next life finds."""
        ...


class SimNode:
    """An instance and its lives.

    `fuse` counts down at crash points; at zero the life ends there, and the next one begins after `down_us` (0: never).
    `calm`: nothing goes wrong here any more.
    """

    def __init__(self, world: World, instance: int, index: int, *, honest: bool) -> None:
        self.world = world
        self.instance = instance
        self.index = index
        self.honest = honest
        self.disk = Disk(SafetyRecord.initial(world.context, passive=False))
        self.clock = Clock(world.ppm(index))
        self.strategies: tuple[Strategy, ...] = ()
        self.process: Process | None = None
        self.life = 0
        self.fuse = 0
        self.down_us = 0
        self.disk_us = world.parameters.disk_us
        self.calm = False
        self._chance = random.Random(f"{world.setup.seed}/node/{instance}")

    @property
    def alive(self) -> bool:
        """Is there a process, even if it is paused?"""
        return self.process is not None

    @property
    def replica(self) -> Replica | None:
        """The core; None while there is no process."""
        return None if self.process is None else self.process.replica

    @property
    def payload(self) -> Payload | None:
        """The data plane; None while there is no process."""
        return None if self.process is None else self.process.payload

    @property
    def record(self) -> SafetyRecord:
        """The safety record: the core's, or what the disk holds of it."""
        return self.disk.safety if self.process is None else self.process.replica.safety.record

    @property
    def passive(self) -> bool:
        """Has it lost its safety record, and not rejoined yet?"""
        return self.record.passive

    @property
    def view(self) -> int:
        """The view it is in, or would start in."""
        return self.record.current_view

    # ---- lives

    def start(self) -> None:
        """A life from what the disk holds, unless one is going on."""
        if self.process is not None:
            return
        if self.life:
            self.world.coverage["restart"] += 1
            for strategy in self.strategies:
                self.disk = strategy.restarting(self.disk)
        self.life += 1
        self.process = process = Process(self)
        for hook in self.world.on_started:
            hook(self.world, self)
        process.post(fx.Start())
        if self.strategies:
            process.act_later()
        self.world.network.joined(self)

    def crash(self, flush: bool | None = None) -> None:
        """The life ends: what was not durable is lost, or was just written (`flush`; None: by chance)."""
        process = self.process
        if process is None:
            return
        self.process = None
        process.dead = True
        if self._luck(flush):
            self.write()
        self.disk.lose_waiting()
        for batch in process.storing:
            if self._luck(flush):
                self.disk.batches[batch.ref] = batch
        self.fuse = 0
        self.world.coverage["crash"] += 1
        for hook in self.world.on_crashed:
            hook(self.world, self)
        if self.down_us:
            self.world.schedule(self.world.now_us + self.down_us, self.start)

    def _luck(self, given: bool | None) -> bool:
        return self._chance.getrandbits(1) == 1 if given is None else given

    def power_off(self, down_us: int) -> None:
        """As a crash; machines are not up again at the same moment."""
        self.down_us = down_us + self._chance.randrange(down_us + 1)
        self.crash()

    def heal(self) -> None:
        """From now on this instance runs, with a good disk and a clock that is off no more than it always was."""
        self.calm = True
        self.fuse = 0
        self.disk_us = self.world.parameters.disk_us
        self.set_rate(self.world.ppm(self.index))
        self.resume()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: nothing happens here, and what arrives waits."""
        if self.process is not None:
            self.process.paused = True

    def resume(self) -> None:
        """SIGCONT: everything that waited has arrived before the core runs again."""
        if self.process is not None and self.process.paused:
            self.process.resume()

    def set_rate(self, ppm: int) -> None:
        """The clock runs at another rate, and timers ring at other times."""
        self.clock.set_rate(ppm, self.world.now_us)
        if self.process is not None:
            self.process.rearm()

    def point(self) -> None:
        """A place where a life may end; raises `Killed`."""
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Killed

    def write(self) -> None:
        """Everything that waits becomes durable."""
        writes = self.disk.write()
        for hook in self.world.on_persisted:
            hook(self.world, self, writes)

    # ---- in

    def submit(self, event: fx.Submitted) -> bool:
        """A client's frame; False if nobody takes it now."""
        process = self.process
        if process is None or process.paused or not isinstance(process.payload, Mempool):
            return False
        if process.payload.room_bytes() < len(event.data):
            return False
        process.post(event)
        return True

    def arrive(self, peer: int, message: Message) -> None:
        """A message from the network; `peer` is whom the channel has authenticated."""
        process = self.process
        if process is None:
            return
        if self.strategies:
            for kept in self._received(peer, message):
                self._take(process, peer, kept)
        else:
            self._take(process, peer, message)

    def _received(self, peer: int, message: Message) -> list[Message]:
        messages = [message]
        for strategy in self.strategies:
            messages = [kept for found in messages for kept in strategy.receiving(peer, found)]
        return messages

    def _take(self, process: Process, peer: int, message: Message) -> None:
        if isinstance(message, (BatchRequest, ChainRequest)):
            process.later(self.world.parameters.disk_us, self._serve, peer, message)
        elif not process.receive(peer, message):
            self.world.coverage["inbox_full"] += 1

    def _serve(self, peer: int, request: BatchRequest | ChainRequest) -> None:
        """Bodies and old blocks come from the disk, without the core."""
        if isinstance(request, ChainRequest):
            self.send(peer, self.disk.page(request.from_height))
            return
        for ref in request.refs:
            if ref in self.disk.batches:
                self.send(peer, BatchMessage(self.disk.batches[ref]))

    # ---- out

    def send(self, to: int, message: Message) -> None:
        """What the core wants to say to one validator, as strategies let it."""
        if not self.strategies:
            self._transmit(to, message)
            return
        changed = [(to, message)]
        for strategy in self.strategies:
            changed = [pair for each in changed for pair in strategy.sending(*each)]
        for pair in changed:
            self._transmit(*pair)

    def broadcast(self, message: Message) -> None:
        """To every other validator, with a crash point after each; a twin hears it, too."""
        for to in self.world.others[self.index]:
            self.send(to, message)
            self.point()
        for twin in self.world.instances[self.index]:
            if twin is not self:
                self.world.network.send(self, twin, message)

    def act(self) -> None:
        """What strategies say of their own accord."""
        for strategy in self.strategies:
            for to, message in strategy.acting():
                self._transmit(to, message)

    def _transmit(self, to: int, message: Message) -> None:
        world = self.world
        for hook in world.on_sent:
            hook(world, self, to, message)
        if to == self.index and self.process is not None:
            self.process.hear(message)
        for target in world.instances[to]:
            if target is not self:
                world.count[message.kind] += 1
                world.network.send(self, target, message)
