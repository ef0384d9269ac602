"""Batches: what one author spreads, and blocks refer to by digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from hotstuff import native
from hotstuff.errors import InvalidEncoding
from hotstuff.types.block import BatchRef
from hotstuff.types.encoding import U16, U32, U64, Buffer, Reader, decode_all
from hotstuff.types.hashing import Context, Domain, digest
from hotstuff.types.validators import NODE_SIGNATURE_BYTES

# A body is received, hashed and stored in one piece; more would hold up the votes behind it.
MAX_BODY_BYTES = 8 * 1024 * 1024
# The shortest frame is a header and a one-byte transaction; this bounds the Python objects that a body can cost.
MAX_FRAMES = 65536


def batch_digest(epoch: int, author: int, seq: int, size_bytes: int, tx_count: int, root: bytes) -> bytes:
    """Pins author, place in the lane, length, count and (through the Merkle root) every byte of the body."""
    head = U64.pack(epoch) + U16.pack(author) + U64.pack(seq) + U32.pack(size_bytes) + U32.pack(tx_count)
    return digest(Domain.BATCH, head, root)


@dataclass(frozen=True, eq=False)
class Batch:
    """Frames of client transactions, sealed by `author` as number `seq` (from 1) of its lane.

    `body` is kept as received: frames back to back (see `hotstuff.native`). `signature` is the author's Ed25519
    signature over epoch, author, seq and digest.
    """

    epoch: int
    author: int
    seq: int
    signature: bytes
    body: Buffer
    frames: tuple[native.Frame, ...]
    received: Buffer | None = field(default=None, init=False, repr=False)
    """The whole encoding, if it came in one piece: it is stored and passed on without another copy."""

    @cached_property
    def ref(self) -> BatchRef:
        """The reference by which blocks name this batch."""
        size, tx_count = len(self.body), sum(frame.count for frame in self.frames)
        root = native.merkle_root(b"".join(frame.root for frame in self.frames))
        found = batch_digest(self.epoch, self.author, self.seq, size, tx_count, root)
        return BatchRef(self.author, self.seq, found, size, tx_count)

    def head(self) -> bytes:
        """Everything before the body: epoch u64 | author u16 | seq u64 | signature 64 | size u32."""
        start = U64.pack(self.epoch) + U16.pack(self.author) + U64.pack(self.seq)
        return start + self.signature + U32.pack(len(self.body))

    def parts(self) -> tuple[Buffer, ...]:
        """The encoding as pieces, so that the body is not copied for each peer."""
        return (self.head(), self.body) if self.received is None else (self.received,)

    @property
    def encoding(self) -> Buffer:
        """The encoding in one piece: as received, or put together."""
        return b"".join(self.parts()) if self.received is None else self.received

    @classmethod
    def read(cls, reader: Reader) -> Batch:
        """Parses and hashes the whole body in one native call; raises `InvalidEncoding`."""
        start = reader.position
        epoch, author, seq = reader.counter(), reader.u16(), reader.counter()
        signature, size = reader.fixed(NODE_SIGNATURE_BYTES), reader.u32()
        if not 1 <= size <= MAX_BODY_BYTES or seq < 1:
            raise InvalidEncoding(f"batch: got {size} bytes and seq {seq}, allowed: 1 to {MAX_BODY_BYTES}, from 1")
        body = reader.view(size)
        frames = tuple(native.parse_body(body, MAX_FRAMES))
        batch = cls(epoch, author, seq, signature, body, frames)
        object.__setattr__(batch, "received", reader.since(start))  # not for the constructor: it says the same again
        return batch

    @classmethod
    def decode(cls, data: Buffer) -> Batch:
        """Inverse of `encoding`."""
        return decode_all(data, "batch", cls.read)

    def message(self, context: Context) -> bytes:
        """What the signature covers."""
        return context.batch_message(self.author, self.seq, self.ref.digest)
