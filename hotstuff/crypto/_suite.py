"""Constants of the ciphersuite and the shape both BLS libraries are brought into.

Ciphersuite: BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_ of draft-irtf-cfrg-bls-signature
(public keys in G1, signatures in G2, proof of possession against rogue keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

SIGNATURE_DST = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
POSSESSION_DST = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"

#: Order r of G1, G2 and of the secret scalars.
GROUP_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
#: Characteristic p of the field that point coordinates live in.
FIELD_MODULUS = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB

#: A point or scalar of whichever library is loaded; neither library ships types.
Native: TypeAlias = Any


class Backend(Protocol):
    """What `_blspy` and `_arkworks` both provide, as module-level functions.

    `bls.py` has already checked lengths, flag bits, coordinate ranges, scalar range and that no
    list of keys is empty. A backend must still check the curve equation and the subgroup, and
    answer False for a point at infinity, including a sum of keys that happens to be infinity.
    """

    def load_secret(self, encoded: bytes) -> Native: ...

    def public_key(self, secret: Native) -> Native: ...

    def sign(self, secret: Native, message: bytes) -> bytes: ...

    def prove_possession(self, secret: Native, message: bytes) -> bytes: ...

    def decode_public_key(self, encoded: bytes) -> Native:
        """Raise ValueError when not on the curve or not in the subgroup."""

    def decode_signature(self, encoded: bytes) -> Native:
        """Raise ValueError when not on the curve or not in the subgroup."""

    def encode(self, point: Native) -> bytes: ...

    def negate(self, public_key: Native) -> Native: ...

    def add_signatures(self, signatures: Sequence[Native]) -> Native: ...

    def verify_groups(self, groups: Sequence[tuple[Sequence[Native], bytes]], signature: Native) -> bool: ...

    def verify_possession(self, public_key: Native, message: bytes, proof: Native) -> bool: ...
