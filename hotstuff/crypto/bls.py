"""BLS signatures: one interface over two libraries, byte-identical results.

Sizes: secret key 32 B, public key 48 B (G1, compressed), signature and proof 96 B (G2, compressed).
Messages are bytes of any length.

The library is chosen at import: blspy if installed, else py_arkworks_bls12381. The environment
variable ``HOTSTUFF_BLS`` = ``blspy`` | ``arkworks`` forces one. Nodes with different libraries work
together, because every key, signature and verdict is the same.

Who may verify an aggregate: `fast_aggregate_verify` and `aggregate_verify` are only safe for keys
whose possession was proven, see `verify_possession`. Otherwise whoever registers the key
``x*G - other_key`` can sign for both (Ristenpart and Yilek, "The Power of Proofs-of-Possession").
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hotstuff.crypto._suite import FIELD_MODULUS, GROUP_ORDER, Backend, Native
from hotstuff.errors import ConfigError, InvalidSignature

SECRET_KEY_SIZE = 32
PUBLIC_KEY_SIZE = 48
SIGNATURE_SIZE = 96

_COORDINATE_SIZE = 48
_COMPRESSED_FLAG = 0x80
_INFINITY_FLAG = 0x40
_FLAGS_MASK = 0xE0


def _load_blspy() -> Backend:
    from hotstuff.crypto import _blspy

    return _blspy


def _load_arkworks() -> Backend:
    from hotstuff.crypto import _arkworks

    return _arkworks


_LOADERS: dict[str, Callable[[], Backend]] = {"blspy": _load_blspy, "arkworks": _load_arkworks}


def _choose_backend(forced: str | None) -> tuple[str, Backend]:
    """Return name and backend; raise ConfigError when unknown or not installed."""
    if forced and forced not in _LOADERS:
        raise ConfigError("HOTSTUFF_BLS", forced, "blspy or arkworks")
    for name in [forced] if forced else list(_LOADERS):
        try:
            return name, _LOADERS[name]()
        except ImportError as error:
            reason = error
    needed = "an installed BLS library: pip install blspy (before Python 3.13) or py_arkworks_bls12381"
    raise ConfigError("HOTSTUFF_BLS", forced or "(not set)", needed) from reason


BACKEND_NAME, _backend = _choose_backend(os.environ.get("HOTSTUFF_BLS"))


class SecretKey:
    """A BLS signing key. Never shown by repr, never pickled; `to_bytes` is the only way out."""

    __slots__ = ("_encoded", "_native", "_public")

    def __init__(self, encoded: bytes) -> None:
        """Decode 32 big-endian bytes; see `from_bytes`."""
        if len(encoded) != SECRET_KEY_SIZE:
            raise ValueError(f"secret key: got {len(encoded)} bytes, need {SECRET_KEY_SIZE}")
        if not 0 < int.from_bytes(encoded, "big") < GROUP_ORDER:
            raise ValueError("secret key: must be above 0 and below the group order")
        self._encoded = encoded
        self._native = _backend.load_secret(encoded)
        self._public = PublicKey._of(_backend.public_key(self._native))

    @classmethod
    def generate(cls, seed: bytes) -> SecretKey:
        """Derive a key from `seed`, at least 32 bytes of secret randomness (``os.urandom(32)``).

        The same seed gives the same key with every backend. Raises ValueError for a shorter seed.

        Source: KeyGen of draft-irtf-cfrg-bls-signature, section 2.3, with the initial salt
        "BLS-SIG-KEYGEN-SALT-" unhashed and empty key_info, as in drafts 02, 03 and in blspy.
        """
        if len(seed) < 32:
            raise ValueError(f"seed: got {len(seed)} bytes, need at least 32")
        salt = b"BLS-SIG-KEYGEN-SALT-"
        scalar = 0
        while scalar == 0:
            extracted = hmac.digest(salt, seed + b"\0", "sha256")
            first = hmac.digest(extracted, b"\0\x30\x01", "sha256")
            second = hmac.digest(extracted, first + b"\0\x30\x02", "sha256")
            scalar = int.from_bytes((first + second)[:48], "big") % GROUP_ORDER
            salt = hashlib.sha256(salt).digest()
        return cls(scalar.to_bytes(SECRET_KEY_SIZE, "big"))

    @classmethod
    def from_bytes(cls, encoded: bytes) -> SecretKey:
        """Decode 32 big-endian bytes. Raises ValueError for a wrong length, 0, or >= group order."""
        return cls(encoded)

    def to_bytes(self) -> bytes:
        """Return the secret: 32 big-endian bytes."""
        return self._encoded

    def public_key(self) -> PublicKey:
        """Return the public key that belongs to this secret."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the 96-byte signature over `message`. Deterministic."""
        return _backend.sign(self._native, message)

    def prove_possession(self, message: bytes) -> bytes:
        """Return a 96-byte proof of possession bound to `message`.

        Hashed under its own domain (BLS_POP_...), so it is never valid as a signature. The caller
        puts the identity that owns the key into `message`, not the key alone: a proof over the
        key alone can be copied by anyone together with the key.
        """
        return _backend.prove_possession(self._native, message)

    def __repr__(self) -> str:
        return f"SecretKey(<hidden>, public_key={self._public.to_bytes().hex()[:16]}...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretKey is not copied or pickled; pass to_bytes() on purpose")


@dataclass(frozen=True, order=True, slots=True, repr=False)
class PublicKey:
    """A checked point of G1. Immutable, hashable, ordered by its 48 bytes.

    Keeps the decoded point, so decode a validator's key once and keep the object.
    """

    _encoded: bytes
    _point: Native = field(compare=False)

    @classmethod
    def from_bytes(cls, encoded: bytes) -> PublicKey:
        """Decode 48 bytes.

        Raises InvalidSignature for a wrong length, an encoding that is not canonical, the point at
        infinity, a point not on the curve or not in the prime-order subgroup.
        """
        return cls(encoded, _decode(encoded, PUBLIC_KEY_SIZE, "public key", _backend.decode_public_key))

    @classmethod
    def _of(cls, point: Native) -> PublicKey:
        return cls(_backend.encode(point), point)

    def to_bytes(self) -> bytes:
        """Return the 48-byte compressed encoding."""
        return self._encoded

    def negated(self) -> PublicKey:
        """Return the opposite key. A validator set must not hold a key and its opposite.

        Their sum is infinity, so both bits can be added to any aggregate without a signature
        (anza-xyz/agave #14115).
        """
        return PublicKey._of(_backend.negate(self._point))

    def __repr__(self) -> str:
        return f"PublicKey({self._encoded.hex()})"

    def __reduce__(self) -> tuple[Any, ...]:
        return PublicKey.from_bytes, (self._encoded,)  # library points cannot be pickled


@dataclass(frozen=True, slots=True, repr=False)
class Signature:
    """A decoded signature or sum of signatures: what `aggregate.collect` works on."""

    _point: Native

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Signature:
        """Decode 96 bytes; raises InvalidSignature in the same cases as `PublicKey.from_bytes`."""
        return cls(_decode(encoded, SIGNATURE_SIZE, "signature", _backend.decode_signature))

    @classmethod
    def total(cls, signatures: Sequence[Signature]) -> Signature:
        """Add up at least one signature. The sum of opposite signatures is infinity: never valid."""
        return cls(_backend.add_signatures([signature._point for signature in signatures]))

    def to_bytes(self) -> bytes:
        """Return the 96-byte compressed encoding."""
        return _backend.encode(self._point)

    def verifies(self, groups: Sequence[tuple[Sequence[PublicKey], bytes]]) -> bool:
        """Like `aggregate_verify` for a decoded signature; messages must be distinct."""
        if not groups or not all(keys for keys, _ in groups):
            return False
        points = [([key._point for key in keys], message) for keys, message in groups]
        return _backend.verify_groups(points, self._point)


def verify(public_key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` (96 B) is by `public_key` over `message`. Malformed bytes: False."""
    return fast_aggregate_verify((public_key,), message, signature)


def verify_possession(public_key: PublicKey, message: bytes, proof: bytes) -> bool:
    """Return whether `proof` (96 B) was made by `SecretKey.prove_possession(message)`.

    Malformed bytes: False. The caller must have put identity and key into `message`.
    """
    try:
        decoded = Signature.from_bytes(proof)
    except InvalidSignature:
        return False
    return _backend.verify_possession(public_key._point, message, decoded._point)


def aggregate(signatures: Sequence[bytes]) -> bytes:
    """Return the 96-byte sum of signatures. Each is decoded with the subgroup check; none is verified.

    Raises InvalidSignature naming the position of a malformed one, ValueError when there is none.
    """
    if not signatures:
        raise ValueError("aggregate: got no signatures, need at least one")
    decoded = []
    for position, encoded in enumerate(signatures):
        try:
            decoded.append(Signature.from_bytes(encoded))
        except InvalidSignature as error:
            raise InvalidSignature(f"position {position}: {error}") from error
    return Signature.total(decoded).to_bytes()


def fast_aggregate_verify(public_keys: Sequence[PublicKey], message: bytes, signature: bytes) -> bool:
    """Return whether all of `public_keys` together signed the one `message`.

    False for no keys, for keys that cancel out, and for malformed signature bytes. A key listed
    twice counts twice, so take the list from a signer bitmap, where that cannot happen.
    """
    return aggregate_verify(((public_keys, message),), signature)


def aggregate_verify(groups: Sequence[tuple[Sequence[PublicKey], bytes]], signature: bytes) -> bool:
    """Return whether the keys of each group signed that group's message.

    Cost: one pairing for each group, however many keys it has. False when there is no group or an
    empty group, and for malformed signature bytes. Raises ValueError when two messages are equal:
    the caller forgot to merge them and would pay twice.
    """
    if len({message for _, message in groups}) != len(groups):
        raise ValueError("aggregate_verify: two groups have the same message")
    try:
        decoded = Signature.from_bytes(signature)
    except InvalidSignature:
        return False
    return decoded.verifies(groups)


def _decode(encoded: bytes, size: int, what: str, decode: Callable[[bytes], Native]) -> Native:
    """Return the point, or raise InvalidSignature.

    Length, flag bits and coordinate range are checked here and not left to the library, so that
    one point has one encoding and both libraries refuse exactly the same bytes.
    """
    if len(encoded) != size:
        raise InvalidSignature(f"{what}: got {len(encoded)} bytes, need {size}")
    if not encoded[0] & _COMPRESSED_FLAG:
        raise InvalidSignature(f"{what}: not a compressed point")
    if encoded[0] & _INFINITY_FLAG:
        raise InvalidSignature(f"{what}: point at infinity")
    plain = bytes([encoded[0] & ~_FLAGS_MASK]) + encoded[1:]
    for start in range(0, size, _COORDINATE_SIZE):
        if int.from_bytes(plain[start : start + _COORDINATE_SIZE], "big") >= FIELD_MODULUS:
            raise InvalidSignature(f"{what}: coordinate not below the field modulus")
    try:
        return decode(encoded)
    except ValueError as error:
        raise InvalidSignature(f"{what}: not on the curve or not in the subgroup") from error
