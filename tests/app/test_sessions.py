from __future__ import annotations

import random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotstuff.app import sessions
from hotstuff.app.sessions import MAX_GAPS, Session, Sessions, Span
from hotstuff.errors import InvalidEncoding
from hotstuff.types.encoding import U32, U64

FEW_GAPS = 3
FRAMES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)), max_size=40)


class Model:
    """The same rules over a plain set of numbers."""

    def __init__(self, gaps_max: int) -> None:
        self.gaps_max = gaps_max
        self.executed: set[int] = {0}

    def take(self, first: int, count: int) -> list[int] | None:
        wanted = set(range(first, first + count))
        if self.gaps(self.executed | wanted) > self.gaps_max:
            return None
        fresh = sorted(wanted - self.executed)
        self.executed |= wanted
        return fresh

    @staticmethod
    def gaps(executed: set[int]) -> int:
        """Runs of missing numbers below the highest one."""
        return sum(n not in executed and n - 1 in executed for n in range(1, max(executed)))


def numbers(spans: list[Span] | None) -> list[int] | None:
    return None if spans is None else [n for start, stop in spans for n in range(start, stop)]


def executed(session: Session) -> set[int]:
    return {*range(session.floor), *(n for start, stop in session.spans for n in range(start, stop))}


@given(FRAMES)
def test_a_session_is_a_set_of_numbers(frames: list[tuple[int, int]]) -> None:
    session, model = Session(), Model(MAX_GAPS)
    for first, count in frames:
        fresh = session.take(first, count)
        assert numbers(fresh) == model.take(first, count)
        assert executed(session) == model.executed
        assert all(start < stop for start, stop in fresh or ())


@given(FRAMES)
def test_what_would_open_one_gap_more_is_refused_whole(frames: list[tuple[int, int]]) -> None:
    session, model = Session(), Model(FEW_GAPS)
    with patch.object(sessions, "MAX_GAPS", FEW_GAPS):
        for first, count in frames:
            assert numbers(session.take(first, count)) == model.take(first, count)
            assert executed(session) == model.executed
            assert len(session.spans) <= FEW_GAPS


@given(FRAMES, st.integers(0, 40))
def test_a_stored_session_goes_on_as_if_it_never_was(frames: list[tuple[int, int]], at: int) -> None:
    session, other = Session(), Session()
    with patch.object(sessions, "MAX_GAPS", FEW_GAPS):
        for i, (first, count) in enumerate(frames):
            if i == at:
                other = Session.decode(other.encode())
            assert session.take(first, count) == other.take(first, count)
    assert session == other
    assert session.encode() == other.encode()


def test_spans_stay_apart_and_ascend() -> None:
    session = Session()
    for first in random.Random(3).sample(range(1, 400), 200):
        session.take(first, 1)
        edges = [session.floor, *(edge for span in session.spans for edge in span)]
        assert edges == sorted(set(edges)), "spans touch or overlap"


def test_the_same_frame_twice_is_executed_once() -> None:
    session = Session()
    assert session.take(1, 5) == [(1, 6)]
    assert session.take(1, 5) == []
    assert session.take(3, 5) == [(6, 8)]
    assert session == Session(floor=8)


def test_one_frame_over_several_gaps() -> None:
    session = Session()
    for first in (3, 6, 9):
        session.take(first, 1)
    assert session.take(1, 12) == [(1, 3), (4, 6), (7, 9), (10, 13)]
    assert session == Session(floor=13)


def test_64_gaps_may_stay_open() -> None:
    session = Session()
    for i in range(1, MAX_GAPS + 1):
        assert session.take(10 * i, 1) == [(10 * i, 10 * i + 1)]
    assert (session.floor, len(session.spans)) == (1, MAX_GAPS)
    before = session.encode()
    assert session.take(10 * MAX_GAPS + 2, 5) is None
    assert session.take(15, 2) is None, "a hole in a gap is one more gap"
    assert session.encode() == before, "a refusal changes nothing"
    assert session.take(10 * MAX_GAPS + 1, 5) == [(10 * MAX_GAPS + 1, 10 * MAX_GAPS + 6)], "the last span may grow"
    assert session.take(10 * MAX_GAPS, 1) == []
    assert session.take(1, 9) == [(1, 10)], "closing a gap makes room for another"
    assert session.take(700, 1) == [(700, 701)]
    assert session.take(800, 1) is None


def test_a_frame_that_was_executed_in_part_is_never_refused() -> None:
    """The answer to a refused frame says that nothing of it was executed, so this must not happen."""
    session = Session()
    for i in range(1, MAX_GAPS + 1):
        session.take(10 * i, 2)
    for i in range(1, MAX_GAPS + 1):
        copy = Session.decode(session.encode())
        assert copy.take(10 * i - 3, 5) == [(10 * i - 3, 10 * i)]
        assert copy.take(10 * i + 1, 3) == [(10 * i + 2, 10 * i + 4)]


def test_the_largest_numbers() -> None:
    session = Session()
    top = 2**63 - 1
    assert session.take(top, 1) == [(top, top + 1)]
    assert Session.decode(session.encode()) == session


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=MAX_GAPS),
)
def test_round_trip(floor: int, touched: int, spans: list[Span]) -> None:
    session = Session(floor, spans, touched)
    encoded = session.encode()
    assert Session.decode(encoded) == session
    for wrong in (encoded[:-1], encoded + b"\0"):
        with pytest.raises(InvalidEncoding, match="session"):
            Session.decode(wrong)


def test_more_spans_than_gaps_are_allowed_do_not_decode() -> None:
    with pytest.raises(InvalidEncoding, match="at most 64"):
        Session.decode(U64.pack(1) + U64.pack(1) + U32.pack(MAX_GAPS + 1) + bytes(16 * (MAX_GAPS + 1)))


# ---- the table


def client(i: int) -> bytes:
    return bytes([i]) * 16


def test_clients_do_not_share_numbers() -> None:
    table = Sessions({})
    assert table.take(client(1), 1, 3) == [(1, 4)]
    assert table.take(client(2), 2, 3) == [(2, 5)]
    assert table.take(client(1), 2, 3) == [(4, 5)]
    assert len(table) == 2


def test_changes_are_told_once() -> None:
    table = Sessions({})
    assert table.changes() == {}
    table.take(client(1), 1, 3)
    table.take(client(1), 4, 1)
    table.take(client(2), 7, 1)
    changes = table.changes()
    assert changes == {client(1): Session(5, [], 2).encode(), client(2): Session(1, [(7, 8)], 3).encode()}
    assert table.changes() == {}
    table.take(client(2), 1, 1)
    assert list(table.changes()) == [client(2)]


def test_the_one_that_was_silent_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    table = Sessions({})
    for i in (1, 2, 1, 3):
        table.take(client(i), 1, 1)
    changes = table.changes()
    assert len(table) == 2
    assert changes[client(2)] is None
    assert changes[client(1)] is not None
    assert table.take(client(2), 1, 1) == [(1, 2)], "forgotten: it starts anew"
    changes = table.changes()
    assert changes[client(1)] is None
    assert changes[client(2)] is not None


@pytest.mark.parametrize("seed", range(10))
def test_eviction_survives_saving_and_loading(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas restart at different moments; they must forget the same clients."""
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    monkeypatch.setattr(sessions, "MAX_GAPS", FEW_GAPS)
    rng = random.Random(seed)
    stored: dict[bytes, bytes] = {}
    always, other = Sessions({}), Sessions({})
    for _ in range(200):
        who, first, count = client(rng.randint(1, 6)), rng.randint(1, 30), rng.randint(1, 5)
        assert always.take(who, first, count) == other.take(who, first, count)
        for key, value in other.changes().items():
            stored.pop(key, None)
            if value is not None:
                stored[key] = value
        assert len(always) == len(other) == len(stored) <= 3
        if rng.random() < 0.2:
            in_any_order = rng.sample(sorted(stored.items()), len(stored))
            other = Sessions({key: Session.decode(value) for key, value in in_any_order})


def test_exactly_the_limit_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    table = Sessions({})
    for i in range(3):
        table.take(client(i), 1, 1)
    assert None not in table.changes().values()
