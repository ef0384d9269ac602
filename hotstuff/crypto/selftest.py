"""Known-answer check of the loaded BLS library, for start-up: refuse to run on wrong cryptography.

A miscompiled or replaced library that signs wrongly makes a validator useless; one that accepts
wrongly makes it dangerous. Both are found here in a few milliseconds.

Vectors: ethereum/bls12-381-tests (sign, fast_aggregate_verify, deserialization_G1) and
Chia-Network/bls-signatures src/test.cpp, "Chia test vector 3 (PoP)" (key derivation, possession).
"""

from __future__ import annotations

from hotstuff.crypto import bls
from hotstuff.errors import InvalidSignature, InvariantViolation

_MESSAGE = bytes([0xAB]) * 32
_SECRETS = (
    "263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3",
    "47b8192d77bf871b62e87859d653922725724a5c031afeabc60bcef5ff665138",
    "328388aff0d4a5b7dc9205abd374e7e98f3cd9f3418edb4eafda5fb16473d216",
)
_AGGREGATE = bytes.fromhex(
    "9712c3edd73a209c742b8250759db12549b3eaf43b5ca61376d9f30e2747dbcf842d8b2ac0901d2a093713e20284a767"
    "0fcf6954e9ab93de991bb9b313e664785a075fc285806fa5224c82bde146561b446ccfc706a64b8579513cfc4ff1d930"
)
_SEED = bytes([4]) * 32
_DERIVED_SECRET = bytes.fromhex("258787ef728c898e43bc76244d70f468c9c7e1338a107b18b42da0d86b663c26")
_POSSESSION = bytes.fromhex(
    "84f709159435f0dc73b3e8bf6c78d85282d19231555a8ee3b6e2573aaf66872d9203fefa1ef700e34e7c3f3fb2821010"
    "0558c6871c53f1ef6055b9f06b0d1abe22ad584ad3b957f3018a8f58227c6c716b1e15791459850f2289168fa0cf9115"
)
_NOT_IN_SUBGROUP = bytes.fromhex("8123456789abcdef" + "0123456789abcdef" * 5)


def self_test() -> None:
    """Raise InvariantViolation unless the loaded BLS library reproduces published answers."""
    secrets = [bls.SecretKey.from_bytes(bytes.fromhex(secret)) for secret in _SECRETS]
    keys = [secret.public_key() for secret in secrets]
    derived = bls.SecretKey.generate(_SEED)
    derived_key = derived.public_key()

    _expect(derived.to_bytes() == _DERIVED_SECRET, "key derivation")
    _expect(bls.aggregate([secret.sign(_MESSAGE) for secret in secrets]) == _AGGREGATE, "sign and aggregate")
    _expect(bls.fast_aggregate_verify(keys, _MESSAGE, _AGGREGATE), "accept a valid aggregate")
    _expect(not bls.fast_aggregate_verify(keys[:2], _MESSAGE, _AGGREGATE), "refuse a wrong set of signers")
    _expect(derived.prove_possession(derived_key.to_bytes()) == _POSSESSION, "prove possession")
    _expect(bls.verify_possession(derived_key, derived_key.to_bytes(), _POSSESSION), "accept a proof")
    _expect(not bls.verify(derived_key, derived_key.to_bytes(), _POSSESSION), "keep domains apart")
    _expect(not _decodes(_NOT_IN_SUBGROUP), "refuse a key outside the subgroup")


def _decodes(encoded: bytes) -> bool:
    try:
        bls.PublicKey.from_bytes(encoded)
    except InvalidSignature:
        return False
    return True


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantViolation(f"BLS self-test failed with {bls.BACKEND_NAME}: {what}")
