"""`hotstuff.types.block`: headers, payloads and the id that pins both."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from strategies import batch_refs, blocks, sealed, tuples_of
from wire_checks import WireChecks, refused, refused_cheaply, wire_settings
from wire_examples import BLOCK, ENTERED, GENESIS_QC, PLAIN, QC_8, REF, REF_TOP, fill

from hotstuff.types.block import HEADER_VERSION, MAX_BATCH_REFS, BatchRef, Block, Header, payload_root
from hotstuff.types.encoding import decode_all
from hotstuff.types.hashing import Mode


class TestWire(WireChecks):
    names = ("batch_ref", "header", "block")


def decode_header(data: bytes) -> Header:
    return decode_all(data, "header", Header.read)


def test_layout_of_a_reference() -> None:
    expected = struct.pack(">HQ", REF.author, REF.seq) + REF.digest + struct.pack(">II", REF.size_bytes, REF.tx_count)
    assert REF.encoding == expected
    assert len(expected) == BatchRef.ENCODED_BYTES == len(REF_TOP.encoding)


def test_layout_of_a_block() -> None:
    h = BLOCK.header
    head = bytes([HEADER_VERSION, h.mode]) + h.chain_id + struct.pack(">Q", h.epoch) + h.vset_hash
    place = struct.pack(">QQ", h.view, h.height) + h.parent_id + h.justify.encoding
    tail = h.entry_tc_hash + h.payload_root + struct.pack(">H", h.proposer)
    refs = struct.pack(">I", 2) + REF.encoding + REF_TOP.encoding
    assert BLOCK.encoding == head + place + tail + refs


@pytest.mark.parametrize("version", [0, HEADER_VERSION + 1, 255])
def test_unknown_versions_are_refused(version: int) -> None:
    data = bytes([version]) + PLAIN.encoding[1:]
    assert f"version {version}" in refused(decode_header, data)


def test_exactly_the_known_modes_are_accepted() -> None:
    for mode in range(256):
        data = PLAIN.encoding[:1] + bytes([mode]) + PLAIN.encoding[2:]
        if mode in list(Mode):
            assert decode_header(data).mode is Mode(mode)
        else:
            assert f"mode {mode}" in refused(decode_header, data)


def test_id_covers_every_field_and_the_whole_justify() -> None:
    changes: dict[str, Any] = {
        "mode": Mode.BASIC,
        "chain_id": fill("other"),
        "epoch": 4,
        "vset_hash": fill("other"),
        "view": 10,
        "height": 8,
        "parent_id": fill("other"),
        "justify": GENESIS_QC,
        "entry_tc_hash": ENTERED.entry_tc_hash,
        "payload_root": fill("other"),
        "proposer": 2,
    }
    assert changes.keys() == {field.name for field in fields(Header)}
    ids = [replace(PLAIN, **{name: new}).id for name, new in changes.items()]
    # The same certificate by other signers is another block.
    others = (replace(QC_8, signers=b"\x0e"), replace(QC_8, signature=bytes(96)))
    ids += [replace(PLAIN, justify=qc).id for qc in others]
    assert len({PLAIN.id, *ids}) == 1 + len(ids)


def test_id_covers_the_payload_and_its_order() -> None:
    payloads: list[tuple[BatchRef, ...]] = [(), (REF,), (REF_TOP,), (REF, REF_TOP), (REF_TOP, REF), (REF, REF)]
    changes: dict[str, Any] = {"author": 3, "seq": 42, "digest": fill("other"), "size_bytes": 1, "tx_count": 1}
    assert changes.keys() == {field.name for field in fields(BatchRef)}
    payloads += [(replace(REF, **{name: new}),) for name, new in changes.items()]
    assert len({sealed(PLAIN, payload).id for payload in payloads}) == len(payloads)


@given(block=blocks, refs=tuples_of(batch_refs, 3))
@wire_settings
def test_a_payload_of_another_root_is_refused(block: Block, refs: tuple[BatchRef, ...]) -> None:
    other = Block(block.header, refs)
    if refs == block.payload:
        assert Block.decode(other.encoding) == block
    else:
        assert "payload_root" in refused(Block.decode, other.encoding)


def test_id_of_a_block_is_its_header_s() -> None:
    assert BLOCK.id == BLOCK.header.id == Block.decode(BLOCK.encoding).id


@pytest.mark.parametrize("count", [MAX_BATCH_REFS, MAX_BATCH_REFS + 1, 2**31, 2**32 - 1])
def test_claimed_references_are_refused_before_allocation(count: int) -> None:
    data = PLAIN.encoding + struct.pack(">I", count) + REF.encoding
    text = refused_cheaply(Block.decode, data)
    assert ("do not fit" if count == MAX_BATCH_REFS else "at most") in text


def test_full_payload_is_accepted_and_one_more_is_not() -> None:
    full = sealed(PLAIN, (REF,) * MAX_BATCH_REFS)
    assert Block.decode(full.encoding) == full
    assert "at most" in refused(Block.decode, sealed(PLAIN, (REF,) * (MAX_BATCH_REFS + 1)).encoding)


def domain_hash(domain: bytes, data: bytes) -> bytes:
    return hashlib.sha256(domain.ljust(16, b"\0") + data).digest()


@given(refs=tuples_of(batch_refs, 3))
@wire_settings
def test_id_and_payload_root_are_hashes_of_the_encodings(refs: tuple[BatchRef, ...]) -> None:
    encoded = struct.pack(">I", len(refs)) + b"".join(ref.encoding for ref in refs)
    assert payload_root(refs) == domain_hash(b"PHS1/payload", encoded)
    block = sealed(PLAIN, refs)
    assert block.id == domain_hash(b"PHS1/block", block.header.encoding)
