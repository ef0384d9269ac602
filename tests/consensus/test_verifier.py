"""What a valid certificate is, with real signatures. Every structural rule is tried with an otherwise valid one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff import native
from hotstuff.consensus.verifier import Verifier
from hotstuff.crypto import bls
from hotstuff.types.batch import Batch
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.hashing import Phase
from hotstuff.types.validators import NODE_SIGNATURE_BYTES

ID, OTHER = b"i" * 32, b"o" * 32


@cache
def forge(n: int = 4, powers: tuple[int, ...] | None = None) -> Forge:
    return Forge(Cluster(n, powers=list(powers) if powers else None))


def check(item: object, f: Forge | None = None) -> bool:
    return bool((f or forge()).cluster.verifier.check(item))


QUORUM = [0, 1, 3]
QC_MUTANTS: dict[str, Callable[[QC], QC]] = {
    "view changed": lambda qc: replace(qc, view=qc.view + 1),
    "epoch changed": lambda qc: replace(qc, epoch=2),
    "phase changed": lambda qc: replace(qc, phase=Phase.COMMIT),
    "block changed": lambda qc: replace(qc, block_id=OTHER),
    "commit changed": lambda qc: replace(qc, commit_id=ID),
    "signer added": lambda qc: replace(qc, signers=b"\x0f"),
    "signer swapped": lambda qc: replace(qc, signers=b"\x07"),
    "no signers": lambda qc: replace(qc, signers=b"\x00"),
    "bitmap empty": lambda qc: replace(qc, signers=b""),
    "bitmap too long": lambda qc: replace(qc, signers=qc.signers + b"\x00"),
    "padding bit": lambda qc: replace(qc, signers=bytes([qc.signers[0] | 0x10])),
    "signature of zeros": lambda qc: replace(qc, signature=bytes(96)),
    "point at infinity": lambda qc: replace(qc, signature=b"\xc0" + bytes(95)),
    "not a point": lambda qc: replace(qc, signature=b"\xff" * 96),
    "below a quorum": lambda qc: forge().qc(qc.view, qc.block_id, qc.commit_id, [0, 1]),
    "view 0": lambda qc: forge().qc(0, qc.block_id, qc.commit_id, QUORUM),
}


def test_a_quorum_of_votes_is_a_qc() -> None:
    assert check(forge().qc(5, ID, OTHER, QUORUM))
    assert check(forge().qc(5, ID, OTHER))


@pytest.mark.parametrize("mutant", QC_MUTANTS)
def test_qc_mutant(mutant: str) -> None:
    assert not check(QC_MUTANTS[mutant](forge().qc(5, ID, OTHER, QUORUM)))


def test_the_genesis_qc_is_valid_by_exact_equality_only_s10() -> None:
    genesis = forge().genesis
    assert check(genesis)
    assert not check(replace(genesis, block_id=ID))
    assert not check(replace(genesis, commit_id=ID))
    assert not check(replace(genesis, signers=b"\x0f"))
    assert not check(replace(genesis, epoch=2))
    assert not check(replace(genesis, view=1))


def test_a_certificate_of_another_network_is_worth_nothing_s21() -> None:
    context = replace(forge().context, chain_id=b"\x08" * 32)
    elsewhere = Verifier(context, forge().validators)
    assert not elsewhere.check(forge().qc(5, ID, OTHER))
    assert not elsewhere.check(forge().genesis)


def test_five_replicas_need_four_votes() -> None:
    f = forge(5)
    assert not check(f.qc(1, ID, signers=[0, 1, 2]), f)
    assert check(f.qc(1, ID, signers=[0, 1, 2, 4]), f)


def test_power_counts_and_not_heads() -> None:
    f = forge(4, (1, 1, 1, 6))
    assert not check(f.qc(1, ID, signers=[0, 1, 2]), f)
    assert not check(f.qc(1, ID, signers=[3]), f), "six of nine is not more than two thirds"
    assert check(f.qc(1, ID, signers=[0, 3]), f)


def a_tc() -> TC:
    f = forge()
    high, low = f.qc(3, ID, OTHER), f.qc(2, OTHER)
    return f.tc(5, {0: high, 1: low, 3: low})


def _groups(tc: TC, *groups: tuple[int, int]) -> TC:
    return replace(tc, groups=tuple(TimeoutGroup(view, bytes([bits])) for view, bits in groups))


TC_MUTANTS: dict[str, Callable[[TC], TC]] = {
    "view changed": lambda tc: replace(tc, view=6),
    "epoch changed": lambda tc: replace(tc, epoch=2),
    "higher view claimed": lambda tc: _groups(tc, (4, 1), (2, 0b1010)),
    "high_qc below the groups": lambda tc: replace(tc, high_qc=forge().qc(2, OTHER)),
    "high_qc above the groups": lambda tc: replace(tc, high_qc=forge().qc(4, OTHER)),
    "groups ascending": lambda tc: replace(_groups(tc, (2, 0b1010), (3, 1)), high_qc=forge().qc(2, OTHER)),
    "group twice": lambda tc: _groups(tc, (3, 1), (2, 0b1010), (2, 0b1010)),
    "signer in two groups": lambda tc: _groups(tc, (3, 1), (2, 0b1011)),
    "group without signers": lambda tc: _groups(tc, (3, 1), (2, 0b1010), (1, 0)),
    "signer left out": lambda tc: _groups(tc, (3, 1), (2, 0b0010)),
    "padding bit": lambda tc: _groups(tc, (3, 1), (2, 0b11010)),
    "bitmap too long": lambda tc: replace(tc, groups=(tc.groups[0], TimeoutGroup(2, b"\x0a\x00"))),
    "signature changed": lambda tc: replace(tc, signature=bytes(96)),
    "below a quorum": lambda tc: forge().tc(5, {0: tc.high_qc, 1: tc.high_qc}),
    "reports its own view": lambda tc: forge().tc(3, dict.fromkeys(range(3), tc.high_qc)),
    "reports a higher view": lambda tc: forge().tc(2, dict.fromkeys(range(3), tc.high_qc)),
}


def test_a_quorum_of_timeouts_is_a_tc() -> None:
    assert check(a_tc())
    assert check(forge().tc(1, {i: forge().genesis for i in range(4)}))


@pytest.mark.parametrize("mutant", TC_MUTANTS)
def test_tc_mutant(mutant: str) -> None:
    assert not check(TC_MUTANTS[mutant](a_tc()))


def test_a_signer_of_two_groups_counts_once() -> None:
    """It may sign two reports; with its power counted twice, it and one other would be a quorum of four."""
    f = forge()
    high, low = f.qc(3, ID, OTHER), f.qc(2, OTHER)
    said = [f.timeout(0, 5, high), f.timeout(0, 5, low), f.timeout(1, 5, low)]
    groups = (TimeoutGroup(3, b"\x01"), TimeoutGroup(2, b"\x03"))
    assert not check(TC(1, 5, groups, bls.aggregate([t.signature for t in said]), high))


def test_five_replicas_need_four_timeouts() -> None:
    f = forge(5)
    assert not check(f.tc(1, dict.fromkeys(range(3), f.genesis)), f)
    assert check(f.tc(1, dict.fromkeys(range(4), f.genesis)), f)


def test_a_proposal_is_signed_by_its_proposer() -> None:
    proposal = forge().proposal(forge().block(1, forge().genesis, 1))
    assert check(proposal)
    assert not check(replace(proposal, signature=bytes(NODE_SIGNATURE_BYTES)))
    for proposer in (2, 4, 65535):
        header = replace(proposal.block.header, proposer=proposer)
        assert not check(replace(proposal, block=replace(proposal.block, header=header)))
    header = replace(proposal.block.header, height=2)
    assert not check(replace(proposal, block=replace(proposal.block, header=header)))


def test_a_batch_is_signed_by_its_author() -> None:
    body = native.build_frame(b"c" * 16, 1, [b"x"])
    unsigned = Batch(1, 2, 7, bytes(NODE_SIGNATURE_BYTES), body, tuple(native.parse_body(body, 1)))
    batch = replace(unsigned, signature=forge().cluster.members[2].node.sign(unsigned.message(forge().context)))
    assert check(batch)
    assert not check(unsigned)
    assert not check(replace(batch, seq=8))
    assert not check(replace(batch, epoch=2))
    for author in (1, 4, 65535):
        assert not check(replace(batch, author=author))


def test_a_bad_share_is_found_and_the_rest_is_a_certificate() -> None:
    f = forge()
    votes = [f.vote(i, 5, ID) for i in range(4)]
    votes[2] = replace(votes[2], signature=f.vote(2, 6, ID).signature)
    found = f.cluster.verifier.collect([f.share(vote) for vote in votes])
    assert (found.good, found.bad) == ((0, 1, 3), (2,))
    assert found.signature == f.qc(5, ID, signers=[0, 1, 3]).signature


def test_a_qc_of_a_phase_that_the_protocol_lacks_is_refused_s18() -> None:
    for phase in (Phase.PREPARE, Phase.PRECOMMIT, Phase.COMMIT):
        assert not check(forge().qc(5, ID, phase=phase)), "a quorum has signed it, in a protocol that has no such vote"


def test_a_batch_of_another_epoch_is_refused_whoever_signed_it() -> None:
    body = native.build_frame(b"c" * 16, 1, [b"x"])
    unsigned = Batch(2, 2, 7, bytes(NODE_SIGNATURE_BYTES), body, tuple(native.parse_body(body, 1)))
    assert not check(
        replace(unsigned, signature=forge().cluster.members[2].node.sign(unsigned.message(forge().context)))
    )
