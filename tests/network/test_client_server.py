from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from network_helpers import KEYS, SECRETS, RawPeer, run, until

from hotstuff.errors import ConfigError, InvalidMessage, NotConnected
from hotstuff.network import AcceptLimits, Body, ClientLimits, FrameProtocol, FrameServer, connect_client, tls
from hotstuff.network.framing import GOODBYE

MODES = pytest.mark.parametrize("encrypted", [True, False], ids=["tls", "plain"])
SHORT = ClientLimits(frame_timeout_s=0.2, accept=AcceptLimits(handshake_timeout_s=0.2))


class Echo:
    """A `ClientHandler` that answers every frame with itself."""

    def __init__(self) -> None:
        self.clients: list[FrameProtocol] = []
        self.lost: list[FrameProtocol] = []
        self.crashes: list[Exception] = []
        self.error: Exception | None = None

    def client_connected(self, conn: FrameProtocol) -> None:
        self.clients.append(conn)

    def frame_received(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if self.error is not None:
            raise self.error
        conn.send(kind, body)

    def client_lost(self, conn: FrameProtocol) -> None:
        self.lost.append(conn)

    def fatal(self, exc: Exception) -> None:
        self.crashes.append(exc)


class Inbox:
    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.lost: list[str] = []

    async def connect(self, server: FrameServer, encrypted: bool, **changes: Any) -> FrameProtocol:
        options: dict[str, Any] = {
            "node_key": KEYS[0] if encrypted else None,
            "on_frame": lambda kind, body: self.frames.append((kind, bytes(body))),
            "on_lost": self.lost.append,
            "tls": encrypted,
        }
        return await connect_client("127.0.0.1", server.bound_port, **{**options, **changes})


@asynccontextmanager
async def serving(encrypted: bool, limits: ClientLimits | None = None) -> AsyncIterator[tuple[FrameServer, Echo]]:
    echo = Echo()
    server = FrameServer(secret=SECRETS[0], bind=("127.0.0.1", 0), tls=encrypted, handler=echo, limits=limits)
    await server.start()
    try:
        yield server, echo
    finally:
        await server.stop()
    assert not echo.crashes
    assert len(echo.lost) == len(echo.clients)


@MODES
def test_echo(encrypted: bool) -> None:
    async def main() -> None:
        async with serving(encrypted) as (server, echo):
            inbox = Inbox()
            conn = await inbox.connect(server, encrypted)
            bodies = [b"", b"x", b"y" * 500_000, b"z"]
            for body in bodies:
                assert conn.send(3, body)
            await until(lambda: inbox.frames == [(3, body) for body in bodies])
            assert server.clients == set(echo.clients)
            assert echo.clients[0].peername.startswith("127.0.0.1:")
            conn.close("done")
            await until(lambda: echo.lost == echo.clients)
            await until(lambda: inbox.lost == ["done"])

    run(main)


@MODES
def test_a_client_hears_why_it_was_closed(encrypted: bool) -> None:
    async def main() -> None:
        async with serving(encrypted) as (server, echo):
            inbox = Inbox()
            await inbox.connect(server, encrypted)
            await until(lambda: echo.clients)
            echo.clients[0].close("too many requests")
            await until(lambda: inbox.lost == ['the replica says "too many requests"'])
            late = Inbox()
            await late.connect(server, encrypted)
            await until(lambda: len(echo.clients) == 2)
            await server.stop()
            await until(lambda: late.lost == ['the replica says "shutting down"'])

    run(main)


def test_a_client_refuses_another_replica() -> None:
    async def main() -> None:
        async with serving(True) as (server, _):
            with pytest.raises(NotConnected, match="its certificate is not one of a known node key"):
                await Inbox().connect(server, True, node_key=KEYS[1])

    run(main)


def test_a_client_refuses_a_stranger_who_was_issued_a_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL accepts the chain; the key is not the one that was asked for."""

    async def main() -> None:
        async with serving(True) as (server, _):
            monkeypatch.setattr(tls, "client_context", lambda _: tls.peer_context(SECRETS[1], [KEYS[0]]))
            inbox = Inbox()
            with pytest.raises(NotConnected, match=f"node key: got {KEYS[0].hex()}, expected {KEYS[1].hex()}"):
                await inbox.connect(server, True, node_key=KEYS[1])
            assert inbox.lost == []

    run(main)


def test_nobody_there() -> None:
    async def main() -> None:
        inbox = Inbox()
        for host, port in (("127.0.0.1", 1), ("no such host.invalid", 1)):
            with pytest.raises(NotConnected, match=f"{host}:{port}: "):
                await connect_client(host, port, node_key=KEYS[0], on_frame=lambda *_: None, on_lost=inbox.lost.append)

    run(main)


def test_plain_tcp_stays_on_this_machine_and_tls_needs_a_key() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=r"bind: got '0\.0\.0\.0', allowed: a loopback"):
            FrameServer(secret=SECRETS[0], bind=("0.0.0.0", 0), tls=False, handler=Echo())
        for host, encrypted, field in (("192.0.2.1", False, "host"), ("127.0.0.1", True, "node_key")):
            with pytest.raises(ConfigError, match=f"{field}: "):
                await connect_client(
                    host, 1, node_key=None, on_frame=lambda *_: None, on_lost=lambda _: None, tls=encrypted
                )

    run(main)


@MODES
def test_the_number_of_clients_is_bounded(encrypted: bool) -> None:
    limits = dataclasses.replace(SHORT, connections_max=2)

    async def main() -> None:
        async with serving(encrypted, limits) as (server, echo):
            inbox = Inbox()
            conns = [await inbox.connect(server, encrypted) for _ in range(2)]
            await until(lambda: len(echo.clients) == 2)
            turned_away = Inbox()
            try:  # the reason arrives during or after connect
                await turned_away.connect(server, encrypted)
            except NotConnected as exc:
                turned_away.lost.append(str(exc))
            await until(lambda: turned_away.lost)
            assert turned_away.lost[0].endswith('the replica says "connections: got 2, allowed: 2"')
            conns[0].close("making room")
            await until(lambda: len(server.clients) == 1)
            conns.append(await inbox.connect(server, encrypted))
            await until(lambda: len(echo.clients) == 3)
            for conn in conns:
                conn.close("done")
            await until(lambda: len(inbox.lost) == 3)

    run(main)


@MODES
def test_a_client_that_does_not_read_is_dropped(encrypted: bool) -> None:
    limits = ClientLimits(max_frame_bytes=100_000, max_buffered_bytes=500_000)

    async def main() -> None:
        async with serving(encrypted, limits) as (server, echo):
            context = tls.client_context(KEYS[0]) if encrypted else None
            deaf = await RawPeer.connect(server.bound_port, context)
            await until(lambda: echo.clients)
            sent = 0
            while echo.clients[0].send(5, b"x" * 50_000):
                sent += 50_000
                await asyncio.sleep(0)
            assert sent < 12_000_000
            await until(lambda: echo.lost)
            await deaf.close()

    run(main)


@MODES
def test_an_idle_client_stays_and_a_dripping_one_goes(encrypted: bool) -> None:
    async def main() -> None:
        async with serving(encrypted, SHORT) as (server, _echo):
            inbox = Inbox()
            conn = await inbox.connect(server, encrypted)
            context = tls.client_context(KEYS[0]) if encrypted else None
            drip = await RawPeer.connect(server.bound_port, context)
            drip.writer.write(b"\0\0")
            assert b"a frame took longer than 0.2 s" in await asyncio.wait_for(drip.rest(), 3)
            await drip.close()
            assert conn.send(3, b"still here")
            await until(lambda: inbox.frames == [(3, b"still here")])
            conn.close("done")
            await until(lambda: inbox.lost)

    run(main)


def test_garbage_on_the_tls_port(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with serving(True, SHORT) as (server, _):
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 300, b""):
                stranger = await RawPeer.connect(server.bound_port)
                stranger.writer.write(data)
                await asyncio.wait_for(stranger.rest(), 3)
                await stranger.close()

    run(main)
    assert capfd.readouterr().err == ""
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("kind", [0, 254])
def test_reserved_kinds_and_invalid_messages_close_the_client(kind: int) -> None:
    async def main() -> None:
        async with serving(False) as (server, echo):
            stranger = await RawPeer.connect(server.bound_port)
            stranger.send(kind, b"")
            reserved_kind, text = await stranger.receive()
            assert (reserved_kind, text) == (GOODBYE, f"frame kind: got {kind}, expected 1..253".encode())
            await stranger.close()
            echo.error = InvalidMessage("no such request")
            stranger = await RawPeer.connect(server.bound_port)
            stranger.send(5, b"")
            assert await stranger.receive() == (GOODBYE, b"no such request")
            await stranger.close()

    run(main)


def test_our_own_bug_is_loud() -> None:
    async def main() -> None:
        async with serving(False) as (server, echo):
            echo.error = ZeroDivisionError()
            inbox = Inbox()
            conn = await inbox.connect(server, False)
            conn.send(5, b"")
            await until(lambda: echo.crashes == [echo.error])
            await until(lambda: inbox.lost)
            echo.crashes.clear()

    run(main)


def test_a_bug_in_a_client_callback_reaches_the_loop() -> None:
    async def main() -> None:
        seen: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: seen.append(context))
        async with serving(False) as (server, _):
            inbox = Inbox()
            conn = await inbox.connect(server, False, on_frame=lambda *_: 1 // 0)
            conn.send(5, b"")
            await until(lambda: inbox.lost)
            assert isinstance(seen[0]["exception"], ZeroDivisionError)
        loop.set_exception_handler(before)

    run(main)
