"""Twins scenarios carried out: instances of the real core, view after view, each view in two parts.

One view v of a scenario:

    a   messages of view v are delivered within the parts, in the order of sending, until there are none. Certificates
        that lead to view v count among them: so who learns of a QC of view v - 1 is up to the cut of view v
    b   every instance still in view v gives up on it; timeouts are delivered within the parts
    c   who is still in view v is let out: timeouts and certificates that the cut kept from it, one by one, and then the
        certificates of somebody who is ahead. Proposals and votes stay lost

After it everybody is in view v + 1. What was sent for that view waits for it, and arrives in the order of senders and
receivers, so that it does not matter who was first. After the last view all are connected, in virtual time and without
delays, until every honest instance has committed blocks proposed since then.

Persistence is immediate, signatures are stand-ins, and each certificate is verified once, however many instances get
it: before a message is delivered its certificates count as checked there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hotstuff.consensus import effects as fx
from hotstuff.consensus.desk import Desk, item_key
from hotstuff.consensus.effects import Checkable, Effect
from hotstuff.consensus.replica import Replica, Timing
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.tree import Node
from hotstuff.consensus.verifier import Verifier
from hotstuff.consensus.witness import Witness
from hotstuff.errors import InvariantViolation
from hotstuff.simulator.observer import Violation
from hotstuff.simulator.payload import ModelPayload
from hotstuff.simulator.scenarios import PLAIN, Round, Variant
from hotstuff.simulator.scheme import STAND_IN, members, validator_set
from hotstuff.types.block import Block
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import Context, Mode
from hotstuff.types.messages import (
    MAX_PAGE_BLOCKS,
    ChainRequest,
    ChainResponse,
    Message,
    NewView,
    Proposal,
    RecoveryResponse,
    Timeout,
    Vote,
)

TIMING = Timing(view_timeout_ms=1000, spread_ms=50, fetch_retry_ms=100)
# Longer than any timer of a replica (130 times the view timeout): all that run are due when a view is given up.
VIEW_US = 400_000_000
# Between two views: help may be given again, and blocks asked for again, but no timer of a view runs out.
PAUSE_US = 110_000
# Deliveries within one view of a scenario, or in the calm: far more than instances should have to say to each other.
MAX_DELIVERIES = 50_000


class Arena:
    """What all scenarios of one size have in common."""

    def __init__(
        self,
        protocol: Mode,
        nodes: int,
        twins: int,
        views: int,
        variant: Variant = PLAIN,
        *,
        watch: bool = False,
    ) -> None:
        """`watch`: replicas look for evidence, and none may name an honest validator. Nothing else depends on it."""
        self.protocol = protocol
        self.nodes = nodes
        self.twins = twins
        self.views = views
        self.variant = variant
        self.members = members(nodes)
        self.validators = validator_set(self.members)
        self.context = Context(protocol, b"\7" * 32, 1, self.validators.hash)
        self.rules = RULES[protocol]
        self.verifier = Verifier(self.context, self.validators, STAND_IN)
        self.tolerable = not self.validators.has_honest(range(twins))
        self.blind = None if watch else Blind(protocol)
        self._checked: set[bytes] = {QC.genesis(self.context).key}

    def verify(self, item: Checkable) -> None:
        """Once for each item; raises `Violation` if it is not valid: everybody runs the real core, nobody forges."""
        key = item_key(item)
        if key not in self._checked:
            if not self.verifier.check(item):
                raise Violation("I9", f"{type(item).__name__} with an invalid signature", 0)
            self._checked.add(key)

    def forget(self) -> None:
        """Between scenarios: what was verified is of no use to the next one."""
        self._checked.clear()


class Blind(Witness):
    """Sees nothing, so it can be shared."""

    def enter(self, view: int) -> None:
        pass

    def _in_window(self, view: int) -> bool:
        return False


class Turns:
    """The leaders of a scenario, as far as it goes; after its last view round robin."""

    def __init__(self, nodes: int, views: int) -> None:
        self.chosen: list[int] = []
        self._nodes = nodes
        self._views = views

    def leader(self, view: int) -> int:
        """Raises `LookupError` in between: nobody may act on a choice that is not made yet."""
        if 1 <= view <= len(self.chosen):
            return self.chosen[view - 1]
        if view <= self._views:
            raise LookupError(f"the leader of view {view} is not chosen yet")
        return view % self._nodes


class Letter(NamedTuple):
    """A message under way between two instances; it belongs to a view (0: to any)."""

    sender: int
    to: int
    view: int
    message: Message


class Instance:
    """One running copy of a validator. `replica` is None after it has stopped itself, which only a twin may do."""

    def __init__(self, number: int, index: int, *, honest: bool) -> None:
        self.number = number
        self.index = index
        self.honest = honest
        self.origin = number
        self.replica: Replica | None = None
        self.desk: Desk | None = None
        self.executed: list[Block] = []
        self.commit_qcs: dict[bytes, QC] = {}

    def start(self, arena: Arena, turns: Turns) -> None:
        """A new life with an empty disk."""
        self.executed, self.commit_qcs = [], {}
        member = arena.members[self.index]
        record = SafetyRecord.initial(arena.context, passive=False)
        self.origin += arena.nodes + arena.twins  # no other life of any instance has this number

        def payload(effects: list[Effect], desk: Desk) -> ModelPayload:
            self.desk = desk
            return ModelPayload(self.index, self.origin, effects)

        self.replica = Replica(
            context=arena.context,
            validators=arena.validators,
            rules=arena.rules,
            leaders=turns,
            safety=Safety(self.index, arena.context, arena.rules, member.bls, member.node, record),
            root=Node(arena.context.root_id, bytes(32), 0, 0, (0,) * arena.nodes, 0, None),
            blocks=(),
            commit_qc=None,
            payload=payload,
            timing=TIMING,
        )
        if arena.blind is not None:
            self.replica._witness = arena.blind

    @property
    def view(self) -> int:
        """The current view; far away for one that has stopped, so that nobody waits for it."""
        return self.replica.view if self.replica is not None else 2**62

    def page(self, from_height: int) -> ChainResponse:
        """Executed blocks from a height on, up to one that a certificate commits."""
        page = self.executed[from_height - 1 : from_height - 1 + MAX_PAGE_BLOCKS]
        while page and page[-1].id not in self.commit_qcs:
            page.pop()
        return ChainResponse(from_height, tuple(page), self.commit_qcs[page[-1].id] if page else None)


class Execution:
    """A scenario as far as it has been carried out. Raises `Violation` as soon as safety does not hold."""

    def __init__(self, arena: Arena, *, record: bool = False) -> None:
        """`record` keeps what the honest send and receive, for evidence."""
        self.arena = arena
        self.turns = Turns(arena.nodes, arena.views)
        self.now_us = 0
        self.view = 0
        self.part: int | None = None
        self.names: dict[bytes, int] = {arena.context.root_id: 0}
        self.queue: deque[Letter] = deque()
        self.held: list[Letter] = []
        self.crossing: list[Letter] = []
        self.late: list[Letter] = []
        self.chain: list[bytes] = []
        self.votes: dict[tuple[int, int], dict[tuple[bytes, bytes], set[int]]] = {}
        self.messages: list[Message] | None = [] if record else None
        total = arena.nodes + arena.twins
        self.instances = [Instance(i, i % arena.nodes, honest=arena.twins <= i < arena.nodes) for i in range(total)]
        self.copies = [[i for i in self.instances if i.index == index] for index in range(arena.nodes)]

    def begin(self, leader: int) -> None:
        """All instances start, in view 1, which `leader` leads."""
        self.turns.chosen.append(leader)
        for instance in self.instances:
            self._start(instance)

    # ---- one view of the scenario

    def play(self, this: Round, following: int | None) -> None:
        """Carries out the next view; `following` leads the one after it (None: this is the last of the scenario)."""
        self.view += 1
        self.part = this.part
        if following is not None:
            self.turns.chosen.append(following)
        late, self.late = self.late, []
        held, self.held = self.held, []
        if this.turn.restart is not None:
            self._restart(self.instances[this.turn.restart])
        self.queue += late
        for letter in held:
            self._route(letter)
        self._settle()
        self._wake_leader()
        self.now_us = self.view * VIEW_US
        for instance in self.instances:
            if instance.view <= self.view:
                self._step(instance, fx.Tick())
        self._settle()
        self._let_out()
        self.late = self.crossing if self.arena.variant.late else []
        self.crossing = []
        self.held = sorted((x for x in self.held if not self._says_nothing(x)), key=lambda x: (x.sender, x.to))
        self.now_us += PAUSE_US
        self.votes = {slot: votes for slot, votes in self.votes.items() if slot[0] > self.view}

    def _let_out(self) -> None:
        """Everybody leaves the view: first by what was sent for it, one message at a time, then by being told."""
        told: set[tuple[int, int]] = set()
        while stuck := [instance.number for instance in self.instances if instance.view <= self.view]:
            sent = (x for x in self.crossing if x.to in stuck and isinstance(x.message, (Timeout, NewView)))
            letter = next(sent, None)
            if letter is not None:
                self.crossing.remove(letter)
                self.queue.append(letter)
            else:
                self._tell(stuck[0], told)
            self._settle()

    def _tell(self, stuck: int, told: set[tuple[int, int]]) -> None:
        """Somebody who is ahead says which certificates it has, as on a new link; each one once."""
        ahead = [i for i in self.instances if i.replica is not None and i.view > self.view]
        teller = next((i for i in ahead if (i.number, stuck) not in told), None)
        if teller is None:
            raise Violation("I15", f"instance {stuck} cannot leave view {self.view}", self.now_us)
        told.add((teller.number, stuck))
        before = len(self.held)
        self._step(teller, fx.Connected(self.instances[stuck].index))
        said = [x for x in self.held[before:] if x.to == stuck and isinstance(x.message, NewView)]
        self.held = [x for x in self.held if x not in said]
        self.queue += said

    def _says_nothing(self, letter: Letter) -> bool:
        """Certificates for the coming view that their receiver has already.

        It will still be in that view when they arrive, since they arrive before any vote. They do count if they can be
        late, if the receiver may restart, or if it waits to hear from everybody.
        """
        replica, message = self.instances[letter.to].replica, letter.message
        if replica is None or self.arena.variant.late or self.arena.variant.restarts:
            return False
        if not isinstance(message, NewView) or replica._pacemaker.propose_from_us is not None:
            return False
        tc_is_old = message.high_tc is None or message.high_tc.view < replica.view
        qc_is_old = message.high_qc.rank <= replica.safety.record.high_qc.rank
        return message.view <= replica.view and tc_is_old and qc_is_old and not replica._commits_more(message.high_qc)

    def _wake_leader(self) -> None:
        """A leader may have to wait for what others know before it proposes. It has heard what it can."""
        for instance in self.instances:
            replica = instance.replica
            if replica is not None and replica._pacemaker.propose_from_us is not None:
                self.now_us = max(self.now_us, replica._pacemaker.propose_from_us)
                self._step(instance, fx.Tick())
        self._settle()

    # ---- after the scenario

    def calm(self, blocks: int, max_views: int) -> int | None:
        """All are connected. Returns the views that it took until every honest instance had committed so many blocks
        proposed in this time; None if that did not happen within `max_views` views."""
        self.part = None
        start, self.view = self.view, 2**62  # no message waits for a later view
        self.queue += self.late + self.held
        self.late, self.held = [], []
        for one in self.instances:
            for index in range(self.arena.nodes):
                if index != one.index:
                    self._step(one, fx.Connected(index))
        honest = [instance for instance in self.instances if instance.honest]

        def done(instance: Instance) -> bool:
            return len(instance.executed) >= blocks and instance.executed[-blocks].header.view > start

        for _ in range(MAX_DELIVERIES):
            reached = max(instance.view for instance in honest) - start
            if all(done(instance) for instance in honest):
                return reached
            if reached > max_views or not self._pass():
                break
        return None

    def _pass(self) -> bool:
        """One delivery; if there is none, time passes until a timer is due."""
        if self.queue:
            self._deliver(self.queue.popleft())
            return True
        alive = [i for i in self.instances if i.replica is not None]
        deadlines = [i.replica.deadline_us() if i.replica is not None else None for i in alive]
        due = [deadline for deadline in deadlines if deadline is not None]
        if not due:
            return False
        self.now_us = max(self.now_us, min(due))
        for instance, deadline in zip(alive, deadlines, strict=True):
            if deadline is not None and deadline <= self.now_us:
                self._step(instance, fx.Tick())
        return True

    # ---- instances

    def _start(self, instance: Instance) -> None:
        instance.start(self.arena, self.turns)
        self._step(instance, fx.Start())

    def _restart(self, instance: Instance) -> None:
        """From an empty disk; the links within its part come up again."""
        self._start(instance)
        for other in self.instances:
            if other.index != instance.index and self._hears(other.number, instance.number):
                self._step(other, fx.Connected(instance.index))
                self._step(instance, fx.Connected(other.index))

    def _step(self, instance: Instance, event: fx.Event) -> None:
        replica = instance.replica
        if replica is None:
            return
        try:
            effects = replica.step(event, self.now_us)
        except InvariantViolation as error:
            if instance.honest:
                raise Violation("halt", f"replica {instance.index} has stopped: {error}", self.now_us) from error
            instance.replica = None
            return
        for effect in effects:
            handler = _EFFECTS.get(type(effect))
            if handler is not None:
                handler(self, instance, effect)

    def _send(self, instance: Instance, effect: fx.Send) -> None:
        self._post(instance, effect.to, effect.message)

    def _broadcast(self, instance: Instance, effect: fx.Broadcast) -> None:
        for index in range(self.arena.nodes):
            if index != instance.index:
                self._post(instance, index, effect.message)

    def _check(self, instance: Instance, effect: fx.Check) -> None:
        self._step(instance, fx.Checked(effect.job, self.arena.verifier.check(effect.item)))

    def _collect(self, instance: Instance, effect: fx.Collect) -> None:
        found = self.arena.verifier.collect(effect.shares)
        self._step(instance, fx.Collected(effect.job, found.signature, found.good, found.bad))

    def _persist(self, instance: Instance, effect: fx.Persist) -> None:
        if effect.commit_qc is not None:
            instance.commit_qcs[effect.commit_qc.commit_id] = effect.commit_qc
        for evidence in effect.evidence:
            honest = [culprit for culprit in evidence.culprits if culprit >= self.arena.twins]
            if honest and instance.honest:
                raise Violation("I16", f"evidence against {honest}: {evidence}", self.now_us)

    def _commit(self, instance: Instance, effect: fx.Commit) -> None:
        """Every honest instance commits the same block at a height."""
        for block in effect.blocks:
            height = len(instance.executed)
            instance.executed.append(block)
            if not instance.honest:
                continue
            if height == len(self.chain):
                self.chain.append(block.id)
            if self.chain[height] != block.id or block.header.height != height + 1:
                raise Violation("I1", f"replica {instance.index} commits another block at {height + 1}", self.now_us)

    # ---- messages

    def _post(self, sender: Instance, index: int, message: Message) -> None:
        if isinstance(message, Vote):
            self._count(sender, message)
        elif isinstance(message, Proposal):
            header = message.block.header
            self.names.setdefault(header.id, header.view << 32 | sender.origin)
        self._record(sender, message)
        view = _view_of(message)
        for copy in [sender] if index == sender.index else self.copies[index]:
            letter = Letter(sender.number, copy.number, view, message)
            if view > self.view:
                self.held.append(letter)
            else:
                self._route(letter)

    def _record(self, instance: Instance, message: Message) -> None:
        if self.messages is not None and instance.honest:
            self.messages.append(message)

    def _route(self, letter: Letter) -> None:
        (self.queue if self._hears(letter.to, letter.sender) else self.crossing).append(letter)

    def _hears(self, instance: int, other: int) -> bool:
        if self.part is None:
            return True
        here, there = self.part >> instance & 1, self.part >> other & 1
        return here == there or (self.arena.variant.one_way and here == 1)

    def _settle(self) -> None:
        for _ in range(MAX_DELIVERIES):
            if not self.queue:
                return
            self._deliver(self.queue.popleft())
        raise Violation("spin", f"view {self.view} does not come to rest", self.now_us)

    def _deliver(self, letter: Letter) -> None:
        instance, message = self.instances[letter.to], letter.message
        if instance.desk is None:
            return
        for item in _items(message):
            self.arena.verify(item)
            instance.desk.trust(item)
        self._record(instance, message)
        sender = self.instances[letter.sender].index
        if isinstance(message, ChainRequest):
            self._post(instance, sender, instance.page(message.from_height))
        else:
            self._step(instance, fx.Received(sender, message))

    def _count(self, sender: Instance, vote: Vote) -> None:
        """At most one block of a view and phase can be certified by honest votes and all that twins might sign."""
        if not sender.honest or not self.arena.tolerable:
            return
        slot = self.votes.setdefault((vote.view, vote.phase), {})
        voters = slot.setdefault((vote.block_id, vote.commit_id), set(range(self.arena.twins)))
        if sender.index not in voters:
            voters.add(sender.index)
            if sum(self.arena.validators.is_quorum(sorted(signers)) for signers in slot.values()) > 1:
                raise Violation("I2", f"two blocks of view {vote.view} can be certified", self.now_us)


def _view_of(message: Message) -> int:
    """The view that a message belongs to; 0 for what is asked and answered in any."""
    if isinstance(message, (Vote, Timeout, NewView)):
        return message.view
    return message.block.header.view if isinstance(message, Proposal) else 0


def _items(message: Message) -> Iterable[Checkable]:
    """Everything in a message that a replica would have checked."""
    certificates: list[QC | TC | None] = []
    if isinstance(message, Proposal):
        yield message
        certificates = [message.block.header.justify, message.entry_tc]
    elif isinstance(message, Timeout):
        certificates = [message.high_qc, message.prev_tc]
    elif isinstance(message, (NewView, RecoveryResponse)):
        certificates = [message.high_qc, message.high_tc]
    elif isinstance(message, ChainResponse):
        certificates = [message.commit_qc]
    for certificate in certificates:
        if isinstance(certificate, TC):
            yield certificate.high_qc
        if certificate is not None:
            yield certificate


_EFFECTS: dict[type, Callable[[Execution, Instance, Any], None]] = {
    fx.Send: Execution._send,
    fx.Broadcast: Execution._broadcast,
    fx.Check: Execution._check,
    fx.Collect: Execution._collect,
    fx.Persist: Execution._persist,
    fx.Commit: Execution._commit,
}
