"""One instance of a validator: the core that ships, on a virtual disk, in virtual time (mirrors `node/driver.py`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hotstuff.consensus import effects as fx
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.payload import Payload
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.tree import Node
from hotstuff.mempool.mempool import Mempool
from hotstuff.node.driver import LAZY_WRITE_S, TURN_EVENTS
from hotstuff.node.inbox import Inbox
from hotstuff.simulator.clock import Clock
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.observer import Violation
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block
from hotstuff.types.messages import BatchMessage, BatchRequest, ChainRequest, Message, Proposal

if TYPE_CHECKING:
    from hotstuff.simulator.world import World

__all__ = ["Disk", "SimNode", "Strategy"]

LAZY_WRITE_US = int(LAZY_WRITE_S * 1_000_000)
# Ticks of one life without time passing: the core's timer is in the past and stays there.
TICKS_MAX = 1000


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


class Killed(Exception):
    """Raised at a crash point: the process ends here."""


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
        self.chance = random.Random(f"{world.setup.seed}/node/{instance}")
        self.replica: Replica | None = None
        self.payload: Payload | None = None
        self.strategies: tuple[Strategy, ...] = ()
        self.life = 0
        self.fuse = 0
        self.down_us = 0
        self.disk_us = world.parameters.disk_us
        self.calm = False
        self.paused = False
        self._begin()

    def _begin(self) -> None:
        self._inbox = Inbox()
        self._backlog: list[tuple[int, Callable[..., None], tuple[Any, ...]]] = []
        self._storing: list[Batch] = []
        self._writing = self._gathering = self._flushing = False
        self._before_tick: int | None = None
        self._deadline_us: int | None = None
        self._timer_us: int | None = None
        self._ticks = (0, 0)

    @property
    def alive(self) -> bool:
        """Is there a process, even if it is paused?"""
        return self.replica is not None

    @property
    def passive(self) -> bool:
        """Has it lost its safety record, and not rejoined yet?"""
        return self.disk.safety.passive if self.replica is None else self.replica.safety.record.passive

    # ---- lives

    def start(self) -> None:
        """A life from what the disk holds, unless one is going on."""
        if self.replica is not None:
            return
        world = self.world
        if self.life:
            for strategy in self.strategies:
                self.disk = strategy.restarting(self.disk)
        self.life += 1
        self._begin()
        disk, context = self.disk, world.context
        root = disk.root(context, len(world.validators))
        keys = world.members[self.index]
        safety = Safety(self.index, context, world.rules, keys.bls, keys.node, disk.safety)
        self.replica = Replica(
            context=context,
            validators=world.validators,
            rules=world.rules,
            leaders=world.leaders,
            safety=safety,
            root=root,
            blocks=disk.blocks_above(root.height),
            commit_qc=disk.commit_qc,
            payload=partial(self._make_payload, safety, root),
            timing=world.timing,
        )
        for hook in world.on_started:
            hook(world, self)
        self.post(fx.Start())
        if self.strategies:
            self._act_later()
        world.network.joined(self)

    def _restart(self, life: int) -> None:
        if life == self.life:
            self.world.coverage["restart"] += 1
            self.start()

    def heal(self, ppm: int) -> None:
        """From now on this instance runs, with a good disk and a clock that is off by `ppm` only."""
        self.calm = True
        self.fuse = 0
        self.disk_us = self.world.parameters.disk_us
        self.clock.set_rate(ppm, self.world.now_us)
        self.resume()
        self.start()
        self.rearm()

    def rearm(self) -> None:
        """The clock runs differently: timers ring at other times."""
        self._timer_us = None
        self._arm()

    def _make_payload(self, safety: Safety, root: Node, effects: list[fx.Effect], desk: Desk) -> Payload:
        self.payload = self.world.payload(self, safety, root, effects, desk)
        return self.payload

    def crash(self, flush: bool | None = None) -> None:
        """The life ends: what was not durable is lost, or was just written (`flush`; None: by chance)."""
        if self.replica is None:
            return
        if self._luck(flush):
            self._write()
        self.disk.lose_waiting()
        for batch in self._storing:
            if self._luck(flush):
                self.disk.batches[batch.ref] = batch
        self.replica = None
        self.life += 1
        self.fuse = 0
        self.paused = False
        self._begin()
        self.world.coverage["crash"] += 1
        for hook in self.world.on_crashed:
            hook(self.world, self)
        if self.down_us:
            self.world.schedule(self.world.now_us + self.down_us, self._restart, self.life)

    def _luck(self, given: bool | None) -> bool:
        return self.chance.getrandbits(1) == 1 if given is None else given

    def pause(self) -> None:
        """SIGSTOP: nothing happens here, and what arrives waits."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: everything that waited has arrived before the core runs again."""
        if not self.paused:
            return
        backlog, self._backlog = self._backlog, []
        self.paused, self._gathering = False, True
        for life, what, arguments in backlog:
            self._happen(life, what, arguments)
        self._gathering = False
        self._turns()

    # ---- in

    def later(self, delay_us: int, what: Callable[..., None], *arguments: Any) -> None:
        """Something that happens in this life after a delay, if it lasts so long."""
        world = self.world
        world.schedule(world.now_us + delay_us, self._happen, self.life, what, arguments)

    def _happen(self, life: int, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.paused:
            self._backlog.append((life, what, arguments))
        else:
            what(*arguments)

    def post(self, event: fx.Event) -> None:
        """One of our own events."""
        self._inbox.put(event)
        self._turns()

    def connected(self, life: int, peer: SimNode) -> None:
        """A link came up; nothing if either end has died since."""
        if peer.alive:
            self._happen(life, self.post, (fx.Connected(peer.index),))

    def submit(self, event: fx.Submitted) -> bool:
        """A client's frame; False if nobody takes it now."""
        payload = self.payload
        if self.replica is None or self.paused or not isinstance(payload, Mempool):
            return False
        if payload.room_bytes() < len(event.data):
            return False
        self.post(event)
        return True

    def arrive(self, peer: int, message: Message) -> None:
        """A message from the network; `peer` is whom the channel has authenticated."""
        if self.replica is None:
            return
        if self.paused:
            self._backlog.append((self.life, self.arrive, (peer, message)))
        elif self.strategies:
            for kept in self._received(peer, message):
                self._take(peer, kept)
        else:
            self._take(peer, message)

    def _received(self, peer: int, message: Message) -> list[Message]:
        messages = [message]
        for strategy in self.strategies:
            messages = [kept for found in messages for kept in strategy.receiving(peer, found)]
        return messages

    def _take(self, peer: int, message: Message) -> None:
        if isinstance(message, (BatchRequest, ChainRequest)):
            self.later(self.world.parameters.disk_us, self._serve, peer, message)
        elif self._inbox.put_message(peer, message, 0):
            self._turns()
        else:
            self.world.coverage["inbox_full"] += 1

    def _serve(self, peer: int, request: BatchRequest | ChainRequest) -> None:
        """Bodies and old blocks come from the disk, without the core."""
        if isinstance(request, ChainRequest):
            self._send(peer, self.disk.page(request.from_height))
            return
        for ref in request.refs:
            if ref in self.disk.batches:
                self._send(peer, BatchMessage(self.disk.batches[ref]))

    # ---- turns

    def _turns(self) -> None:
        """Turn after turn, until nothing waits or a write is under way."""
        if self._writing or self._gathering or self.paused:
            return
        try:
            while self._due():
                if not self._turn():
                    return
        except Killed:
            self.world.coverage["crash_point"] += 1
            self.crash()
        self._arm()

    def _due(self) -> bool:
        if self._inbox:
            return True
        return self._deadline_us is not None and self._deadline_us <= self.clock.local_us(self.world.now_us)

    def _turn(self) -> bool:
        """One turn; False if its effects wait for the disk."""
        replica = self.replica
        if replica is None:
            raise Killed
        now_us = self.clock.local_us(self.world.now_us)
        effects: list[fx.Effect] = []
        handled = min(len(self._inbox), TURN_EVENTS)
        for _ in range(handled):
            effects += self._step(replica, self._inbox.take(), now_us)
        self._deadline_us = replica.deadline_us()
        if self._tick_is_due(handled, now_us):
            effects += self._step(replica, fx.Tick(), now_us)
            self._deadline_us = replica.deadline_us()
        return self._finish(effects)

    def _tick_is_due(self, handled: int, now_us: int) -> bool:
        """As in the driver: after everything that had arrived when the deadline was first seen to be past."""
        if self._deadline_us is None or self._deadline_us > now_us:
            self._before_tick = None
            return False
        self._before_tick = len(self._inbox) if self._before_tick is None else self._before_tick - handled
        if self._before_tick > 0:
            return False
        self._before_tick = None
        at_us, count = self._ticks
        self._ticks = (now_us, count + 1 if at_us == now_us else 0)
        if count > TICKS_MAX:
            raise Violation("spin", f"instance {self.instance}: deadline {self._deadline_us} stays past", now_us)
        return True

    def _step(self, replica: Replica, event: fx.Event, now_us: int) -> list[fx.Effect]:
        world = self.world
        try:
            effects = replica.step(event, now_us)
        except Exception as error:
            if self.honest and world.tolerable:
                raise Violation("halt", f"instance {self.instance}: {error!r}", world.now_us) from error
            world.coverage["halt"] += 1
            raise Killed from error
        for hook in world.on_stepped:
            hook(world, self, event, effects)
        if self.strategies:
            self._act()
        return effects

    def _arm(self) -> None:
        if self._deadline_us is None or self.replica is None:
            return
        at_us = max(self.clock.true_us(self._deadline_us), self.world.now_us)
        if self._timer_us is None or at_us < self._timer_us:
            self._timer_us = at_us
            self.world.schedule(at_us, self._ring, self.life, at_us)

    def _ring(self, life: int, at_us: int) -> None:
        if life == self.life and at_us == self._timer_us:
            self._timer_us = None
            if not (self._writing or self.paused):
                self._turns()

    def _act_later(self) -> None:
        self.later(self.world.acting_us, self._act_now)

    def _act_now(self) -> None:
        self._act()
        self._act_later()
        self._turns()

    def _act(self) -> None:
        for strategy in self.strategies:
            for to, message in strategy.acting():
                self._transmit(to, message)

    # ---- effects

    def _finish(self, effects: list[fx.Effect]) -> bool:
        """Durable before visible: False if all this has to wait for a write."""
        writes = [effect for effect in effects if type(effect) is fx.Persist]
        self.disk.waiting += writes
        if all(write.lazy for write in writes):
            if writes:
                self._flush_later()
            self._perform(effects)
            return True
        self._point()
        self._writing = True
        self.later(self.disk_us, self._written, effects)
        return False

    def _written(self, effects: list[fx.Effect]) -> None:
        self._write()
        self._writing = False
        try:
            self._point()
            self._perform(effects)
        except Killed:
            self.world.coverage["crash_point"] += 1
            self.crash()
        self._turns()

    def _write(self) -> None:
        writes = self.disk.write()
        for hook in self.world.on_persisted:
            hook(self.world, self, writes)

    def _flush_later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.later(LAZY_WRITE_US, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._writing:
            self._write()

    def _perform(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            handler = _HANDLERS.get(type(effect))
            if handler is not None:
                handler(self, effect)

    def _point(self) -> None:
        """A place where a life may end."""
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Killed

    def _do_send(self, effect: fx.Send) -> None:
        self._send(effect.to, effect.message)
        self._point()

    def _do_broadcast(self, effect: fx.Broadcast) -> None:
        for to in self.world.others[self.index]:
            self._send(to, effect.message)
            self._point()
        for twin in self.world.instances[self.index]:
            if twin is not self:
                self.world.network.send(self, twin, effect.message)

    def _spread(self, effect: fx.SpreadBatch) -> None:
        message = BatchMessage(self.disk.batches[effect.ref])
        for to in effect.to:
            self._send(to, message)
            self._point()

    def _send(self, to: int, message: Message) -> None:
        if not self.strategies:
            self._transmit(to, message)
            return
        changed = [(to, message)]
        for strategy in self.strategies:
            changed = [pair for each in changed for pair in strategy.sending(*each)]
        for pair in changed:
            self._transmit(*pair)

    def _transmit(self, to: int, message: Message) -> None:
        world = self.world
        for hook in world.on_sent:
            hook(world, self, to, message)
        if to == self.index:
            self._inbox.put(fx.Received(to, message))
        for target in world.instances[to]:
            if target is not self:
                world.count[message.kind] += 1
                world.network.send(self, target, message)

    def _commit(self, effect: fx.Commit) -> None:
        executed = self.disk.executed
        for block in effect.blocks:
            self._check_order(block)
            executed.append(block)
        for hook in self.world.on_executed:
            hook(self.world, self, effect.blocks)
        self._flush_later()
        self._point()

    def _check_order(self, block: Block) -> None:
        """As the executor does."""
        executed = self.disk.executed
        last = executed[-1].id if executed else self.world.context.root_id
        if block.header.parent_id != last and self.honest:
            raise Violation("I1", f"instance {self.instance} executes a block on another one", self.world.now_us)

    def _check(self, effect: fx.Check) -> None:
        answer = fx.Checked(effect.job, self.world.verifier.check(effect.item))
        if isinstance(effect.item, (Proposal, Batch)):
            self._inbox.put(answer)
        else:
            self.later(self.world.parameters.check_us, self.post, answer)

    def _collect(self, effect: fx.Collect) -> None:
        found = self.world.verifier.collect(effect.shares)
        answer = fx.Collected(effect.job, found.signature, found.good, found.bad)
        self.later(self.world.parameters.check_us, self.post, answer)

    def _store(self, effect: fx.StoreBatch) -> None:
        self._storing.append(effect.batch)
        self.later(self.world.parameters.body_us, self._stored, effect.batch)

    def _stored(self, batch: Batch) -> None:
        self._storing.remove(batch)
        self.disk.batches[batch.ref] = batch
        try:
            self._point()
        except Killed:
            self.world.coverage["crash_point"] += 1
            self.crash()
            return
        self.post(fx.BatchStored(batch))

    def _strike(self, effect: fx.Strike) -> None:
        self.world.coverage["strike"] += 1


_HANDLERS: dict[type, Callable[[SimNode, Any], None]] = {
    fx.Send: SimNode._do_send,
    fx.Broadcast: SimNode._do_broadcast,
    fx.SpreadBatch: SimNode._spread,
    fx.Commit: SimNode._commit,
    fx.Check: SimNode._check,
    fx.Collect: SimNode._collect,
    fx.StoreBatch: SimNode._store,
    fx.Strike: SimNode._strike,
}
