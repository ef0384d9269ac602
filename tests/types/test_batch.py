"""`hotstuff.types.batch`: the head, the digest that pins it, and bodies that are not well-formed."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from strategies import batches, parsed
from wire_checks import WireChecks, refused, refused_cheaply, wire_settings
from wire_examples import BATCH, BODY, CONTEXT, SMALL_BATCH, fill

from hotstuff import native
from hotstuff.errors import InvalidEncoding
from hotstuff.types.batch import MAX_BODY_BYTES, MAX_FRAMES, Batch, batch_digest

HEAD_BYTES = 8 + 2 + 8 + 64 + 4
SMALLEST_FRAME = native.build_frame(bytes(16), 1, [b"x"])


class TestWire(WireChecks):
    names = ("batch",)


def with_body(body: bytes, size: int | None = None, seq: int = 1) -> bytes:
    """The bytes of a batch around any body, with any claimed size."""
    head = struct.pack(">QHQ", 0, 0, seq) + bytes(64)
    return head + struct.pack(">I", len(body) if size is None else size) + body


@given(batch=batches)
@wire_settings
def test_layout_and_parts(batch: Batch) -> None:
    head = struct.pack(">QHQ", batch.epoch, batch.author, batch.seq) + batch.signature
    head += struct.pack(">I", len(batch.body))
    assert batch.head() == head
    assert len(head) == HEAD_BYTES
    assert batch.parts() == (head, batch.body)
    assert batch.encoding == head + batch.body


@given(batch=batches)
@wire_settings
def test_reference_and_digest(batch: Batch) -> None:
    transactions = [tx for frame in batch.frames for tx in native.transactions(batch.body, frame)]
    ref = batch.ref
    assert (ref.author, ref.seq, ref.size_bytes) == (batch.author, batch.seq, len(batch.body))
    assert ref.tx_count == len(transactions)
    root = native.merkle_root(b"".join(frame.root for frame in batch.frames))
    fields = struct.pack(">QHQII", batch.epoch, batch.author, batch.seq, len(batch.body), len(transactions))
    assert ref.digest == hashlib.sha256(b"PHS1/batch".ljust(16, b"\0") + fields + root).digest()
    assert Batch.decode(batch.encoding).ref == ref


def test_digest_covers_every_field() -> None:
    first = {"epoch": 1, "author": 2, "seq": 3, "size_bytes": 4, "tx_count": 5, "root": fill("root")}
    values: dict[str, Any] = first
    digests = [batch_digest(**values)]
    for name, value in values.items():
        digests.append(batch_digest(**{**values, name: fill("other") if name == "root" else value + 1}))
    assert len(set(digests)) == 7


def test_digest_covers_every_byte_of_the_body() -> None:
    found = {BATCH.ref.digest}
    count = 1
    for at in range(len(BODY)):
        changed = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]
        try:
            native.parse_body(changed, MAX_FRAMES)
        except InvalidEncoding:
            continue
        found.add(parsed(BATCH.epoch, BATCH.author, BATCH.seq, BATCH.signature, changed).ref.digest)
        count += 1
    assert len(found) == count > len(BODY) // 2


def test_signature_covers_author_sequence_and_digest_but_not_itself() -> None:
    message = BATCH.message(CONTEXT)
    assert message == CONTEXT.batch_message(BATCH.author, BATCH.seq, BATCH.ref.digest)
    assert replace(BATCH, signature=bytes(64)).message(CONTEXT) == message
    changes: list[dict[str, Any]] = [{"epoch": 4}, {"author": 3}, {"seq": 42}]
    others = [replace(BATCH, **change).message(CONTEXT) for change in changes]
    assert len({message, *others}) == 4


def test_lanes_start_at_one() -> None:
    assert Batch.decode(with_body(SMALLEST_FRAME, seq=1)).seq == 1
    assert "seq 0" in refused(Batch.decode, with_body(SMALLEST_FRAME, seq=0))


def test_empty_body_is_refused() -> None:
    assert "0 bytes" in refused(Batch.decode, with_body(b""))


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 2**31, 2**32 - 1])
def test_claimed_size_is_refused_before_allocation(size: int) -> None:
    assert f"got {size} bytes" in refused_cheaply(Batch.decode, with_body(SMALLEST_FRAME, size=size))


def test_largest_claimed_size_with_a_short_body_costs_nothing() -> None:
    assert "needs" in refused_cheaply(Batch.decode, with_body(SMALLEST_FRAME, size=MAX_BODY_BYTES))


@pytest.mark.parametrize("count", [2, 2**31, 2**32 - 1])
def test_claimed_transactions_are_refused_before_allocation(count: int) -> None:
    frame = SMALLEST_FRAME[:24] + struct.pack(">I", count) + SMALLEST_FRAME[28:]
    assert refused_cheaply(Batch.decode, with_body(frame))


def test_largest_body_is_accepted_and_one_more_byte_is_not() -> None:
    tx_bytes = 128 * 1024 - len(SMALLEST_FRAME) + 1
    frame, longer = (native.build_frame(bytes(16), 1, [bytes(size)]) for size in (tx_bytes, tx_bytes + 1))
    start = frame * (MAX_BODY_BYTES // len(frame) - 1)
    assert len(start + frame) == MAX_BODY_BYTES
    assert Batch.decode(with_body(start + frame)).body == start + frame
    assert f"got {MAX_BODY_BYTES + 1} bytes" in refused(Batch.decode, with_body(start + longer))


def test_number_of_frames_is_bounded() -> None:
    most = SMALLEST_FRAME * MAX_FRAMES
    assert len(Batch.decode(with_body(most)).frames) == MAX_FRAMES
    assert "number of frames" in refused(Batch.decode, with_body(most + SMALLEST_FRAME))


def test_body_is_not_copied_and_stays_as_received() -> None:
    data = bytearray(SMALL_BATCH.encoding)
    body = memoryview(Batch.decode(data).body)
    assert body.obj is data
