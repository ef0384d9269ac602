"""Stand-in signatures: keyed hashes that add up like BLS signatures, thousands of times faster. For simulations only.

    share       96-byte hash of public key and message, read as an integer
    aggregate   the sum of shares modulo 2^768, so two colluding signers can send s1+d and s2-d as with BLS
    node        64-byte hash of public key and message

Whoever knows a public key can sign: unforgeability is a convention that the simulator's forger keeps, not mathematics.
Nodes refuse these keys: nothing below this folder can import it, and none of them is a point of the curve, so a genesis
file that holds one is rejected before its proof of possession is even looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128
from typing import Any, Literal

from hotstuff.crypto.aggregate import Collected
from hotstuff.crypto.bls import SecretKey
from hotstuff.crypto.ed25519 import NodeSecret
from hotstuff.crypto.scheme import BLS, Scheme
from hotstuff.errors import InvalidSignature
from hotstuff.types.validators import (
    BLS_KEY_BYTES,
    BLS_SIGNATURE_BYTES,
    NODE_KEY_BYTES,
    NODE_SIGNATURE_BYTES,
    Validator,
    ValidatorSet,
)

Signatures = Literal["stand-in", "bls"]

# Not a compressed point: the flag in the highest bit is missing.
_KEY_HEAD = b"stand-in"
_MODULUS = 1 << 8 * BLS_SIGNATURE_BYTES


@lru_cache(maxsize=1 << 16)
def share_of(key: bytes, message: bytes) -> int:
    """The share of the owner of `key` (48 B) over `message`."""
    return int.from_bytes(shake_128(b"share" + key + message).digest(BLS_SIGNATURE_BYTES), "big")


def encode_sum(shares: Sequence[int]) -> bytes:
    """The aggregate (96 B) of shares."""
    return (sum(shares) % _MODULUS).to_bytes(BLS_SIGNATURE_BYTES, "big")


@lru_cache(maxsize=1 << 12)
def _node_signature(key: bytes, message: bytes) -> bytes:
    return shake_128(b"node" + key + message).digest(NODE_SIGNATURE_BYTES)


@dataclass(frozen=True)
class StandInPublic:
    """What `SecretKey.public_key` would return."""

    encoded: bytes

    def to_bytes(self) -> bytes:
        """48 B, ascending with the validator's index."""
        return self.encoded


class StandInSecret:
    """Takes the place of `SecretKey`."""

    def __init__(self, index: int) -> None:
        self._key = (_KEY_HEAD + index.to_bytes(2, "big")).ljust(BLS_KEY_BYTES, b"\0")

    def public_key(self) -> StandInPublic:
        """The key that verifies, and here also signs."""
        return StandInPublic(self._key)

    def sign(self, message: bytes) -> bytes:
        """96 B."""
        return share_of(self._key, message).to_bytes(BLS_SIGNATURE_BYTES, "big")


class StandInNodeSecret:
    """Takes the place of `NodeSecret`."""

    def __init__(self, index: int) -> None:
        self._key = (_KEY_HEAD + index.to_bytes(2, "big")).ljust(NODE_KEY_BYTES, b"\0")

    def public_key(self) -> bytes:
        """32 B."""
        return self._key

    def sign(self, message: bytes) -> bytes:
        """64 B."""
        return _node_signature(self._key, message)


class StandIn:
    """Implements `crypto.scheme.Scheme`."""

    def public_key(self, data: bytes) -> bytes:
        """The key itself."""
        if len(data) != BLS_KEY_BYTES or not data.startswith(_KEY_HEAD):
            raise InvalidSignature("not a stand-in key")
        return data

    def fast_aggregate_verify(self, keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        """As `bls.fast_aggregate_verify`."""
        return self.aggregate_verify(((keys, message),), signature)

    def aggregate_verify(self, groups: Sequence[tuple[Sequence[bytes], bytes]], signature: bytes) -> bool:
        """As `bls.aggregate_verify`."""
        if len({message for _, message in groups}) != len(groups):
            raise ValueError("aggregate_verify: two groups have the same message")
        if not groups or not all(keys for keys, _ in groups):
            return False
        return signature == encode_sum([share_of(key, message) for keys, message in groups for key in keys])

    def collect(self, shares: Sequence[tuple[int, bytes, bytes, bytes]]) -> Collected:
        """As `aggregate.collect_groups`: the sum first; only if that is wrong, the bad ones one by one."""
        signers = {signer for signer, _, _, _ in shares}
        if len(signers) != len(shares):
            raise ValueError("collect: a signer index appears twice")
        kept = [share for share in shares if len(share[3]) == BLS_SIGNATURE_BYTES]
        signature = _certify(kept)
        if signature is None:
            kept = [share for share in kept if _certify([share])]
            signature = _certify(kept)
        good = {signer for signer, _, _, _ in kept}
        return Collected(signature, tuple(sorted(good)), tuple(sorted(signers - good)))

    def verify_node(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """As `ed25519.verify`."""
        return signature == _node_signature(key, message)


def _certify(shares: Sequence[tuple[int, bytes, bytes, bytes]]) -> bytes | None:
    """The sum of these shares if it is what their signers' sum must be."""
    total = encode_sum([int.from_bytes(share, "big") for _, _, _, share in shares])
    expected = encode_sum([share_of(key, message) for _, key, message, _ in shares])
    return total if shares and total == expected else None


STAND_IN = StandIn()


# ---- the validators of a simulation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """Both secret keys of one validator; `Any` because they are stand-ins or real ones."""

    bls: Any
    node: Any


@lru_cache(maxsize=16)
def members(count: int, signatures: Signatures = "stand-in") -> tuple[Member, ...]:
    """The secrets of `count` validators, in the order of their indices."""
    if signatures == "stand-in":
        return tuple(Member(StandInSecret(i), StandInNodeSecret(i)) for i in range(count))
    seeds = [b"simulator" + i.to_bytes(32, "big") for i in range(count)]
    made = [Member(SecretKey.generate(seed), NodeSecret.generate(seed)) for seed in seeds]
    return tuple(sorted(made, key=lambda member: bytes(member.bls.public_key().to_bytes())))


def validator_set(of: Sequence[Member], powers: Sequence[int] = ()) -> ValidatorSet:
    """Epoch 1 of these members; no powers: one each."""
    powers = powers or [1] * len(of)
    entries = [
        Validator(member.node.public_key(), member.bls.public_key().to_bytes(), power)
        for member, power in zip(of, powers, strict=True)
    ]
    return ValidatorSet(1, tuple(entries))


def scheme_of(signatures: Signatures) -> Scheme:
    """What verifies the signatures of such members."""
    return STAND_IN if signatures == "stand-in" else BLS
