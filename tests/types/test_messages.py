"""`hotstuff.types.messages`: one kind, one type, one encoding each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CODECS, hashes, messages, optional_tcs, sealed
from wire_checks import WireChecks, accepted, refused, refused_cheaply, wire_settings
from wire_examples import BLOCK, EMPTY_BLOCK, ENTERED, EXAMPLES, GENESIS_QC, PLAIN, QC_8, REF, TC_9, fill

from hotstuff.types.certificates import TC
from hotstuff.types.encoding import U32, ZERO_HASH
from hotstuff.types.messages import (
    MAX_ACKS,
    MAX_BODY_REQUESTS,
    MAX_PAGE_BLOCKS,
    Ack,
    BatchRequest,
    BlockResponse,
    ChainResponse,
    Kind,
    NewView,
    Proposal,
    decode_message,
)

COUNTS = (2**31 - 1, 2**31, 2**32 - 1)


class TestWire(WireChecks):
    names = ("vote", "timeout", *(name for name in CODECS if name.startswith("message_")))


def decoder(kind: Kind) -> Callable[[bytes], Any]:
    return lambda data: decode_message(kind, data)


def test_kinds_leave_0_to_15_to_the_transport() -> None:
    assert len(set(Kind)) == len(Kind.__members__)
    assert all(16 <= kind <= 255 for kind in Kind)


@given(message=messages)
@wire_settings
def test_a_message_is_read_back_by_its_own_kind(message: Any) -> None:
    found = decode_message(message.kind, message.encoding)
    assert type(found) is type(message)
    assert found.kind is message.kind


@pytest.mark.parametrize("kind", [*(k for k in range(-1, 258) if k not in list(Kind)), 2**31, 2**63, -(2**63)])
def test_unknown_kinds_are_refused(kind: int) -> None:
    assert f"kind {kind}," in refused(lambda data: decode_message(kind, data), b"")


@given(message=messages, kind=st.sampled_from(Kind))
@wire_settings
def test_bytes_under_another_kind_are_refused_or_canonical(message: Any, kind: Kind) -> None:
    accepted(decoder(kind), message.encoding)


def test_an_ack_and_a_batch_request_differ_in_kind_alone() -> None:
    # The one pair of types with the same bytes; the frame's kind tells them apart, and neither is signed.
    assert type(decode_message(Kind.ACK, Ack((REF,)).encoding)) is Ack
    assert type(decode_message(Kind.BATCH_REQUEST, Ack((REF,)).encoding)) is BatchRequest


@pytest.mark.parametrize("flag", [2, 3, 0x80, 0xFF])
def test_options_have_one_form(flag: int) -> None:
    without: dict[Kind, Any] = {
        Kind.PROPOSAL: EXAMPLES["message_proposal"]["after_qc"],
        Kind.TIMEOUT: EXAMPLES["message_timeout"]["after_qc"],
        Kind.NEW_VIEW: NewView(QC_8, None),
        Kind.CHAIN_RESPONSE: ChainResponse(7, (), None),
    }
    for kind, message in without.items():
        encoded = message.encoding
        assert encoded[-1] == 0
        assert f"flag {flag}" in refused(decoder(kind), encoded[:-1] + bytes([flag]))
        refused(decoder(kind), encoded[:-1] + b"\1")
        refused(decoder(kind), encoded[:-1])


def test_an_absent_option_may_not_be_followed_by_its_value() -> None:
    refused(decoder(Kind.NEW_VIEW), QC_8.encoding + b"\0" + TC_9.encoding)


@given(tc=optional_tcs, key=hashes)
@wire_settings
def test_entry_tc_is_the_one_in_the_header(tc: TC | None, key: bytes) -> None:
    expected = ZERO_HASH if tc is None else tc.key
    for named in (key, ZERO_HASH, TC_9.key, expected):
        proposal = Proposal(sealed(replace(PLAIN, entry_tc_hash=named), (REF,)), bytes(64), tc)
        if named == expected:
            assert decode_message(Kind.PROPOSAL, proposal.encoding) == proposal
        else:
            assert "entry" in refused(decoder(Kind.PROPOSAL), proposal.encoding)


def test_entry_tc_that_is_named_must_be_there() -> None:
    proposal = Proposal(sealed(ENTERED, ()), bytes(64), None)
    assert "entry" in refused(decoder(Kind.PROPOSAL), proposal.encoding)


def test_chain_responses_have_blocks_and_qc_or_neither() -> None:
    for response in (ChainResponse(7, (BLOCK,), None), ChainResponse(7, (), QC_8)):
        assert "together" in refused(decoder(Kind.CHAIN_RESPONSE), response.encoding)


@pytest.mark.parametrize("count", [MAX_PAGE_BLOCKS, MAX_PAGE_BLOCKS + 1, *COUNTS])
def test_claimed_blocks_are_refused_before_allocation(count: int) -> None:
    tail = U32.pack(count) + BLOCK.encoding
    refused_cheaply(decoder(Kind.BLOCK_RESPONSE), bytes(32) + tail)
    refused_cheaply(decoder(Kind.CHAIN_RESPONSE), bytes(8) + tail)


@pytest.mark.parametrize(("kind", "limit"), [(Kind.ACK, MAX_ACKS), (Kind.BATCH_REQUEST, MAX_BODY_REQUESTS)])
def test_claimed_references_are_refused_before_allocation(kind: Kind, limit: int) -> None:
    assert "do not fit" in refused_cheaply(decoder(kind), U32.pack(limit) + REF.encoding)
    for count in (limit + 1, *COUNTS):
        assert f"at most {limit}" in refused_cheaply(decoder(kind), U32.pack(count) + REF.encoding)


def test_full_messages_are_accepted_and_one_more_item_is_not() -> None:
    assert len(decode_message(Kind.ACK, Ack((REF,) * MAX_ACKS).encoding).refs) == MAX_ACKS  # type: ignore[union-attr]
    refused(decoder(Kind.ACK), Ack((REF,) * (MAX_ACKS + 1)).encoding)
    page = BlockResponse(BLOCK.id, (EMPTY_BLOCK,) * MAX_PAGE_BLOCKS)
    assert decode_message(Kind.BLOCK_RESPONSE, page.encoding) == page
    refused(decoder(Kind.BLOCK_RESPONSE), BlockResponse(BLOCK.id, (EMPTY_BLOCK,) * (MAX_PAGE_BLOCKS + 1)).encoding)
    requests = BatchRequest((REF,) * MAX_BODY_REQUESTS)
    assert decode_message(Kind.BATCH_REQUEST, requests.encoding) == requests
    refused(decoder(Kind.BATCH_REQUEST), BatchRequest((REF,) * (MAX_BODY_REQUESTS + 1)).encoding)


def test_the_smallest_block_is_not_taken_for_a_count_that_does_not_fit() -> None:
    smallest = sealed(replace(PLAIN, justify=GENESIS_QC), ())
    response = BlockResponse(fill("id"), (smallest, smallest))
    assert decode_message(Kind.BLOCK_RESPONSE, response.encoding) == response


def test_layout_of_the_small_messages() -> None:
    expected = {
        "message_block_request": fill("block 9") + struct.pack(">QI", 4, 128),
        "message_chain_request": struct.pack(">Q", 1),
        "message_recovery_request": b"",
        "message_state_report": struct.pack(">Q", 64) + fill("state"),
    }
    for name, encoded in expected.items():
        assert next(iter(EXAMPLES[name].values())).encoding == encoded
