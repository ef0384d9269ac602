"""Hashes with domain separation, and the exact bytes that every signature covers (protocol rule 1.2).

Every preimage is a 16-byte domain followed by fields of fixed width, so no two kinds of message and no two ways of
splitting fields can share one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from hotstuff.types.encoding import U8, U16, U64, Buffer


class Domain(bytes, enum.Enum):
    """First 16 bytes of a preimage: what kind of thing is hashed."""

    GENESIS = b"PHS1/genesis".ljust(16, b"\0")
    VALIDATORS = b"PHS1/vset".ljust(16, b"\0")
    BLOCK = b"PHS1/block".ljust(16, b"\0")
    PAYLOAD = b"PHS1/payload".ljust(16, b"\0")
    BATCH = b"PHS1/batch".ljust(16, b"\0")
    TC = b"PHS1/tc".ljust(16, b"\0")
    QC = b"PHS1/qc".ljust(16, b"\0")
    VOTE = b"PHS1/vote".ljust(16, b"\0")
    TIMEOUT = b"PHS1/timeout".ljust(16, b"\0")
    PROPOSAL = b"PHS1/prop".ljust(16, b"\0")
    BATCH_SIGNATURE = b"PHS1/batchsig".ljust(16, b"\0")
    POSSESSION = b"PHS1/pop".ljust(16, b"\0")
    ROOT = b"PHS1/root".ljust(16, b"\0")
    VERIFIED = b"PHS1/verified".ljust(16, b"\0")
    STATE = b"PHS1/state".ljust(16, b"\0")
    EVIDENCE = b"PHS1/evidence".ljust(16, b"\0")


def digest(domain: Domain, *parts: Buffer) -> bytes:
    """SHA-256 of the domain and the parts, 32 bytes."""
    hasher = sha256(domain.value)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


class Mode(enum.IntEnum):
    """Which protocol an epoch runs. It is inside everything that is signed: modes never mix (rule D2)."""

    BASIC = 1
    CHAINED = 2
    HOTSTUFF2 = 3
    JOLTEON = 4


class Phase(enum.IntEnum):
    """What a vote is for. Signed, so that a certificate of one phase cannot stand in for another.

    `basic` votes three times in a view; the pipelined protocols vote once, and that phase is the paper's "generic".
    """

    PREPARE = 1
    PRECOMMIT = 2
    COMMIT = 3
    GENERIC = 4

    @property
    def ends_view(self) -> bool:
        """Is nothing left to vote on in a view once this phase has a QC?"""
        return self in (Phase.COMMIT, Phase.GENERIC)


PHASES: dict[Mode, tuple[Phase, ...]] = {
    Mode.BASIC: (Phase.PREPARE, Phase.PRECOMMIT, Phase.COMMIT),
    Mode.CHAINED: (Phase.GENERIC,),
    Mode.HOTSTUFF2: (Phase.GENERIC,),
    Mode.JOLTEON: (Phase.GENERIC,),
}
"""The votes of one view, in order."""


@dataclass(frozen=True)
class Context:
    """What is the same in every message of an epoch; binds each signature to network, epoch, set and protocol.

    `chain_id` is the hash of the genesis file. `vset_hash` is implied by the epoch, but signing it makes replicas
    with diverging sets fail to aggregate instead of forming an ambiguous certificate.
    """

    mode: Mode
    chain_id: bytes
    epoch: int
    vset_hash: bytes

    @cached_property
    def prefix(self) -> bytes:
        """mode u8 | chain_id 32 | epoch u64 | vset_hash 32."""
        return U8.pack(self.mode) + self.chain_id + U64.pack(self.epoch) + self.vset_hash

    @cached_property
    def root_id(self) -> bytes:
        """The id that stands for "no block yet": parent of the first block of the epoch."""
        return digest(Domain.ROOT, self.prefix)

    def vote_message(self, view: int, phase: int, block_id: bytes, commit_id: bytes) -> bytes:
        """What a vote signs. Without `view`, votes of two views for one block would aggregate."""
        return digest(Domain.VOTE, self.prefix, U64.pack(view), U8.pack(phase), block_id, commit_id)

    def timeout_message(self, view: int, high_qc_view: int) -> bytes:
        """What a timeout signs. The QC itself is checked apart, so that equal pairs aggregate."""
        return digest(Domain.TIMEOUT, self.prefix, U64.pack(view), U64.pack(high_qc_view))

    def proposal_message(self, view: int, block_id: bytes) -> bytes:
        """What a leader's Ed25519 key signs for a block."""
        return digest(Domain.PROPOSAL, self.prefix, U64.pack(view), block_id)

    def batch_message(self, author: int, seq: int, batch_digest: bytes) -> bytes:
        """What an author's Ed25519 key signs for a batch."""
        return digest(Domain.BATCH_SIGNATURE, self.prefix, U16.pack(author), U64.pack(seq), batch_digest)


def possession_message(network_name: bytes, node_key: bytes, bls_key: bytes) -> bytes:
    """What a proof of possession signs: bound to the node key, or anyone could copy key and proof (rule 1.3)."""
    return digest(Domain.POSSESSION, sha256(network_name).digest(), node_key, bls_key)
