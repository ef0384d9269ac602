"""`hotstuff.types.validators`: what a set may be, quorums against exact fractions, signer bitmaps."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import validator_sets, without_sign
from wire_checks import WireChecks, refused, refused_cheaply, wire_settings
from wire_examples import fill

from hotstuff.types.encoding import MAX_COUNTER
from hotstuff.types.validators import MAX_TOTAL_POWER, MAX_VALIDATORS, Validator, ValidatorSet

TWO_THIRDS, THIRD = Fraction(2, 3), Fraction(1, 3)


class TestWire(WireChecks):
    names = ("validator_set",)


def member(index: int, power: int = 1) -> Validator:
    """Members with ascending, unlike keys."""
    return Validator(index.to_bytes(32, "big"), b"\x80" + index.to_bytes(47, "big"), power)


def of_powers(powers: Iterable[int]) -> ValidatorSet:
    return ValidatorSet(1, tuple(member(i, power) for i, power in enumerate(powers)))


def raw(members: Iterable[Validator], epoch: int = 1) -> bytes:
    """The bytes of a set that may be impossible to construct."""
    given = tuple(members)
    return struct.pack(">QH", epoch, len(given)) + b"".join(v.encode() for v in given)


def share(powers: list[int], subset: Iterable[int]) -> Fraction:
    return Fraction(sum(powers[i] for i in subset), sum(powers))


def bad(members: tuple[Validator, ...], text: str) -> None:
    """Neither the constructor nor the decoder makes a set of these."""
    with pytest.raises(ValueError, match=text):
        ValidatorSet(1, members)
    refused(ValidatorSet.decode, raw(members))


# ---- quorums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 101))
def test_equal_powers(n: int) -> None:
    validators = of_powers([1] * n)
    byzantine = max(b for b in range(n) if 3 * b < n)
    quorums = [k for k in range(n + 1) if validators.is_quorum(range(k))]
    honest = [k for k in range(n + 1) if validators.has_honest(range(k))]
    assert quorums == [k for k in range(n + 1) if Fraction(k, n) > TWO_THIRDS]
    assert honest == [k for k in range(n + 1) if Fraction(k, n) >= THIRD]
    # Two of the smallest quorums share more than the Byzantine; the honest alone are one; without the Byzantine there
    # is still an honest one in each; and the smallest honest group is just too large to be all Byzantine.
    assert 2 * quorums[0] - n > Fraction(n, 3) > byzantine
    assert validators.is_quorum(range(n - byzantine))
    assert validators.has_honest(range(quorums[0] - byzantine))
    assert honest[0] == byzantine + 1
    assert quorums[0] == n - byzantine if n % 3 == 1 else quorums[0] > 2 * byzantine


@pytest.mark.parametrize(("n", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (100, 67)])
def test_known_quorums(n: int, quorum: int) -> None:
    validators = of_powers([1] * n)
    assert validators.is_quorum(range(quorum))
    assert not validators.is_quorum(range(quorum - 1))


@pytest.mark.parametrize("powers", [[1, 1, 1, 1, 1], [3, 1, 1, 1], [5, 4, 3, 2, 1, 1], [10, 1, 1], [7, 7, 7, 6, 6, 1]])
def test_every_pair_of_quorums_shares_more_than_a_third(powers: list[int]) -> None:
    validators = of_powers(powers)
    subsets = [set(s) for k in range(len(powers) + 1) for s in combinations(range(len(powers)), k)]
    for subset in subsets:
        assert validators.power(subset) == sum(powers[i] for i in subset)
        assert validators.is_quorum(subset) == (share(powers, subset) > TWO_THIRDS)
        assert validators.has_honest(subset) == (share(powers, subset) >= THIRD)
    quorums = [s for s in subsets if validators.is_quorum(s)]
    assert quorums
    for one in quorums:
        for two in quorums:
            assert share(powers, one & two) > THIRD
            assert validators.has_honest(one & two)


@given(validators=validator_sets(), data=st.data())
@wire_settings
def test_weighted_powers(validators: ValidatorSet, data: st.DataObject) -> None:
    powers = [v.power for v in validators.validators]
    some = st.sets(st.integers(0, len(powers) - 1))
    one, two = data.draw(some), data.draw(some)
    everyone = set(range(len(powers)))
    assert validators.total_power == sum(powers) < 2**62
    for subset in (one, two, everyone, everyone - one):
        assert validators.is_quorum(subset) == (share(powers, subset) > TWO_THIRDS)
        assert validators.has_honest(subset) == (share(powers, subset) >= THIRD)
    if validators.is_quorum(one) and validators.is_quorum(two):
        assert share(powers, one & two) > THIRD
    if 3 * validators.power(one) < validators.total_power:
        assert validators.is_quorum(everyone - one)
        assert not validators.has_honest(one)
    # No set and its complement are both quorums; if one is not, the other has an honest member.
    assert not (validators.is_quorum(one) and validators.is_quorum(everyone - one))
    assert validators.is_quorum(one) or validators.has_honest(everyone - one)


def test_exactly_two_thirds_is_no_quorum_and_exactly_one_third_has_an_honest_member() -> None:
    for unit in (1, 7, MAX_TOTAL_POWER // 3):
        validators = of_powers([unit] * 3)
        assert not validators.is_quorum([0, 1])
        assert validators.has_honest([2])
    assert of_powers([1, MAX_TOTAL_POWER - 1]).is_quorum([1])


def test_nobody_is_no_quorum() -> None:
    assert not of_powers([1]).is_quorum([])
    assert not of_powers([1]).has_honest([])
    assert of_powers([1]).is_quorum([0])


# ---- what a set may be -----------------------------------------------------------------------------------------------


def test_number_of_members() -> None:
    bad((), "got 0 validators")
    bad(tuple(map(member, range(MAX_VALIDATORS + 1))), f"got {MAX_VALIDATORS + 1} validators")
    full = of_powers([1] * MAX_VALIDATORS)
    assert ValidatorSet.decode(full.encoding) == full


@pytest.mark.parametrize("power", [0, MAX_TOTAL_POWER + 1, 2**63, 2**64 - 1])
def test_power_out_of_range(power: int) -> None:
    bad((member(0), member(1, power)), f"got power {power}")


def test_negative_power() -> None:
    with pytest.raises(ValueError, match="got power -1"):
        of_powers([5, -1])


def test_total_power_cannot_overflow() -> None:
    assert of_powers([MAX_TOTAL_POWER - 1, 1]).total_power == MAX_TOTAL_POWER
    assert 3 * MAX_TOTAL_POWER < 2**63
    bad((member(0, MAX_TOTAL_POWER), member(1)), "total power")
    # Sixteen of these add up to nothing in 64 bits.
    bad(tuple(member(i, 2**60) for i in range(16)), "total power")


def test_members_are_sorted_by_bls_key() -> None:
    bad((member(1), member(0)), "sorted")
    bad((member(0), member(2), member(1)), "sorted")
    # The sign bit takes part in the order.
    high, low = replace(member(0), bls_key=b"\xa0" + bytes(47)), replace(member(1), bls_key=b"\x80" + b"\xff" * 47)
    assert len(ValidatorSet(1, (low, high))) == 2
    bad((high, low), "sorted")


def test_duplicate_keys() -> None:
    bad((member(0), replace(member(1), bls_key=member(0).bls_key)), "same or opposite")
    bad((member(0), replace(member(1), node_key=member(0).node_key)), "same node key")
    bad((member(0), member(0)), "same or opposite")


@given(validators=validator_sets(max_size=6), data=st.data())
@wire_settings
def test_opposite_keys(validators: ValidatorSet, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(validators.validators)).bls_key
    opposite = bytes([key[0] ^ 0x20]) + key[1:]
    assert without_sign(key) == without_sign(opposite)
    node_key = data.draw(st.binary(min_size=32, max_size=32))
    members = sorted((*validators.validators, Validator(node_key, opposite, 1)), key=lambda v: v.bls_key)
    bad(tuple(members), "same or opposite")


@pytest.mark.parametrize(("node_key", "bls_key"), [(bytes(31), bytes(48)), (bytes(33), bytes(48)), (bytes(32), b"")])
def test_keys_of_another_length(node_key: bytes, bls_key: bytes) -> None:
    with pytest.raises(ValueError, match="keys must be"):
        ValidatorSet(1, (Validator(node_key, bls_key, 1),))


def test_epoch_is_a_counter() -> None:
    assert ValidatorSet.decode(raw([member(0)], MAX_COUNTER - 1)).epoch == MAX_COUNTER - 1
    assert "counter" in refused(ValidatorSet.decode, raw([member(0)], MAX_COUNTER))


@pytest.mark.parametrize("count", [0, MAX_VALIDATORS + 1, 65535])
def test_claimed_members_are_refused_before_allocation(count: int) -> None:
    encoded = struct.pack(">QH", 1, count)
    text = f"got {count} validators"
    assert text in refused_cheaply(ValidatorSet.decode, encoded + member(0).encode())
    assert text in refused_cheaply(ValidatorSet.decode, encoded + bytes(count * 88))


def test_hash_covers_every_field() -> None:
    validators = of_powers([1, 2, 3])
    first, *rest = validators.validators
    changes: list[dict[str, Any]] = [
        {"node_key": fill("other")},
        {"bls_key": b"\x7f" + bytes(47)},
        {"power": 2},
    ]
    others = [ValidatorSet(1, (replace(first, **change), *rest)) for change in changes]
    others += [ValidatorSet(2, validators.validators), ValidatorSet(1, (first,)), ValidatorSet(1, tuple(rest))]
    assert validators.hash == hashlib.sha256(b"PHS1/vset".ljust(16, b"\0") + validators.encoding).digest()
    assert len({validators.hash, *(other.hash for other in others)}) == 1 + len(others)


# ---- signer bitmaps --------------------------------------------------------------------------------------------------


@given(validators=validator_sets(), data=st.data())
@wire_settings
def test_bitmaps_and_indices(validators: ValidatorSet, data: st.DataObject) -> None:
    n = len(validators)
    indices = data.draw(st.sets(st.integers(0, n - 1)))
    bitmap = validators.bitmap(indices)
    assert len(bitmap) == validators.bitmap_bytes == -(-n // 8)
    assert validators.signers(bitmap) == tuple(sorted(indices))
    for i in range(n):
        assert bool(bitmap[i // 8] & 1 << i % 8) == (i in indices)


@given(validators=validator_sets(), bitmap=st.binary(max_size=5))
@wire_settings
def test_any_bitmap_is_refused_or_canonical(validators: ValidatorSet, bitmap: bytes) -> None:
    n = len(validators)
    ones = [i for i in range(8 * len(bitmap)) if bitmap[i // 8] >> i % 8 & 1]
    if len(bitmap) == -(-n // 8) and all(i < n for i in ones):
        assert validators.signers(bitmap) == tuple(ones)
        assert validators.bitmap(ones) == bitmap
    else:
        refused(validators.signers, bitmap)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 1023, 1024])
def test_length_and_padding_of_bitmaps(n: int) -> None:
    validators = of_powers([1] * n)
    size = (n + 7) // 8
    full = validators.bitmap(range(n))
    assert validators.signers(full) == tuple(range(n))
    assert validators.signers(bytes(size)) == ()
    for other in {0, size - 1, size + 1, 2 * size} - {size}:
        assert f"got {other} bytes" in refused(validators.signers, bytes(other))
    for bit in range(n, 8 * size):
        padded = bytearray(full)
        padded[bit // 8] |= 1 << bit % 8
        assert "beyond" in refused(validators.signers, bytes(padded))
    if n % 8:
        assert "beyond" in refused(validators.signers, b"\xff" * size)
