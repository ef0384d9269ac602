"""Replicas that say what a test wants, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from network_helpers import KEYS, SECRETS, until

from hotstuff import native
from hotstuff.client import Client, ReplicaAddress
from hotstuff.network import Body, FrameProtocol, FrameServer
from hotstuff.types.client import Answer, ClientKind, Refusal, Refused, decode_hello, encode_answers

STATE = b"\5" * 32


def answer(first: int, count: int = 1, *, fresh: int | None = None, height: int = 7, state: bytes = STATE) -> Answer:
    return Answer(first, count, count if fresh is None else fresh, height, state)


class FakeReplica:
    """A `ClientHandler`. `on_submit` is called with each frame's first number and count."""

    def __init__(self, index: int, *, tls: bool, power: int = 1) -> None:
        self.index = index
        self.power = power
        self.clients: dict[FrameProtocol, bytes] = {}
        self.frames: list[tuple[int, list[bytes]]] = []
        self.on_submit: Callable[[int, int], object] = lambda _first, _count: None
        self.on_status: Callable[[FrameProtocol], object] = lambda _: None
        self.lost = 0
        self.crashes: list[Exception] = []
        self._tls = tls
        self._port = 0

    async def start(self) -> None:
        """On the same port as before, if there was one."""
        self.server = FrameServer(
            secret=SECRETS[self.index], bind=("127.0.0.1", self._port), tls=self._tls, handler=self
        )
        await self.server.start()
        self._port = self.server.bound_port

    async def stop(self) -> None:
        await self.server.stop()
        assert not self.clients
        assert not self.crashes

    @property
    def address(self) -> ReplicaAddress:
        return ReplicaAddress("127.0.0.1", self._port, KEYS[self.index], self.power)

    @property
    def numbers(self) -> list[int]:
        """First numbers of the frames that came."""
        return [first for first, _ in self.frames]

    # ---- ClientHandler

    def client_connected(self, conn: FrameProtocol) -> None:
        self.clients[conn] = b""

    def client_lost(self, conn: FrameProtocol) -> None:
        del self.clients[conn]
        self.lost += 1

    def fatal(self, exc: Exception) -> None:
        self.crashes.append(exc)

    def frame_received(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if kind == ClientKind.HELLO:
            assert self.clients[conn] == b"", "a second hello"
            self.clients[conn] = decode_hello(body)
        elif kind == ClientKind.SUBMIT:
            (frame,) = native.parse_body(body, 1)
            assert frame.client_id == self.clients[conn], "a frame of somebody else"
            self.frames.append((frame.first_seq, native.transactions(body, frame)))
            self.on_submit(frame.first_seq, frame.count)
        else:
            assert kind == ClientKind.STATUS_REQUEST
            self.on_status(conn)

    # ---- what it says

    def say(self, kind: int, body: bytes) -> None:
        for conn in self.clients:
            conn.send(kind, body)

    def answer(self, *answers: Answer) -> None:
        self.say(ClientKind.ANSWERS, encode_answers(answers))

    def refuse(self, first: int, retry_ms: int, reason: Refusal = Refusal.BUSY) -> None:
        self.say(ClientKind.REFUSED, Refused(first, reason, retry_ms).encoding)


@asynccontextmanager
async def replicas(
    count: int, *, tls: bool = False, powers: list[int] | None = None
) -> AsyncIterator[list[FakeReplica]]:
    """So many, started, and stopped at the end."""
    made = [FakeReplica(i, tls=tls, power=(powers or [1] * count)[i]) for i in range(count)]
    for replica in made:
        await replica.start()
    try:
        yield made
    finally:
        for replica in made:
            await replica.stop()


@asynccontextmanager
async def connected(fakes: list[FakeReplica], *, tls: bool = False, **options: Any) -> AsyncIterator[Client]:
    """A client that has reached all of them; nothing is pending in it at the end."""
    client = Client([fake.address for fake in fakes], **{"tls": tls, "author": 0, **options})
    async with client:
        await until(lambda: client.connected == len(fakes))
        await until(lambda: all(client.client_id in fake.clients.values() for fake in fakes))
        yield client
