"""`hotstuff.types.hashing`: what each signature covers, byte for byte, and that no two kinds can be confused.

The hash function is replaced by one that remembers what it is given, so these tests see the preimages themselves.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import combinations
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import contexts, counters, hashes, phases, u16s
from wire_checks import wire_settings
from wire_examples import CONTEXT, fill

from hotstuff.types import hashing
from hotstuff.types.hashing import Context, Domain, Mode, Phase, digest, possession_message

H1, H2 = fill("one"), fill("two")
Arguments = dict[str, Any]


class Recorder:
    """Stands in for `sha256` and keeps every finished preimage."""

    def __init__(self) -> None:
        self.preimages: list[bytes] = []

    def __call__(self, start: bytes = b"") -> Any:
        owner, data = self, bytearray(start)

        class Hasher:
            def update(self, more: bytes) -> None:
                data.extend(more)

            def digest(self) -> bytes:
                owner.preimages.append(bytes(data))
                return hashlib.sha256(data).digest()

        return Hasher()


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Every preimage that `hotstuff.types` hashes inside the block."""
    recorder = Recorder()
    with patch.object(hashing, "sha256", recorder):
        yield recorder


def preimage(make: Callable[[], bytes]) -> bytes:
    """The preimage of the digest that `make` returns."""
    with recorded() as recorder:
        result = make()
    assert hashlib.sha256(recorder.preimages[-1]).digest() == result
    return recorder.preimages[-1]


@pytest.fixture
def context() -> Context:
    """A context without cached values."""
    return replace(CONTEXT)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


# Each kind of signed message: how it is made, and two values for each of its arguments.
MESSAGES: dict[str, tuple[Callable[..., bytes], dict[str, tuple[Any, Any]]]] = {
    "vote": (
        Context.vote_message,
        {
            "view": (4, 5),
            "phase": (Phase.PREPARE, Phase.PRECOMMIT),
            "block_id": (H1, H2),
            "commit_id": (bytes(32), H1),
        },
    ),
    "timeout": (Context.timeout_message, {"view": (4, 5), "high_qc_view": (3, 2)}),
    "proposal": (Context.proposal_message, {"view": (4, 5), "block_id": (H1, H2)}),
    "batch": (Context.batch_message, {"author": (1, 2), "seq": (1, 256), "batch_digest": (H1, H2)}),
}
CHANGED_CONTEXT: Arguments = {"mode": Mode.BASIC, "chain_id": H1, "epoch": 4, "vset_hash": H2}


def test_domains_are_16_bytes_and_distinct() -> None:
    assert len({domain.value for domain in Domain}) == len(Domain.__members__)
    for domain in Domain:
        assert len(domain.value) == 16
        assert domain.value.startswith(b"PHS1/")


@given(parts=st.lists(st.binary(max_size=40), max_size=4), domain=st.sampled_from(Domain))
@wire_settings
def test_digest_is_sha256_of_domain_and_parts(domain: Domain, parts: list[bytes]) -> None:
    assert digest(domain, *parts) == hashlib.sha256(domain.value + b"".join(parts)).digest()


def test_context_covers_every_field() -> None:
    assert {field.name for field in fields(Context)} == CHANGED_CONTEXT.keys()


@pytest.mark.parametrize("kind", MESSAGES)
def test_messages_change_with_each_field(kind: str, context: Context) -> None:
    make, arguments = MESSAGES[kind]
    first = {name: values[0] for name, values in arguments.items()}
    digests = [make(context, **first)]
    digests += [make(context, **{**first, name: second}) for name, (_, second) in arguments.items()]
    digests += [make(replace(context, **{name: new}), **first) for name, new in CHANGED_CONTEXT.items()]
    assert len(set(digests)) == 1 + len(arguments) + len(CHANGED_CONTEXT)


@pytest.mark.parametrize("kind", MESSAGES)
def test_modes_and_phases_never_share_a_message(kind: str, context: Context) -> None:
    make, arguments = MESSAGES[kind]
    first = {name: values[0] for name, values in arguments.items()}
    found = [make(replace(context, mode=mode), **first) for mode in Mode]
    if kind == "vote":
        found = [make(replace(context, mode=m), **{**first, "phase": p}) for m in Mode for p in Phase]
    assert len(set(found)) == len(found)


def test_root_id_changes_with_each_field_of_the_context(context: Context) -> None:
    others = [replace(context, **{name: new}).root_id for name, new in CHANGED_CONTEXT.items()]
    assert len({context.root_id, *others}) == 1 + len(others)


def test_possession_is_bound_to_network_node_key_and_key() -> None:
    arguments: dict[str, tuple[bytes, bytes]] = {
        "network_name": (b"net", b"ne"),
        "node_key": (fill("node"), fill("other")),
        "bls_key": (fill("bls", 48), fill("other", 48)),
    }
    first = {name: values[0] for name, values in arguments.items()}
    found = [possession_message(**first)]
    found += [possession_message(**{**first, name: second}) for name, (_, second) in arguments.items()]
    assert len(set(found)) == 4


@given(context=contexts, view=counters, high=counters, phase=phases, one=hashes, two=hashes, author=u16s)
@wire_settings
def test_preimages_are_exactly_rule_1_2(
    context: Context, view: int, high: int, phase: Phase, one: bytes, two: bytes, author: int
) -> None:
    prefix = bytes([context.mode]) + context.chain_id + u64(context.epoch) + context.vset_hash
    expected = {
        "vote": b"PHS1/vote\0\0\0\0\0\0\0" + prefix + u64(view) + bytes([phase]) + one + two,
        "timeout": b"PHS1/timeout\0\0\0\0" + prefix + u64(view) + u64(high),
        "proposal": b"PHS1/prop\0\0\0\0\0\0\0" + prefix + u64(view) + one,
        "batch": b"PHS1/batchsig\0\0\0" + prefix + struct.pack(">H", author) + u64(view) + one,
        "possession": b"PHS1/pop\0\0\0\0\0\0\0\0" + hashlib.sha256(one).digest() + two + one + one[:16],
        "root": b"PHS1/root\0\0\0\0\0\0\0" + prefix,
    }
    found = {
        "vote": preimage(lambda: context.vote_message(view, phase, one, two)),
        "timeout": preimage(lambda: context.timeout_message(view, high)),
        "proposal": preimage(lambda: context.proposal_message(view, one)),
        "batch": preimage(lambda: context.batch_message(author, view, one)),
        "possession": preimage(lambda: possession_message(one, two, one + one[:16])),
        "root": preimage(lambda: context.root_id),
    }
    assert found == expected
    # No two kinds share a preimage, whatever their fields hold, because no two share their first 16 bytes.
    assert all(a[:16] != b[:16] for a, b in combinations(found.values(), 2))


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[Any, ...], Callable[[], bytes]]:
    """Any digest that anything signs, with values that are easy to confuse: (kind, fields, how to make it)."""
    small, some = st.integers(0, 2), st.sampled_from([bytes(32), H1, H2])
    context = Context(draw(st.sampled_from(Mode)), draw(some), draw(small), draw(some))
    base = (context.mode, context.chain_id, context.epoch, context.vset_hash)
    kind = draw(st.sampled_from([*MESSAGES, "possession"]))
    if kind == "possession":
        keys = (draw(st.sampled_from([b"", b"net", H1])), draw(some), draw(some) + H1[:16])
        return kind, keys, lambda: possession_message(*keys)
    strategies = {"phase": st.sampled_from(Phase), "view": small, "high_qc_view": small, "author": small, "seq": small}
    make, arguments = MESSAGES[kind]
    values = tuple(draw(strategies.get(name, some)) for name in arguments)
    return kind, base + values, lambda: make(context, *values)


@given(first=calls(), second=calls())
@wire_settings
def test_two_digests_are_equal_only_for_the_same_kind_and_fields(first: Any, second: Any) -> None:
    assert (first[:2] == second[:2]) == (first[2]() == second[2]())


def test_golden(context: Context, golden: Callable[[str, dict[str, bytes]], None]) -> None:
    digests = {
        kind: make(context, **{name: values[0] for name, values in arguments.items()})
        for kind, (make, arguments) in MESSAGES.items()
    }
    digests["possession"] = possession_message(b"net", fill("node"), fill("bls", 48))
    digests["root"] = context.root_id
    digests |= {f"empty_{domain.name.lower()}": digest(domain) for domain in Domain}
    golden("digests", digests)
