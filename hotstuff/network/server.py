"""Connections between clients and a replica: the same frames as between replicas, but only the replica has a key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hotstuff.errors import ConfigError, InvalidMessage, NotConnected
from hotstuff.network import tls as pinned_tls
from hotstuff.network.dialling import connect_error_text, dial
from hotstuff.network.framing import GOODBYE, MAX_KIND, MIN_KIND, Body, FrameProtocol, goodbye_text
from hotstuff.network.limits import ClientLimits
from hotstuff.network.listener import Listener
from hotstuff.network.ratelimit import QuietLog
from hotstuff.network.sockets import require_loopback

logger = logging.getLogger("hotstuff.network")

_STOP_GRACE_S = 0.5  # for the goodbyes to leave


class ClientHandler(Protocol):
    """What `FrameServer` calls, always from the event loop. `conn` offers `send`, `close` and `peername`."""

    def client_connected(self, conn: FrameProtocol) -> None:
        """A client is there. It has proved nothing about itself."""

    def frame_received(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        """A frame. `body` is the receiver's to keep. Raise `InvalidMessage` to close the connection."""

    def client_lost(self, conn: FrameProtocol) -> None:
        """The connection is gone. Called once for each `client_connected`."""

    def fatal(self, exc: Exception) -> None:
        """Our own bug. The process must stop."""


class FrameServer:
    """Listens for clients, from `start` to `stop`. Needs a running event loop.

    Args:
        secret: this replica's node key, which clients pin.
        bind: host and port to listen on. Port 0: the system chooses.
        tls: False is allowed on a loopback address only.
        handler: receives clients and frames.
        limits: what clients may cost.

    Raises:
        ConfigError: plain TCP would leave the machine.
    """

    def __init__(
        self,
        *,
        secret: Ed25519PrivateKey,
        bind: tuple[str, int],
        tls: bool,
        handler: ClientHandler,
        limits: ClientLimits | None = None,
    ) -> None:
        if not tls:
            require_loopback("bind", bind[0])
        self._limits = limits or ClientLimits()
        self._handler = handler
        self._log = QuietLog(logger, asyncio.get_running_loop().time)
        self._listener = Listener(
            self._new_connection,
            bind=bind,
            context=pinned_tls.client_facing_context(secret) if tls else None,
            limits=self._limits.accept,
            log=self._log,
            on_crash=self.on_crash,
        )
        self._clients: set[FrameProtocol] = set()
        self._open: set[FrameProtocol] = set()  # the clients, and those being turned away
        self._all_closed = asyncio.Event()

    async def start(self) -> None:
        """Bind and accept.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._listener.start()

    async def stop(self) -> None:
        """Close every connection; `client_lost` is called for each."""
        await self._listener.stop()
        for conn in list(self._open):
            conn.close("shutting down")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_closed(), _STOP_GRACE_S)
        for conn in list(self._open):
            conn.abort("shutting down")
        await self._until_closed()

    async def _until_closed(self) -> None:
        while self._open:
            self._all_closed.clear()
            await self._all_closed.wait()

    @property
    def bound_port(self) -> int:
        """The port in use, also if 0 was asked for. Only while started."""
        return self._listener.bound_port

    @property
    def clients(self) -> frozenset[FrameProtocol]:
        """The connections that are open now."""
        return frozenset(self._clients)

    def _new_connection(self) -> FrameProtocol:
        return FrameProtocol(
            self,
            max_frame_bytes=self._limits.max_frame_bytes,
            max_buffered_bytes=self._limits.max_buffered_bytes,
            frame_timeout_s=self._limits.frame_timeout_s,
        )

    # -- FrameHandler --------------------------------------------------------------------------------------------------

    def on_open(self, conn: FrameProtocol) -> None:
        self._open.add(conn)
        self._listener.release(conn)
        if len(self._clients) >= self._limits.connections_max:
            self._log.warning("full", f"client {conn.peername} refused: {len(self._clients)} are connected")
            conn.close(f"connections: got {len(self._clients)}, allowed: {self._limits.connections_max}")
            return
        self._clients.add(conn)
        self._handler.client_connected(conn)

    def on_frame(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if MIN_KIND <= kind <= MAX_KIND:
            self._handler.frame_received(conn, kind, body)
        elif kind == GOODBYE:
            conn.abort(f'the client says "{goodbye_text(body)}"')
        else:
            raise InvalidMessage(f"frame kind: got {kind}, expected {MIN_KIND}..{MAX_KIND}")

    def on_invalid(self, conn: FrameProtocol, error: InvalidMessage) -> None:
        host = conn.peername.rpartition(":")[0]
        self._log.warning(("client", host), f"client {conn.peername}: {error}")

    def on_close(self, conn: FrameProtocol, reason: str) -> None:
        self._open.discard(conn)
        if not self._open:
            self._all_closed.set()
        if conn in self._clients:
            self._clients.discard(conn)
            self._handler.client_lost(conn)

    def on_crash(self, error: Exception) -> None:
        logger.critical("client connections: %r", error, exc_info=error)
        self._handler.fatal(error)


class _ClientSide:
    """The `FrameHandler` of a client's connection."""

    def __init__(
        self,
        node_key: bytes | None,
        on_frame: Callable[[int, Body], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._node_key = node_key
        self._on_frame = on_frame
        self._on_lost = on_lost
        self.returned = False  # on_lost is for connections that the caller got to see

    def on_open(self, conn: FrameProtocol) -> None:
        ssl_object = conn.get_extra_info("ssl_object")
        if self._node_key is None or not isinstance(ssl_object, (ssl.SSLObject, ssl.SSLSocket)):
            return
        got = pinned_tls.peer_key(ssl_object)
        if got != self._node_key:
            raise InvalidMessage(f"node key: got {got.hex()}, expected {self._node_key.hex()}")

    def on_frame(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if kind == GOODBYE:
            conn.abort(f'the replica says "{goodbye_text(body)}"')
        else:
            self._on_frame(kind, body)

    def on_invalid(self, conn: FrameProtocol, error: InvalidMessage) -> None:
        """The reason reaches the caller as the reason of the close."""

    def on_close(self, conn: FrameProtocol, reason: str) -> None:
        if self.returned:
            self._on_lost(reason)

    def on_crash(self, error: Exception) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": "client callback failed", "exception": error})


async def connect_client(
    host: str,
    port: int,
    *,
    node_key: bytes | None,
    on_frame: Callable[[int, Body], None],
    on_lost: Callable[[str], None],
    tls: bool = True,
    limits: ClientLimits | None = None,
) -> FrameProtocol:
    """Connect to the replica that owns `node_key`.

    Args:
        node_key: 32 bytes from the genesis file; needed with TLS, not checked without.
        on_frame: receives kind and body. `InvalidMessage` closes the connection; any other exception closes it too
            and goes to the event loop's exception handler.
        on_lost: receives the reason, once, after the connection was returned.
        tls: False is allowed to a loopback address only.

    Returns:
        The connection: `send`, `close`, `peername`.

    Raises:
        ConfigError: the arguments contradict each other.
        NotConnected: no connection to this replica came about.
    """
    limits = limits or ClientLimits()
    if not tls:
        require_loopback("host", host)
    elif node_key is None:
        raise ConfigError("node_key", None, "the replica's 32-byte node key, or tls off")
    side = _ClientSide(node_key, on_frame, on_lost)
    conn = FrameProtocol(
        side,
        max_frame_bytes=limits.max_frame_bytes,
        max_buffered_bytes=limits.max_buffered_bytes,
        frame_timeout_s=limits.frame_timeout_s,
    )
    context = pinned_tls.client_context(node_key) if tls and node_key is not None else None
    try:
        await dial(conn, host, port, context=context, timeout_s=limits.accept.handshake_timeout_s)
    except (OSError, asyncio.TimeoutError) as exc:
        raise NotConnected(f"{host}:{port}: {connect_error_text(exc)}") from exc
    if conn.closing:
        raise NotConnected(f"{host}:{port}: {conn.close_reason}")
    side.returned = True
    return conn
