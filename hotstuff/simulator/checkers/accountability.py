"""I16: who breaks the rules is found out, and nobody else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.consensus.audit import audit
from hotstuff.consensus.proof import verify
from hotstuff.simulator.checkers.agreement import Agreement
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger
from hotstuff.simulator.scheme import scheme_of
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.evidence import Evidence, EvidenceKind
from hotstuff.types.hashing import Phase

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World


class _Stored:
    """What the directory of one validator holds for an audit: see `storage.chain`."""

    def __init__(self) -> None:
        self.headers: dict[bytes, Header] = {}
        self.qcs: dict[bytes, QC] = {}
        self.tcs: dict[bytes, TC] = {}

    def add(self, write: fx.Persist) -> None:
        """A durable write."""
        self.headers.update((block.id, block.header) for block in write.blocks)
        if write.commit_qc is not None:
            self.qcs[write.commit_qc.key] = write.commit_qc
        record = write.safety
        if record is not None and record.high_qc.phase is Phase.PREPARE:
            self.qcs[record.high_qc.key] = record.high_qc
        if record is not None and record.high_tc is not None:
            self.tcs[record.high_tc.key] = record.high_tc


class Accountability(Checker):
    """I16: no evidence names an honest validator; after a fork, all of it together names power of at least P/3.

    Evidence is what honest validators store during the run, and what an audit of all their directories finds after it.
    Who is honest is known here, and that is all that its verdicts are compared with. An author that lost all its data
    may sign a second batch with a number that few have seen: that it is named for.
    """

    invariant = "I16"

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._stored: dict[int, _Stored] = {}
        self.named: dict[int, Evidence] = {}
        """Each culprit, and the first evidence against it."""

    def started(self, node: SimNode) -> None:
        if not node.disk.blocks:  # the first life, or one that found nothing
            self._stored[node.index] = _Stored()

    def persisted(self, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        for write in writes:
            self._stored[node.index].add(write)
            self._judge(f"validator {node.index}", write.evidence)

    def finished(self) -> None:
        if self.powers.byzantine:
            self._judge("an audit", self._audit())
        fork, named = self._agreement.fork, sorted(self.named)
        if fork is not None and not self.powers.is_third(self.powers.sum(named)):
            self.fail(f"{fork}, and all evidence names only {named}")

    def _audit(self) -> list[Evidence]:
        world = self.world
        records = [node.disk.safety for node in world.nodes if node.honest]
        stored = self._stored.values()
        headers = {header.id: header for each in stored for header in each.headers.values()}
        qcs = [qc for each in stored for qc in each.qcs.values()]
        tcs = [tc for each in stored for tc in each.tcs.values()]
        return audit(
            world.context.mode,
            headers.values(),
            [*qcs, *(record.high_qc for record in records), *(record.locked_qc for record in records)],
            [*tcs, *(record.high_tc for record in records if record.high_tc is not None)],
            votes=[record.last_vote for record in records if record.last_vote is not None],
            timeouts=[record.last_timeout for record in records if record.last_timeout is not None],
            genuine=self._genuine,
        )

    def _genuine(self, evidence: Evidence) -> bool:
        world = self.world
        scheme = scheme_of(world.setup.signatures)
        return verify(evidence, world.context, world.validators, world.verifier.check, scheme)

    def _judge(self, who: str, found: Iterable[Evidence]) -> None:
        for evidence in found:
            if not self._genuine(evidence):
                self.fail(f"{who} has evidence ({evidence.kind.text}) that does not verify")
            for culprit in evidence.culprits:
                lost = culprit in self.ledger.lost_data and evidence.kind is EvidenceKind.DOUBLE_BATCH
                if culprit not in self.powers.byzantine and not lost:
                    first, second = evidence.said
                    self.fail(
                        f"{who} accuses validator {culprit}, who is honest, of a {evidence.kind.text} "
                        f"in view {evidence.view}: {first}; {second}"
                    )
                self.named.setdefault(culprit, evidence)
