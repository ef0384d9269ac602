"""What the network tests share: a loop that fails on anything left behind, and peers made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hotstuff.network import Body, PeerAddress, PeerLimits, PeerNetwork
from hotstuff.network.handshake import Handshake, Identity, Role
from hotstuff.network.tls import public_bytes

NETWORK_ID = bytes(range(32))
SECRETS = [Ed25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32) for i in range(5)]
KEYS = [public_bytes(secret) for secret in SECRETS]
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\xee" * 32)
FAST = PeerLimits(backoff_min_s=0.01, backoff_max_s=0.05)


def run(main: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 30) -> None:
    """Run under uvloop; fail on a task left behind and on anything that reaches the loop's exception handler."""
    noise: list[dict[str, Any]] = []

    async def guarded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        await asyncio.wait_for(main(), timeout_s)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    uvloop.run(guarded())
    assert not noise


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait until `condition()` is true."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(poll(), timeout_s)


class Recorder:
    """A `PeerHandler` that writes everything down."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.frames: list[tuple[int, int, bytes]] = []
        self.crashes: list[Exception] = []
        self.on_frame: Callable[[int, int, Body], None] | None = None
        self.on_connect: Callable[[int], object] | None = None

    def frame_received(self, peer: int, kind: int, body: Body) -> None:
        assert ("up", peer) in self.events, "a frame before peer_connected"
        if self.on_frame is not None:
            self.on_frame(peer, kind, body)
        self.frames.append((peer, kind, bytes(body)))

    def peer_connected(self, peer: int) -> None:
        if self.on_connect is not None:
            self.on_connect(peer)
        self.events.append(("up", peer))

    def peer_lost(self, peer: int) -> None:
        self.events.append(("lost", peer))

    def fatal(self, exc: Exception) -> None:
        self.crashes.append(exc)

    def has_frames(self, count: int) -> bool:
        return len(self.frames) == count

    def ends_with(self, *events: tuple[str, int]) -> bool:
        return tuple(self.events[-len(events) :]) == events


class Cluster:
    """Validators 0..n-1 on loopback, each with its own recorder. Lower ones start first, so ports are known."""

    def __init__(self, *, tls: bool, limits: PeerLimits = FAST) -> None:
        self.tls = tls
        self.limits = limits
        self.networks: dict[int, PeerNetwork] = {}
        self.recorders: dict[int, Recorder] = {}
        self.ports: dict[int, int] = {}
        self.size = 0

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        for network in self.networks.values():
            await network.stop()
        assert not any(recorder.crashes for recorder in self.recorders.values())

    async def start(self, size: int) -> None:
        self.size = size
        for index in range(size):
            await self.start_one(index)
        await self.all_connected()

    async def start_one(self, index: int, **changes: Any) -> PeerNetwork:
        self.recorders[index] = Recorder()
        network = self.make(index, **changes)
        await network.start()
        self.networks[index] = network
        self.ports[index] = network.bound_port
        return network

    def make(self, index: int, **changes: Any) -> PeerNetwork:
        options: dict[str, Any] = {
            "index": index,
            "secret": SECRETS[index],
            "peers": [
                PeerAddress(other, "127.0.0.1", self.ports.get(other, 1), KEYS[other])
                for other in range(self.size)
                if other != index
            ],
            "bind": ("127.0.0.1", self.ports.get(index, 0)),
            "network_id": NETWORK_ID,
            "tls": self.tls,
            "handler": self.recorders.setdefault(index, Recorder()),
            "limits": self.limits,
        }
        return PeerNetwork(**{**options, **changes})

    async def all_connected(self) -> None:
        for index, network in self.networks.items():
            others = frozenset(self.networks) - {index}
            await self.connected_to(network, self.recorders[index], others)

    async def connected_to(self, network: PeerNetwork, recorder: Recorder, others: frozenset[int]) -> None:
        await until(lambda: network.connected == others)
        await until(lambda: {peer for event, peer in recorder.events if event == "up"} >= others)


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


class RawPeer:
    """One connection of a validator made by hand: it says and reads exactly what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext | None = None, **options: Any) -> RawPeer:
        name = None if context is None else ""
        return cls(
            *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name, limit=1024, **options)
        )

    def send(self, kind: int, body: bytes) -> None:
        self.writer.write(frame(kind, body))

    async def receive(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", await self.reader.readexactly(4))
        data = await self.reader.readexactly(length)
        return data[0], data[1:]

    async def handshake(self, handshake: Handshake) -> None:
        for kind, body in handshake.opening():
            self.send(kind, body)
        while not handshake.done:
            for kind, body in handshake.receive(*await self.receive()):
                self.send(kind, body)

    async def rest(self) -> bytes:
        """What still comes until the other side closes."""
        try:
            return await self.reader.read(-1)
        except (OSError, asyncio.IncompleteReadError):
            return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        await settle(self.writer.wait_closed())


async def settle(awaitable: Awaitable[object]) -> None:
    """Wait for the end of something whose connection may have died under it."""
    with contextlib.suppress(OSError, ssl.SSLError):
        await awaitable


def dial_handshake(index: int, peer: int, channel: int, session: int, *, tls_key: bytes | None) -> Handshake:
    identity = Identity(index, NETWORK_ID, SECRETS[index], {i: key for i, key in enumerate(KEYS) if i != index})
    return Handshake(identity, Role.DIALLER, tls_key=tls_key, peer=peer, channel=channel, session=session)


async def raw_link(
    port: int, index: int, peer: int, session: int, *, context: ssl.SSLContext | None = None, **options: Any
) -> list[RawPeer]:
    """CONTROL and BULK of validator `index`, made by hand."""
    conns = []
    tls_key = None if context is None else KEYS[peer]
    try:
        for channel in (0, 1):
            conns.append(await RawPeer.connect(port, context, **options))
            await conns[-1].handshake(dial_handshake(index, peer, channel, session, tls_key=tls_key))
    except BaseException:
        for conn in conns:
            await conn.close()
        raise
    return conns
