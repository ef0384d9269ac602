"""`hotstuff.types.certificates`: shapes and bytes of QC and TC."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import fields, replace
from typing import Any

import pytest
from wire_checks import WireChecks, refused, refused_cheaply
from wire_examples import CONTEXT, GENESIS_QC, QC_8, TC_9, fill

from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.validators import MAX_VALIDATORS

LARGEST_BITMAP = MAX_VALIDATORS // 8
# Where the length of the bitmap stands in a QC, and where the number of groups stands in a TC.
BITMAP_AT = 8 + 8 + 1 + 32 + 32
GROUPS_AT = 8 + 8


class TestWire(WireChecks):
    names = ("qc", "tc")


def test_layout_of_a_qc() -> None:
    qc = QC_8
    expected = struct.pack(">QQB", qc.epoch, qc.view, qc.phase) + qc.block_id + qc.commit_id
    assert qc.encoding == expected + struct.pack(">H", len(qc.signers)) + qc.signers + qc.signature


def test_layout_of_a_tc() -> None:
    groups = b"".join(struct.pack(">QH", g.high_qc_view, len(g.signers)) + g.signers for g in TC_9.groups)
    expected = struct.pack(">QQH", TC_9.epoch, TC_9.view, len(TC_9.groups)) + groups
    assert TC_9.encoding == expected + TC_9.signature + TC_9.high_qc.encoding


def test_genesis_certificate() -> None:
    expected = QC(3, 0, Phase.GENERIC, CONTEXT.root_id, ZERO_HASH, b"", bytes(96))
    assert QC.genesis(CONTEXT) == expected == QC.decode(expected.encoding)
    changes: dict[str, Any] = {"mode": Mode.BASIC, "chain_id": fill("x"), "epoch": 4, "vset_hash": fill("x")}
    others = [QC.genesis(replace(CONTEXT, **{name: new})) for name, new in changes.items()]
    assert len({expected.key, *(qc.key for qc in others)}) == 5


@pytest.mark.parametrize("size", [LARGEST_BITMAP + 1, 65535])
def test_bitmap_is_bounded(size: int) -> None:
    encoded = QC_8.encoding
    claimed = encoded[:BITMAP_AT] + struct.pack(">H", size) + encoded[BITMAP_AT + 2 :]
    assert f"bitmap of {size} bytes" in refused_cheaply(QC.decode, claimed)
    assert f"bitmap of {size} bytes" in refused(QC.decode, replace(QC_8, signers=bytes(size)).encoding)
    group = TimeoutGroup(1, bytes(size))
    assert f"bitmap of {size} bytes" in refused(TC.decode, replace(TC_9, groups=(group,)).encoding)


def test_largest_bitmap_and_most_groups_are_accepted() -> None:
    largest = replace(QC_8, signers=b"\xff" * LARGEST_BITMAP)
    assert QC.decode(largest.encoding) == largest
    crowd = replace(TC_9, groups=tuple(TimeoutGroup(view, b"\1") for view in range(MAX_VALIDATORS)))
    assert TC.decode(crowd.encoding) == crowd


@pytest.mark.parametrize("count", [0, MAX_VALIDATORS + 1, 65535])
def test_number_of_groups_is_bounded(count: int) -> None:
    encoded = TC_9.encoding
    claimed = encoded[:GROUPS_AT] + struct.pack(">H", count) + encoded[GROUPS_AT + 2 :]
    assert f"got {count} timeout groups" in refused_cheaply(TC.decode, claimed)


def test_most_groups_with_a_short_body_cost_nothing() -> None:
    refused_cheaply(TC.decode, TC_9.encoding[:GROUPS_AT] + struct.pack(">H", MAX_VALIDATORS))


@pytest.mark.parametrize("value", [QC_8, TC_9, GENESIS_QC], ids=["qc", "tc", "genesis"])
def test_key_covers_every_field(value: QC | TC) -> None:
    changes: dict[str, Any] = {
        "epoch": 7,
        "view": 100,
        "phase": Phase.COMMIT,
        "block_id": fill("other"),
        "commit_id": fill("other"),
        "signers": b"\x0e",
        "signature": fill("other", 96),
        "groups": (TimeoutGroup(8, b"\x05"),),
        "high_qc": replace(QC_8, signature=fill("other", 96)),
    }
    names = [field.name for field in fields(value)]
    keys = [replace(value, **{name: changes[name]}).key for name in names]
    assert len({value.key, *keys}) == 1 + len(names)
    domain = b"PHS1/tc" if isinstance(value, TC) else b"PHS1/qc"
    assert value.key == hashlib.sha256(domain.ljust(16, b"\0") + value.encoding).digest()


def test_qc_and_tc_keys_do_not_collide_on_equal_bytes() -> None:
    assert QC_8.key != TC_9.key
    forged = replace(QC_8)
    forged.__dict__["encoding"] = TC_9.encoding
    assert forged.key != TC_9.key


def test_signers_are_kept_as_received() -> None:
    # Whether they fit a validator set is the verifier's business, but no bit may get lost on the way there.
    for signers in (b"", b"\0", b"\0\0", b"\xff" * 128, b"\1" + bytes(127)):
        assert QC.decode(replace(QC_8, signers=signers).encoding).signers == signers
