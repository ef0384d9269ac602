"""The start-up check passes on a right library and names what is wrong with a broken one (K21)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from hotstuff.errors import InvariantViolation


def test_passes_and_is_fast(crypto: Any) -> None:
    crypto.selftest.self_test()
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        crypto.selftest.self_test()
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.1  # aim: 20 ms; the slack is for busy test machines


def always(value: Any) -> Callable[..., Any]:
    return lambda *_: value


# Backend function, what replaces it (made from the right one), what the check complains about.
BROKEN: list[tuple[str, Callable[[Any], Any], str]] = [
    ("load_secret", lambda right: lambda _: right(bytes(31) + b"\1"), "sign and aggregate"),
    ("add_signatures", lambda _: lambda signatures: signatures[0], "sign and aggregate"),
    ("verify_groups", lambda _: always(False), "accept a valid aggregate"),
    ("verify_groups", lambda _: always(True), "refuse a wrong set of signers"),
    ("prove_possession", lambda _: always(bytes(96)), "prove possession"),
    ("verify_possession", lambda _: always(False), "accept a proof"),
    ("decode_public_key", lambda _: always(object()), "refuse a key outside the subgroup"),
]


@pytest.mark.parametrize(("function", "broken", "complaint"), BROKEN)
def test_finds_a_broken_library(crypto: Any, function: str, broken: Callable[[Any], Any], complaint: str) -> None:
    backend = crypto.bls._backend
    fake = broken(getattr(backend, function))
    with patch.object(backend, function, fake), pytest.raises(InvariantViolation, match=f"{crypto.name}: {complaint}"):
        crypto.selftest.self_test()


def test_finds_wrong_key_derivation(crypto: Any) -> None:
    wrong = crypto.bls.SecretKey.generate(b"x" * 32)
    with (
        patch.object(crypto.bls.SecretKey, "generate", always(wrong)),
        pytest.raises(InvariantViolation, match="key derivation"),
    ):
        crypto.selftest.self_test()


def test_finds_mixed_domains(crypto: Any) -> None:
    with patch.object(crypto.bls, "verify", always(True)), pytest.raises(InvariantViolation, match="domains apart"):
        crypto.selftest.self_test()
