"""BLS: published vectors, both libraries against each other, attacks (acceptance list K)."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotstuff.crypto import _suite
from hotstuff.errors import InvalidSignature

INFINITE_KEY = b"\xc0" + bytes(47)
INFINITE_SIGNATURE = b"\xc0" + bytes(95)
few_examples = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.binary(min_size=32, max_size=64)
messages = st.binary(max_size=200)


def secret(crypto: Any, number: int) -> Any:
    return crypto.bls.SecretKey.generate(number.to_bytes(32, "big"))


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def compress(x: list[int], y: list[int]) -> bytes:
    """Encode an affine point of G1 (one coordinate) or G2 ([real, imaginary]), in or out of the subgroup."""
    half = (_suite.FIELD_MODULUS - 1) // 2
    sign_from = next((part for part in reversed(y) if part), 0)
    encoded = bytearray(b"".join(part.to_bytes(48, "big") for part in reversed(x)))
    encoded[0] |= 0x80 | (0x20 if sign_from > half else 0)
    return bytes(encoded)


def wrong_subgroup(vectors: Any, group: str) -> bytes:
    point = vectors["not_in_subgroup"][group]
    as_list = [point["x"]] if group == "G1" else point["x"], [point["y"]] if group == "G1" else point["y"]
    return compress(*([int(part) for part in parts] for parts in as_list))


class TestVectors:
    """K13: published answers, see `sources` in vectors.json."""

    def test_public_keys(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["keys"]:
            key = crypto.bls.SecretKey.from_bytes(unhex(case["secret"]))
            assert key.public_key().to_bytes().hex() == case["public"]

    def test_sign_and_verify(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["sign"]:
            key, message = crypto.bls.SecretKey.from_bytes(unhex(case["secret"])), unhex(case["message"])
            assert key.sign(message).hex() == case["signature"]
            assert crypto.bls.verify(key.public_key(), message, unhex(case["signature"]))

    def test_verify(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["verify"]:
            key = crypto.bls.PublicKey.from_bytes(unhex(case["public"]))
            assert crypto.bls.verify(key, unhex(case["message"]), unhex(case["signature"])) is case["valid"]

    def test_aggregate(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["aggregate"]:
            assert crypto.bls.aggregate([unhex(text) for text in case["signatures"]]).hex() == case["aggregate"]

    def test_fast_aggregate_verify(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["fast_aggregate_verify"]:
            keys = [crypto.bls.PublicKey.from_bytes(unhex(text)) for text in case["publics"]]
            verdict = crypto.bls.fast_aggregate_verify(keys, unhex(case["message"]), unhex(case["signature"]))
            assert verdict is case["valid"], case["name"]

    def test_aggregate_verify(self, crypto: Any, vectors: Any) -> None:
        for case in vectors["aggregate_verify"]:
            groups = [
                ([crypto.bls.PublicKey.from_bytes(unhex(public))], unhex(message))
                for public, message in zip(case["publics"], case["messages"], strict=True)
            ]
            assert crypto.bls.aggregate_verify(groups, unhex(case["signature"])) is case["valid"], case["name"]

    @pytest.mark.parametrize("group", ["G1", "G2"])
    def test_deserialization(self, crypto: Any, vectors: Any, group: str) -> None:
        decoder = crypto.bls.PublicKey if group == "G1" else crypto.bls.Signature
        for case in vectors[f"deserialization_{group}"]:
            encoded = unhex(case["encoded"])
            if case["valid"] and encoded not in (INFINITE_KEY, INFINITE_SIGNATURE):
                assert decoder.from_bytes(encoded).to_bytes() == encoded
            else:
                with pytest.raises(InvalidSignature):
                    decoder.from_bytes(encoded)

    def test_hash_to_curve(self, crypto: Any, vectors: Any) -> None:
        dst = vectors["hash_to_G2"]["dst"].encode()
        for case in vectors["hash_to_G2"]["cases"]:
            x, y = ([int(part, 16) for part in case[axis]] for axis in "xy")
            backend = crypto.bls._backend
            assert backend.encode(backend.hash_to_curve(case["message"].encode(), dst)) == compress(x, y)

    def test_key_derivation_and_possession(self, crypto: Any, vectors: Any) -> None:
        case = vectors["possession"]
        key = crypto.bls.SecretKey.generate(unhex(case["seed"]))
        encoded = key.public_key().to_bytes()
        assert key.to_bytes().hex() == case["secret"]
        assert key.prove_possession(encoded).hex() == case["proof"]
        assert crypto.bls.verify_possession(key.public_key(), encoded, unhex(case["proof"]))


class TestBothLibraries:
    """K14: nodes with different libraries must agree on every byte and every verdict."""

    @few_examples
    @given(seed=seeds, message=messages)
    def test_same_bytes(self, both: Any, seed: bytes, message: bytes) -> None:
        one, two = (crypto.bls.SecretKey.generate(seed) for crypto in both)
        assert one.to_bytes() == two.to_bytes()
        assert one.public_key().to_bytes() == two.public_key().to_bytes()
        assert one.public_key().negated().to_bytes() == two.public_key().negated().to_bytes()
        assert one.sign(message) == two.sign(message)
        assert one.prove_possession(message) == two.prove_possession(message)

    @few_examples
    @given(seed=seeds)
    def test_key_derivation_is_that_of_blspy(self, both: Any, seed: bytes) -> None:
        library = pytest.importorskip("blspy")
        assert both[1].bls.SecretKey.generate(seed).to_bytes() == bytes(library.PopSchemeMPL.key_gen(seed))

    @pytest.mark.parametrize(
        "number", [1, 2, _suite.GROUP_ORDER - 1, 2**255 - _suite.GROUP_ORDER - 1, 2**255 - _suite.GROUP_ORDER, 2**254]
    )
    def test_same_proof_for_extreme_scalars(self, both: Any, number: int) -> None:
        # The blspy backend multiplies by its own ladder; these scalars sit where its padding changes.
        proofs = {crypto.bls.SecretKey.from_bytes(number.to_bytes(32, "big")).prove_possession(b"m") for crypto in both}
        assert len(proofs) == 1

    @few_examples
    @given(message=messages, count=st.integers(1, 5))
    def test_same_aggregate(self, both: Any, message: bytes, count: int) -> None:
        shares = [secret(both[0], number).sign(message) for number in range(count)]
        total = both[0].bls.aggregate(shares)
        assert total == both[1].bls.aggregate(shares)
        for crypto in both:
            keys = [secret(crypto, number).public_key() for number in range(count)]
            assert crypto.bls.fast_aggregate_verify(keys, message, total)

    @settings(few_examples, max_examples=60)
    @given(position=st.integers(0, 95), mask=st.integers(1, 255))
    def test_same_verdict_on_flipped_signatures(self, both: Any, position: int, mask: int) -> None:
        flipped = bytearray(secret(both[0], 1).sign(b"m"))
        flipped[position] ^= mask
        verdicts = []
        for crypto in both:
            verdicts.append(crypto.bls.verify(secret(crypto, 1).public_key(), b"m", bytes(flipped)))
            try:
                crypto.bls.aggregate([bytes(flipped)])
                verdicts.append("decodes")
            except InvalidSignature as error:
                verdicts.append(str(error))
        assert verdicts[:2] == verdicts[2:]
        assert verdicts[0] is False

    @settings(few_examples, max_examples=60)
    @given(encoded=st.binary(min_size=48, max_size=48).map(lambda raw: bytes([raw[0] | 0x80]) + raw[1:]))
    def test_same_verdict_on_random_keys(self, both: Any, encoded: bytes) -> None:
        errors = []
        for crypto in both:
            with pytest.raises(InvalidSignature) as caught:
                crypto.bls.PublicKey.from_bytes(encoded)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]


class TestSecretKey:
    """K12 and hiding."""

    @pytest.mark.parametrize("number", [0, _suite.GROUP_ORDER, _suite.GROUP_ORDER + 1, 2**256 - 1])
    def test_out_of_range(self, crypto: Any, number: int) -> None:
        with pytest.raises(ValueError, match="group order"):
            crypto.bls.SecretKey.from_bytes(number.to_bytes(32, "big"))

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_wrong_length(self, crypto: Any, size: int) -> None:
        with pytest.raises(ValueError, match="bytes, need 32"):
            crypto.bls.SecretKey.from_bytes(b"\1" * size)

    def test_short_seed(self, crypto: Any) -> None:
        with pytest.raises(ValueError, match="at least 32"):
            crypto.bls.SecretKey.generate(bytes(31))

    def test_other_seed_other_key(self, crypto: Any) -> None:
        keys = [crypto.bls.SecretKey.generate(os.urandom(32)) for _ in range(2)]
        assert keys[0].to_bytes() != keys[1].to_bytes()

    def test_round_trip(self, crypto: Any) -> None:
        key = secret(crypto, 1)
        again = crypto.bls.SecretKey.from_bytes(key.to_bytes())
        assert again.sign(b"m") == key.sign(b"m")

    def test_secret_is_never_shown(self, crypto: Any) -> None:
        key = secret(crypto, 1)
        for text in (repr(key), str(key), f"{key}", repr([key])):
            assert key.to_bytes().hex() not in text
            assert str(int.from_bytes(key.to_bytes(), "big")) not in text
            assert repr(key.to_bytes()) not in text
        for escape in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not copied or pickled"):
                escape(key)


class TestPublicKey:
    def test_equal_hash_order(self, crypto: Any) -> None:
        keys = [secret(crypto, number).public_key() for number in range(4)]
        again = [crypto.bls.PublicKey.from_bytes(key.to_bytes()) for key in keys]
        assert keys == again
        assert len({*keys, *again}) == 4
        assert [key.to_bytes() for key in sorted(keys)] == sorted(key.to_bytes() for key in keys)

    def test_immutable(self, crypto: Any) -> None:
        with pytest.raises(AttributeError):
            secret(crypto, 1).public_key()._encoded = b""

    def test_reduces_to_its_encoding(self, crypto: Any) -> None:
        key = secret(crypto, 1).public_key()
        assert copy.deepcopy(key) == key

    def test_repr(self, crypto: Any) -> None:
        key = secret(crypto, 1).public_key()
        assert repr(key) == f"PublicKey({key.to_bytes().hex()})"

    def test_negated(self, crypto: Any) -> None:
        key = secret(crypto, 1).public_key()
        assert key.negated() != key
        assert key.negated().negated() == key
        opposite = _suite.GROUP_ORDER - int.from_bytes(secret(crypto, 1).to_bytes(), "big")
        assert crypto.bls.SecretKey.from_bytes(opposite.to_bytes(32, "big")).public_key() == key.negated()


class TestMalformedPoints:
    """K3, K4, K5."""

    def test_points_outside_the_subgroup(self, crypto: Any, vectors: Any) -> None:
        with pytest.raises(InvalidSignature, match="subgroup"):
            crypto.bls.PublicKey.from_bytes(wrong_subgroup(vectors, "G1"))
        with pytest.raises(InvalidSignature, match="subgroup"):
            crypto.bls.Signature.from_bytes(wrong_subgroup(vectors, "G2"))

    def test_uncompressed_where_compressed_expected(self, crypto: Any) -> None:
        with pytest.raises(InvalidSignature, match="got 96 bytes, need 48"):
            crypto.bls.PublicKey.from_bytes(bytes(96))

    def test_infinity(self, crypto: Any) -> None:
        key = secret(crypto, 1).public_key()
        with pytest.raises(InvalidSignature, match="infinity"):
            crypto.bls.PublicKey.from_bytes(INFINITE_KEY)
        assert not crypto.bls.verify(key, b"m", INFINITE_SIGNATURE)
        assert not crypto.bls.verify_possession(key, b"m", INFINITE_SIGNATURE)
        assert not crypto.bls.fast_aggregate_verify([], b"m", INFINITE_SIGNATURE)
        assert not crypto.bls.aggregate_verify([], INFINITE_SIGNATURE)

    def test_no_keys_never_verify(self, crypto: Any) -> None:
        signature = secret(crypto, 1).sign(b"m")
        key = secret(crypto, 1).public_key()
        assert not crypto.bls.fast_aggregate_verify([], b"m", signature)
        assert not crypto.bls.aggregate_verify([], signature)
        assert not crypto.bls.aggregate_verify([([key], b"m"), ([], b"other")], signature)

    @pytest.mark.parametrize("size", [0, 1, 48, 95, 97, 192])
    def test_malformed_signature_is_false_not_an_exception(self, crypto: Any, size: int) -> None:
        key = secret(crypto, 1).public_key()
        for filler in (b"\0", b"\xa0", b"\xff"):
            assert not crypto.bls.verify(key, b"m", filler * size)
            assert not crypto.bls.verify_possession(key, b"m", filler * size)
            assert not crypto.bls.aggregate_verify([([key], b"m"), ([key], b"n")], filler * size)

    def test_cancelling_low_order_parts_are_refused(self, crypto: Any, vectors: Any) -> None:
        # T has order 13. s1+T and s2-T sum to s1+s2, so an aggregator that skips the subgroup check
        # would accept shares that are not signatures (cfrg/draft-irtf-cfrg-bls-signature #33).
        shares = [secret(crypto, number).sign(b"m") for number in range(2)]
        shifted = add_low_order(crypto.name, shares[0], wrong_subgroup(vectors, "G2"), 1)
        shifted_back = add_low_order(crypto.name, shares[1], wrong_subgroup(vectors, "G2"), -1)
        with pytest.raises(InvalidSignature, match=r"position 0: .*subgroup"):
            crypto.bls.aggregate([shifted, shifted_back])
        with pytest.raises(InvalidSignature, match=r"position 1: .*subgroup"):
            crypto.bls.aggregate([shares[0], shifted_back])


def add_low_order(library: str, share: bytes, low_order: bytes, sign: int) -> bytes:
    """Add plus or minus a point outside the subgroup, with the library's unchecked decoding."""
    if library == "blspy":
        element = pytest.importorskip("blspy").G2Element
        point = element.from_bytes_unchecked(low_order)
        return bytes(element.from_bytes_unchecked(share) + (point if sign > 0 else point.negate()))
    decode = pytest.importorskip("py_arkworks_bls12381").G2Point.from_compressed_bytes_unchecked
    point = decode(low_order)
    return bytes((decode(share) + (point if sign > 0 else -point)).to_compressed_bytes())


class TestAggregate:
    def test_empty(self, crypto: Any) -> None:
        with pytest.raises(ValueError, match="at least one"):
            crypto.bls.aggregate([])

    def test_names_the_position(self, crypto: Any) -> None:
        good = secret(crypto, 1).sign(b"m")
        for bad, why in ((INFINITE_SIGNATURE, "infinity"), (b"", "0 bytes"), (b"\0" * 96, "compressed")):
            with pytest.raises(InvalidSignature, match=f"position 2: signature: .*{why}"):
                crypto.bls.aggregate([good, good, bad])

    def test_wrong_signer_sets(self, crypto: Any) -> None:
        # K8: a signer added to the set without signing, left out, or counted twice.
        keys = [secret(crypto, number).public_key() for number in range(4)]
        total = crypto.bls.aggregate([secret(crypto, number).sign(b"m") for number in range(3)])
        assert crypto.bls.fast_aggregate_verify(keys[:3], b"m", total)
        assert crypto.bls.fast_aggregate_verify([keys[2], keys[0], keys[1]], b"m", total)
        for wrong in (keys, keys[:2], keys[1:], [*keys[:3], keys[0]], [keys[0], keys[0], keys[1]]):
            assert not crypto.bls.fast_aggregate_verify(wrong, b"m", total)
        assert not crypto.bls.fast_aggregate_verify(keys[:3], b"n", total)

    def test_duplicated_signer_verifies_if_the_share_is_added_twice(self, crypto: Any) -> None:
        # Why key lists must come from a bitmap: the mathematics has nothing against counting twice.
        key, share = secret(crypto, 1).public_key(), secret(crypto, 1).sign(b"m")
        assert crypto.bls.fast_aggregate_verify([key, key], b"m", crypto.bls.aggregate([share, share]))

    def test_groups(self, crypto: Any) -> None:
        secrets = [secret(crypto, number) for number in range(5)]
        keys = [key.public_key() for key in secrets]
        texts = [b"a", b"a", b"b", b"c", b"c"]
        total = crypto.bls.aggregate([key.sign(text) for key, text in zip(secrets, texts, strict=True)])
        groups = [(keys[:2], b"a"), (keys[2:3], b"b"), (keys[3:], b"c")]
        assert crypto.bls.aggregate_verify(groups, total)
        assert not crypto.bls.aggregate_verify(groups[:2], total)
        assert not crypto.bls.aggregate_verify([(keys[:3], b"a"), (keys[3:], b"c")], total)
        with pytest.raises(ValueError, match="same message"):
            crypto.bls.aggregate_verify([(keys[:1], b"a"), (keys[1:], b"a")], total)

    def test_opposite_keys(self, crypto: Any) -> None:
        # Valid votes of pk and -pk sum to infinity; and the pair can ride on any other aggregate.
        one, other = secret(crypto, 1), secret(crypto, 2)
        number = _suite.GROUP_ORDER - int.from_bytes(one.to_bytes(), "big")
        opposite = crypto.bls.SecretKey.from_bytes(number.to_bytes(32, "big"))
        pair = [one.public_key(), opposite.public_key()]
        total = crypto.bls.aggregate([one.sign(b"m"), opposite.sign(b"m")])
        assert total == INFINITE_SIGNATURE
        assert not crypto.bls.fast_aggregate_verify(pair, b"m", total)
        assert not crypto.bls.aggregate_verify([(pair, b"m"), ([other.public_key()], b"n")], other.sign(b"n"))
        assert crypto.bls.fast_aggregate_verify([*pair, other.public_key()], b"m", other.sign(b"m"))


class TestPossession:
    """K1, K2."""

    def test_bound_to_key_message_and_domain(self, crypto: Any) -> None:
        one, other = secret(crypto, 1), secret(crypto, 2)
        proof = one.prove_possession(b"identity")
        assert crypto.bls.verify_possession(one.public_key(), b"identity", proof)
        assert not crypto.bls.verify_possession(other.public_key(), b"identity", proof)
        assert not crypto.bls.verify_possession(one.public_key(), b"other identity", proof)
        assert not crypto.bls.verify(one.public_key(), b"identity", proof)
        assert not crypto.bls.verify_possession(one.public_key(), b"identity", one.sign(b"identity"))

    def test_rogue_key(self, crypto: Any) -> None:
        victim, attacker = secret(crypto, 1).public_key(), secret(crypto, 2)
        rogue_point = attacker.public_key()._point + victim.negated()._point
        rogue = crypto.bls.PublicKey.from_bytes(crypto.bls._backend.encode(rogue_point))
        forged = attacker.sign(b"m")
        # Without proofs of possession the victim "signed" m.
        assert crypto.bls.fast_aggregate_verify([victim, rogue], b"m", forged)
        # The attacker does not know the rogue secret. What it can make does not prove possession.
        assert not crypto.bls.verify_possession(rogue, b"identity", attacker.prove_possession(b"identity"))
        assert not crypto.bls.verify_possession(rogue, b"identity", forged)


class TestMessagesAndThreads:
    @pytest.mark.parametrize("message", [b"", b"\0", b"\0\xff\x80", b"x" * 100_000])
    def test_any_message(self, crypto: Any, message: bytes) -> None:
        signature = secret(crypto, 1).sign(message)
        assert crypto.bls.verify(secret(crypto, 1).public_key(), message, signature)
        assert not crypto.bls.verify(secret(crypto, 1).public_key(), message + b"\0", signature)

    def test_threads(self, crypto: Any) -> None:
        # K16: the libraries release the GIL, so verdicts must not depend on what runs beside them.
        key = secret(crypto, 1).public_key()
        cases = [(b"%d" % (number % 7), secret(crypto, 1).sign(b"%d" % (number % 5))) for number in range(70)]
        expected = [number % 7 == number % 5 for number in range(70)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(partial(verify_case, crypto, key), cases)) == expected


def verify_case(crypto: Any, key: Any, case: tuple[bytes, bytes]) -> Any:
    return crypto.bls.verify(key, *case)


class TestBackendChoice:
    def run(self, value: str, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "HOTSTUFF_BLS": value},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_forced(self, crypto: Any) -> None:
        code = "from hotstuff.crypto import bls; print(bls.BACKEND_NAME)"
        assert self.run(crypto.name, code).stdout.strip() == crypto.name

    def test_unknown(self) -> None:
        result = self.run("openssl", "import hotstuff.crypto.bls")
        assert "ConfigError: HOTSTUFF_BLS: got 'openssl', allowed: blspy or arkworks" in result.stderr

    def test_not_installed(self) -> None:
        hide = "import sys; sys.modules.update(blspy=None, py_arkworks_bls12381=None); import hotstuff.crypto.bls"
        for value, shown in (("blspy", "blspy"), ("arkworks", "arkworks"), ("", "(not set)")):
            error = self.run(value, hide).stderr
            assert f"ConfigError: HOTSTUFF_BLS: got '{shown}', allowed: an installed BLS library" in error

    def test_blspy_is_preferred_and_arkworks_the_fallback(self, both: Any) -> None:
        show = "from hotstuff.crypto import bls; print(bls.BACKEND_NAME)"
        assert self.run("", show).stdout.strip() == "blspy"
        assert self.run("", "import sys; sys.modules.update(blspy=None); " + show).stdout.strip() == "arkworks"
