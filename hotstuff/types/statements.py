"""What a validator can be held to: signed statements, reduced to what the signature covers and what follows from it.

A share says it for one validator. A certificate says it for every validator in its bitmap: a verified multisignature
binds each honest key in it, so an aggregate is as good as the shares it was made of.

Sets of validators are integers here, bit i for validator i, as in the bitmap of a certificate: statements can then be
compared without a validator set at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from hotstuff.errors import InvalidEncoding
from hotstuff.types.batch import Batch
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import U8, U16, U64, ZERO_HASH, Reader
from hotstuff.types.hashing import PHASES, Mode, Phase
from hotstuff.types.messages import Proposal, Timeout, Vote
from hotstuff.types.validators import BLS_SIGNATURE_BYTES, NODE_SIGNATURE_BYTES

_SHARE, _CERTIFICATE = 0, 1


@dataclass(frozen=True)
class SignedProposal:
    """A leader's signature for a block of a view, without the block."""

    epoch: int
    view: int
    proposer: int
    block_id: bytes
    signature: bytes

    @classmethod
    def of(cls, proposal: Proposal) -> SignedProposal:
        """What is signed in a proposal."""
        header = proposal.block.header
        return cls(header.epoch, header.view, header.proposer, header.id, proposal.signature)

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | proposer u16 | block_id 32 | signature 64."""
        return U64.pack(self.epoch) + U64.pack(self.view) + U16.pack(self.proposer) + self.block_id + self.signature

    @classmethod
    def read(cls, reader: Reader) -> SignedProposal:
        """Reads one inside a larger value."""
        place = (reader.counter(), reader.counter(), reader.u16())
        return cls(*place, reader.hash(), reader.fixed(NODE_SIGNATURE_BYTES))


@dataclass(frozen=True)
class SignedBatch:
    """An author's signature for a batch, without the body."""

    epoch: int
    author: int
    seq: int
    digest: bytes
    signature: bytes

    @classmethod
    def of(cls, batch: Batch) -> SignedBatch:
        """What is signed in a batch."""
        return cls(batch.epoch, batch.author, batch.seq, batch.ref.digest, batch.signature)

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | author u16 | seq u64 | digest 32 | signature 64."""
        return U64.pack(self.epoch) + U16.pack(self.author) + U64.pack(self.seq) + self.digest + self.signature

    @classmethod
    def read(cls, reader: Reader) -> SignedBatch:
        """Reads one inside a larger value."""
        epoch, author, seq = reader.counter(), reader.u16(), reader.counter()
        return cls(epoch, author, seq, reader.hash(), reader.fixed(NODE_SIGNATURE_BYTES))


@dataclass(frozen=True)
class TimeoutShare:
    """What a timeout signs: "I give up on `view`, and the highest QC that I know is of `high_qc_view`"."""

    epoch: int
    view: int
    high_qc_view: int
    signer: int
    signature: bytes

    @classmethod
    def of(cls, timeout: Timeout) -> TimeoutShare:
        """What is signed in a timeout."""
        return cls(timeout.epoch, timeout.view, timeout.high_qc.view, timeout.signer, timeout.signature)

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | high_qc_view u64 | signer u16 | signature 96."""
        numbers = U64.pack(self.epoch) + U64.pack(self.view) + U64.pack(self.high_qc_view)
        return numbers + U16.pack(self.signer) + self.signature

    @classmethod
    def read(cls, reader: Reader) -> TimeoutShare:
        """Reads one inside a larger value."""
        epoch, view, high_qc_view = reader.counter(), reader.counter(), reader.counter()
        return cls(epoch, view, high_qc_view, reader.u16(), reader.fixed(BLS_SIGNATURE_BYTES))


Voted = Vote | QC
"""Somebody voted for a block."""

GaveUp = TimeoutShare | TC
"""Somebody gave up on a view and said which QC it knew."""

Statement = SignedProposal | SignedBatch | Voted | GaveUp


def encode_voted(voted: Voted) -> bytes:
    """0 and a vote, or 1 and a QC."""
    return U8.pack(_CERTIFICATE if isinstance(voted, QC) else _SHARE) + voted.encoding


def read_voted(reader: Reader) -> Voted:
    """Inverse of `encode_voted`."""
    return QC.read(reader) if _is_certificate(reader) else Vote.read(reader)


def encode_gave_up(gave_up: GaveUp) -> bytes:
    """0 and a timeout share, or 1 and a TC."""
    return U8.pack(_CERTIFICATE if isinstance(gave_up, TC) else _SHARE) + gave_up.encoding


def read_gave_up(reader: Reader) -> GaveUp:
    """Inverse of `encode_gave_up`."""
    return TC.read(reader) if _is_certificate(reader) else TimeoutShare.read(reader)


def _is_certificate(reader: Reader) -> bool:
    tag = reader.u8()
    if tag not in (_SHARE, _CERTIFICATE):
        raise InvalidEncoding(f"{reader.what}: got tag {tag}, allowed: {_SHARE} or {_CERTIFICATE}")
    return tag == _CERTIFICATE


# ---- who said it ----------------------------------------------------------------------------------------------------


def bits(bitmap: bytes) -> int:
    """The validators of a certificate's bitmap."""
    return int.from_bytes(bitmap, "little")


def indices(validators: int) -> tuple[int, ...]:
    """Ascending indices of a set."""
    return tuple(i for i in range(validators.bit_length()) if validators >> i & 1)


def voters(voted: Voted) -> int:
    """Who voted."""
    return bits(voted.signers) if isinstance(voted, QC) else 1 << voted.signer


def hiders(gave_up: GaveUp, view: int) -> int:
    """Who gave up and said to know no QC of `view` or higher."""
    if isinstance(gave_up, TimeoutShare):
        return 1 << gave_up.signer if gave_up.high_qc_view < view else 0
    found = 0
    for group in gave_up.groups:
        if group.high_qc_view < view:
            found |= bits(group.signers)
    return found


# ---- what follows from a vote ---------------------------------------------------------------------------------------


def fits(header: Header, voted: Voted) -> bool:
    """Is this the header of the block voted for?"""
    return header.id == voted.block_id and header.view == voted.view


def known_qc_view(voted: Voted, header: Header | None) -> int | None:
    """An honest voter knew a QC of this view or higher when it voted; None if `header` is missing or of no use.

    A later vote follows the QC of the phase before, which is of its own view. Any other vote was for a block whose
    justify was verified first. A commit id says that this justify is of the view before, so no header is needed then.
    """
    if voted.phase in (Phase.PRECOMMIT, Phase.COMMIT):
        return voted.view if header is None else None
    if voted.phase is Phase.GENERIC and voted.commit_id != ZERO_HASH:
        return voted.view - 1 if header is None else None
    return header.justify.view if header is not None and fits(header, voted) else None


def locked_view(mode: Mode, voted: Voted, path: Sequence[Header]) -> int | None:
    """An honest voter was locked on a QC of this view or higher when it voted; None if it need not have been locked.

    `path`: as many headers as it takes to see that, from the block voted for downwards.

    basic       before a COMMIT vote the PRECOMMIT-QC of the same view becomes the lock.
    chained     before a vote for b the justify inside b's parent becomes the lock, as b's justify certifies that
                parent. A commit id says that it is of the view two before b's. (A replica that restarted on this parent
                as its last executed block may have missed that lock. From then on it votes only for descendants of the
                parent, whose justify is of the parent's view or higher, which is above the lock it missed.)
    hotstuff2   before a vote for b the justify of b becomes the lock. A commit id says that it is of the view before.
    jolteon     has no locks.
    """
    committing = voted.commit_id != ZERO_HASH
    if mode is Mode.BASIC:
        return voted.view if voted.phase is Phase.COMMIT and not path else None
    if mode is Mode.JOLTEON:
        return None
    if committing:
        return voted.view - (2 if mode is Mode.CHAINED else 1) if not path else None
    if len(path) != (2 if mode is Mode.CHAINED else 1) or not fits(path[0], voted):
        return None
    if mode is Mode.CHAINED and path[1].id != path[0].justify.block_id:
        return None
    return path[-1].justify.view


def is_proposal_vote(mode: Mode, voted: Voted) -> bool:
    """Is this the vote for a block that the lock rule was applied to, not a later one of the same view?"""
    return voted.phase is PHASES[mode][0]
