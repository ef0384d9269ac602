"""Quorum certificates and timeout certificates (protocol rule 1.1).

A certificate's structure against a validator set (bitmap, quorum, group order) and its signature are checked in
`consensus.verifier`; here are only shapes and bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hotstuff.errors import InvalidEncoding
from hotstuff.types.encoding import U8, U16, U64, ZERO_HASH, Buffer, Reader, decode_all
from hotstuff.types.hashing import Context, Domain, Phase, digest
from hotstuff.types.validators import BLS_SIGNATURE_BYTES, MAX_VALIDATORS

_MAX_BITMAP_BYTES = (MAX_VALIDATORS + 7) // 8


def read_phase(reader: Reader) -> Phase:
    """A phase byte."""
    value = reader.u8()
    try:
        return Phase(value)
    except ValueError:
        raise InvalidEncoding(f"{reader.what}: got phase {value}, allowed: {[int(p) for p in Phase]}") from None


def _read_bitmap(reader: Reader) -> bytes:
    size = reader.u16()
    if size > _MAX_BITMAP_BYTES:
        raise InvalidEncoding(f"{reader.what}: got a bitmap of {size} bytes, allowed: at most {_MAX_BITMAP_BYTES}")
    return reader.fixed(size)


@dataclass(frozen=True)
class QC:
    """A quorum's votes for one block: `signature` (96 B) aggregates the votes of the validators in `signers`.

    `commit_id` is the block that becomes committed by this QC (zero if none). Each voter computes it from the block
    itself, so a single QC is a self-contained commit certificate.
    """

    epoch: int
    view: int
    phase: Phase
    block_id: bytes
    commit_id: bytes
    signers: bytes
    signature: bytes

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | phase u8 | block_id 32 | commit_id 32 | bitmap u16+n | signature 96."""
        head = U64.pack(self.epoch) + U64.pack(self.view) + U8.pack(self.phase) + self.block_id + self.commit_id
        return head + U16.pack(len(self.signers)) + self.signers + self.signature

    @cached_property
    def key(self) -> bytes:
        """Identity of these exact bytes, for the cache of verified certificates (never (view, block_id) alone)."""
        return digest(Domain.QC, self.encoding)

    @property
    def rank(self) -> tuple[int, int]:
        """What makes one certificate higher than another: the view, and within a view the phase."""
        return self.view, self.phase

    @property
    def leads_to(self) -> int:
        """The view that its holder may act in: the next one if nothing is left to vote on in its own."""
        return self.view + 1 if self.phase.ends_view else self.view

    @classmethod
    def genesis(cls, context: Context) -> QC:
        """The certificate below the first block: view 0, no signer; valid by exact equality and nothing else."""
        empty = bytes(BLS_SIGNATURE_BYTES)
        return cls(context.epoch, 0, Phase.GENERIC, context.root_id, ZERO_HASH, b"", empty)

    @classmethod
    def read(cls, reader: Reader) -> QC:
        """Reads one QC inside a larger value."""
        epoch, view, phase = reader.counter(), reader.counter(), read_phase(reader)
        block_id, commit_id, signers = reader.hash(), reader.hash(), _read_bitmap(reader)
        return cls(epoch, view, phase, block_id, commit_id, signers, reader.fixed(BLS_SIGNATURE_BYTES))

    @classmethod
    def decode(cls, data: Buffer) -> QC:
        """Inverse of `encoding`."""
        return decode_all(data, "QC", cls.read)


@dataclass(frozen=True)
class TimeoutGroup:
    """The signers of a TC who reported the same view of their highest QC."""

    high_qc_view: int
    signers: bytes


@dataclass(frozen=True)
class TC:
    """A quorum's timeouts of one view, grouped by reported `high_qc_view` (descending).

    It carries the highest reported QC itself, not only its view: a leader who gets the TC from others must be able
    to propose on it.
    """

    epoch: int
    view: int
    groups: tuple[TimeoutGroup, ...]
    signature: bytes
    high_qc: QC

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | n u16 | groups (high_qc_view u64, bitmap u16+n) | signature 96 | QC."""
        head = U64.pack(self.epoch) + U64.pack(self.view) + U16.pack(len(self.groups))
        groups = [U64.pack(g.high_qc_view) + U16.pack(len(g.signers)) + g.signers for g in self.groups]
        return head + b"".join(groups) + self.signature + self.high_qc.encoding

    @cached_property
    def key(self) -> bytes:
        """Identity of these exact bytes; also the `entry_tc_hash` of a block entered by this TC."""
        return digest(Domain.TC, self.encoding)

    @classmethod
    def read(cls, reader: Reader) -> TC:
        """Reads one TC inside a larger value."""
        epoch, view, count = reader.counter(), reader.counter(), reader.u16()
        if not 1 <= count <= MAX_VALIDATORS:
            raise InvalidEncoding(f"{reader.what}: got {count} timeout groups, allowed: 1 to {MAX_VALIDATORS}")
        groups = tuple(TimeoutGroup(reader.counter(), _read_bitmap(reader)) for _ in range(count))
        return cls(epoch, view, groups, reader.fixed(BLS_SIGNATURE_BYTES), QC.read(reader))

    @classmethod
    def decode(cls, data: Buffer) -> TC:
        """Inverse of `encoding`."""
        return decode_all(data, "TC", cls.read)
