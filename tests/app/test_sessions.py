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
        self.settled: set[int] = {0}

    def take(self, first: int, count: int) -> list[int]:
        fresh = [n for n in range(first, first + count) if n not in self.settled]
        self.settled.update(fresh)
        while len(gaps := self.gaps()) > self.gaps_max:
            self.settled.update(gaps[0])
        return fresh

    def gaps(self) -> list[list[int]]:
        """Runs of missing numbers below the highest settled one, ascending."""
        found: list[list[int]] = []
        for n in range(max(self.settled)):
            if n not in self.settled:
                if n - 1 in self.settled:
                    found.append([])
                found[-1].append(n)
        return found


def numbers(spans: list[Span]) -> list[int]:
    return [n for start, stop in spans for n in range(start, stop)]


def settled(session: Session) -> set[int]:
    return {*range(session.floor), *numbers(session.spans)}


@given(FRAMES)
def test_a_session_is_a_set_of_numbers(frames: list[tuple[int, int]]) -> None:
    session, model = Session(), Model(MAX_GAPS)
    for first, count in frames:
        fresh = session.take(first, count)
        assert numbers(fresh) == model.take(first, count)
        assert settled(session) == model.settled
        assert all(start < stop for start, stop in fresh)


@given(FRAMES)
def test_with_few_gaps_the_lowest_is_closed(frames: list[tuple[int, int]]) -> None:
    session, model = Session(), Model(FEW_GAPS)
    with patch.object(sessions, "MAX_GAPS", FEW_GAPS):
        for first, count in frames:
            assert numbers(session.take(first, count)) == model.take(first, count)
            assert settled(session) == model.settled
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


def test_64_gaps_stay_open_and_the_65th_closes_the_lowest() -> None:
    session = Session()
    for i in range(MAX_GAPS):
        assert session.take(10 * (i + 1), 1) == [(10 * (i + 1), 10 * (i + 1) + 1)]
    assert (session.floor, len(session.spans)) == (1, MAX_GAPS)
    assert session.take(1, 2) == [(1, 3)], "the lowest gap is still open"
    last = 10 * (MAX_GAPS + 1)
    assert session.take(last, 1) == [(last, last + 1)]
    assert (session.floor, len(session.spans)) == (11, MAX_GAPS)
    assert session.take(3, 7) == [], "closed: it will not be executed any more"
    assert session.take(11, 2) == [(11, 13)], "the next one is still open"


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


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30), st.integers(1, 5)), max_size=60), st.data())
def test_eviction_survives_saving_and_loading(frames: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Replicas restart at different moments; they must forget the same clients."""
    restarts = data.draw(st.sets(st.integers(0, 60), max_size=5))
    stored: dict[bytes, bytes] = {}
    with patch.object(sessions, "MAX_SESSIONS", 3), patch.object(sessions, "MAX_GAPS", FEW_GAPS):
        always, other = Sessions({}), Sessions({})
        for i, (who, first, count) in enumerate(frames):
            assert always.take(client(who), first, count) == other.take(client(who), first, count)
            for key, value in other.changes().items():
                if value is None:
                    stored.pop(key, None)
                else:
                    stored[key] = value
            if i in restarts:
                other = Sessions({key: Session.decode(value) for key, value in reversed(stored.items())})
        assert always.changes().keys() >= stored.keys()
        assert len(always) == len(other) == len(stored) <= 3


def test_exactly_the_limit_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    table = Sessions({})
    for i in range(3):
        table.take(client(i), 1, 1)
    assert None not in table.changes().values()
