"""One connection between two validators: the handshake first, then frames."""

from __future__ import annotations

import ssl
from typing import Protocol

from hotstuff.errors import InvalidMessage
from hotstuff.network import tls
from hotstuff.network.framing import (
    GOODBYE,
    HANDSHAKE_FRAME_BYTES,
    MAX_KIND,
    MIN_KIND,
    Body,
    FrameProtocol,
    goodbye_text,
)
from hotstuff.network.handshake import Handshake, HandshakeRefused, Identity, Role
from hotstuff.network.limits import PeerLimits


class LinkOwner(Protocol):
    """What a `PeerConnection` tells the network it belongs to."""

    def opened(self, conn: PeerConnection) -> None:
        """`conn` exists; nothing is known about the other side."""

    def admit(self, conn: PeerConnection) -> None:
        """`conn` has proved who it is. Raises `InvalidMessage` to refuse it all the same."""

    def frame_received(self, peer: int, kind: int, body: Body) -> None:
        """A frame of an authenticated peer. Raises `InvalidMessage` for what breaks a rule."""

    def fault(self, conn: PeerConnection, error: InvalidMessage) -> None:
        """The other side broke a rule; `conn` is being closed."""

    def closed(self, conn: PeerConnection, reason: str) -> None:
        """`conn` is gone."""

    def crashed(self, error: Exception) -> None:
        """Our own bug."""


class PeerConnection:
    """The `FrameHandler` of one connection.

    Args:
        owner: hears of everything that happens.
        identity: this side.
        limits: what the peer may cost.
        role: who opened the connection.
        encrypted: whether it runs over TLS.
        peer, channel, session: the dialler's choice; the acceptor learns them in the handshake.
    """

    def __init__(
        self,
        owner: LinkOwner,
        identity: Identity,
        limits: PeerLimits,
        role: Role,
        *,
        encrypted: bool,
        peer: int = -1,
        channel: int = -1,
        session: int = 0,
    ) -> None:
        self.role = role
        self.peer = peer
        self.channel = channel
        self.session = session
        self.authenticated = False
        self.protocol = FrameProtocol(
            self,
            max_frame_bytes=HANDSHAKE_FRAME_BYTES,  # a stranger must not make us allocate
            max_buffered_bytes=limits.max_buffered_bytes,
            frame_timeout_s=limits.frame_timeout_s,
            handshake_timeout_s=limits.handshake_timeout_s,
        )
        self._owner = owner
        self._identity = identity
        self._limits = limits
        self._encrypted = encrypted
        self._handshake: Handshake | None = None

    def on_open(self, conn: FrameProtocol) -> None:
        self._owner.opened(self)
        self._handshake = Handshake(
            self._identity,
            self.role,
            tls_key=self._tls_key() if self._encrypted else None,
            peer=self.peer,
            channel=self.channel,
            session=self.session,
        )
        self._answer(self._handshake.opening())

    def _tls_key(self) -> bytes:
        ssl_object = self.protocol.get_extra_info("ssl_object")
        if not isinstance(ssl_object, (ssl.SSLObject, ssl.SSLSocket)):
            raise HandshakeRefused("the connection was lost before its certificate could be read")
        return tls.peer_key(ssl_object)

    def on_frame(self, conn: FrameProtocol, kind: int, body: Body) -> None:
        if kind == GOODBYE:
            conn.abort(f'the other side says "{goodbye_text(body)}"')
        elif not self.authenticated:
            self._continue(kind, body)
        elif MIN_KIND <= kind <= MAX_KIND:
            self._owner.frame_received(self.peer, kind, body)
        else:
            raise InvalidMessage(f"frame kind: got {kind}, expected {MIN_KIND}..{MAX_KIND}")

    def _continue(self, kind: int, body: Body) -> None:
        handshake = self._handshake
        if handshake is None:
            raise HandshakeRefused(f"frame kind: got {kind} on a refused connection, expected nothing")
        answer = handshake.receive(kind, body)
        if handshake.done:
            self.peer, self.channel, self.session = handshake.peer, handshake.channel, handshake.session
            self._owner.admit(self)  # before the answer, because the dialler takes the answer for an admission
            self.authenticated = True
            self.protocol.max_frame_bytes = self._limits.max_frame_bytes
        self._answer(answer)

    def _answer(self, frames: list[tuple[int, bytes]]) -> None:
        for kind, body in frames:
            self.protocol.send_control(kind, body)

    def on_invalid(self, conn: FrameProtocol, error: InvalidMessage) -> None:
        self._owner.fault(self, error)

    def on_close(self, conn: FrameProtocol, reason: str) -> None:
        self._owner.closed(self, reason)

    def on_crash(self, error: Exception) -> None:
        self._owner.crashed(error)
