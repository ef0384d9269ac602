"""Collecting shares: the fast path, bad shares, cancelling pairs (acceptance list K6, K8, K17)."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotstuff.crypto import _suite

MESSAGE = b"vote"
N = 67


@pytest.fixture(scope="session")
def shares(crypto: Any) -> list[tuple[int, Any, bytes]]:
    secrets = [crypto.bls.SecretKey.generate(number.to_bytes(32, "big")) for number in range(N)]
    return [(number, secret.public_key(), secret.sign(MESSAGE)) for number, secret in enumerate(secrets)]


def replaced(shares: list[tuple[int, Any, bytes]], changes: dict[int, bytes]) -> list[tuple[int, Any, bytes]]:
    return [(signer, key, changes.get(signer, share)) for signer, key, share in shares]


def wrong_share(crypto: Any, signer: int) -> bytes:
    """A well-formed signature of that signer over something else."""
    share: bytes = crypto.bls.SecretKey.generate(signer.to_bytes(32, "big")).sign(b"something else")
    return share


def cancelling_pair(crypto: Any, first: bytes, second: bytes) -> tuple[bytes, bytes]:
    """Return first+d and second-d: each invalid, their sum valid."""
    difference = crypto.bls.SecretKey.generate(b"d" * 32)
    number = _suite.GROUP_ORDER - int.from_bytes(difference.to_bytes(), "big")
    opposite = crypto.bls.SecretKey.from_bytes(number.to_bytes(32, "big"))
    aggregate = crypto.bls.aggregate
    return aggregate([first, difference.sign(b"d")]), aggregate([second, opposite.sign(b"d")])


def check(crypto: Any, shares: list[tuple[int, Any, bytes]], result: Any) -> None:
    """What always holds: a partition of the signers, and a signature valid for exactly `good`."""
    assert sorted(result.good + result.bad) == sorted(signer for signer, _, _ in shares)
    assert list(result.good) == sorted(result.good)
    assert list(result.bad) == sorted(result.bad)
    if result.good:
        key_of = {signer: key for signer, key, _ in shares}
        assert crypto.bls.fast_aggregate_verify([key_of[signer] for signer in result.good], MESSAGE, result.signature)
    else:
        assert result.signature is None


def test_all_good_costs_one_check(crypto: Any, shares: Any) -> None:
    with patch.object(crypto.bls._backend, "verify_groups", wraps=crypto.bls._backend.verify_groups) as checks:
        result = crypto.aggregate.collect(shares, MESSAGE)
    assert checks.call_count == 1
    assert (result.good, result.bad) == (tuple(range(N)), ())
    assert result.signature == crypto.bls.aggregate([share for _, _, share in shares])
    check(crypto, shares, result)


@pytest.mark.parametrize("bad", [0, 33, N - 1])
def test_one_bad_share_among_67_is_found_by_bisection(crypto: Any, shares: Any, bad: int) -> None:
    changed = replaced(shares, {bad: wrong_share(crypto, bad)})
    with patch.object(crypto.bls._backend, "verify_groups", wraps=crypto.bls._backend.verify_groups) as checks:
        result = crypto.aggregate.collect(changed, MESSAGE)
    assert result.bad == (bad,)
    assert checks.call_count <= 2 + 2 * 7  # whole, rest, and two for each of ceil(log2(67)) levels
    check(crypto, changed, result)


def test_undecodable_shares_cost_no_check(crypto: Any, shares: Any) -> None:
    changed = replaced(shares, {3: b"", 4: b"\xc0" + bytes(95), 5: bytes(96)})
    with patch.object(crypto.bls._backend, "verify_groups", wraps=crypto.bls._backend.verify_groups) as checks:
        result = crypto.aggregate.collect(changed, MESSAGE)
    assert result.bad == (3, 4, 5)
    assert checks.call_count == 1
    check(crypto, changed, result)


def test_nothing_good(crypto: Any, shares: Any) -> None:
    wrong = [(signer, key, wrong_share(crypto, signer)) for signer, key, _ in shares[:5]]
    assert crypto.aggregate.collect(wrong, MESSAGE) == crypto.aggregate.Collected(None, (), (0, 1, 2, 3, 4))
    assert crypto.aggregate.collect([], MESSAGE) == crypto.aggregate.Collected(None, (), ())
    assert crypto.aggregate.collect([(9, shares[0][1], b"")], MESSAGE) == crypto.aggregate.Collected(None, (), (9,))
    assert crypto.aggregate.collect(wrong[:1], MESSAGE) == crypto.aggregate.Collected(None, (), (0,))


def test_signer_twice(crypto: Any, shares: Any) -> None:
    with pytest.raises(ValueError, match="appears twice"):
        crypto.aggregate.collect([shares[0], shares[1], shares[0]], MESSAGE)


def test_order_of_shares_does_not_matter(crypto: Any, shares: Any) -> None:
    changed = replaced(shares[:9], {4: wrong_share(crypto, 4)})
    assert crypto.aggregate.collect(changed, MESSAGE) == crypto.aggregate.collect(changed[::-1], MESSAGE)


class TestCancellingPair:
    """s1+d and s2-d (agave #12760): whatever is flagged, the certificate is valid for exactly `good`."""

    def changed(self, crypto: Any, shares: Any, first: int, second: int) -> dict[int, bytes]:
        pair = cancelling_pair(crypto, shares[first][2], shares[second][2])
        for signer, share in zip((first, second), pair, strict=True):
            assert not crypto.bls.verify(shares[signer][1], MESSAGE, share)
        return dict(zip((first, second), pair, strict=True))

    def test_alone_passes_as_a_whole(self, crypto: Any, shares: Any) -> None:
        batch = replaced(shares[:8], self.changed(crypto, shares, 0, 7))
        result = crypto.aggregate.collect(batch, MESSAGE)
        assert result.good == tuple(range(8))
        check(crypto, batch, result)

    def test_separated_by_a_split_is_flagged(self, crypto: Any, shares: Any) -> None:
        changes = self.changed(crypto, shares, 0, 7) | {3: wrong_share(crypto, 3)}
        batch = replaced(shares[:8], changes)
        result = crypto.aggregate.collect(batch, MESSAGE)
        assert result.bad == (0, 3, 7)
        check(crypto, batch, result)

    def test_within_one_passing_half_stays_together(self, crypto: Any, shares: Any) -> None:
        changes = self.changed(crypto, shares, 4, 7) | {0: wrong_share(crypto, 0)}
        batch = replaced(shares[:8], changes)
        result = crypto.aggregate.collect(batch, MESSAGE)
        assert result.bad == (0,)
        check(crypto, batch, result)

    def test_a_subset_of_the_good_need_not_verify(self, crypto: Any, shares: Any) -> None:
        # The pitfall itself: nobody may take members out of `good` and aggregate them again.
        batch = replaced(shares[:3], self.changed(crypto, shares, 0, 2))
        assert crypto.aggregate.collect(batch, MESSAGE).good == (0, 1, 2)
        subset = crypto.bls.aggregate([share for _, _, share in batch[:2]])
        assert not crypto.bls.fast_aggregate_verify([key for _, key, _ in batch[:2]], MESSAGE, subset)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(1, 12), data=st.data())
def test_exactly_the_bad_shares_are_dropped(crypto: Any, shares: Any, count: int, data: Any) -> None:
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    batch = replaced(shares[:count], {signer: wrong_share(crypto, signer) for signer in bad})
    result = crypto.aggregate.collect(batch, MESSAGE)
    assert set(result.bad) == bad
    check(crypto, batch, result)


class TestOppositeKeys:
    """pk and -pk are refused in a validator set; if they come anyway nothing invalid may leave."""

    def opposite(self, crypto: Any) -> Any:
        number = _suite.GROUP_ORDER - int.from_bytes(crypto.bls.SecretKey.generate(bytes(32)).to_bytes(), "big")
        return crypto.bls.SecretKey.from_bytes(number.to_bytes(32, "big"))

    def test_their_sum_is_no_certificate(self, crypto: Any, shares: Any) -> None:
        opposite = self.opposite(crypto)
        result = crypto.aggregate.collect([shares[0], (1, opposite.public_key(), opposite.sign(MESSAGE))], MESSAGE)
        assert result == crypto.aggregate.Collected(None, (0, 1), ())


class TestSeveralMessages:
    """Timeouts: each signer reports its own highest certificate view."""

    def batch(self, crypto: Any, count: int) -> list[tuple[int, Any, bytes, bytes]]:
        batch = []
        for signer in range(count):
            secret = crypto.bls.SecretKey.generate(signer.to_bytes(32, "big"))
            message = b"timeout %d" % (signer % 3)
            batch.append((signer, secret.public_key(), message, secret.sign(message)))
        return batch

    def groups(self, batch: Any, good: tuple[int, ...]) -> list[tuple[list[Any], bytes]]:
        kept = [share for share in batch if share[0] in good]
        return [([key for _, key, text, _ in kept if text == message], message) for message in {s[2] for s in kept}]

    def test_all_good(self, crypto: Any) -> None:
        batch = self.batch(crypto, 10)
        result = crypto.aggregate.collect_groups(batch)
        assert (result.good, result.bad) == (tuple(range(10)), ())
        assert crypto.bls.aggregate_verify(self.groups(batch, result.good), result.signature)

    def test_bad_shares(self, crypto: Any) -> None:
        batch = self.batch(crypto, 10)
        batch[2] = (*batch[2][:3], batch[5][3])  # right message, another signer's share
        batch[6] = (*batch[6][:2], b"timeout 2", batch[6][3])  # right signer, another message
        batch[8] = (*batch[8][:3], b"short")
        result = crypto.aggregate.collect_groups(batch)
        assert result.bad == (2, 6, 8)
        assert crypto.bls.aggregate_verify(self.groups(batch, result.good), result.signature)
