"""I16: who breaks the rules is found out, and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.types.evidence import Evidence, EvidenceKind

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class Accountability(Checker):
    """I16: evidence that honest validators store names no honest one; after a fork, all of it names power >= P/3.

    An author that lost all its data may sign a second batch with a number that few have seen: that it is named for.
    """

    invariant = "I16"

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self.named: dict[int, Evidence] = {}
        """Each culprit, and the first evidence against it."""

    def persisted(self, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        for write in writes:
            for evidence in write.evidence:
                self._check(node, evidence)

    def _check(self, node: SimNode, evidence: Evidence) -> None:
        flaw = evidence.flaw(self.ledger.context.mode)
        if flaw is not None:
            self.fail(f"validator {node.index} stores evidence ({evidence.kind.text}) that proves nothing: {flaw}")
        for culprit in evidence.culprits:
            lost = culprit in self.ledger.lost_data and evidence.kind is EvidenceKind.DOUBLE_BATCH
            if culprit not in self.powers.byzantine and not lost:
                first, second = evidence.said
                self.fail(
                    f"validator {node.index} accuses validator {culprit}, who is honest, of a {evidence.kind.text} "
                    f"in view {evidence.view}: {first}; {second}"
                )
            self.named.setdefault(culprit, evidence)

    def finished(self) -> None:
        fork, named = self._agreement.fork, sorted(self.named)
        if fork is not None and not self.powers.is_third(self.powers.sum(named)):
            self.fail(f"{fork}, and the evidence names only {named}")
