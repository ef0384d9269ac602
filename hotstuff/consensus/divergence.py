"""Do the replicas that executed the same blocks have the same state?

Consensus makes the order equal, not the application deterministic. Every `CHECKPOINT_BLOCKS` a replica tells the others
its state. If validators of whom at least one is honest (power of at least P/3) report another state than ours at one
height, then either we or an honest one are wrong, and nothing that this replica answers can be relied on: it stops,
instead of serving a state that only it has. Fewer reports prove nothing: liars cannot stop anybody.
"""

from __future__ import annotations

from collections import OrderedDict

from hotstuff.consensus.effects import Broadcast, Effect, Send
from hotstuff.errors import InvariantViolation
from hotstuff.types.messages import StateReport
from hotstuff.types.validators import ValidatorSet

# A report costs one small message for each pair of replicas; a divergence is noticed after at most so many blocks.
CHECKPOINT_BLOCKS = 32
# Checkpoints of ourselves and of each peer that are kept: replicas are seldom further apart than that in execution.
MAX_CHECKPOINTS = 16


class Divergence:
    """Compares our state at checkpoints with what others report."""

    def __init__(self, index: int, validators: ValidatorSet, effects: list[Effect]) -> None:
        self._validators = validators
        self._effects = effects
        self._index = index
        self._states: list[OrderedDict[int, bytes]] = [OrderedDict() for _ in validators.validators]

    def executed(self, height: int, state: bytes) -> None:
        """We have executed the block at this checkpoint."""
        self._keep(self._index, height, state)
        self._effects.append(Broadcast(StateReport(height, state)))
        self._compare(height)

    def reported(self, peer: int, report: StateReport) -> None:
        """A peer's state. Its first word on each height counts."""
        if peer != self._index and report.height % CHECKPOINT_BLOCKS == 0:
            self._keep(peer, report.height, report.state)
            self._compare(report.height)

    def greet(self, peer: int) -> None:
        """A link came up: our last report may have been lost."""
        own = self._states[self._index]
        if own:
            height = next(reversed(own))
            self._effects.append(Send(peer, StateReport(height, own[height])))

    def _keep(self, validator: int, height: int, state: bytes) -> None:
        states = self._states[validator]
        states.setdefault(height, state)
        if len(states) > MAX_CHECKPOINTS:
            states.popitem(last=False)

    def _compare(self, height: int) -> None:
        own = self._states[self._index].get(height)
        if own is None:
            return
        others = [i for i, states in enumerate(self._states) if states.get(height, own) != own]
        if self._validators.has_honest(others):
            told = ", ".join(f"validator {i}: {self._states[i][height].hex()}" for i in others)
            raise InvariantViolation(f"state divergence at height {height}: ours is {own.hex()}; {told}")
