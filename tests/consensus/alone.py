"""One replica to which a test speaks for everybody else."""

from __future__ import annotations

from cluster import Cluster, Envelope
from forge import Forge

from hotstuff.consensus.effects import Received
from hotstuff.consensus.replica import Replica
from hotstuff.types.block import Block
from hotstuff.types.certificates import TC
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import Vote


class Alone:
    """One replica (index 0 of `n`) to which a test speaks for everybody else."""

    def __init__(
        self, n: int = 4, *, powers: list[int] | None = None, passive: bool = False, mode: Mode = Mode.CHAINED
    ) -> None:
        self.cluster = Cluster(n, powers=powers, fast=True, passive=0 if passive else None, mode=mode)
        for i in range(1, n):
            self.cluster.kill(i)
        self.forge = Forge(self.cluster)
        self.said: list[Envelope] = []
        self.cluster.drop = lambda envelope: self.said.append(envelope) or True

    @property
    def replica(self) -> Replica:
        replica = self.cluster.replicas[0]
        assert replica is not None
        return replica

    def hear(self, peer: int, message: object) -> None:
        self.cluster.step(0, Received(peer, message))  # type: ignore[arg-type]
        self.cluster.settle()

    def propose(self, block: Block, tc: TC | None = None) -> None:
        self.hear(block.header.proposer, self.forge.proposal(block, tc))

    def votes(self) -> list[tuple[int, bytes]]:
        """(view, block) of every vote of replica 0, also to itself."""
        return sorted(
            {
                (view, Vote.decode(said).block_id)
                for (what, signer, view), all_said in self.cluster.signed.items()
                if (what, signer) == ("vote", 0)
                for said in all_said
            }
        )

    def sent(self, kind: type) -> list[Envelope]:
        found = [envelope for envelope in self.said if isinstance(envelope.message, kind)]
        self.said.clear()
        return found
