"""One life of an instance: the core that ships, and the work of `node/driver.py` in virtual time.

    events of one turn -> steps -> one durable transaction -> effects in order

While a write is under way nothing is stepped and nothing leaves, as in the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hotstuff.consensus import effects as fx
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.divergence import CHECKPOINT_BLOCKS
from hotstuff.consensus.payload import Payload
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.safety import Safety
from hotstuff.consensus.tree import Node
from hotstuff.node.driver import LAZY_WRITE_S, TURN_EVENTS
from hotstuff.node.inbox import Inbox
from hotstuff.simulator.observer import Violation
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block
from hotstuff.types.messages import BatchMessage, Message, Proposal

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode

LAZY_WRITE_US = int(LAZY_WRITE_S * 1_000_000)
# Without time passing: ticks (the core's deadline is in the past and stays there), and steps of any kind (it keeps
# itself busy). A replica that was paused handles far less than that at once.
TICKS_MAX = 1000
STEPS_MAX = 200_000


class Killed(Exception):
    """The process ends here."""


class Process:
    """From a start to a crash."""

    def __init__(self, node: SimNode) -> None:
        self.node = node
        self.world = world = node.world
        self.dead = False
        self.paused = False
        self.storing: list[Batch] = []
        self._disk_free_us = 0
        self.payload: Payload | None = None
        self._inbox = Inbox()
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._waking = self._writing = self._gathering = self._flushing = False
        self._before_tick: int | None = None
        self._deadline_us: int | None = None
        self._timer_us: int | None = None
        self._ticks = self._steps = (0, 0)
        disk, context, keys = node.disk, world.context, world.members[node.index]
        root = disk.root(context, len(world.validators))
        safety = Safety(node.index, context, world.rules, keys.bls, keys.node, disk.safety)
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

    def _make_payload(self, safety: Safety, root: Node, effects: list[fx.Effect], desk: Desk) -> Payload:
        self.payload = self.world.payload(self.node, safety, root, effects, desk)
        return self.payload

    # ---- in

    def later(self, delay_us: int, what: Callable[..., None], *arguments: Any) -> None:
        """Something that happens after a delay, if this life lasts so long."""
        self.world.schedule(self.world.now_us + delay_us, self.happen, what, arguments)

    def happen(self, what: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Something that happens now, or when this process runs again."""
        if self.paused:
            self._backlog.append((what, arguments))
        elif not self.dead:
            what(*arguments)

    def resume(self) -> None:
        """Everything that waited happens before the next turn."""
        backlog, self._backlog = self._backlog, []
        self.paused, self._gathering = False, True
        for what, arguments in backlog:
            self.happen(what, arguments)
        self._gathering = False
        self._turns()

    def post(self, event: fx.Event) -> None:
        """One of our own events."""
        self._inbox.put(event)
        self._wake()

    def receive(self, peer: int, message: Message) -> bool:
        """A peer's message; False if too much of it waits already."""
        taken = self._inbox.put_message(peer, message, 0)
        self._wake()
        return taken

    def hear(self, message: Message) -> None:
        """What we say to ourselves, for the next turn."""
        self._inbox.put(fx.Received(self.node.index, message))

    # ---- turns

    def _wake(self) -> None:
        """There is something to do: a turn soon, with whatever else arrives until then."""
        if self._waking or self._writing:
            return
        wake_us = self.world.parameters.wake_us
        if wake_us:
            self._waking = True
            self.later(wake_us, self._woken)
        else:
            self._turns()

    def _woken(self) -> None:
        self._waking = False
        self._turns()

    def _turns(self) -> None:
        """Turn after turn, until nothing waits or a write is under way."""
        if self._writing or self._gathering or self.paused or self.dead:
            return
        try:
            while self._due():
                if not self._turn():
                    return
        except Killed:
            self._killed()
        self._arm()

    def _killed(self) -> None:
        """At a crash point, or by a strategy in the middle of a turn."""
        if not self.dead:
            self.node.crash()

    def _due(self) -> bool:
        if self._inbox:
            return True
        return self._deadline_us is not None and self._deadline_us <= self.node.clock.local_us(self.world.now_us)

    def _turn(self) -> bool:
        """One turn; False if its effects wait for the disk."""
        now_us = self.node.clock.local_us(self.world.now_us)
        effects: list[fx.Effect] = []
        handled = min(len(self._inbox), TURN_EVENTS)
        for left in reversed(range(handled)):
            effects += self._step(self._inbox.take(), now_us, more=left > 0)
        self._deadline_us = self.replica.deadline_us()
        if self._tick_is_due(handled, now_us):
            effects += self._step(fx.Tick(), now_us)
            self._deadline_us = self.replica.deadline_us()
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
            raise Violation("spin", f"instance {self.node.instance}: its deadline stays in the past", self.world.now_us)
        return True

    def _step(self, event: fx.Event, now_us: int, *, more: bool = False) -> list[fx.Effect]:
        world, node = self.world, self.node
        at_us, count = self._steps
        self._steps = (now_us, count + 1 if at_us == now_us else 0)
        if count > STEPS_MAX:
            raise Violation("spin", f"instance {node.instance}: it does not come to rest", world.now_us)
        try:
            effects = self.replica.step(event, now_us, more=more)
        except Exception as error:
            if node.honest and world.tolerable:
                raise Violation("halt", f"instance {node.instance}: {error!r}", world.now_us) from error
            world.coverage["halt"] += 1
            node.down_us = 0
            raise Killed from error
        for hook in world.on_stepped:
            hook(world, node, event, effects)
        if node.strategies:
            node.act()
            if self.dead:
                raise Killed
        return effects

    def rearm(self) -> None:
        """The clock runs differently: the timer rings at another time."""
        self._timer_us = None
        self._arm()

    def _arm(self) -> None:
        if self._deadline_us is None or self.dead:
            return
        at_us = max(self.node.clock.true_us(self._deadline_us), self.world.now_us)
        if self._timer_us is None or at_us < self._timer_us:
            self._timer_us = at_us
            self.world.schedule(at_us, self._ring, at_us)

    def _ring(self, at_us: int) -> None:
        if at_us == self._timer_us:
            self._timer_us = None
            self._turns()

    def act_later(self) -> None:
        """Strategies act on a timer of their own, too."""
        self.later(self.world.acting_us, self._act)

    def _act(self) -> None:
        self.node.act()
        self.act_later()
        self._turns()

    # ---- effects

    def _finish(self, effects: list[fx.Effect]) -> bool:
        """Durable before visible: False if all this has to wait for a write."""
        writes = [effect for effect in effects if type(effect) is fx.Persist]
        for write in writes:
            self.node.disk.put(write)
        if all(write.lazy for write in writes):
            if writes:
                self._flush_later()
            self._perform(effects)
            return True
        self.node.point()
        self._writing = True
        self.later(self.node.disk_us, self._written, effects)
        return False

    def _written(self, effects: list[fx.Effect]) -> None:
        self.node.write()
        self._writing = False
        try:
            self.node.point()
            self._perform(effects)
        except Killed:
            self._killed()
        self._turns()

    def _flush_later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.later(LAZY_WRITE_US, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._writing:
            self.node.write()

    def _perform(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            handler = _HANDLERS.get(type(effect))
            if handler is not None:
                handler(self, effect)

    def _send(self, effect: fx.Send) -> None:
        self.node.send(effect.to, effect.message)
        self.node.point()

    def _broadcast(self, effect: fx.Broadcast) -> None:
        self.node.broadcast(effect.message)

    def _spread(self, effect: fx.SpreadBatch) -> None:
        message = BatchMessage(self.node.disk.batches[effect.ref])
        for to in effect.to:
            self.node.send(to, message)
            self.node.point()

    def _commit(self, effect: fx.Commit) -> None:
        executed = self.node.disk.executed
        for block in effect.blocks:
            self._check_order(executed, block)
            executed.append(block)
            if block.header.height % CHECKPOINT_BLOCKS == 0:
                self._inbox.put(fx.Executed(block.header.height, block.id))  # an application that remembers the chain
        for hook in self.world.on_executed:
            hook(self.world, self.node, effect.blocks)
        self._flush_later()
        self.node.point()

    def _check_order(self, executed: list[Block], block: Block) -> None:
        """As the executor does."""
        last = executed[-1].id if executed else self.world.context.root_id
        if block.header.parent_id != last and self.node.honest:
            raise Violation("I1", f"instance {self.node.instance} executes out of order", self.world.now_us)

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
        parameters, now_us = self.world.parameters, self.world.now_us
        self.storing.append(effect.batch)
        if parameters.bytes_per_ms:
            write_us = effect.batch.ref.size_bytes * 1000 // parameters.bytes_per_ms
            self._disk_free_us = max(self._disk_free_us, now_us) + write_us
        self.later(max(self._disk_free_us - now_us, 0) + parameters.body_us, self._stored, effect.batch)

    def _stored(self, batch: Batch) -> None:
        self.storing.remove(batch)
        self.node.disk.batches[batch.ref] = batch
        try:
            self.node.point()
        except Killed:
            self._killed()
            return
        self.post(fx.BatchStored(batch))

    def _strike(self, _effect: fx.Strike) -> None:
        self.world.coverage["strike"] += 1


_HANDLERS: dict[type, Callable[[Process, Any], None]] = {
    fx.Send: Process._send,
    fx.Broadcast: Process._broadcast,
    fx.SpreadBatch: Process._spread,
    fx.Commit: Process._commit,
    fx.Check: Process._check,
    fx.Collect: Process._collect,
    fx.StoreBatch: Process._store,
    fx.Strike: Process._strike,
}
