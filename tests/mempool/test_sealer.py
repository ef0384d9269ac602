"""When a batch is closed, and that its frames keep their places."""

from __future__ import annotations

from hotstuff import native
from hotstuff.mempool.sealer import Sealer


def frame(number: int, size: int = 1) -> tuple[bytes, native.Frame]:
    data = native.build_frame(b"c" * 16, number, [b"x" * size])
    return data, native.parse_body(data, 1)[0]


def test_nothing_is_due_without_a_frame() -> None:
    sealer = Sealer(1000, 50)
    assert sealer.due_us(idle=True) is None
    assert sealer.due_us(idle=False) is None


def test_an_idle_lane_seals_at_once_and_a_busy_one_by_the_age_of_the_oldest_frame() -> None:
    sealer = Sealer(1000, 50)
    sealer.add(*frame(1), 100)
    sealer.add(*frame(2), 120)
    assert sealer.due_us(idle=True) == 100
    assert sealer.due_us(idle=False) == 150


def test_a_full_batch_is_due_whatever_its_age() -> None:
    data, parsed = frame(1)
    sealer = Sealer(len(data), 50)
    sealer.add(data, parsed, 100)
    assert sealer.due_us(idle=False) == 100


def test_the_body_parses_to_the_frames_that_went_in_and_the_next_batch_is_fresh() -> None:
    sealer = Sealer(10**6, 50)
    for number in (1, 5, 9):
        sealer.add(*frame(number, number), 100)
    body, frames = sealer.take()
    assert tuple(native.parse_body(body, 10)) == frames
    assert sealer.size_bytes == 0
    assert sealer.due_us(idle=True) is None
    sealer.add(*frame(2), 300)
    assert sealer.due_us(idle=False) == 350
