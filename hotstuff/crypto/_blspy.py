"""BLS on blspy (C library blst). The fast backend; wheels exist for CPython 3.8 to 3.12 only."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from blspy import G1Element, G2Element, PopSchemeMPL, PrivateKey  # type: ignore[import-not-found]

from hotstuff.crypto._suite import GROUP_ORDER, POSSESSION_DST, Native

_GENERATOR = G1Element.generator()


def load_secret(encoded: bytes) -> Native:
    return PrivateKey.from_bytes(encoded)


def public_key(secret: Native) -> Native:
    return secret.get_g1()


def sign(secret: Native, message: bytes) -> bytes:
    return bytes(PopSchemeMPL.sign(secret, message))


def prove_possession(secret: Native, message: bytes) -> bytes:
    return bytes(_multiply(hash_to_curve(message, POSSESSION_DST), bytes(secret)))


def decode_public_key(encoded: bytes) -> Native:
    return G1Element.from_bytes(encoded)


def decode_signature(encoded: bytes) -> Native:
    return G2Element.from_bytes(encoded)


def encode(point: Native) -> bytes:
    return bytes(point)


def negate(public_key: Native) -> Native:
    return public_key.negate()


def add_signatures(signatures: Sequence[Native]) -> Native:
    return PopSchemeMPL.aggregate(list(signatures))


def verify_groups(groups: Sequence[tuple[Sequence[Native], bytes]], signature: Native) -> bool:
    if len(groups) == 1:
        keys, message = groups[0]
        return bool(PopSchemeMPL.fast_aggregate_verify(list(keys), message, signature))
    sums = [reduce(operator.add, keys) for keys, _ in groups]
    return bool(PopSchemeMPL.aggregate_verify(sums, [message for _, message in groups], signature))


def verify_possession(public_key: Native, message: bytes, proof: Native) -> bool:
    # PopSchemeMPL.pop_verify hashes the key itself and nothing else, so the pairing is written out.
    # Neither the key nor the proof can be infinity here: both came from `from_bytes` in bls.py.
    return bool(public_key.pair(hash_to_curve(message, POSSESSION_DST)) == _GENERATOR.pair(proof))


def hash_to_curve(message: bytes, dst: bytes) -> Native:
    return G2Element.from_message(message, dst)


def _multiply(point: Native, scalar: bytes) -> Native:
    """Return scalar * point for a point of order r.

    blspy can hash under any domain but multiplies by a secret only inside `sign`, whose domain is
    fixed. So this is a Montgomery ladder over blspy's point addition: one addition and one doubling
    per bit, in an order that does not depend on the bits. Adding r or 2r first makes every scalar
    256 bits long, so the number of steps tells nothing either. Python integers are still not a
    constant-time type; that is acceptable because this runs once per key, offline, when the
    operator creates it, and no peer can trigger or time it. Votes never come here.
    """
    value = int.from_bytes(scalar, "big") + GROUP_ORDER
    if value.bit_length() < 256:
        value += GROUP_ORDER
    ladder = [point, point + point]  # ladder[1] - ladder[0] == point, always
    for position in range(254, -1, -1):
        bit = (value >> position) & 1
        total = ladder[0] + ladder[1]
        ladder[bit] = ladder[bit] + ladder[bit]
        ladder[1 - bit] = total
    return ladder[0]
