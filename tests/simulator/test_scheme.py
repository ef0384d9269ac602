"""Stand-in signatures behave as BLS signatures do, and no node takes them for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotstuff.consensus.effects import Share
from hotstuff.consensus.verifier import Verifier
from hotstuff.crypto import bls
from hotstuff.crypto.ed25519 import NodeSecret
from hotstuff.errors import ConfigError, InvalidSignature
from hotstuff.node.genesis import Genesis
from hotstuff.simulator.scheme import STAND_IN, Member, Signatures, members, scheme_of, share_of, validator_set
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Context, Mode, Phase, possession_message

KINDS: tuple[Signatures, ...] = ("stand-in", "bls")
MODULUS = 1 << 768


class Committee:
    """Four validators with one kind of signatures."""

    def __init__(self, signatures: Signatures) -> None:
        self.members = members(4, signatures)
        self.validators = validator_set(self.members)
        self.context = Context(Mode.CHAINED, b"\7" * 32, 1, self.validators.hash)
        self.verifier = Verifier(self.context, self.validators, scheme_of(signatures))

    def vote_message(self) -> bytes:
        return self.context.vote_message(5, Phase.GENERIC, b"\1" * 32, b"\2" * 32)

    def shares(self, *signers: int) -> list[Share]:
        message = self.vote_message()
        return [Share(i, message, self.members[i].bls.sign(message)) for i in signers]

    def qc(self, signature: bytes, *signers: int) -> QC:
        bitmap = self.validators.bitmap(signers)
        return QC(1, 5, Phase.GENERIC, b"\1" * 32, b"\2" * 32, bitmap, signature)


@pytest.fixture(params=KINDS)
def committee(request: pytest.FixtureRequest) -> Committee:
    return Committee(request.param)


@pytest.fixture
def stand_in() -> Committee:
    return Committee("stand-in")


def test_keys_ascend_with_the_index() -> None:
    for kind, count in (("stand-in", 300), ("bls", 5)):
        keys = [validator.bls_key for validator in validator_set(members(count, kind)).validators]  # type: ignore[arg-type]
        assert keys == sorted(keys) and len(set(keys)) == count


def test_members_of_two_worlds_are_the_same() -> None:
    assert validator_set(members(7)).hash == validator_set(members(7)).hash
    assert validator_set(members(7)).hash != validator_set(members(7), [2, 1, 1, 1, 1, 1, 1]).hash


def test_a_quorum_of_shares_makes_a_certificate(committee: Committee) -> None:
    found = committee.verifier.collect(committee.shares(0, 1, 3))
    assert (found.good, found.bad) == ((0, 1, 3), ())
    assert found.signature is not None and len(found.signature) == 96
    assert committee.verifier.check(committee.qc(found.signature, 0, 1, 3))
    assert not committee.verifier.check(committee.qc(found.signature, 0, 1, 2))
    assert not committee.verifier.check(committee.qc(found.signature, 0, 1, 2, 3))
    assert not committee.verifier.check(committee.qc(found.signature[:-1] + bytes([found.signature[-1] ^ 1]), 0, 1, 3))


def test_bad_shares_are_found_and_the_rest_is_certified(committee: Committee) -> None:
    shares = committee.shares(0, 1, 2, 3)
    shares[2] = Share(2, shares[2].message, committee.members[2].bls.sign(b"other"))
    found = committee.verifier.collect(shares)
    assert (found.good, found.bad) == ((0, 1, 3), (2,))
    assert found.signature is not None
    assert committee.verifier.check(committee.qc(found.signature, 0, 1, 3))


@pytest.mark.parametrize("garbage", [b"", b"\1" * 95, b"\1" * 97, bytes(96)])
def test_malformed_shares_cost_only_their_signer(committee: Committee, garbage: bytes) -> None:
    shares = committee.shares(0, 1, 2, 3)
    shares[0] = Share(0, shares[0].message, garbage)
    assert committee.verifier.collect(shares).good == (1, 2, 3)


def test_nothing_is_certified_by_nobody(committee: Committee) -> None:
    assert committee.verifier.collect([]).signature is None
    only_bad = [Share(0, committee.vote_message(), b"\1" * 96)]
    assert committee.verifier.collect(only_bad).signature is None


def test_a_signer_counts_once(committee: Committee) -> None:
    with pytest.raises(ValueError, match="twice"):
        committee.verifier.collect(committee.shares(0, 1, 1))


def test_two_signers_can_cancel_each_other_out(stand_in: Committee) -> None:
    # s1+d and s2-d: each is invalid, the sum is valid, as with BLS.
    shares = stand_in.shares(0, 1, 2)
    for i, shift in ((1, 77), (2, -77)):
        moved = (int.from_bytes(shares[i].signature, "big") + shift) % MODULUS
        shares[i] = Share(i, shares[i].message, moved.to_bytes(96, "big"))
    found = stand_in.verifier.collect(shares)
    assert found.good == (0, 1, 2) and found.signature is not None
    assert stand_in.verifier.check(stand_in.qc(found.signature, 0, 1, 2))
    # With somebody else's garbage among them they are told apart, and what is left is certified again.
    garbage = Share(3, shares[0].message, b"\1" * 96)
    found = stand_in.verifier.collect([*shares, garbage])
    assert (found.good, found.bad) == ((0,), (1, 2, 3))


def test_timeouts_of_different_reports_aggregate(committee: Committee) -> None:
    reports = {0: 3, 1: 3, 2: 1}
    messages = {view: committee.context.timeout_message(9, view) for view in (3, 1)}
    shares = [Share(i, messages[view], committee.members[i].bls.sign(messages[view])) for i, view in reports.items()]
    found = committee.verifier.collect(shares)
    assert found.signature is not None
    bitmap = committee.validators.bitmap
    high_qc = QC(1, 3, Phase.GENERIC, b"\1" * 32, b"\2" * 32, bitmap((0, 1, 2)), b"")
    groups = (TimeoutGroup(3, bitmap((0, 1))), TimeoutGroup(1, bitmap((2,))))
    assert committee.verifier.check(TC(1, 9, groups, found.signature, high_qc))
    swapped = (TimeoutGroup(3, bitmap((0, 2))), TimeoutGroup(1, bitmap((1,))))
    assert not committee.verifier.check(TC(1, 9, swapped, found.signature, high_qc))


def test_groups_are_distinct_and_not_empty(stand_in: Committee) -> None:
    keys = [STAND_IN.public_key(validator.bls_key) for validator in stand_in.validators.validators]
    total = (share_of(keys[0], b"a") + share_of(keys[1], b"b")) % MODULUS
    assert STAND_IN.aggregate_verify([(keys[:1], b"a"), (keys[1:2], b"b")], total.to_bytes(96, "big"))
    assert not STAND_IN.aggregate_verify([(keys[:1], b"a"), ([], b"b")], share_of(keys[0], b"a").to_bytes(96, "big"))
    assert not STAND_IN.aggregate_verify([], bytes(96))
    with pytest.raises(ValueError, match="same message"):
        STAND_IN.aggregate_verify([(keys[:1], b"a"), (keys[1:2], b"a")], bytes(96))


@pytest.mark.parametrize("kind", KINDS)
def test_node_signatures_are_of_one_node_over_one_message(kind: Signatures) -> None:
    (one, other), scheme = members(2, kind), scheme_of(kind)
    signature = one.node.sign(b"message")
    assert len(signature) == 64
    assert scheme.verify_node(one.node.public_key(), b"message", signature)
    assert not scheme.verify_node(other.node.public_key(), b"message", signature)
    assert not scheme.verify_node(one.node.public_key(), b"massage", signature)
    assert not scheme.verify_node(one.node.public_key(), b"message", signature[:-1])


def test_a_stand_in_key_is_no_key_for_a_node() -> None:
    for member in members(20):
        with pytest.raises(InvalidSignature):
            bls.PublicKey.from_bytes(member.bls.public_key().to_bytes())


def test_a_real_key_is_no_stand_in() -> None:
    with pytest.raises(InvalidSignature):
        STAND_IN.public_key(members(1, "bls")[0].bls.public_key().to_bytes())


def test_genesis_refuses_stand_in_keys(tmp_path: Path) -> None:
    """The proof of possession is where a simulated validator stops being one."""
    real, fake = members(1, "bls")[0], Member(members(1)[0].bls, NodeSecret.generate(b"\5" * 32))
    entries = []
    for member in (real, fake):
        node_key, key = member.node.public_key(), member.bls.public_key().to_bytes()
        text = possession_message(b"network", node_key, key)
        sign = getattr(member.bls, "prove_possession", member.bls.sign)
        entries.append({"node_key": node_key.hex(), "bls_key": key.hex(), "possession": sign(text).hex(), "power": 1})
    path = tmp_path / "genesis.json"
    # With the real one alone the file is fine, so it is not refused for another reason.
    for count, refused in ((1, False), (2, True)):
        path.write_text(json.dumps({"name": "network", "protocol": "chained", "validators": entries[:count]}))
        if refused:
            with pytest.raises(ConfigError, match="bls_key"):
                Genesis.load(path)
        else:
            Genesis.load(path)
