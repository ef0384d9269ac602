"""One process's links to all other validators.

A *link* to a peer is two connections, CONTROL and BULK, so that a vote never waits behind a batch. The higher index
dials the lower one: there are no duplicates to resolve and nobody can dial itself. A link is up when both of its
connections are authenticated, and goes down as a whole when either is lost; the dialler then dials again, for ever.

Both connections of one dial carry the same random session number. An authenticated connection of a new session
replaces everything the acceptor still holds of an older one, so a peer that vanished without a FIN and came back is
served at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hotstuff.errors import ConfigError, InvalidMessage
from hotstuff.network import tls as pinned_tls
from hotstuff.network.connection import PeerConnection
from hotstuff.network.dialling import connect_error_text, dial
from hotstuff.network.framing import HEADER_BYTES, Body, Buffer, Frame, FrameProtocol, encode_app_frame
from hotstuff.network.handshake import NETWORK_ID_BYTES, Channel, HandshakeRefused, Identity, Role
from hotstuff.network.limits import PeerLimits
from hotstuff.network.listener import Listener
from hotstuff.network.ratelimit import QuietLog, RateLimiter
from hotstuff.network.sockets import require_loopback

logger = logging.getLogger("hotstuff.network")

_STOP_GRACE_S = 0.5  # for the goodbyes to leave
_DIAL_LOG_INTERVAL_S = 30.0  # a peer that is down for a night must not fill the disk with that fact


@dataclass(frozen=True)
class PeerAddress:
    """Where a validator listens, and the 32-byte key that makes it that validator."""

    index: int
    host: str
    port: int
    node_key: bytes


class PeerHandler(Protocol):
    """What `PeerNetwork` calls, always from the event loop and never from inside `send` or `broadcast`."""

    def frame_received(self, peer: int, kind: int, body: Body) -> None:
        """A frame from `peer`, after its `peer_connected`.

        `body` is the receiver's to keep. Raise `InvalidMessage` if the frame is the peer's fault: it counts as a
        strike and the link is closed. Anything else ends in `fatal`.
        """

    def peer_connected(self, peer: int) -> None:
        """Both connections are up."""

    def peer_lost(self, peer: int) -> None:
        """The link is down and will be set up again."""

    def fatal(self, exc: Exception) -> None:
        """Our own bug. The process must stop."""


class _Link:
    """The state of the link to one peer."""

    def __init__(self, address: PeerAddress, limits: PeerLimits) -> None:
        self.address = address
        self.session: int | None = None
        self.conns: dict[int, PeerConnection] = {}  # by channel, authenticated ones only
        self.up_since: float | None = None
        self.down = asyncio.Event()  # set when the session is over, for the dialler
        self.down_reason = ""
        self.strikes: deque[float] = deque(maxlen=limits.strikes_max)
        self.penalty_until = 0.0


class PeerNetwork:
    """Keeps a link to every other validator, from `start` to `stop`. Needs a running event loop.

    Args:
        index: this validator's index in the genesis file.
        secret: this validator's node key.
        peers: all other validators.
        bind: host and port to listen on, which may differ from what the others dial. Port 0: the system chooses.
        network_id: 32 bytes, the hash of the genesis file. A peer with another one is refused.
        tls: False is allowed between loopback addresses only.
        handler: receives frames and changes.
        limits: what one peer may cost.
        jitter: uniform in [0, 1); spreads reconnects so that peers do not dial in step.

    Raises:
        ConfigError: the peers contradict each other or this validator, or plain TCP would leave the machine.
    """

    def __init__(
        self,
        *,
        index: int,
        secret: Ed25519PrivateKey,
        peers: Sequence[PeerAddress],
        bind: tuple[str, int],
        network_id: bytes,
        tls: bool,
        handler: PeerHandler,
        limits: PeerLimits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits or PeerLimits()
        _check_peers(index, pinned_tls.public_bytes(secret), peers)
        if len(network_id) != NETWORK_ID_BYTES:
            raise ConfigError("network_id", network_id.hex(), f"{NETWORK_ID_BYTES} bytes")
        if not tls:
            require_loopback("bind", bind[0])
            for peer in peers:
                require_loopback(f"peers[{peer.index}].host", peer.host)
        self._handler = handler
        self.frame_received = handler.frame_received
        self._identity = Identity(index, network_id, secret, {peer.index: peer.node_key for peer in peers})
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._log = QuietLog(logger, self._loop.time)
        self._dial_log = QuietLog(logger, self._loop.time, interval_s=_DIAL_LOG_INTERVAL_S)
        keys = list(self._identity.keys.values())
        self._dial_context = pinned_tls.peer_context(secret, keys) if tls else None
        self._listener = Listener(
            lambda: self._new_connection(Role.ACCEPTOR).protocol,
            bind=bind,
            context=pinned_tls.server_context(secret, keys) if tls else None,
            limits=self._limits.accept,
            log=self._log,
            on_crash=self.crashed,
        )
        self._links = {peer.index: _Link(peer, self._limits) for peer in peers}
        self._up: dict[int, tuple[FrameProtocol, FrameProtocol]] = {}  # by peer: CONTROL, BULK
        self._sessions = RateLimiter(per_second=self._limits.sessions_per_s, burst=self._limits.sessions_burst)
        self._open: set[PeerConnection] = set()
        self._all_closed = asyncio.Event()
        self._dialling: list[asyncio.Task[None]] = []
        self._stopping = False
        self._counts = {"strikes": 0, "connects": 0, "losses": 0, "drops": 0, "refused": 0, **_traffic(None)}

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, accept, and dial every lower index.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._listener.start()
        for index, link in self._links.items():
            if index < self._identity.index:
                task = asyncio.create_task(self._dial_forever(link))
                task.add_done_callback(self._dialling_ended)
                self._dialling.append(task)

    async def stop(self) -> None:
        """Close everything. The handler hears nothing more, and no task or socket is left."""
        self._stopping = True
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        await self._listener.stop()
        self._up.clear()
        for conn in list(self._open):
            conn.protocol.close("shutting down")
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_closed(), _STOP_GRACE_S)
        for conn in list(self._open):
            conn.protocol.abort("shutting down")
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
    def connected(self) -> frozenset[int]:
        """The peers whose link is up."""
        return frozenset(self._up)

    def stats(self) -> dict[str, int]:
        """Totals since the creation. ``bytes_*`` count frames with their headers, without TLS.

        ``connects`` and ``losses`` count links going up and down, ``drops`` frames not sent because a peer did not
        read, ``refused`` connections that never became a peer's.
        """
        totals = dict(self._counts)
        totals["refused"] += self._listener.refused
        for conn in self._open:
            for name, value in _traffic(conn.protocol).items():
                totals[name] += value
        return totals

    def set_address(self, peer: int, host: str, port: int) -> None:
        """Dial `peer` at another address from the next attempt on.

        Raises:
            ConfigError: TLS is off and `host` is not a loopback address.
        """
        if self._dial_context is None:
            require_loopback(f"peers[{peer}].host", host)
        link = self._links[peer]
        link.address = replace(link.address, host=host, port=port)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, peer: int, kind: int, *parts: Buffer, bulk: bool = False) -> bool:
        """Send one frame to `peer`. `parts` must not change afterwards.

        Returns:
            False if the link is down or its write buffer is full. A full CONTROL buffer also drops the link: the peer
            has stopped reading. A full BULK buffer only refuses, since bodies can be fetched later.

        Raises:
            ValueError: `kind` is reserved, or the frame is larger than peers accept.
        """
        return self._send(peer, self._encode(kind, parts), bulk)

    def broadcast(self, kind: int, *parts: Buffer, bulk: bool = False) -> int:
        """Send one frame to every connected peer, as `send` does. The parts are shared, not copied per peer.

        Returns:
            The number of peers it was sent to.
        """
        frame = self._encode(kind, parts)
        return sum([self._send(peer, frame, bulk) for peer in list(self._up)])

    def _encode(self, kind: int, parts: Sequence[Buffer]) -> Frame:
        frame = encode_app_frame(kind, parts)
        length = frame.size_bytes - HEADER_BYTES + 1
        if length > self._limits.max_frame_bytes:
            raise ValueError(f"frame: got {length} bytes, allowed: {self._limits.max_frame_bytes}")
        return frame

    def _send(self, peer: int, frame: Frame, bulk: bool) -> bool:
        conns = self._up.get(peer)
        if conns is None:
            return False
        if conns[bulk].try_send(frame):
            return True
        self._counts["drops"] += 1
        if not bulk:
            self._take_down(self._links[peer], "it does not read its control channel", abort=True)
        return False

    # -- misbehaviour --------------------------------------------------------------------------------------------------

    def strike(self, peer: int, reason: str) -> None:
        """Count a fault of `peer`. At `strikes_max` within the window the link is closed and stays so for a while."""
        link = self._links[peer]
        now = self._loop.time()
        self._counts["strikes"] += 1
        link.strikes.append(now)
        self._log.warning(("strike", peer), f"peer {peer}: strike: {reason}")
        if len(link.strikes) == link.strikes.maxlen and now - link.strikes[0] <= self._limits.strike_window_s:
            link.strikes.clear()
            link.penalty_until = now + self._limits.penalty_s
            self._take_down(link, f"{self._limits.strikes_max} strikes")

    def fault(self, conn: PeerConnection, error: InvalidMessage) -> None:
        """`conn` broke a rule and is about to be closed."""
        if conn.authenticated:
            self.strike(conn.peer, str(error))
            return
        self._counts["refused"] += 1
        if conn.role is Role.DIALLER:
            self._dial_log.warning(("refused", conn.peer), f"peer {conn.peer} at {conn.protocol.peername}: {error}")
        else:
            host = conn.protocol.peername.rpartition(":")[0]
            self._log.warning(("refused", host), f"connection from {conn.protocol.peername} refused: {error}")

    def crashed(self, error: Exception) -> None:
        """Our own bug, wherever it was noticed."""
        logger.critical("network: %r", error, exc_info=error)
        self._handler.fatal(error)

    # -- links ---------------------------------------------------------------------------------------------------------

    def admit(self, conn: PeerConnection) -> None:
        """An authenticated connection takes its place in its link.

        Raises:
            HandshakeRefused: the peer is penalised, begins sessions too often, or has this channel already.
        """
        link, now = self._links[conn.peer], self._loop.time()
        if now < link.penalty_until:
            raise HandshakeRefused(f"penalty: {link.penalty_until - now:.1f} s to go")
        if conn.session != link.session:
            self._begin_session(link, conn, now)
        if conn.channel in link.conns:
            raise HandshakeRefused(f"channel: got a second {conn.channel} in one session, expected one")
        link.conns[conn.channel] = conn
        self._listener.release(conn.protocol)
        conn.protocol.pause_reading()  # no frame before peer_connected, which needs the other channel too
        if len(link.conns) == len(Channel):
            self._bring_up(link)

    def _begin_session(self, link: _Link, conn: PeerConnection, now: float) -> None:
        if conn.role is Role.DIALLER:
            raise HandshakeRefused("session: got an answer to an earlier attempt")
        if not self._sessions.allow(conn.peer, now):
            raise HandshakeRefused(f"sessions: got more than {self._limits.sessions_per_s:g} per second")
        self._take_down(link, "replaced by a new session")
        link.session = conn.session

    def _bring_up(self, link: _Link) -> None:
        peer = link.address.index
        link.up_since = self._loop.time()
        control, bulk = link.conns[Channel.CONTROL].protocol, link.conns[Channel.BULK].protocol
        self._up[peer] = (control, bulk)
        self._counts["connects"] += 1
        logger.info("peer %d connected (%s)", peer, control.peername)
        self._notify(self._handler.peer_connected, peer)
        for protocol in (control, bulk):
            protocol.authenticated()
            protocol.resume_reading()

    def _take_down(self, link: _Link, reason: str, *, abort: bool = False) -> None:
        """End the session, however far it got."""
        conns, link.conns, link.session = list(link.conns.values()), {}, None
        link.down_reason = reason
        link.down.set()
        for conn in conns:
            (conn.protocol.abort if abort else conn.protocol.close)(reason)
        peer = link.address.index
        if self._up.pop(peer, None) is not None:
            self._counts["losses"] += 1
            self._log.warning(("lost", peer), f"peer {peer} lost: {reason}")
            self._notify(self._handler.peer_lost, peer)

    def _notify(self, callback: Callable[[int], None], peer: int) -> None:
        """Call the handler in the next turn: it must not be entered again from inside its own `send`."""
        self._loop.call_soon(self._call_handler, callback, peer)

    def _call_handler(self, callback: Callable[[int], None], peer: int) -> None:
        if self._stopping:
            return
        try:
            callback(peer)
        except Exception as exc:
            self.crashed(exc)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _new_connection(self, role: Role, *, peer: int = -1, channel: int = -1, session: int = 0) -> PeerConnection:
        return PeerConnection(
            self,
            self._identity,
            self._limits,
            role,
            encrypted=self._dial_context is not None,
            peer=peer,
            channel=channel,
            session=session,
        )

    def opened(self, conn: PeerConnection) -> None:
        """`conn` has a transport; `closed` will follow."""
        self._open.add(conn)

    def closed(self, conn: PeerConnection, reason: str) -> None:
        """`conn` is gone, and with it its session."""
        self._open.discard(conn)
        self._listener.release(conn.protocol)
        for name, value in _traffic(conn.protocol).items():
            self._counts[name] += value
        if conn.authenticated or conn.role is Role.DIALLER:
            link = self._links[conn.peer]
            if link.session == conn.session:
                self._take_down(link, reason)
        if not self._open:
            self._all_closed.set()

    # -- dialling ------------------------------------------------------------------------------------------------------

    async def _dial_forever(self, link: _Link) -> None:
        backoff_s = self._limits.backoff_min_s
        while True:
            await self._dial(link)
            if link.up_since is not None and self._loop.time() - link.up_since > self._limits.backoff_max_s:
                backoff_s = self._limits.backoff_min_s  # only a link that lasted shows that dialling at once is welcome
            penalty_s = link.penalty_until - self._loop.time()
            await asyncio.sleep(max(backoff_s * (1 + self._jitter()) / 2, penalty_s))
            backoff_s = min(2 * backoff_s, self._limits.backoff_max_s)

    async def _dial(self, link: _Link) -> None:
        """One session: set it up and wait until it is over."""
        peer = link.address.index
        link.session = session = int.from_bytes(os.urandom(8), "big")
        link.up_since = None
        link.down.clear()
        conns = [self._new_connection(Role.DIALLER, peer=peer, channel=c, session=session) for c in Channel]
        try:
            await self._connect(link.address, conns)
            await link.down.wait()
        except (OSError, asyncio.TimeoutError) as exc:
            self._take_down(link, connect_error_text(exc))
        finally:
            reason = "shutting down" if self._stopping else f"session over: {link.down_reason}"
            for conn in conns:
                conn.protocol.close(reason)
        if link.up_since is None:
            where = f"{link.address.host}:{link.address.port}"
            self._dial_log.warning(("dial", peer), f"peer {peer} at {where} not reached: {link.down_reason}")

    async def _connect(self, address: PeerAddress, conns: list[PeerConnection]) -> None:
        context, timeout_s = self._dial_context, self._limits.handshake_timeout_s
        results = await asyncio.gather(
            *(dial(conn.protocol, address.host, address.port, context=context, timeout_s=timeout_s) for conn in conns),
            return_exceptions=True,  # else a failure would leave the other attempt running
        )
        for result in results:
            if result is not None:
                raise result

    def _dialling_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.crashed(error)


def _traffic(conn: FrameProtocol | None) -> dict[str, int]:
    names = ("bytes_in", "bytes_out", "frames_in", "frames_out")
    return {name: getattr(conn, name, 0) for name in names}


def _check_peers(index: int, node_key: bytes, peers: Sequence[PeerAddress]) -> None:
    indices, keys = {index}, {node_key}
    for peer in peers:
        if not 0 <= peer.index < 2**16:
            raise ConfigError("peers.index", peer.index, "0..65535")
        if peer.index in indices:
            raise ConfigError("peers.index", peer.index, "each index once, without this validator's own")
        if len(peer.node_key) != pinned_tls.NODE_KEY_BYTES or peer.node_key in keys:
            allowed = f"{pinned_tls.NODE_KEY_BYTES} bytes, each key once, without this validator's own"
            raise ConfigError(f"peers[{peer.index}].node_key", peer.node_key.hex(), allowed)
        indices.add(peer.index)
        keys.add(peer.node_key)
