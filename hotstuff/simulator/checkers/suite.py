"""All checkers of a run behind one observer, which turns what the world reports into what they hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.accountability import Accountability
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.checkers.base import HOOKS, Checker, lost_record
from hotstuff.simulator.checkers.bodies import BodiesExist
from hotstuff.simulator.checkers.bounds import Bounded
from hotstuff.simulator.checkers.certificates import GenuineCertificates
from hotstuff.simulator.checkers.execution import Answers, Execution
from hotstuff.simulator.checkers.justification import Justified
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.simulator.checkers.liveness import Progress
from hotstuff.simulator.checkers.power import Powers
from hotstuff.simulator.checkers.records import DurableFirst, NothingGoesBack
from hotstuff.simulator.checkers.signatures import ClosedViews, OneCertificate, OneSignature, TrueTimeouts
from hotstuff.simulator.observer import Observer
from hotstuff.types.block import Block
from hotstuff.types.messages import Message, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class Checkers(Observer):
    """Keeps the ledger and drives the checkers in the order given."""

    def __init__(self, checkers: Sequence[Checker]) -> None:
        self.checkers = tuple(checkers)
        self._ledger: Ledger | None = None
        self._hooks: dict[str, list[Callable[..., Any]]] = {name: self._overriding(name) for name in HOOKS}
        self._unsettled: dict[int, list[Vote | Timeout]] = {}
        self._last_sent: tuple[object, object] = (None, None)

    def _overriding(self, name: str) -> list[Callable[..., Any]]:
        """Most checkers ignore most hooks; an empty call for each would cost more than the checks."""
        return [getattr(c, name) for c in self.checkers if getattr(type(c), name) is not getattr(Checker, name)]

    def ledger(self, world: World) -> Ledger:
        """The ledger of this run; made, and shown to the checkers, when it is first asked for."""
        if self._ledger is None:
            of = tuple(validator.power for validator in world.validators.validators)
            self._ledger = Ledger(world.context, Powers(of, frozenset(world.byzantine)))
            for checker in self.checkers:
                checker.attach(world, self._ledger)
        return self._ledger

    # ---- what the world reports

    def started(self, world: World, node: SimNode) -> None:
        ledger = self.ledger(world)
        self._unsettled[node.instance] = []
        self._last_sent = None, None
        if not node.honest:
            return
        if node.life > 1 and lost_record(node) and not node.disk.blocks and not node.disk.batches:
            ledger.lost_data.add(node.index)
        for block in node.disk.blocks.values() if node.life <= 1 else ():
            ledger.add_block(block)
        for hook in self._hooks["started"]:
            hook(node)

    def crashed(self, world: World, node: SimNode) -> None:
        self._unsettled[node.instance] = []
        if node.honest:
            for hook in self._hooks["crashed"]:
                hook(node)

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        if not node.honest:
            return
        for effect in effects:
            if isinstance(effect, (fx.Send, fx.Broadcast)) and isinstance(effect.message, (Vote, Timeout)):
                self._unsettled[node.instance].append(effect.message)
        for hook in self._hooks["stepped"]:
            hook(node, event, effects)

    def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        if not node.honest:
            return
        ledger = self.ledger(world)
        for write in writes:
            for block in write.blocks:
                ledger.add_block(block)
        self._settle_all(node)
        for hook in self._hooks["persisted"]:
            hook(node, writes)

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        if self._last_sent[1] is message and self._last_sent[0] is node:
            return
        self._last_sent = node, message
        self.ledger(world).saw(message)
        if not node.honest:
            return
        if isinstance(message, (Vote, Timeout)):
            self._settle(node, message)
        for hook in self._hooks["sent"]:
            hook(node, message)

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        if node.honest:
            for hook in self._hooks["executed"]:
                hook(node, blocks)

    def finished(self, world: World) -> None:
        self.ledger(world)
        for hook in self._hooks["finished"]:
            hook()

    # ---- votes and timeouts become facts

    def _settle_all(self, node: SimNode) -> None:
        signed, self._unsettled[node.instance] = self._unsettled[node.instance], []
        for message in signed:
            self._settle(node, message)

    def _settle(self, node: SimNode, message: Vote | Timeout) -> None:
        ledger = self._ledger
        assert ledger is not None
        if message.signer != node.index:
            return
        if isinstance(message, Timeout):
            if not ledger.has_timeout(message):
                ledger.add_timeout(message)
                for hook in self._hooks["timed_out"]:
                    hook(node, message)
        elif not ledger.has_vote(message):
            tally = ledger.add_vote(message)
            for hook in self._hooks["voted"]:
                hook(node, message, tally)
            if not tally.certifiable and ledger.reaches_quorum(tally):
                tally.certifiable = True
                for hook in self._hooks["certifiable"]:
                    hook(tally)


def checkers(*, control: bool = False) -> Checkers:
    """All invariants that a run must keep.

    `control`: Byzantine power may reach P/3. Then two blocks can be certified, bodies can be missing and clients can
    be deceived; what each honest validator does by itself holds all the same, and who did it must be found out.
    """
    agreement = Agreement(may_fork=control)
    alone = [OneSignature(), NothingGoesBack(), ClosedViews(), TrueTimeouts(), Justified(), DurableFirst()]
    alone += [GenuineCertificates(), Bounded()]
    if control:
        return Checkers([*alone, agreement, Accountability(agreement)])
    execution = Execution()
    together = [OneCertificate(), agreement, execution, BodiesExist(), Answers(execution), Progress()]
    return Checkers([*alone, *together, Accountability(agreement)])
