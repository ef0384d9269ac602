"""`hotstuff.types.client`: what clients and replicas say to each other."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import answers
from wire_checks import WireChecks, refused, refused_cheaply, wire_settings
from wire_examples import ANSWER, ANSWER_TOP

from hotstuff.errors import InvalidEncoding
from hotstuff.types.client import (
    MAX_ANSWERS,
    Answer,
    ClientKind,
    Refusal,
    Refused,
    decode_answers,
    decode_hello,
    encode_answers,
)


class TestWire(WireChecks):
    names = ("client_answer", "client_refused")


def test_kinds_leave_0_to_15_to_the_transport() -> None:
    assert len(set(ClientKind)) == len(ClientKind.__members__)
    assert all(16 <= kind <= 255 for kind in ClientKind)


def test_layouts() -> None:
    assert ANSWER.encoding == struct.pack(">QIIQ", 1, 1000, 998, 7) + ANSWER.state + b"\1"
    assert len(ANSWER.encoding) == len(ANSWER_TOP.encoding) == Answer.ENCODED_BYTES
    assert Refused(17, Refusal.BUSY, 250).encoding == struct.pack(">QBI", 17, 1, 250)


def test_exactly_the_known_reasons_are_accepted() -> None:
    for reason in range(256):
        data = struct.pack(">QBI", 17, reason, 250)
        if reason in list(Refusal):
            assert Refused.decode(data).reason is Refusal(reason)
        else:
            assert f"reason {reason}" in refused(Refused.decode, data)


@given(given=st.lists(answers, max_size=4), cut=st.integers(0, 300), tail=st.binary(min_size=1, max_size=60))
@wire_settings
def test_lists_of_answers(given: list[Answer], cut: int, tail: bytes) -> None:
    encoded = encode_answers(given)
    assert encoded == struct.pack(">I", len(given)) + b"".join(answer.encoding for answer in given)
    assert decode_answers(encoded) == given
    refused(decode_answers, encoded + tail)
    refused(decode_answers, encoded[: cut % len(encoded)])


@given(data=st.binary(max_size=200))
@wire_settings
def test_random_answers_are_refused_or_canonical(data: bytes) -> None:
    try:
        found = decode_answers(data)
    except InvalidEncoding:
        return
    assert encode_answers(found) == data


@pytest.mark.parametrize("count", [MAX_ANSWERS, MAX_ANSWERS + 1, 2**31, 2**32 - 1])
def test_claimed_answers_are_refused_before_allocation(count: int) -> None:
    text = refused_cheaply(decode_answers, struct.pack(">I", count) + ANSWER.encoding)
    assert ("do not fit" if count == MAX_ANSWERS else f"at most {MAX_ANSWERS}") in text


def test_a_hello_is_16_bytes() -> None:
    assert decode_hello(bytes(range(16))) == bytes(range(16))
    for size in (0, 15, 17, 64):
        refused(decode_hello, bytes(size))


def test_golden_list(golden: Callable[[str, dict[str, bytes]], None]) -> None:
    golden("client_answers", {"two": encode_answers([ANSWER, ANSWER_TOP]), "none": encode_answers([])})
