"""Who is at the other end of a connection. No I/O: frames in, frames out.

    dialler                                   acceptor
       |-- Hello(index, channel, session) ------->|   TLS: the acceptor knows the dialler now
       |<------- Hello(index, channel, session) --|   TLS: the dialler knows the acceptor now
       |-- Proof -------------------------------->|   plain TCP only
       |<------------------------------- Proof ---|   plain TCP only

Over TLS the certificate has already proved a node key, and the Hello's index must be the one that owns this key. Over
plain TCP each side signs both nonces with its node key. The signed text names both indices, the channel and the
signer's role, so that a proof can be neither replayed, nor reflected to its author, nor used on the other channel.
"""

from __future__ import annotations

import enum
import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature as BadSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hotstuff.errors import InvalidMessage
from hotstuff.network.framing import HELLO, PROOF, Body

MAGIC = b"hsff"
VERSION = 1
NETWORK_ID_BYTES = 32
NONCE_BYTES = 32

_PROOF_TAG = b"hotstuff/network/link-proof/v1"
_PREFIX = struct.Struct(">4sH")  # magic, version: the part that every version must keep
_HELLO = struct.Struct(">32sHBQ")  # network id, index, channel, session
_PROOF_TEXT = struct.Struct(">B32sHHBQ32s32s")  # role, network id, indices, channel, session, nonces


class HandshakeRefused(InvalidMessage):
    """The other side is not who we want to talk to. The text says what was given and what is expected."""


class Channel(enum.IntEnum):
    """Two connections per pair, so that votes never wait behind bodies."""

    CONTROL = 0
    BULK = 1


class Role(enum.IntEnum):
    """Who opened the connection. Inside what is signed, so that nobody's own words can be sent back to it."""

    DIALLER = 0
    ACCEPTOR = 1


@dataclass(frozen=True)
class Identity:
    """What this process is and whom it knows."""

    index: int
    network_id: bytes
    secret: Ed25519PrivateKey = field(repr=False)
    keys: Mapping[int, bytes]  # node key by index, of all others


@dataclass(frozen=True)
class Hello:
    """The first frame in each direction. `nonce` is empty over TLS."""

    network_id: bytes
    index: int
    channel: int
    session: int
    nonce: bytes

    def encode(self) -> bytes:
        """magic | version | network_id 32 | index | channel | session | nonce."""
        fixed = _HELLO.pack(self.network_id, self.index, self.channel, self.session)
        return _PREFIX.pack(MAGIC, VERSION) + fixed + self.nonce

    @classmethod
    def decode(cls, body: Body, *, nonce_bytes: int) -> Hello:
        """Raises `HandshakeRefused` on another protocol, version or length."""
        if len(body) < _PREFIX.size:
            raise HandshakeRefused(f"hello: got {len(body)} bytes, expected at least {_PREFIX.size}")
        magic, version = _PREFIX.unpack_from(body)
        if magic != MAGIC:
            raise HandshakeRefused(f"hello: got magic {magic.hex()}, expected {MAGIC.hex()}")
        if version != VERSION:
            raise HandshakeRefused(f"protocol version: got {version}, expected {VERSION}")
        expected = _PREFIX.size + _HELLO.size + nonce_bytes
        if len(body) != expected:
            raise HandshakeRefused(f"hello: got {len(body)} bytes, expected {expected} (is TLS on at both ends?)")
        network_id, index, channel, session = _HELLO.unpack_from(body, _PREFIX.size)
        return cls(network_id, index, channel, session, bytes(body[_PREFIX.size + _HELLO.size :]))


class Handshake:
    """One side of one handshake.

    Feed `receive` with frames until `done`; send what `opening` and `receive` return.

    Args:
        identity: this side.
        role: who opened the TCP connection.
        tls_key: the node key that TLS proved for the other side, None over plain TCP.
        peer, channel, session: the dialler's choice; the acceptor learns them.
    """

    def __init__(
        self,
        identity: Identity,
        role: Role,
        *,
        tls_key: bytes | None,
        peer: int = -1,
        channel: int = -1,
        session: int = 0,
    ) -> None:
        self.done = False
        self.peer = peer
        self.channel = channel
        self.session = session
        self._identity = identity
        self._role = role
        self._tls_key = tls_key
        self._nonce = b"" if tls_key is not None else os.urandom(NONCE_BYTES)
        self._peer_nonce: bytes | None = None
        if role is Role.DIALLER:
            self._check_key(peer)

    def opening(self) -> list[tuple[int, bytes]]:
        """Frames to send before anything was received."""
        return [self._hello()] if self._role is Role.DIALLER else []

    def receive(self, kind: int, body: Body) -> list[tuple[int, bytes]]:
        """Take one frame, return the frames to answer with.

        Raises:
            HandshakeRefused: the connection must be closed.
        """
        if kind == HELLO and self._peer_nonce is None:
            return self._receive_hello(Hello.decode(body, nonce_bytes=len(self._nonce)))
        if kind == PROOF and self._peer_nonce is not None and self._tls_key is None and not self.done:
            return self._receive_proof(body)
        raise HandshakeRefused(f"frame kind: got {kind}, expected the handshake to go on")

    def _receive_hello(self, hello: Hello) -> list[tuple[int, bytes]]:
        ours = self._identity
        if hello.network_id != ours.network_id:
            raise HandshakeRefused(f"network id: got {hello.network_id.hex()}, expected {ours.network_id.hex()}")
        if self._role is Role.DIALLER:
            self._check_echo(hello)
        else:
            self._check_dialler(hello)
            self.peer, self.channel, self.session = hello.index, hello.channel, hello.session
        self._peer_nonce = hello.nonce
        self.done = self._tls_key is not None
        if self._role is Role.ACCEPTOR:
            return [self._hello()]
        return [] if self.done else [self._proof()]

    def _check_echo(self, hello: Hello) -> None:
        got, expected = (hello.index, hello.channel, hello.session), (self.peer, self.channel, self.session)
        if got != expected:
            raise HandshakeRefused(f"index, channel, session: got {got}, expected {expected}")

    def _check_dialler(self, hello: Hello) -> None:
        self._check_key(hello.index)
        if hello.index < self._identity.index:
            raise HandshakeRefused(
                f"direction: got a connection from {hello.index} to {self._identity.index}, "
                "expected the higher index to dial the lower one"
            )
        if hello.channel not in (Channel.CONTROL, Channel.BULK):
            raise HandshakeRefused(f"channel: got {hello.channel}, expected 0 or 1")

    def _check_key(self, index: int) -> None:
        expected = self._identity.keys.get(index)
        if expected is None:
            raise HandshakeRefused(f"index: got {index}, expected another validator's")
        if self._tls_key is not None and self._tls_key != expected:
            raise HandshakeRefused(f"node key of index {index}: got {self._tls_key.hex()}, expected {expected.hex()}")

    def _receive_proof(self, body: Body) -> list[tuple[int, bytes]]:
        theirs = Role.ACCEPTOR if self._role is Role.DIALLER else Role.DIALLER
        key = Ed25519PublicKey.from_public_bytes(self._identity.keys[self.peer])
        try:
            key.verify(bytes(body), self._proof_digest(theirs))
        except BadSignature as exc:
            raise HandshakeRefused(
                f"proof of index {self.peer}: got a signature that the node key "
                f"{self._identity.keys[self.peer].hex()} did not make"
            ) from exc
        self.done = True
        return [self._proof()] if self._role is Role.ACCEPTOR else []

    def _hello(self) -> tuple[int, bytes]:
        ours = self._identity
        return HELLO, Hello(ours.network_id, ours.index, self.channel, self.session, self._nonce).encode()

    def _proof(self) -> tuple[int, bytes]:
        return PROOF, self._identity.secret.sign(self._proof_digest(self._role))

    def _proof_digest(self, signer: Role) -> bytes:
        assert self._peer_nonce is not None
        indices = (self._identity.index, self.peer)
        nonces = (self._nonce, self._peer_nonce)
        if self._role is Role.ACCEPTOR:
            indices, nonces = indices[::-1], nonces[::-1]
        text = _PROOF_TEXT.pack(signer, self._identity.network_id, *indices, self.channel, self.session, *nonces)
        return hashlib.sha256(_PROOF_TAG + text).digest()
