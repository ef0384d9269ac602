"""Blocks: a header that pins everything, and a payload of batch references."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hotstuff.errors import InvalidEncoding
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import U8, U16, U32, U64, Buffer, Reader, decode_all
from hotstuff.types.hashing import Domain, Mode, digest

HEADER_VERSION = 1

# 2000 references of 50 bytes: 100 KB of block, several hundred MB of bodies. More would make one proposal slow to
# check without carrying more than the data plane can move in a view.
MAX_BATCH_REFS = 2000


@dataclass(frozen=True)
class BatchRef:
    """Names one batch of an author's lane: its sequence number, digest, size of the body and transactions in it."""

    author: int
    seq: int
    digest: bytes
    size_bytes: int
    tx_count: int

    ENCODED_BYTES = 2 + 8 + 32 + 4 + 4

    @cached_property
    def encoding(self) -> bytes:
        """author u16 | seq u64 | digest 32 | size u32 | tx_count u32."""
        head = U16.pack(self.author) + U64.pack(self.seq) + self.digest
        return head + U32.pack(self.size_bytes) + U32.pack(self.tx_count)

    @classmethod
    def read(cls, reader: Reader) -> BatchRef:
        """Reads one reference inside a larger value; lanes are numbered from 1."""
        ref = cls(reader.u16(), reader.counter(), reader.hash(), reader.u32(), reader.u32())
        if ref.seq < 1:
            raise InvalidEncoding(f"{reader.what}: got batch number {ref.seq}, allowed: from 1")
        return ref


@dataclass(frozen=True)
class Header:
    """What a block id covers, the full justify QC included (two QCs for one parent give two blocks).

    `entry_tc_hash` is the key of the TC by which the leader entered the view, zero when `view == justify.view + 1`.
    """

    mode: Mode
    chain_id: bytes
    epoch: int
    vset_hash: bytes
    view: int
    height: int
    parent_id: bytes
    justify: QC
    entry_tc_hash: bytes
    payload_root: bytes
    proposer: int

    @cached_property
    def encoding(self) -> bytes:
        """version u8 | mode u8 | chain_id 32 | epoch u64 | vset_hash 32 | view u64 | height u64 | parent_id 32 |
        justify QC | entry_tc_hash 32 | payload_root 32 | proposer u16."""
        head = U8.pack(HEADER_VERSION) + U8.pack(self.mode) + self.chain_id + U64.pack(self.epoch) + self.vset_hash
        place = U64.pack(self.view) + U64.pack(self.height) + self.parent_id + self.justify.encoding
        return head + place + self.entry_tc_hash + self.payload_root + U16.pack(self.proposer)

    @cached_property
    def id(self) -> bytes:
        """The block id."""
        return digest(Domain.BLOCK, self.encoding)

    @classmethod
    def read(cls, reader: Reader) -> Header:
        """Reads one header inside a larger value."""
        version, mode = reader.u8(), reader.u8()
        if version != HEADER_VERSION:
            raise InvalidEncoding(f"{reader.what}: got version {version}, allowed: {HEADER_VERSION}")
        try:
            known_mode = Mode(mode)
        except ValueError:
            raise InvalidEncoding(f"{reader.what}: got mode {mode}, allowed: {[int(m) for m in Mode]}") from None
        chain_id, epoch, vset_hash = reader.hash(), reader.counter(), reader.hash()
        view, height, parent_id, justify = reader.counter(), reader.counter(), reader.hash(), QC.read(reader)
        tail = (reader.hash(), reader.hash(), reader.u16())
        return cls(known_mode, chain_id, epoch, vset_hash, view, height, parent_id, justify, *tail)


def payload_root(refs: tuple[BatchRef, ...]) -> bytes:
    """Hash of a payload, its length included."""
    return digest(Domain.PAYLOAD, U32.pack(len(refs)), *(ref.encoding for ref in refs))


@dataclass(frozen=True)
class Block:
    """A header and the batch references that its `payload_root` covers; decoding checks that it does."""

    header: Header
    payload: tuple[BatchRef, ...]

    @property
    def id(self) -> bytes:
        """The block id: the header's."""
        return self.header.id

    @cached_property
    def encoding(self) -> bytes:
        """header | count u32 | references."""
        return self.header.encoding + U32.pack(len(self.payload)) + b"".join(ref.encoding for ref in self.payload)

    @classmethod
    def read(cls, reader: Reader) -> Block:
        """Reads one block inside a larger value; raises `InvalidEncoding` if the payload is not the header's."""
        header = Header.read(reader)
        count = reader.count(MAX_BATCH_REFS, BatchRef.ENCODED_BYTES)
        refs = tuple(BatchRef.read(reader) for _ in range(count))
        if payload_root(refs) != header.payload_root:
            raise InvalidEncoding(f"{reader.what}: the payload does not match payload_root")
        return cls(header, refs)

    @classmethod
    def decode(cls, data: Buffer) -> Block:
        """Inverse of `encoding`."""
        return decode_all(data, "block", cls.read)
