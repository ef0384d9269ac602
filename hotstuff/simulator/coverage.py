"""How often each interesting thing happened at honest nodes: a run in which nothing went wrong proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.observer import Observer
from hotstuff.types.evidence import EvidenceKind
from hotstuff.types.messages import BatchRequest, BlockRequest, ChainRequest, NewView, Proposal, Timeout

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

_FETCHES: dict[type, str] = {BlockRequest: "block_fetch", ChainRequest: "chain_fetch", BatchRequest: "body_fetch"}
_TWO_PROPOSALS = EvidenceKind.DOUBLE_PROPOSAL.text
_REPORTS = {"timed_out": "timeouts", "rejoined": "passive_rejoin"}


class Coverage(Observer):
    """Counts into `world.coverage`."""

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        """Looks at what a step caused."""
        if not node.honest:
            return
        count = world.coverage
        for effect in effects:
            if type(effect) is fx.Report:
                name = _REPORTS.get(effect.name, effect.name)
                count[name] += 1
                count["view_change"] += name == "view_entered" and effect.fields["by"] == "tc"
                count["equivocation"] += name == "evidence" and effect.fields["kind"] == _TWO_PROPOSALS
            elif type(effect) is fx.Send:
                fetch = _FETCHES.get(type(effect.message))
                if fetch is not None:
                    count[fetch] += 1
        if isinstance(event, fx.Collected):
            formed = event.signature is not None and world.validators.is_quorum(event.good)
            count["qc_formed"] += formed and not any(type(e) is fx.Report and e.name == "tc_formed" for e in effects)
            count["bad_share"] += len(event.bad)
        elif isinstance(event, fx.Received):
            self._received(world, node, event, effects)

    def _received(self, world: World, node: SimNode, event: fx.Received, effects: Sequence[fx.Effect]) -> None:
        message = event.message
        if isinstance(message, (Timeout, NewView)):
            helped = any(type(e) is fx.Send and e.to == event.peer and type(e.message) is NewView for e in effects)
            world.coverage["help"] += helped
        elif isinstance(message, Proposal) and node.replica is not None:
            record, header = node.replica.safety.record, message.block.header
            current = header.view == record.current_view and header.view > record.voted_view
            safe = world.rules.safe(header.view, header.justify, message.entry_tc, record.locked_qc)
            world.coverage["lock_refused"] += current and not safe
