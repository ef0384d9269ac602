"""Frames, bodies and their Merkle roots, in plain Python: the twin of `_native/native.pyx`.

All numbers are big-endian, and one value has exactly one encoding.

* frame: ``client_id 16 | first_seq u64 | count u32 | size u32 | transactions``, where the transactions are `count`
  times ``length u32 | bytes`` and fill `size` bytes exactly. Their sequence numbers are first_seq, first_seq + 1, ...
* body: one or more frames back to back.
* Merkle tree: RFC 6962, section 2.1. A leaf is SHA256(0x00 | transaction), a node SHA256(0x01 | left | right), and an
  odd leaf is never doubled, so two different lists cannot share a root (the flaw of CVE-2012-2459).
* frame root: SHA256(0x02 | client_id | first_seq | count | Merkle root of its transactions).
* body root: the Merkle tree whose leaves are the frame roots as they are.

What both twins share lives here too: `Frame`, the limits, the checks that are not worth compiling and the words of
every error. Import from `hotstuff.native`, which picks the twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from struct import Struct
from typing import NamedTuple, TypeAlias

from hotstuff.errors import InvalidEncoding

Buffer: TypeAlias = bytes | bytearray | memoryview

# A transaction has to fit many times into a batch, else one client could fill a block with a single one.
MAX_TX_BYTES = 256 * 1024
# Bounds what one client can make a replica buffer and hash before the frame turns out to be bad: about 2 ms of work.
MAX_FRAME_BYTES = 4 * 1024 * 1024
# Sequence numbers stay below 2**63, so that any database, JSON library or language with signed integers can hold them.
MAX_SEQ = 2**63
HASH_BYTES = 32
CLIENT_ID_BYTES = 16

LEAF, NODE, FRAME = b"\x00", b"\x01", b"\x02"
HEADER = Struct(f">{CLIENT_ID_BYTES}sQII")
LENGTH = Struct(">I")
MIN_FRAME_BYTES = HEADER.size + LENGTH.size + 1


class Frame(NamedTuple):
    """Where one client's run of transactions lies in a body. Offsets and sizes are in bytes."""

    client_id: bytes
    first_seq: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    offset: int
    """Of the frame's header in the body."""
    size: int
    """Of the whole frame, its header included."""
    root: bytes


# The rules a body can break, as (what was measured, what is allowed). `enum Rule` of native.pyx has the same order.
RULES = (
    ("bytes left for a frame header", "at least {}"),
    ("number of frames", "at most {}"),
    ("count", "at least {}"),
    ("first_seq", "1 to {}"),
    ("size", "at most {}"),
    ("bytes left for the transactions of a frame", "at least {}"),
    ("bytes left for the length of a transaction", "at least {}"),
    ("length of a transaction", "1 to {}"),
    ("bytes left for a transaction", "at least {}"),
    ("bytes after the last transaction of a frame", "exactly {}"),
)
HEADER_CUT, FRAMES, COUNT, FIRST_SEQ, SIZE, PAYLOAD_CUT, LENGTH_CUT, TX_LENGTH, TX_CUT, LEFTOVER = range(len(RULES))


def broken(rule: int, offset: int, given: int, allowed: int) -> InvalidEncoding:
    """The error for a body that breaks `rule` at byte `offset`."""
    what, limit = RULES[rule]
    return InvalidEncoding(f"{what} at byte {offset}: got {given}, allowed: {limit.format(allowed)}")


def byte_view(body: Buffer) -> memoryview:
    """A flat view of unsigned bytes. Raises BufferError for a strided memoryview."""
    view = memoryview(body)
    if not view.c_contiguous:
        raise BufferError("got a strided memoryview, allowed: contiguous bytes")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def frame_limit(max_frames: int, size: int) -> int:
    """The most frames that a body of `size` bytes can have without breaking `max_frames`, which must be positive."""
    if max_frames < 1:
        raise ValueError(f"max_frames: got {max_frames}, allowed: at least 1")
    return min(max_frames, size // MIN_FRAME_BYTES + 1)


def locate(view: memoryview, frame: Frame) -> int:
    """Offset of the first transaction of `frame`. Raises ValueError if `frame` was not parsed from this body."""
    _, first_seq, count, offset, size, _ = frame
    inside = 0 <= offset and size >= MIN_FRAME_BYTES and offset + size <= len(view)
    if not inside or HEADER.unpack_from(view, offset) != (frame.client_id, first_seq, count, size - HEADER.size):
        raise foreign(frame)
    return offset + HEADER.size


def foreign(frame: Frame) -> ValueError:
    """The error for a frame that belongs to another body."""
    return ValueError(f"frame at byte {frame.offset}, {frame.size} bytes: not a frame of this body")


def check_slice(frame: Frame, start: int, stop: int) -> None:
    """Raises ValueError unless [start, stop) is a non-empty part of the frame's transactions."""
    if not 0 <= start < stop <= frame.count:
        raise ValueError(f"slice: got [{start}, {stop}), allowed: a non-empty part of [0, {frame.count})")


def check_transaction(index: int, transaction: object) -> int:
    """Length of a transaction that a caller wants to submit. Raises TypeError or ValueError."""
    if type(transaction) is not bytes:
        raise TypeError(f"transaction {index}: got {type(transaction).__name__}, allowed: bytes")
    if not 1 <= len(transaction) <= MAX_TX_BYTES:
        raise ValueError(f"transaction {index}: got {len(transaction)} bytes, allowed: 1 to {MAX_TX_BYTES}")
    return len(transaction)


def frame_header(client_id: bytes, first_seq: int, count: int, size: int) -> bytes:
    """The 32 bytes in front of a frame's transactions. Raises ValueError."""
    if type(client_id) is not bytes or len(client_id) != CLIENT_ID_BYTES:
        raise ValueError(f"client_id: got {client_id!r}, allowed: exactly {CLIENT_ID_BYTES} bytes")
    if count < 1:
        raise ValueError("transactions: got none, allowed: at least 1")
    if not 1 <= first_seq <= MAX_SEQ - count:
        raise ValueError(f"first_seq: got {first_seq}, allowed: 1 to {MAX_SEQ - count}")
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"transactions: got {size} bytes with their lengths, allowed: at most {MAX_FRAME_BYTES}")
    return HEADER.pack(client_id, first_seq, count, size)


def parse_body(body: Buffer, max_frames: int) -> list[Frame]:
    """The frames of a body, each with its root.

    Raises InvalidEncoding, with the first rule that is broken, and ValueError for a `max_frames` below 1.
    """
    view = byte_view(body)
    limit = frame_limit(max_frames, len(view))
    frames: list[Frame] = []
    offset = 0
    while offset < len(view) or not frames:
        if len(frames) == limit:
            raise broken(FRAMES, offset, limit + 1, limit)
        frames.append(_parse_frame(view, offset))
        offset += frames[-1].size
    return frames


def frame_head(body: Buffer) -> tuple[bytes, int]:
    """Client id and first number of the frame at the start of a body, which may be bad otherwise.

    Raises InvalidEncoding if they are not there or the number is none that a frame can have.
    """
    if len(body) < HEADER.size:
        raise broken(HEADER_CUT, 0, len(body), HEADER.size)
    client_id, first_seq, _, _ = HEADER.unpack_from(body)
    if not 1 <= first_seq < MAX_SEQ:
        raise broken(FIRST_SEQ, 0, first_seq, MAX_SEQ - 1)
    return client_id, first_seq


def merkle_root(hashes: Buffer) -> bytes:
    """RFC 6962 root over leaf hashes of 32 bytes each, back to back. Raises ValueError if there is no whole one."""
    view = byte_view(hashes)
    if not view or len(view) % HASH_BYTES:
        raise ValueError(f"hashes: got {len(view)} bytes, allowed: a positive multiple of {HASH_BYTES}")
    return _merkle([bytes(view[at : at + HASH_BYTES]) for at in range(0, len(view), HASH_BYTES)])


def slice_root(body: Buffer, frame: Frame, start: int, stop: int) -> bytes:
    """The root that transactions [start, stop) of `frame` would have as a frame of their own.

    Raises ValueError if the slice is empty or out of range, or if `frame` was not parsed from this body.
    """
    view = byte_view(body)
    check_slice(frame, start, stop)
    leaves = [sha256(LEAF + view[at:end]).digest() for at, end in _spans_of(view, frame, stop)[start:]]
    return _frame_root(frame.client_id, frame.first_seq + start, leaves)


def transactions(body: Buffer, frame: Frame) -> list[bytes]:
    """The transactions of `frame`, copied. Raises ValueError if `frame` was not parsed from this body."""
    view = byte_view(body)
    return [bytes(view[at:end]) for at, end in _spans_of(view, frame, frame.count)]


def build_frame(client_id: bytes, first_seq: int, transactions: Sequence[bytes]) -> bytes:
    """Encodes a frame. Raises ValueError for what `parse_body` would refuse, TypeError for what is not bytes."""
    given = tuple(transactions)
    size = sum(LENGTH.size + check_transaction(index, transaction) for index, transaction in enumerate(given))
    header = frame_header(client_id, first_seq, len(given), size)
    return header + b"".join(part for transaction in given for part in (LENGTH.pack(len(transaction)), transaction))


def keep_memory(size: int) -> bool:
    """Tells the C library to keep `size` freed bytes. Returns whether that can be done: not from here."""
    if not 0 <= size < 2**31:
        raise OverflowError(f"size: got {size}, allowed: 0 to {2**31 - 1}")
    return False


def _parse_frame(view: memoryview, offset: int) -> Frame:
    left = len(view) - offset
    if left < HEADER.size:
        raise broken(HEADER_CUT, offset, left, HEADER.size)
    client_id, first_seq, count, size = HEADER.unpack_from(view, offset)
    if count < 1:
        raise broken(COUNT, offset, count, 1)
    if not 1 <= first_seq <= MAX_SEQ - count:
        raise broken(FIRST_SEQ, offset, first_seq, MAX_SEQ - count)
    if size > MAX_FRAME_BYTES:
        raise broken(SIZE, offset, size, MAX_FRAME_BYTES)
    start = offset + HEADER.size
    end = start + size
    if end > len(view):
        raise broken(PAYLOAD_CUT, start, len(view) - start, size)

    leaves, at = [], start
    for tx_start, at in _spans(view, start, end, count):
        leaves.append(sha256(LEAF + view[tx_start:at]).digest())
    if at < end:
        raise broken(LEFTOVER, at, end - at, 0)
    return Frame(client_id, first_seq, count, offset, HEADER.size + size, _frame_root(client_id, first_seq, leaves))


def _spans(view: memoryview, at: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    """Start and end of each of `count` transactions, the first of whose length prefixes is at `at`."""
    for _ in range(count):
        if end - at < LENGTH.size:
            raise broken(LENGTH_CUT, at, end - at, LENGTH.size)
        length: int = LENGTH.unpack_from(view, at)[0]
        if not 1 <= length <= MAX_TX_BYTES:
            raise broken(TX_LENGTH, at, length, MAX_TX_BYTES)
        at += LENGTH.size
        if length > end - at:
            raise broken(TX_CUT, at, end - at, length)
        yield at, at + length
        at += length


def _spans_of(view: memoryview, frame: Frame, count: int) -> list[tuple[int, int]]:
    try:
        return list(_spans(view, locate(view, frame), frame.offset + frame.size, count))
    except InvalidEncoding:
        raise foreign(frame) from None


def _frame_root(client_id: bytes, first_seq: int, leaves: list[bytes]) -> bytes:
    count = len(leaves)
    numbers = first_seq.to_bytes(8, "big") + count.to_bytes(4, "big")
    return sha256(FRAME + client_id + numbers + _merkle(leaves)).digest()


def _merkle(level: list[bytes]) -> bytes:
    # Pairing neighbours and carrying an odd last one up splits every range at the largest power of two below its
    # length, as RFC 6962 asks for.
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(NODE + left + right).digest() for left, right in pairs] + level[len(level) & ~1 :]
    return level[0]
