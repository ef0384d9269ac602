from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_helpers import KEYS, NETWORK_ID, SECRETS, STRANGER

from hotstuff.network.framing import HANDSHAKE_FRAME_BYTES, HELLO, PROOF
from hotstuff.network.handshake import Handshake, HandshakeRefused, Hello, Identity, Role


def identity(index: int, *, network_id: bytes = NETWORK_ID, secret: object = None) -> Identity:
    keys = {other: key for other, key in enumerate(KEYS) if other != index}
    return Identity(index, network_id, secret or SECRETS[index], keys)  # type: ignore[arg-type]


def dialler(index: int = 2, *, tls: bool, peer: int = 1, channel: int = 1, **changes: object) -> Handshake:
    key = KEYS[peer] if tls else None
    own = identity(index, **changes)  # type: ignore[arg-type]
    return Handshake(own, Role.DIALLER, tls_key=key, peer=peer, channel=channel, session=77)


def acceptor(index: int = 1, *, tls: bool, peer: int = 2, **changes: object) -> Handshake:
    key = KEYS[peer] if tls else None
    return Handshake(identity(index, **changes), Role.ACCEPTOR, tls_key=key)  # type: ignore[arg-type]


def talk(left: Handshake, right: Handshake) -> list[tuple[int, bytes]]:
    """Deliver everything; returns the transcript."""
    transcript = []
    queue = [(right, left, item) for item in left.opening()]
    while queue:
        to, back, item = queue.pop(0)
        transcript.append(item)
        queue += [(back, to, answer) for answer in to.receive(*item)]
    return transcript


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("channel", [0, 1])
def test_both_sides_agree(tls: bool, channel: int) -> None:
    left, right = dialler(tls=tls, channel=channel), acceptor(tls=tls)
    transcript = talk(left, right)
    assert [kind for kind, _ in transcript] == ([HELLO, HELLO] if tls else [HELLO, HELLO, PROOF, PROOF])
    assert left.done
    assert right.done
    assert (left.peer, right.peer) == (1, 2)
    assert (right.channel, right.session) == (channel, 77)
    assert all(1 + len(body) <= HANDSHAKE_FRAME_BYTES for _, body in transcript)


@pytest.mark.parametrize("tls", [True, False])
def test_another_network_is_refused_with_both_ids(tls: bool) -> None:
    other = bytes(32)
    with pytest.raises(HandshakeRefused, match=f"network id: got {other.hex()}, expected {NETWORK_ID.hex()}"):
        talk(dialler(tls=tls, network_id=other), acceptor(tls=tls))


def test_the_index_must_own_the_certificates_key() -> None:
    with pytest.raises(HandshakeRefused, match=f"node key of index 3: got {KEYS[2].hex()}, expected {KEYS[3].hex()}"):
        talk(dialler(3, tls=True), acceptor(tls=True, peer=2))
    with pytest.raises(HandshakeRefused, match="node key of index 1"):
        Handshake(identity(2), Role.DIALLER, tls_key=KEYS[3], peer=1)


def test_plain_peers_must_own_their_key() -> None:
    with pytest.raises(HandshakeRefused, match="proof of index 2"):
        talk(dialler(tls=False, secret=STRANGER), acceptor(tls=False))
    with pytest.raises(HandshakeRefused, match="proof of index 1"):
        talk(dialler(tls=False), acceptor(tls=False, secret=STRANGER))


@pytest.mark.parametrize("tls", [True, False])
def test_the_lower_index_may_not_dial(tls: bool) -> None:
    with pytest.raises(HandshakeRefused, match="expected the higher index to dial"):
        talk(dialler(0, tls=tls, peer=1), acceptor(tls=tls, peer=0))


@pytest.mark.parametrize("tls", [True, False])
def test_nobody_can_dial_itself(tls: bool) -> None:
    hello = Hello(NETWORK_ID, 1, 0, 5, b"" if tls else bytes(32)).encode()
    with pytest.raises(HandshakeRefused, match="index: got 1"):
        acceptor(tls=tls).receive(HELLO, hello)


def test_a_reflected_proof_proves_nothing() -> None:
    """An attacker without a key sends our own proof back to us."""
    right = acceptor(tls=False)
    ((_, hello),) = dialler(tls=False).opening()
    right.receive(HELLO, hello)
    with pytest.raises(HandshakeRefused, match="proof of index 2"):
        right.receive(PROOF, right._proof()[1])


def test_a_replayed_conversation_fails() -> None:
    recorded = talk(dialler(tls=False), acceptor(tls=False))
    victim = acceptor(tls=False)
    victim.receive(*recorded[0])
    with pytest.raises(HandshakeRefused, match="proof of index 2"):
        victim.receive(*recorded[2])


def hello_with(**changes: object) -> bytes:
    values = {"network_id": NETWORK_ID, "index": 2, "channel": 0, "session": 5, "nonce": b"", **changes}
    return Hello(**values).encode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "hello: got 0 bytes"),
        (b"GET / HTTP/1.1", "got magic 47455420, expected"),
        (hello_with()[:4] + struct.pack(">H", 9) + b"whatever follows", "protocol version: got 9, expected 1"),
        (hello_with()[:-1], "hello: got 48 bytes, expected 49"),
        (hello_with(nonce=bytes(32)), "hello: got 81 bytes, expected 49"),
        (hello_with(channel=2), "channel: got 2"),
        (hello_with(index=65535), "index: got 65535"),
    ],
)
def test_bad_hellos_say_what_is_wrong(body: bytes, reason: str) -> None:
    with pytest.raises(HandshakeRefused, match=reason):
        acceptor(tls=True).receive(HELLO, body)


def test_the_answer_must_echo_the_question() -> None:
    left = dialler(tls=True, channel=1)
    with pytest.raises(HandshakeRefused, match=r"got \(1, 0, 77\), expected \(1, 1, 77\)"):
        left.receive(HELLO, hello_with(index=1, channel=0, session=77))


def test_frames_out_of_turn_are_refused() -> None:
    with pytest.raises(HandshakeRefused, match="frame kind: got 254"):
        acceptor(tls=False).receive(PROOF, bytes(64))
    with pytest.raises(HandshakeRefused, match="frame kind: got 7"):
        acceptor(tls=True).receive(7, b"a vote before the handshake")
    right = acceptor(tls=False)
    ((_, hello),) = dialler(tls=False).opening()
    right.receive(HELLO, hello)
    with pytest.raises(HandshakeRefused, match="frame kind: got 0"):
        right.receive(HELLO, hello)


@given(st.integers(0, 255), st.binary(max_size=200), st.booleans())
def test_garbage_raises_nothing_else(kind: int, body: bytes, tls: bool) -> None:
    with contextlib.suppress(HandshakeRefused):
        acceptor(tls=tls).receive(kind, body)
