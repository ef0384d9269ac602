"""What is wrong with a message by itself, whoever signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from alone import Alone
from cluster import Cluster
from forge import Forge

from hotstuff.consensus.leaders import Weighted
from hotstuff.consensus.validity import malformed, proven_by_justify, proves_entry, proves_view
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import Mode, Phase


def forge(mode: Mode = Mode.CHAINED) -> Forge:
    return Forge(Cluster(4, fast=True, mode=mode))


def on(header: Header, **changes: object) -> Header:
    """The header on a changed justify."""
    justify = replace(header.justify, **changes)  # type: ignore[arg-type]
    return replace(header, justify=justify, parent_id=justify.block_id)


# How a good header of view 5 on a QC of view 4 becomes a bad one, and what is said about it.
WRONG: dict[str, tuple[Callable[[Header], Header], str]] = {
    "protocol": (lambda h: replace(h, mode=Mode.JOLTEON), "protocol"),
    "network": (lambda h: replace(h, chain_id=b"x" * 32), "network"),
    "epoch": (lambda h: replace(h, epoch=2), "epoch"),
    "epoch of justify": (lambda h: on(h, epoch=2), "epoch"),
    "validator set": (lambda h: replace(h, vset_hash=b"x" * 32), "validator set"),
    "parent is the justified block": (lambda h: replace(h, parent_id=b"x" * 32), "parent is not the justified block"),
    "view above justify": (lambda h: on(h, view=5), "view not above justify"),
    "genesis certificate": (lambda h: on(h, view=0), "genesis certificate"),
    "phase of justify": (lambda h: on(h, phase=Phase.COMMIT), "phase of justify"),
    "leader": (lambda h: replace(h, proposer=h.proposer + 1), "proposer is not the leader of the view"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_header_that_is_wrong_by_itself(what: str) -> None:
    f = forge()
    leaders = Weighted([1] * 4)
    header = f.header(5, f.qc(4, b"b" * 32), 5)
    assert malformed(header, f.context, leaders) is None
    change, told = WRONG[what]
    assert malformed(change(header), f.context, leaders) == told


def test_a_header_on_the_genesis_certificate_is_good() -> None:
    for mode in Mode:
        f = forge(mode)
        assert malformed(f.header(1, f.genesis, 1), f.context, Weighted([1] * 4)) is None


def test_a_qc_that_leaves_votes_open_proves_no_view() -> None:
    f = forge(Mode.BASIC)
    for phase, proves in ((Phase.PREPARE, False), (Phase.PRECOMMIT, False), (Phase.COMMIT, True)):
        assert proven_by_justify(5, f.qc(4, b"b" * 32, phase=phase)) is proves
    assert not proven_by_justify(6, f.qc(4, b"b" * 32, phase=Phase.COMMIT))


def test_a_view_is_proven_by_the_qc_or_by_the_tc_of_the_view_before() -> None:
    f = forge()
    qc = f.qc(3, b"b" * 32)
    tc3, tc4 = (f.tc(view, dict.fromkeys(range(3), f.qc(2, b"a" * 32))) for view in (3, 4))

    def proven(view: int, tc: object) -> bool:
        return proves_view(f.proposal(f.block(view, qc, 4, tc=tc), tc))  # type: ignore[arg-type]

    assert proven(4, None)
    assert not proven(4, tc3), "one proof is enough: blocks must not differ in what they do not need"
    assert not proven(5, None)
    assert proven(5, tc4)
    assert not proven(5, tc3)
    assert not proven(6, tc4)


@pytest.mark.parametrize("view", [2, 3])
def test_a_proposal_that_does_not_prove_its_view_costs_its_sender(view: int) -> None:
    """Also if we are in that view already: the other replicas need the proof, too."""
    world = Alone()
    (block, qc), *_ = world.forge.chain([1])
    world.propose(block)
    tc = world.forge.tc(2, dict.fromkeys(range(1, 4), qc))
    if view == 3:
        world.propose(world.forge.block(3, qc, 2, tc=tc), tc)
        assert world.replica.view == 3
        world.replica._proposal = None
    bare = world.forge.block(view, qc if view == 3 else world.forge.genesis, 1 + (view == 3))
    world.propose(bare)
    assert [strike.peer for _, strike in world.cluster.strikes] == [bare.header.proposer]
    assert world.replica.tree.get(bare.id) is None


def test_what_proves_the_entry_of_a_timeout() -> None:
    f = forge()

    def qc(view: int) -> QC:
        return f.qc(view, b"b" * 32)

    tc4, tc3 = (f.tc(view, dict.fromkeys(range(3), qc(2))) for view in (4, 3))
    by_qc, by_tc = f.timeout(1, 5, qc(4)), f.timeout(1, 5, qc(2), tc4)
    for good in (by_qc, by_tc, f.timeout(1, 5, qc(3), tc4), f.timeout(1, 1, f.genesis)):
        assert proves_entry(good, f.context)
    for bad in (
        replace(by_qc, epoch=2),
        f.timeout(1, 5, qc(5)),
        f.timeout(1, 5, qc(6), tc4),
        f.timeout(1, 5, qc(4), tc4),
        f.timeout(1, 5, qc(3)),
        f.timeout(1, 5, qc(2), tc3),
        f.timeout(1, 6, qc(2), tc4),
        f.timeout(1, 5, qc(1), tc4),
    ):
        assert not proves_entry(bad, f.context)


def test_a_timeout_may_report_a_certificate_of_its_own_open_view() -> None:
    f = forge(Mode.BASIC)
    prepared, committed = (f.qc(5, b"b" * 32, phase=phase) for phase in (Phase.PREPARE, Phase.COMMIT))
    assert proves_entry(f.timeout(1, 5, prepared), f.context)
    assert not proves_entry(f.timeout(1, 5, committed), f.context)
