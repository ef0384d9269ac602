"""Where clients come in: takes their frames, gives them their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from hotstuff import native
from hotstuff.consensus.effects import Submitted
from hotstuff.errors import InvalidMessage
from hotstuff.network import Body, ClientLimits, FrameProtocol
from hotstuff.node.executor import ClientAnswer
from hotstuff.types.client import (
    Answer,
    ClientKind,
    Refusal,
    Refused,
    decode_hello,
    encode_answers,
)

# When a refused client is told to try again: about the time of a block under load.
RETRY_MS = 50
# Answers in one message: what fits into the largest frame that a client takes, with room for kind and count.
ANSWERS_PER_MESSAGE = (ClientLimits().max_frame_bytes - 64) // Answer.ENCODED_BYTES


class Gateway:
    """The `network.ClientHandler` of one replica. A client names itself first; its id is where answers go."""

    def __init__(
        self,
        *,
        submit: Callable[[Submitted], None],
        room_bytes: Callable[[], int],
        ready: Callable[[], bool],
        status: Callable[[], dict[str, object]],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._submit = submit
        self._room_bytes = room_bytes
        self._ready = ready
        self._status = status
        self._fatal = fatal
        self._id_of: dict[FrameProtocol, bytes] = {}
        self._conn_of: dict[bytes, FrameProtocol] = {}

    def client_connected(self, conn: FrameProtocol) -> None:
        """Nothing is known about it yet."""

    def client_lost(self, conn: FrameProtocol) -> None:
        """Its answers are dropped; it asks again from wherever it connects."""
        client_id = self._id_of.pop(conn, None)
        if client_id is not None and self._conn_of.get(client_id) is conn:
            del self._conn_of[client_id]

    def fatal(self, exc: Exception) -> None:
        """Our own bug in a callback."""
        self._fatal(exc)

    def frame_received(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        """One frame of a client; raises `InvalidMessage` to close the connection."""
        if kind == ClientKind.SUBMIT:
            self._on_submit(conn, body)
        elif kind == ClientKind.HELLO:
            self._on_hello(conn, body)
        elif kind == ClientKind.STATUS_REQUEST:
            conn.send(ClientKind.STATUS, orjson.dumps(self._status()))
        else:
            allowed = [int(k) for k in (ClientKind.HELLO, ClientKind.SUBMIT, ClientKind.STATUS_REQUEST)]
            raise InvalidMessage(f"client message: got kind {kind}, allowed: {allowed}")

    def _on_hello(self, conn: FrameProtocol, body: Body) -> None:
        client_id = decode_hello(body)
        if conn in self._id_of:
            raise InvalidMessage("client hello: got a second one, allowed: one for each connection")
        self._id_of[conn] = client_id
        # The newest connection gets the answers: after a broken link the old one may linger.
        self._conn_of[client_id] = conn

    def _on_submit(self, conn: FrameProtocol, body: Body) -> None:
        client_id, first_seq = native.frame_head(body)
        if client_id != self._id_of.get(conn):
            raise InvalidMessage("submit: the client id is not the one of this connection's hello")
        # Before anything of it is parsed or hashed: under overload most of the work would be on what is refused.
        if not self._ready():
            conn.send(ClientKind.REFUSED, Refused(first_seq, Refusal.NOT_READY, 10 * RETRY_MS).encoding)
        elif self._room_bytes() < len(body):
            conn.send(ClientKind.REFUSED, Refused(first_seq, Refusal.BUSY, RETRY_MS).encoding)
        else:
            (frame,) = native.parse_body(body, 1)
            self._submit(Submitted(body, frame))

    def answer(self, answers: Sequence[ClientAnswer]) -> None:
        """Send each client that is connected here its answers, in one message."""
        by_client: dict[bytes, list[Answer]] = {}
        for client_id, answer in answers:
            if client_id in self._conn_of:
                by_client.setdefault(client_id, []).append(answer)
        for client_id, own in by_client.items():
            for start in range(0, len(own), ANSWERS_PER_MESSAGE):
                part = own[start : start + ANSWERS_PER_MESSAGE]
                self._conn_of[client_id].send(ClientKind.ANSWERS, encode_answers(part))
