"""Node identity keys: Ed25519 (RFC 8032) on the `cryptography` package.

Sizes: secret key 32 B, public key 32 B, signature 64 B. The same key signs proposals and batches
and is the node's TLS key, so peers are recognised by one identity on both levels.
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import NoReturn

from cryptography.exceptions import InvalidSignature as _Mismatch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SECRET_KEY_SIZE = 32
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64

#: Decoded keys kept: several epochs of the largest validator set, still far below 1 MB.
_CACHED_KEYS = 1024


class NodeSecret:
    """A node's signing key. Never shown by repr, never pickled; `to_bytes` is the only way out."""

    __slots__ = ("_private_key", "_public_key")

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        """Wrap a key of `cryptography`; see `generate` and `from_bytes`."""
        self._private_key = private_key
        self._public_key = private_key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, seed: bytes) -> NodeSecret:
        """Derive a key from `seed`, at least 32 bytes of secret randomness (``os.urandom(32)``).

        Not the same as ``from_bytes(seed)``: the seed is hashed under a label, so one seed may also
        feed the BLS key without either key revealing the other. Raises ValueError if shorter.
        """
        if len(seed) < 32:
            raise ValueError(f"seed: got {len(seed)} bytes, need at least 32")
        return cls.from_bytes(hmac.digest(b"PHS1/node-key", seed, "sha256"))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> NodeSecret:
        """Decode a 32-byte RFC 8032 secret key. Raises ValueError for another length."""
        if len(encoded) != SECRET_KEY_SIZE:
            raise ValueError(f"node secret key: got {len(encoded)} bytes, need {SECRET_KEY_SIZE}")
        return cls(Ed25519PrivateKey.from_private_bytes(encoded))

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The key object of `cryptography`, for making the TLS certificate."""
        return self._private_key

    def to_bytes(self) -> bytes:
        """Return the secret: 32 bytes as in RFC 8032."""
        return self._private_key.private_bytes_raw()

    def public_key(self) -> bytes:
        """Return the 32-byte public key."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`. Deterministic."""
        return self._private_key.sign(message)

    def __repr__(self) -> str:
        return f"NodeSecret(<hidden>, public_key={self._public_key.hex()[:16]}...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a NodeSecret is not copied or pickled; pass to_bytes() on purpose")


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` (64 B) is by `public_key` (32 B) over `message`. Malformed: False."""
    try:
        _decode(public_key).verify(signature, message)
    except (_Mismatch, ValueError):
        return False
    return True


@lru_cache(maxsize=_CACHED_KEYS)
def _decode(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)
