"""One author's lane: window, first digest, acknowledgements by exact reference, bytes counted once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotstuff.mempool.lanes import LANE_WINDOW, Lane
from hotstuff.types.block import BatchRef


def ref(seq: int = 1, digest: bytes = b"d", size: int = 10) -> BatchRef:
    return BatchRef(0, seq, digest * 32, size, 1)


def test_the_window_starts_above_the_executed_number_and_ends() -> None:
    lane = Lane(5)
    assert [lane.slot(seq) is not None for seq in (0, 5, 6, 5 + LANE_WINDOW, 6 + LANE_WINDOW, 2**63 - 1)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    lane.hold(ref(5))
    lane.hold(ref(2**63 - 1))
    assert not lane.ack(1, ref(2**63 - 1))
    assert lane.held_bytes == 0


def test_the_first_batch_held_for_a_number_is_the_one_proposed() -> None:
    lane = Lane(0)
    lane.hold(ref(1, b"a"))
    lane.hold(ref(1, b"b"))
    assert lane.slots[1].first == ref(1, b"a")
    assert lane.holds(ref(1, b"a"))
    assert lane.holds(ref(1, b"b"))
    assert lane.held_bytes == 20


@pytest.mark.parametrize("field", ["size_bytes", "tx_count"])
def test_a_reference_that_lies_about_a_held_batch_is_another_reference(field: str) -> None:
    """It would be certified, and whoever does not hold the batch could never get what it asks for."""
    lane = Lane(0)
    lane.hold(ref())
    lie = replace(ref(), **{field: 7})
    assert not lane.holds(lie)
    lane.ack(1, ref())
    lane.ack(2, lie)
    assert lane.slots[1].ackers(ref()) == [1]


def test_the_first_word_of_a_peer_for_a_number_counts() -> None:
    lane = Lane(0)
    assert lane.ack(1, ref(1, b"a"))
    assert not lane.ack(1, ref(1, b"b"))
    assert lane.slots[1].ackers(ref(1, b"b")) == []


def test_bytes_count_from_storing_to_executing_and_once() -> None:
    lane = Lane(0)
    lane.store(ref(1))
    assert lane.held_bytes == 10
    lane.store(ref(1))
    lane.hold(ref(1))
    lane.hold(ref(1))
    lane.store(ref(2, size=5))
    assert lane.held_bytes == 15
    assert not lane.holds(ref(2))
    lane.execute(2)
    assert lane.held_bytes == 0
    lane.hold(ref(2, size=5))
    assert lane.held_bytes == 0
    assert lane.slots == {}
