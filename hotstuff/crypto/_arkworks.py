"""BLS on py_arkworks_bls12381 (Rust library arkworks). Wheels for CPython 3.11 and later.

The library gives points and pairings only; the scheme itself is written here.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from hotstuff.crypto._suite import POSSESSION_DST, SIGNATURE_DST, Native

_GENERATOR = G1Point()
_MINUS_GENERATOR = -_GENERATOR
_G1_INFINITY = G1Point.identity()
_G2_INFINITY = G2Point.identity()


def load_secret(encoded: bytes) -> Native:
    return Scalar.from_be_bytes(encoded)


def public_key(secret: Native) -> Native:
    return _GENERATOR * secret


def sign(secret: Native, message: bytes) -> bytes:
    return encode(hash_to_curve(message, SIGNATURE_DST) * secret)


def prove_possession(secret: Native, message: bytes) -> bytes:
    return encode(hash_to_curve(message, POSSESSION_DST) * secret)


def decode_public_key(encoded: bytes) -> Native:
    return G1Point.from_compressed_bytes(encoded)


def decode_signature(encoded: bytes) -> Native:
    return G2Point.from_compressed_bytes(encoded)


def encode(point: Native) -> bytes:
    return bytes(point.to_compressed_bytes())


def negate(public_key: Native) -> Native:
    return -public_key


def add_signatures(signatures: Sequence[Native]) -> Native:
    return reduce(operator.add, signatures)


def verify_groups(groups: Sequence[tuple[Sequence[Native], bytes]], signature: Native) -> bool:
    sums = [reduce(operator.add, keys) for keys, _ in groups]
    # At infinity the pairing equation holds for any message: KeyValidate of the draft, section 2.5.
    if signature == _G2_INFINITY or any(total == _G1_INFINITY for total in sums):
        return False
    hashes = [hash_to_curve(message, SIGNATURE_DST) for _, message in groups]
    return bool(GT.pairing_check([*sums, _MINUS_GENERATOR], [*hashes, signature]))


def verify_possession(public_key: Native, message: bytes, proof: Native) -> bool:
    point = hash_to_curve(message, POSSESSION_DST)
    return bool(GT.pairing_check([public_key, _MINUS_GENERATOR], [point, proof]))


def hash_to_curve(message: bytes, dst: bytes) -> Native:
    return G2Point.hash_to_curve(message, dst)
