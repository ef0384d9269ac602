"""The validator set of an epoch, power arithmetic and signer bitmaps.

Integers only. With total power P and Byzantine power B, 3B < P. A quorum holds more than 2P/3, so two quorums share
more than P/3 > B: an honest validator. Never "2f+1": with n = 5 that is 3, and two sets of 3 may share only the
Byzantine one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hotstuff.errors import InvalidEncoding
from hotstuff.types.encoding import U16, U64, Buffer, Reader, decode_all
from hotstuff.types.hashing import Domain, digest

NODE_KEY_BYTES = 32
BLS_KEY_BYTES = 48
BLS_SIGNATURE_BYTES = 96
NODE_SIGNATURE_BYTES = 64

# Signer indices are u16 and certificates carry a bitmap: beyond this a TC of distinct groups costs seconds to check.
MAX_VALIDATORS = 1024
# Sums of powers, times three, stay inside a signed 64-bit integer.
MAX_TOTAL_POWER = 2**60

# Sign bit of a compressed G1 point: two keys that differ in it alone are each other's negation.
_G1_SIGN_BIT = 0x20


@dataclass(frozen=True)
class Validator:
    """One member: Ed25519 node key (32 B), BLS key in G1 (48 B) and voting power (> 0)."""

    node_key: bytes
    bls_key: bytes
    power: int

    def encode(self) -> bytes:
        """node_key 32 | bls_key 48 | power u64."""
        return self.node_key + self.bls_key + U64.pack(self.power)


@dataclass(frozen=True)
class ValidatorSet:
    """The members of an epoch, sorted by BLS key. A validator's *index* is its position here.

    Raises `ValueError` for an empty or oversized set, powers out of range, duplicate keys, or two keys that are each
    other's negation (such a pair adds up to nothing, so its bits could be added to any aggregate without signing).
    """

    epoch: int
    validators: tuple[Validator, ...]

    def __post_init__(self) -> None:
        _check_members(self.validators)

    def __len__(self) -> int:
        return len(self.validators)

    @cached_property
    def encoding(self) -> bytes:
        """epoch u64 | n u16 | validators."""
        return U64.pack(self.epoch) + U16.pack(len(self)) + b"".join(v.encode() for v in self.validators)

    @cached_property
    def hash(self) -> bytes:
        """Identity of the set, inside every signature."""
        return digest(Domain.VALIDATORS, self.encoding)

    @cached_property
    def total_power(self) -> int:
        """P."""
        return sum(v.power for v in self.validators)

    @cached_property
    def bitmap_bytes(self) -> int:
        """Length of a signer bitmap: ceil(n / 8)."""
        return (len(self) + 7) // 8

    @classmethod
    def decode(cls, data: Buffer) -> ValidatorSet:
        """Inverse of `encoding`; raises `InvalidEncoding`."""
        return decode_all(data, "validator set", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> ValidatorSet:
        epoch, count = reader.counter(), reader.u16()
        if count > MAX_VALIDATORS:
            raise InvalidEncoding(f"validator set: got {count} validators, allowed: 1 to {MAX_VALIDATORS}")
        members = tuple(
            Validator(reader.fixed(NODE_KEY_BYTES), reader.fixed(BLS_KEY_BYTES), reader.u64()) for _ in range(count)
        )
        try:
            return cls(epoch, members)
        except ValueError as error:
            raise InvalidEncoding(f"validator set: {error}") from None

    def power(self, indices: Iterable[int]) -> int:
        """Total power of distinct validator indices."""
        return sum(self.validators[i].power for i in indices)

    def is_quorum(self, indices: Iterable[int]) -> bool:
        """More than two thirds of the power: any two such sets share an honest validator."""
        return 3 * self.power(indices) > 2 * self.total_power

    def has_honest(self, indices: Iterable[int]) -> bool:
        """At least one third of the power ("f+1"): cannot be Byzantine only, because 3B < P."""
        return 3 * self.power(indices) >= self.total_power

    def bitmap(self, indices: Iterable[int]) -> bytes:
        """Bit i of byte i // 8 (least significant first) is set for each index."""
        bits = 0
        for index in indices:
            bits |= 1 << index
        return bits.to_bytes(self.bitmap_bytes, "little")

    def signers(self, bitmap: bytes) -> tuple[int, ...]:
        """Ascending indices of a bitmap; raises `InvalidEncoding` for a wrong length or bits beyond n."""
        if len(bitmap) != self.bitmap_bytes:
            raise InvalidEncoding(f"signer bitmap: got {len(bitmap)} bytes, allowed: {self.bitmap_bytes}")
        bits = int.from_bytes(bitmap, "little")
        if bits >> len(self):
            raise InvalidEncoding(f"signer bitmap: got bits beyond validator {len(self) - 1}")
        return tuple(i for i in range(len(self)) if bits >> i & 1)


def _check_members(members: tuple[Validator, ...]) -> None:
    if not 1 <= len(members) <= MAX_VALIDATORS:
        raise ValueError(f"got {len(members)} validators, allowed: 1 to {MAX_VALIDATORS}")
    for member in members:
        if len(member.node_key) != NODE_KEY_BYTES or len(member.bls_key) != BLS_KEY_BYTES:
            raise ValueError(f"keys must be {NODE_KEY_BYTES} and {BLS_KEY_BYTES} bytes")
        if not 1 <= member.power <= MAX_TOTAL_POWER:
            raise ValueError(f"got power {member.power}, allowed: 1 to {MAX_TOTAL_POWER}")
    if sum(m.power for m in members) > MAX_TOTAL_POWER:
        raise ValueError(f"total power exceeds {MAX_TOTAL_POWER}")
    keys = [m.bls_key for m in members]
    if keys != sorted(keys):
        raise ValueError("validators must be sorted by BLS key")
    # Without the sign bit a key and its negation look alike, so this finds duplicates and opposites at once.
    if len({bytes([key[0] & ~_G1_SIGN_BIT]) + key[1:] for key in keys}) != len(keys):
        raise ValueError("two validators have the same or opposite BLS keys")
    if len({m.node_key for m in members}) != len(members):
        raise ValueError("two validators have the same node key")
