"""What certificates are made of: the signature scheme as the verifier sees it.

Nodes use `BLS`, always. The parameter exists for simulations, where a stand-in makes a million views affordable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hotstuff.crypto import aggregate, bls, ed25519
from hotstuff.crypto.bls import PublicKey


class Scheme(Protocol):
    """Multisignatures of validators, and signatures of node keys."""

    def public_key(self, data: bytes) -> Any:
        """A validator's key (48 B), decoded once; raises `InvalidSignature`."""
        ...

    def fast_aggregate_verify(self, keys: Sequence[Any], message: bytes, signature: bytes) -> bool:
        """Is `signature` (96 B) the sum of exactly these keys' signatures over one message?"""
        ...

    def aggregate_verify(self, groups: Sequence[tuple[Sequence[Any], bytes]], signature: bytes) -> bool:
        """Is `signature` the sum over groups, each of which signed its own message?"""
        ...

    def collect(self, shares: Sequence[tuple[int, Any, bytes, bytes]]) -> aggregate.Collected:
        """Aggregate shares (signer, key, message, share), verify the sum, find the bad ones."""
        ...

    def verify_node(self, key: bytes, message: bytes, signature: bytes) -> bool:
        """Is this the node key's signature (64 B)?"""
        ...


class Bls:
    """BLS12-381 multisignatures and Ed25519 node keys."""

    def public_key(self, data: bytes) -> PublicKey:
        return PublicKey.from_bytes(data)

    def fast_aggregate_verify(self, keys: Sequence[PublicKey], message: bytes, signature: bytes) -> bool:
        return bls.fast_aggregate_verify(keys, message, signature)

    def aggregate_verify(self, groups: Sequence[tuple[Sequence[PublicKey], bytes]], signature: bytes) -> bool:
        return bls.aggregate_verify(groups, signature)

    def collect(self, shares: Sequence[tuple[int, PublicKey, bytes, bytes]]) -> aggregate.Collected:
        return aggregate.collect_groups(shares)

    def verify_node(self, key: bytes, message: bytes, signature: bytes) -> bool:
        return ed25519.verify(key, message, signature)


BLS = Bls()
