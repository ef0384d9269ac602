from __future__ import annotations

from typing import Any

import orjson
import pytest
from node_helpers import frame_data

from hotstuff import native
from hotstuff.consensus.effects import Submitted
from hotstuff.errors import InvalidEncoding, InvalidMessage
from hotstuff.network import ClientLimits
from hotstuff.node import gateway as module
from hotstuff.node.executor import ClientAnswer
from hotstuff.node.gateway import RETRY_MS, Gateway
from hotstuff.types.client import Answer, ClientKind, Refusal, Refused, decode_answers, encode_answers

ALICE, BOB = b"a" * 16, b"b" * 16


class Conn:
    """Records what a client would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def send(self, kind: int, *parts: bytes) -> bool:
        self.sent.append((kind, b"".join(parts)))
        return True

    def answers(self) -> list[Answer]:
        return [answer for kind, body in self.sent if kind == ClientKind.ANSWERS for answer in decode_answers(body)]


class Bench:
    def __init__(self) -> None:
        self.submitted: list[Submitted] = []
        self.room, self.ready = 1 << 20, True
        self.crashes: list[BaseException] = []
        self.gateway = Gateway(
            submit=self.submitted.append,
            room_bytes=lambda: self.room,
            ready=lambda: self.ready,
            status=lambda: {"view": 7},
            fatal=self.crashes.append,
        )

    def conn(self, client_id: bytes | None = None) -> Any:
        conn = Conn()
        self.gateway.client_connected(conn)  # type: ignore[arg-type]
        if client_id is not None:
            self.receive(conn, ClientKind.HELLO, client_id)
        return conn

    def receive(self, conn: Any, kind: int, body: bytes = b"") -> None:
        self.gateway.frame_received(conn, kind, body)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def answer(first: int, height: int = 1) -> Answer:
    return Answer(first, 1, 1, height, b"\5" * 32)


def test_a_frame_goes_to_the_core_as_it_came(bench: Bench) -> None:
    conn, data = bench.conn(ALICE), frame_data(ALICE, 5, 3)
    bench.receive(conn, ClientKind.SUBMIT, data)
    assert bench.submitted == [Submitted(data, native.parse_body(data, 1)[0])]
    assert conn.sent == []


def test_a_second_hello_closes_the_connection(bench: Bench) -> None:
    conn = bench.conn(ALICE)
    for client_id in (ALICE, BOB):
        with pytest.raises(InvalidMessage, match="client hello: got a second one"):
            bench.receive(conn, ClientKind.HELLO, client_id)
    bench.gateway.answer([ClientAnswer(ALICE, answer(1)), ClientAnswer(BOB, answer(1))])
    assert conn.answers() == [answer(1)]


@pytest.mark.parametrize("hello", [None, BOB])
def test_a_frame_of_somebody_else_is_refused(bench: Bench, hello: bytes | None) -> None:
    conn = bench.conn(hello)
    with pytest.raises(InvalidMessage, match="the client id is not the one of this connection's hello"):
        bench.receive(conn, ClientKind.SUBMIT, frame_data(ALICE, 1, 1))
    assert bench.submitted == []


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_hello_is_16_bytes(bench: Bench, size: int) -> None:
    with pytest.raises(InvalidEncoding, match="client hello"):
        bench.receive(bench.conn(), ClientKind.HELLO, bytes(size))


@pytest.mark.parametrize(
    "body", [b"", b"x", frame_data(ALICE, 1, 2)[:-1], frame_data(ALICE, 1, 2) + b"\0", 2 * frame_data(ALICE, 1, 1)]
)
def test_a_malformed_frame_closes_the_connection(bench: Bench, body: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        bench.receive(bench.conn(ALICE), ClientKind.SUBMIT, body)
    assert bench.submitted == []


@pytest.mark.parametrize("kind", [1, 15, 18, 19, 21, 22, 253])
def test_other_kinds_close_the_connection(bench: Bench, kind: int) -> None:
    with pytest.raises(InvalidMessage, match=rf"got kind {kind}, allowed: \[16, 17, 20\]"):
        bench.receive(bench.conn(ALICE), kind)


def test_what_is_refused_is_not_even_parsed(bench: Bench) -> None:
    conn, data = bench.conn(ALICE), bytearray(frame_data(ALICE, 5, 3))
    data[-1:] = b""  # cut short
    bench.room = 0
    bench.receive(conn, ClientKind.SUBMIT, bytes(data))
    assert [kind for kind, _ in conn.sent] == [ClientKind.REFUSED]
    bench.room = 1 << 20
    with pytest.raises(InvalidEncoding):
        bench.receive(conn, ClientKind.SUBMIT, bytes(data))


def test_not_ready_and_busy(bench: Bench) -> None:
    conn, data = bench.conn(ALICE), frame_data(ALICE, 5, 3)
    bench.room, bench.ready = 0, False
    bench.receive(conn, ClientKind.SUBMIT, data)
    bench.room, bench.ready = len(data) - 1, True
    bench.receive(conn, ClientKind.SUBMIT, data)
    refusals = [Refused.decode(body) for kind, body in conn.sent if kind == ClientKind.REFUSED]
    assert refusals == [Refused(5, Refusal.NOT_READY, 10 * RETRY_MS), Refused(5, Refusal.BUSY, RETRY_MS)]
    assert (len(conn.sent), bench.submitted) == (2, [])
    bench.room = len(data)
    bench.receive(conn, ClientKind.SUBMIT, data)
    assert len(bench.submitted) == 1


def test_the_status_needs_no_hello(bench: Bench) -> None:
    conn = bench.conn()
    bench.receive(conn, ClientKind.STATUS_REQUEST)
    ((kind, body),) = conn.sent
    assert (kind, orjson.loads(body)) == (ClientKind.STATUS, {"view": 7})


def test_each_client_gets_its_own_answers_in_one_message(bench: Bench) -> None:
    alice, bob = bench.conn(ALICE), bench.conn(BOB)
    own = [answer(1), answer(2), answer(3)]
    mixed = [(ALICE, own[0]), (BOB, own[0]), (b"?" * 16, own[0]), (ALICE, own[1]), (ALICE, own[2])]
    bench.gateway.answer([ClientAnswer(*item) for item in mixed])
    assert alice.sent == [(ClientKind.ANSWERS, encode_answers(own))]
    assert bob.sent == [(ClientKind.ANSWERS, encode_answers(own[:1]))]
    bench.gateway.answer([])
    assert len(alice.sent) == 1


def test_the_newest_connection_gets_the_answers(bench: Bench) -> None:
    old, new = bench.conn(ALICE), bench.conn(ALICE)
    bench.gateway.answer([ClientAnswer(ALICE, answer(1))])
    bench.gateway.client_lost(old)
    bench.gateway.answer([ClientAnswer(ALICE, answer(2))])
    assert (old.answers(), new.answers()) == ([], [answer(1), answer(2)])
    bench.gateway.client_lost(new)
    bench.gateway.answer([ClientAnswer(ALICE, answer(3))])
    assert len(new.sent) == 2
    again = bench.conn(ALICE)
    bench.gateway.answer([ClientAnswer(ALICE, answer(4))])
    assert again.answers() == [answer(4)]


def test_the_old_connection_may_still_submit(bench: Bench) -> None:
    old, new = bench.conn(ALICE), bench.conn(ALICE)
    bench.receive(old, ClientKind.SUBMIT, frame_data(ALICE, 1, 1))
    bench.receive(new, ClientKind.SUBMIT, frame_data(ALICE, 2, 1))
    assert len(bench.submitted) == 2


def test_a_lost_connection_is_forgotten(bench: Bench) -> None:
    conn, silent = bench.conn(ALICE), bench.conn()
    bench.gateway.client_lost(conn)
    bench.gateway.client_lost(silent)
    with pytest.raises(InvalidMessage):
        bench.receive(conn, ClientKind.SUBMIT, frame_data(ALICE, 1, 1))


def test_many_answers_go_in_parts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_PER_MESSAGE", 3)
    conn, own = bench.conn(ALICE), [answer(i) for i in range(1, 8)]
    bench.gateway.answer([ClientAnswer(ALICE, a) for a in own])
    assert [len(decode_answers(body)) for _, body in conn.sent] == [3, 3, 1]
    assert conn.answers() == own


def test_each_part_fits_into_what_a_client_takes(bench: Bench) -> None:
    """A client closes the connection on a frame above its limit."""
    conn = bench.conn(ALICE)
    bench.gateway.answer([ClientAnswer(ALICE, answer(1))] * 40_000)
    assert len(conn.answers()) == 40_000
    largest = max(len(body) for _, body in conn.sent)
    assert 1_000_000 < largest < ClientLimits().max_frame_bytes


def test_our_own_bug_is_passed_on(bench: Bench) -> None:
    error = ZeroDivisionError()
    bench.gateway.fatal(error)
    assert bench.crashes == [error]
