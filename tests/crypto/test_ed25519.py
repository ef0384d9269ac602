"""Node keys: RFC 8032 vectors, malformed input, hiding."""

from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hotstuff.crypto import ed25519
from hotstuff.crypto.ed25519 import NodeSecret, verify

# RFC 8032 section 7.1, TEST 1 to TEST 3: secret key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
]
SEED = bytes(range(32))


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    node = NodeSecret.from_bytes(bytes.fromhex(secret))
    assert node.public_key().hex() == public
    assert node.sign(bytes.fromhex(message)).hex() == signature
    assert verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


def test_round_trip() -> None:
    node = NodeSecret.generate(SEED)
    assert NodeSecret.from_bytes(node.to_bytes()).public_key() == node.public_key()
    assert (len(node.to_bytes()), len(node.public_key()), len(node.sign(b""))) == (32, 32, 64)


def test_generate_separates_the_seed_from_the_key() -> None:
    node = NodeSecret.generate(SEED)
    assert node.to_bytes() == NodeSecret.generate(SEED).to_bytes()
    assert node.to_bytes() != SEED
    assert node.to_bytes() != NodeSecret.generate(SEED[::-1]).to_bytes()


def test_private_key_is_the_same_key() -> None:
    node = NodeSecret.generate(SEED)
    assert isinstance(node.private_key, Ed25519PrivateKey)
    assert node.private_key.public_key().public_bytes_raw() == node.public_key()


def test_wrong_lengths() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        NodeSecret.generate(bytes(31))
    for size in (0, 31, 33):
        with pytest.raises(ValueError, match="need 32"):
            NodeSecret.from_bytes(bytes(size))


def test_refuses_what_was_not_signed() -> None:
    node, other = NodeSecret.generate(SEED), NodeSecret.generate(SEED[::-1])
    signature = node.sign(b"m")
    assert verify(node.public_key(), b"m", signature)
    assert not verify(node.public_key(), b"n", signature)
    assert not verify(other.public_key(), b"m", signature)
    for position in range(0, 64, 7):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        assert not verify(node.public_key(), b"m", bytes(flipped))


def test_malformed_is_false_not_an_exception() -> None:
    node = NodeSecret.generate(SEED)
    signature = node.sign(b"m")
    for public_key in (b"", node.public_key()[:31], node.public_key() + b"\0", b"\xff" * 32):
        assert not verify(public_key, b"m", signature)
    for wrong in (b"", signature[:63], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not verify(node.public_key(), b"m", wrong)


def test_signature_is_not_malleable() -> None:
    # S + L is the same number modulo the group order; accepting it would give a message two ids.
    order = 2**252 + 27742317777372353535851937790883648493
    node = NodeSecret.generate(SEED)
    signature = node.sign(b"m")
    shifted = int.from_bytes(signature[32:], "little") + order
    assert not verify(node.public_key(), b"m", signature[:32] + shifted.to_bytes(32, "little"))


def test_decoded_keys_are_cached_and_bounded() -> None:
    node = NodeSecret.generate(SEED)
    ed25519._decode.cache_clear()
    for _ in range(3):
        assert verify(node.public_key(), b"m", node.sign(b"m"))
    info = ed25519._decode.cache_info()
    assert (info.misses, info.hits) == (1, 2)
    assert info.maxsize == 1024


def test_secret_is_never_shown() -> None:
    node = NodeSecret.generate(SEED)
    for text in (repr(node), str(node), repr([node])):
        assert node.to_bytes().hex() not in text
        assert repr(node.to_bytes()) not in text
    for escape in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied or pickled"):
            escape(node)
