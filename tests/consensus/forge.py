"""Blocks, votes and certificates made by hand, with every key of a cluster at our disposal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster import Cluster

from hotstuff.consensus.collector import VoteSlot
from hotstuff.consensus.effects import Share
from hotstuff.consensus.leaders import Weighted
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Proposal, Timeout, Vote


def ref(author: int = 0, seq: int = 1, *, size: int = 10, digest: bytes = b"d" * 32) -> BatchRef:
    """A reference to a batch that need not exist."""
    return BatchRef(author, seq, digest, size, 1)


class Forge:
    """Signs whatever it is asked to."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.context = cluster.context
        self.validators = cluster.validators
        self.genesis = QC.genesis(cluster.context)

    @property
    def everyone(self) -> range:
        """All indices."""
        return range(len(self.validators))

    def leader(self, view: int) -> int:
        """As the replicas see it."""
        return Weighted([v.power for v in self.validators.validators]).leader(view)

    def vote(
        self,
        signer: int,
        view: int,
        block_id: bytes,
        commit_id: bytes = ZERO_HASH,
        phase: Phase = Phase.GENERIC,
    ) -> Vote:
        """A vote that nobody asked for."""
        message = self.context.vote_message(view, phase, block_id, commit_id)
        signature = self.cluster.members[signer].bls.sign(message)
        return Vote(self.context.epoch, view, phase, block_id, commit_id, signer, signature)

    def share(self, vote: Vote) -> Share:
        """What the collector makes of a vote."""
        slot = VoteSlot(vote.view, vote.phase, vote.block_id, vote.commit_id)
        message = self.context.vote_message(slot.view, slot.phase, slot.block_id, slot.commit_id)
        return Share(vote.signer, message, vote.signature)

    def qc(
        self,
        view: int,
        block_id: bytes,
        commit_id: bytes = ZERO_HASH,
        signers: Iterable[int] | None = None,
        phase: Phase = Phase.GENERIC,
    ) -> QC:
        """A QC by these signers, by default all."""
        chosen = sorted(self.everyone if signers is None else signers)
        message = self.context.vote_message(view, phase, block_id, commit_id)
        shares = [Share(i, message, self.cluster.members[i].bls.sign(message)) for i in chosen]
        signature = self.cluster.verifier.collect(shares).signature
        assert signature is not None
        bitmap = self.validators.bitmap(chosen)
        return QC(self.context.epoch, view, phase, block_id, commit_id, bitmap, signature)

    def timeout(self, signer: int, view: int, high_qc: QC, prev_tc: TC | None = None) -> Timeout:
        """A timeout."""
        message = self.context.timeout_message(view, high_qc.view)
        signature = self.cluster.members[signer].bls.sign(message)
        return Timeout(self.context.epoch, view, signer, signature, high_qc, prev_tc)

    def tc(self, view: int, reports: Mapping[int, QC]) -> TC:
        """A TC in which each signer reports its own high QC."""
        shares, by_view = [], {}
        for signer, qc in sorted(reports.items()):
            message = self.context.timeout_message(view, qc.view)
            shares.append(Share(signer, message, self.cluster.members[signer].bls.sign(message)))
            by_view.setdefault(qc.view, []).append(signer)
        signature = self.cluster.verifier.collect(shares).signature
        assert signature is not None
        groups = tuple(TimeoutGroup(v, self.validators.bitmap(by_view[v])) for v in sorted(by_view, reverse=True))
        high = max(reports.values(), key=lambda qc: qc.view)
        return TC(self.context.epoch, view, groups, signature, high)

    def header(
        self,
        view: int,
        justify: QC,
        height: int,
        *,
        payload: tuple[BatchRef, ...] = (),
        tc: TC | None = None,
        proposer: int | None = None,
    ) -> Header:
        """A header of the view's leader."""
        context = self.context
        return Header(
            context.mode,
            context.chain_id,
            context.epoch,
            context.vset_hash,
            view,
            height,
            justify.block_id,
            justify,
            ZERO_HASH if tc is None else tc.key,
            payload_root(payload),
            self.leader(view) if proposer is None else proposer,
        )

    def block(
        self, view: int, justify: QC, height: int, *, payload: tuple[BatchRef, ...] = (), tc: TC | None = None
    ) -> Block:
        """A block of the view's leader."""
        return Block(self.header(view, justify, height, payload=payload, tc=tc), payload)

    def proposal(self, block: Block, tc: TC | None = None) -> Proposal:
        """Signed by the proposer."""
        header = block.header
        message = self.context.proposal_message(header.view, header.id)
        return Proposal(block, self.cluster.members[header.proposer].node.sign(message), tc)

    def chain(self, views: Iterable[int]) -> list[tuple[Block, QC]]:
        """Empty blocks at these views, each certified, with the commit id that honest voters compute.

        In basic the certificates are of the last phase.
        """
        depth = {Mode.BASIC: 1, Mode.CHAINED: 3, Mode.HOTSTUFF2: 2, Mode.JOLTEON: 2}[self.context.mode]
        made: list[tuple[Block, QC]] = []
        justify = self.genesis
        past: list[tuple[int, bytes]] = [(0, self.genesis.block_id)]
        for height, view in enumerate(views, 1):
            block = self.block(view, justify, height)
            past.append((view, block.id))
            last = past[-depth:]
            consecutive = [seen for seen, _ in last] == list(range(view - depth + 1, view + 1))
            justify = self.qc(view, block.id, last[0][1] if consecutive else ZERO_HASH, phase=self.last_phase)
            made.append((block, justify))
        return made

    @property
    def last_phase(self) -> Phase:
        """Of the votes that end a view."""
        return Phase.COMMIT if self.context.mode is Mode.BASIC else Phase.GENERIC
