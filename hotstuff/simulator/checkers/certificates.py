"""I9: every certificate that an honest node sends, stores or relies on is genuine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.base import Checker
from hotstuff.simulator.checkers.ledger import Ledger, Tally, certificates
from hotstuff.simulator.scheme import scheme_of
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Message, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

_PHASES = {Mode.BASIC: (Phase.PREPARE, Phase.PRECOMMIT, Phase.COMMIT)}


class _Group(NamedTuple):
    """Signers of one message, and those honest validators who really signed it."""

    bitmap: bytes
    message: bytes
    honest: dict[int, None]


class GenuineCertificates(Checker):
    """I9: a quorum's bitmap, each honest validator in it has really signed that preimage (ledger), and the signature is
    the sum of theirs. The commit id of every honest vote and of every QC is computed again from the blocks.
    """

    invariant = "I9"

    def attach(self, world: World, ledger: Ledger) -> None:
        super().attach(world, ledger)
        self._genuine: set[bytes] = set()
        self._scheme = scheme_of(world.setup.signatures)
        self._keys = [self._scheme.public_key(validator.bls_key) for validator in world.validators.validators]

    def voted(self, node: SimNode, vote: Vote, tally: Tally) -> None:
        if len(tally.signers) == 1 and self.ledger.commits(vote.block_id, vote.phase) != vote.commit_id:
            self.fail(f"validator {node.index} voted in view {vote.view} with a wrong commit id")

    def sent(self, node: SimNode, message: Message) -> None:
        self._check_all(certificates(message), node, f"sends a {type(message).__name__} with")

    def persisted(self, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        for write in writes:
            found = [block.header.justify for block in write.blocks]
            record = write.safety
            if record is not None:
                found += [record.high_qc, record.locked_qc]
                self._check_all((record.high_tc,) if record.high_tc else (), node, "stores")
            if write.commit_qc is not None:
                found.append(write.commit_qc)
            self._check_all(found, node, "stores")

    def _check_all(self, found: Iterable[QC | TC], node: SimNode, what: str) -> None:
        for certificate in found:
            if certificate.key in self._genuine:
                continue
            wrong = self._wrong_qc(certificate) if isinstance(certificate, QC) else self._wrong_tc(certificate)
            if wrong is not None:
                kind = type(certificate).__name__
                self.fail(f"validator {node.index} {what} a {kind} of view {certificate.view}: {wrong}")
            self._genuine.add(certificate.key)

    def _wrong_qc(self, qc: QC) -> str | None:
        ledger = self.ledger
        if qc.view == 0:
            return None if qc == ledger.genesis else "not the genesis certificate"
        if qc.epoch != ledger.context.epoch or qc.phase not in _PHASES.get(ledger.context.mode, (Phase.GENERIC,)):
            return "of another epoch or protocol"
        tally = ledger.votes.get((qc.epoch, qc.view, qc.phase), {}).get((qc.block_id, qc.commit_id))
        message = ledger.context.vote_message(qc.view, qc.phase, qc.block_id, qc.commit_id)
        group = _Group(qc.signers, message, {} if tally is None else tally.signers)
        if (wrong := self._wrong_signers([group], qc.signature)) is not None:
            return wrong
        if ledger.view_of(qc.block_id) != qc.view:
            return "its block is unknown or of another view"
        return None if ledger.commits(qc.block_id, qc.phase) == qc.commit_id else "wrong commit id"

    def _wrong_tc(self, tc: TC) -> str | None:
        ledger = self.ledger
        reported = [group.high_qc_view for group in tc.groups]
        if tc.epoch != ledger.context.epoch or not reported:
            return "of another epoch, or empty"
        if any(high <= low for high, low in pairwise(reported)):
            return "groups not in descending order"
        # In `basic`, a replica may hold a QC of the view that it gives up on.
        if reported[0] >= tc.view + (ledger.context.mode == Mode.BASIC) or tc.high_qc.view != reported[0]:
            return f"its highest report is {reported[0]}, its QC of view {tc.high_qc.view}"
        if (wrong := self._wrong_qc(tc.high_qc)) is not None:
            return f"its QC: {wrong}"
        signed = ledger.timeouts.get((tc.epoch, tc.view), {})
        groups = [
            _Group(
                group.signers,
                ledger.context.timeout_message(tc.view, group.high_qc_view),
                {i: None for i, views in signed.items() if group.high_qc_view in views},
            )
            for group in tc.groups
        ]
        return self._wrong_signers(groups, tc.signature)

    def _wrong_signers(self, groups: Sequence[_Group], signature: bytes) -> str | None:
        everyone: set[int] = set()
        summed = []
        for group in groups:
            signers = self.powers.signers(group.bitmap)
            if not signers or not everyone.isdisjoint(signers):
                return "malformed, empty or overlapping bitmap"
            liars = [i for i in signers if i not in group.honest and i not in self.powers.byzantine]
            if liars:
                return f"validators {liars} have not signed that"
            everyone.update(signers)
            summed.append(([self._keys[i] for i in signers], group.message))
        if not self.powers.is_quorum(self.powers.sum(everyone)):
            return f"no quorum: {sorted(everyone)}"
        return None if self._scheme.aggregate_verify(summed, signature) else "the signature is not the sum of theirs"
