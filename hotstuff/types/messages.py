"""What replicas say to each other: one frozen type, one frame kind and one encoding per message."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from hotstuff.errors import InvalidEncoding
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.certificates import QC, TC, read_phase
from hotstuff.types.encoding import U8, U16, U32, U64, Buffer, Reader, decode_all, option
from hotstuff.types.hashing import Phase
from hotstuff.types.validators import BLS_SIGNATURE_BYTES, NODE_SIGNATURE_BYTES

# One answer to a block or chain request. A page is checked and stored as a whole before the next one is asked for.
MAX_PAGE_BLOCKS = 256
MAX_PAGE_BYTES = 4 * 1024 * 1024
# Acknowledgements in one message: 50 bytes each, far more than batches sealed in an acknowledgement interval.
MAX_ACKS = 4096
# Bodies asked for in one request; each answer is a message of its own.
MAX_BODY_REQUESTS = 64


class Kind(enum.IntEnum):
    """The frame kind of each message between replicas. 0 to 15 belong to the transport."""

    PROPOSAL = 16
    VOTE = 17
    TIMEOUT = 18
    NEW_VIEW = 19
    BLOCK_REQUEST = 20
    BLOCK_RESPONSE = 21
    CHAIN_REQUEST = 22
    CHAIN_RESPONSE = 23
    RECOVERY_REQUEST = 24
    RECOVERY_RESPONSE = 25
    STATE_REPORT = 26
    BATCH = 32
    ACK = 33
    BATCH_REQUEST = 34


def _read_tc(reader: Reader) -> TC | None:
    return TC.read(reader) if reader.flag() else None


def _encode_tc(tc: TC | None) -> bytes:
    return option(None if tc is None else tc.encoding)


def _view_of(high_qc: QC, high_tc: TC | None) -> int:
    return max(high_qc.leads_to, high_tc.view + 1 if high_tc is not None else 0)


@dataclass(frozen=True)
class Proposal:
    """A leader's block, signed with its node key; `entry_tc` proves the view when the justify QC does not."""

    block: Block
    signature: bytes
    entry_tc: TC | None

    kind = Kind.PROPOSAL

    @cached_property
    def encoding(self) -> bytes:
        """block | signature 64 | option TC."""
        return self.block.encoding + self.signature + _encode_tc(self.entry_tc)

    @classmethod
    def read(cls, reader: Reader) -> Proposal:
        """Reads one proposal; the entry TC must be the one in the header, and there only if needed."""
        block, signature, entry_tc = Block.read(reader), reader.fixed(NODE_SIGNATURE_BYTES), _read_tc(reader)
        expected = bytes(32) if entry_tc is None else entry_tc.key
        if block.header.entry_tc_hash != expected:
            raise InvalidEncoding("proposal: entry TC and entry_tc_hash differ")
        return cls(block, signature, entry_tc)


@dataclass(frozen=True)
class Vote:
    """A validator's share of a QC."""

    epoch: int
    view: int
    phase: Phase
    block_id: bytes
    commit_id: bytes
    signer: int
    signature: bytes

    kind = Kind.VOTE

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | phase u8 | block_id 32 | commit_id 32 | signer u16 | signature 96."""
        head = U64.pack(self.epoch) + U64.pack(self.view) + U8.pack(self.phase) + self.block_id + self.commit_id
        return head + U16.pack(self.signer) + self.signature

    @classmethod
    def read(cls, reader: Reader) -> Vote:
        """Reads one vote."""
        epoch, view, phase = reader.counter(), reader.counter(), read_phase(reader)
        return cls(epoch, view, phase, reader.hash(), reader.hash(), reader.u16(), reader.fixed(BLS_SIGNATURE_BYTES))

    @classmethod
    def decode(cls, data: Buffer) -> Vote:
        """Inverse of `encoding`."""
        return decode_all(data, "vote", cls.read)


@dataclass(frozen=True)
class Timeout:
    """A validator gives up on `view`: its share of a TC.

    `high_qc` backs the signed view of it; `prev_tc` proves that the signer was allowed into `view` when
    `high_qc.leads_to != view`.
    """

    epoch: int
    view: int
    signer: int
    signature: bytes
    high_qc: QC
    prev_tc: TC | None

    kind = Kind.TIMEOUT

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | view u64 | signer u16 | signature 96 | QC | option TC."""
        head = U64.pack(self.epoch) + U64.pack(self.view) + U16.pack(self.signer) + self.signature
        return head + self.high_qc.encoding + _encode_tc(self.prev_tc)

    @classmethod
    def read(cls, reader: Reader) -> Timeout:
        """Reads one timeout."""
        epoch, view, signer = reader.counter(), reader.counter(), reader.u16()
        return cls(epoch, view, signer, reader.fixed(BLS_SIGNATURE_BYTES), QC.read(reader), _read_tc(reader))

    @classmethod
    def decode(cls, data: Buffer) -> Timeout:
        """Inverse of `encoding`."""
        return decode_all(data, "timeout", cls.read)


@dataclass(frozen=True)
class NewView:
    """The sender's highest certificates: carries a new QC or TC to who needs it, and helps who is behind."""

    high_qc: QC
    high_tc: TC | None

    kind = Kind.NEW_VIEW

    @property
    def view(self) -> int:
        """The view that these certificates lead to."""
        return _view_of(self.high_qc, self.high_tc)

    @cached_property
    def encoding(self) -> bytes:
        """QC | option TC."""
        return self.high_qc.encoding + _encode_tc(self.high_tc)

    @classmethod
    def read(cls, reader: Reader) -> NewView:
        """Reads one new-view."""
        return cls(QC.read(reader), _read_tc(reader))


@dataclass(frozen=True)
class BlockRequest:
    """Asks for a block by id, with up to `limit` blocks: itself and its ancestors above `above_height`."""

    block_id: bytes
    above_height: int
    limit: int

    kind = Kind.BLOCK_REQUEST

    @cached_property
    def encoding(self) -> bytes:
        """block_id 32 | above_height u64 | limit u32."""
        return self.block_id + U64.pack(self.above_height) + U32.pack(self.limit)

    @classmethod
    def read(cls, reader: Reader) -> BlockRequest:
        """Reads one request."""
        return cls(reader.hash(), reader.counter(), reader.u32())


def _encode_blocks(blocks: tuple[Block, ...]) -> bytes:
    return U32.pack(len(blocks)) + b"".join(block.encoding for block in blocks)


def _read_blocks(reader: Reader) -> tuple[Block, ...]:
    # A block is at least 371 bytes; a smaller bound only has to stop absurd counts before the loop.
    count = reader.count(MAX_PAGE_BLOCKS, 256)
    return tuple(Block.read(reader) for _ in range(count))


@dataclass(frozen=True)
class BlockResponse:
    """Answer to a block request: descending, each block the parent of the one before it. Empty: not here."""

    block_id: bytes
    blocks: tuple[Block, ...]

    kind = Kind.BLOCK_RESPONSE

    @cached_property
    def encoding(self) -> bytes:
        """block_id 32 | count u32 | blocks."""
        return self.block_id + _encode_blocks(self.blocks)

    @classmethod
    def read(cls, reader: Reader) -> BlockResponse:
        """Reads one response."""
        return cls(reader.hash(), _read_blocks(reader))


@dataclass(frozen=True)
class ChainRequest:
    """Asks for committed blocks from `from_height` on."""

    from_height: int

    kind = Kind.CHAIN_REQUEST

    @cached_property
    def encoding(self) -> bytes:
        """from_height u64."""
        return U64.pack(self.from_height)

    @classmethod
    def read(cls, reader: Reader) -> ChainRequest:
        """Reads one request."""
        return cls(reader.counter())


@dataclass(frozen=True)
class ChainResponse:
    """Committed blocks in ascending height, and a QC that commits the last of them. Empty and None: nothing there."""

    from_height: int
    blocks: tuple[Block, ...]
    commit_qc: QC | None

    kind = Kind.CHAIN_RESPONSE

    @cached_property
    def encoding(self) -> bytes:
        """from_height u64 | count u32 | blocks | option QC."""
        proof = option(None if self.commit_qc is None else self.commit_qc.encoding)
        return U64.pack(self.from_height) + _encode_blocks(self.blocks) + proof

    @classmethod
    def read(cls, reader: Reader) -> ChainResponse:
        """Reads one response; there is a commit QC exactly if there are blocks."""
        from_height, blocks = reader.counter(), _read_blocks(reader)
        commit_qc = QC.read(reader) if reader.flag() else None
        if (commit_qc is None) != (not blocks):
            raise InvalidEncoding("chain response: blocks and commit QC come together or not at all")
        return cls(from_height, blocks, commit_qc)


@dataclass(frozen=True)
class RecoveryRequest:
    """From a replica without a safety record: what is the highest view I may have acted in?"""

    kind = Kind.RECOVERY_REQUEST
    encoding = b""

    @classmethod
    def read(cls, _reader: Reader) -> RecoveryRequest:
        """Nothing to read."""
        return cls()


@dataclass(frozen=True)
class RecoveryResponse:
    """The certificates that prove how far the sender is: a bare number could keep the asker silent for ever."""

    high_qc: QC
    high_tc: TC | None

    kind = Kind.RECOVERY_RESPONSE

    @property
    def view(self) -> int:
        """The view that the sender is in. It has not acted above it."""
        return _view_of(self.high_qc, self.high_tc)

    @cached_property
    def encoding(self) -> bytes:
        """QC | option TC."""
        return self.high_qc.encoding + _encode_tc(self.high_tc)

    @classmethod
    def read(cls, reader: Reader) -> RecoveryResponse:
        """Reads one response."""
        return cls(QC.read(reader), _read_tc(reader))


@dataclass(frozen=True)
class StateReport:
    """The sender's application state after the block at `height`: replicas must notice if theirs differ."""

    height: int
    state: bytes

    kind = Kind.STATE_REPORT

    @cached_property
    def encoding(self) -> bytes:
        """height u64 | state 32."""
        return U64.pack(self.height) + self.state

    @classmethod
    def read(cls, reader: Reader) -> StateReport:
        """Reads one report."""
        return cls(reader.counter(), reader.hash())


@dataclass(frozen=True)
class BatchMessage:
    """A batch, from its author or in answer to a request."""

    batch: Batch

    kind = Kind.BATCH

    @property
    def encoding(self) -> Buffer:
        """The batch's own encoding."""
        return self.batch.encoding

    @classmethod
    def read(cls, reader: Reader) -> BatchMessage:
        """Reads one batch."""
        return cls(Batch.read(reader))


def encode_refs(refs: Iterable[BatchRef]) -> bytes:
    """count u32 | references."""
    encoded = [ref.encoding for ref in refs]
    return U32.pack(len(encoded)) + b"".join(encoded)


@dataclass(frozen=True)
class Ack:
    """The sender holds these batches durably. Unsigned: each receiver judges for itself (rule 8.2)."""

    refs: tuple[BatchRef, ...]

    kind = Kind.ACK

    @cached_property
    def encoding(self) -> bytes:
        """count u32 | references."""
        return encode_refs(self.refs)

    @classmethod
    def read(cls, reader: Reader) -> Ack:
        """Reads one acknowledgement."""
        count = reader.count(MAX_ACKS, BatchRef.ENCODED_BYTES)
        return cls(tuple(BatchRef.read(reader) for _ in range(count)))


@dataclass(frozen=True)
class BatchRequest:
    """Asks for the bodies of these batches; each comes back as a `BatchMessage`."""

    refs: tuple[BatchRef, ...]

    kind = Kind.BATCH_REQUEST

    @cached_property
    def encoding(self) -> bytes:
        """count u32 | references."""
        return encode_refs(self.refs)

    @classmethod
    def read(cls, reader: Reader) -> BatchRequest:
        """Reads one request."""
        count = reader.count(MAX_BODY_REQUESTS, BatchRef.ENCODED_BYTES)
        return cls(tuple(BatchRef.read(reader) for _ in range(count)))


Message = (
    Proposal
    | Vote
    | Timeout
    | NewView
    | BlockRequest
    | BlockResponse
    | ChainRequest
    | ChainResponse
    | RecoveryRequest
    | RecoveryResponse
    | StateReport
    | BatchMessage
    | Ack
    | BatchRequest
)

_TYPES: dict[int, type[Message]] = {
    int(cls.kind): cls
    for cls in (
        Proposal,
        Vote,
        Timeout,
        NewView,
        BlockRequest,
        BlockResponse,
        ChainRequest,
        ChainResponse,
        RecoveryRequest,
        RecoveryResponse,
        StateReport,
        BatchMessage,
        Ack,
        BatchRequest,
    )
}


def decode_message(kind: int, data: Buffer) -> Message:
    """The message of a frame; raises `InvalidEncoding` for an unknown kind or bytes that are not canonical."""
    message_type = _TYPES.get(kind)
    if message_type is None:
        raise InvalidEncoding(f"message: got kind {kind}, allowed: {sorted(_TYPES)}")
    read: Callable[[Reader], Message] = message_type.read
    return decode_all(data, message_type.__name__, read)
