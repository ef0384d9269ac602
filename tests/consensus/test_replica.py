"""The rules of the chained protocol by name, each in a small cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alone import Alone
from cluster import Cluster
from forge import Forge, ref

from hotstuff import native
from hotstuff.consensus import safety as safety_module
from hotstuff.consensus.effects import Broadcast, Connected, Effect, Persist, Received, Report, Send, Tick
from hotstuff.consensus.pacemaker import GROWTH_1024, REBROADCAST_MAX_US, SUSPECT_DIVISOR
from hotstuff.consensus.rules import Chained
from hotstuff.errors import InvariantViolation
from hotstuff.types.batch import Batch
from hotstuff.types.block import Block, payload_root
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode
from hotstuff.types.messages import Ack, BatchMessage, BlockResponse, NewView, Proposal, Timeout, Vote
from hotstuff.types.validators import NODE_SIGNATURE_BYTES

BATCH_ACKS = Ack((ref(),))


# ---- voting


def test_a_vote_goes_to_the_leaders_of_this_view_and_the_next() -> None:
    world = Alone()
    block = world.forge.block(1, world.forge.genesis, 1)
    world.propose(block)
    votes = world.sent(Vote)
    assert {envelope.to for envelope in votes} == {1, 2}
    assert world.votes() == [(1, block.id)]


def heard_three(world: Alone) -> list[tuple[Block, QC]]:
    """The proposals of views 1 to 3, which the replica has heard, each with the QC for it."""
    chain = world.forge.chain([1, 2, 3])
    for block, _ in chain:
        world.propose(block)
    return chain


def test_only_the_leader_of_the_next_view_reserves_it_with_its_vote() -> None:
    world = Alone()
    for block, _ in world.forge.chain([1, 2]):
        world.propose(block)
    assert world.cluster.disks[0].safety.proposed_view == 0
    world.propose(world.forge.chain([1, 2, 3])[-1][0])
    durable = world.cluster.disks[0].safety
    assert (durable.voted_view, durable.proposed_view) == (3, 4)
    assert world.sent(Proposal) == []


def test_a_proposal_in_a_reserved_view_waits_for_no_disk() -> None:
    world = Alone()
    chain = heard_three(world)
    qc = chain[-1][1]
    world.cluster.submit(0)
    world.cluster.settle()
    world.replica._desk.trust(qc)
    effects = world.replica.step(Received(3, NewView(qc, None)), world.cluster.now_us)
    assert any(isinstance(effect, Broadcast) and isinstance(effect.message, Proposal) for effect in effects)
    assert all(effect.lazy for effect in effects if isinstance(effect, Persist))
    assert not any(isinstance(effect, Broadcast) and isinstance(effect.message, NewView) for effect in effects)


def test_a_proposal_in_a_view_that_is_not_reserved_is_on_disk_first() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    qc = chain[-1][1]
    world.cluster.submit(0)
    world.cluster.settle()
    tc = world.forge.tc(3, dict.fromkeys((1, 2, 3), qc))
    for certificate in (qc, tc):
        world.replica._desk.trust(certificate)
    effects = world.replica.step(Received(3, NewView(qc, tc)), world.cluster.now_us)
    proposals = [i for i, e in enumerate(effects) if isinstance(e, Broadcast) and isinstance(e.message, Proposal)]
    synced = [i for i, e in enumerate(effects) if isinstance(e, Persist) and not e.lazy]
    assert len(proposals) == 1 and synced and synced[0] < proposals[0]


def test_after_a_crash_a_reserved_view_is_left_alone_and_nothing_is_wrong_with_the_record() -> None:
    world = Alone()
    chain = heard_three(world)
    qc = chain[-1][1]
    world.cluster.submit(0)
    world.cluster.settle()
    world.cluster.kill(0)
    world.cluster.start(0)
    world.hear(3, NewView(qc, None))
    assert world.replica.view == 4
    assert world.sent(Proposal) == []
    assert [r for _, r in world.cluster.reports if r.name == "record_ahead"] == []


def test_the_first_of_two_proposals_gets_the_vote_s1() -> None:
    world = Alone()
    first = world.forge.block(1, world.forge.genesis, 1)
    world.propose(first)
    world.propose(world.forge.block(1, world.forge.genesis, 1, payload=(ref(),)))
    assert world.votes() == [(1, first.id)]
    assert evidence(world) == [("double proposal", 1, 1)]


def evidence(world: Alone) -> list[tuple[object, ...]]:
    """(kind, validator, view) of everything that was verified and reported."""
    return [tuple(r.fields.values()) for _, r in world.cluster.reports if r.name == "evidence"]


def test_a_second_proposal_is_evidence_also_when_the_first_is_certified_or_committed_s2() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    assert world.replica.tree.root.id == chain[1][0].id
    for view in (2, 3, 4):
        world.propose(world.forge.block(view, world.forge.genesis, 1, payload=(ref(),), tc=None))
    world.propose(Block(replace(chain[2][0].header, payload_root=payload_root((ref(),))), (ref(),)))
    assert world.replica.tree.root.id == chain[1][0].id
    assert ("double proposal", 3, 3) in evidence(world)


def test_two_votes_of_one_validator_count_once_and_are_evidence_s3() -> None:
    world = Alone()
    for view in (1, 2, 3):
        block, qc = world.forge.chain(range(1, view + 1))[-1]
        world.propose(block)
        if view < 3:
            world.hear(3, NewView(qc, None))
    before = world.replica.view
    for block_id in (b"a" * 32, b"b" * 32):
        world.hear(2, world.forge.vote(2, 3, block_id))
    assert world.replica.view == before
    assert evidence(world) == [("double vote", 2, 3)]


def test_a_forged_vote_is_no_evidence_against_its_signer_s22() -> None:
    world = Alone()
    world.hear(2, world.forge.vote(2, 1, b"a" * 32))
    world.hear(2, replace(world.forge.vote(2, 1, b"b" * 32), signature=b"\1" * 96))
    assert evidence(world) == []


def test_an_invalid_second_proposal_is_no_evidence_s22() -> None:
    world = Alone()
    world.propose(world.forge.block(1, world.forge.genesis, 1))
    second = world.forge.proposal(world.forge.block(1, world.forge.genesis, 1, payload=(ref(),)))
    world.hear(1, replace(second, signature=bytes(64)))
    assert evidence(world) == []


def test_a_proposal_by_somebody_else_than_the_leader_costs_its_sender_s19() -> None:
    world = Alone()
    header = world.forge.header(1, world.forge.genesis, 1, proposer=2)
    world.propose(Block(header, ()))
    good = world.forge.proposal(world.forge.block(1, world.forge.genesis, 1))
    world.hear(3, good)
    assert world.votes() == []
    assert [strike.peer for _, strike in world.cluster.strikes] == [2, 3]


def test_a_view_without_a_certificate_is_not_entered_s33() -> None:
    world = Alone()
    (_, qc), *_ = world.forge.chain([1])
    for view in (3, 2**62):
        world.propose(world.forge.block(view, qc, 2))
        world.hear(1, world.forge.timeout(1, view, qc))
    assert world.replica.view == 1
    assert world.votes() == []


def test_a_lock_refuses_a_branch_justified_below_it_s7() -> None:
    world = Alone()
    chain = heard_three(world)
    world.hear(1, NewView(chain[2][1], None))
    assert world.replica.safety.record.locked_qc == chain[1][1]
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[0][1]))
    fork = world.forge.block(5, chain[0][1], 2, tc=tc)
    world.propose(fork, tc)
    assert world.replica.view == 5
    assert fork.id not in [block for _, block in world.votes()]
    assert 5 not in [view for view, _ in world.votes()]


def test_a_hidden_lock_still_votes_when_the_justify_is_higher_s8() -> None:
    """Replica 0 is locked on QC(2), which nobody else knows; the others certified a branch beside it since."""
    world = Alone()
    chain = heard_three(world)
    world.hear(2, NewView(chain[2][1], None))
    assert world.replica.safety.record.locked_qc == chain[1][1]
    tc3 = world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[0][1]))
    b4 = world.forge.block(4, chain[0][1], 2, tc=tc3)
    b5 = world.forge.block(5, world.forge.qc(4, b4.id), 3)
    world.propose(b5)
    assert world.replica._sync.wants(b4.id)
    world.hear(1, BlockResponse(b4.id, (b4,)))
    assert (5, b5.id) in world.votes()


def test_a_late_qc_of_a_view_left_by_tc_raises_high_qc_and_is_reported() -> None:
    """QC(2) after TC(2) to TC(4): it moves no view, but our next timeout must not hide it."""
    world = Alone()
    chain = world.forge.chain([1, 2])
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[0][1]))
    world.hear(1, NewView(chain[0][1], tc))
    assert (world.replica.view, world.replica.safety.record.high_qc) == (5, chain[0][1])
    world.hear(1, NewView(chain[1][1], None))
    assert (world.replica.view, world.replica.safety.record.high_qc) == (5, chain[1][1])
    for peer in (1, 2):
        world.hear(peer, world.forge.timeout(peer, 5, chain[1][1], tc))
    assert {e.message.high_qc for e in world.sent(Timeout) if isinstance(e.message, Timeout)} == {chain[1][1]}


@pytest.mark.parametrize("forged", ["signature", "justify", "entry TC", "QC in the entry TC"])
def test_a_proposal_with_anything_forged_in_it_changes_nothing(forged: str) -> None:
    world = Alone()
    _, qc = world.forge.chain([1])[0]
    high = replace(qc, signature=bytes(96)) if forged == "QC in the entry TC" else qc
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), high))
    if forged == "entry TC":
        tc = replace(tc, signature=bytes(96))
    justify = replace(qc, signature=bytes(96)) if forged == "justify" else qc
    proposal = world.forge.proposal(world.forge.block(5, justify, 2, tc=tc), tc)
    if forged == "signature":
        proposal = replace(proposal, signature=bytes(64))
    world.hear(1, proposal)
    assert world.replica.view == 1
    assert len(world.replica.tree) == 1
    assert world.replica.safety.record.high_qc == world.forge.genesis
    assert [strike.peer for _, strike in world.cluster.strikes] == [1]


MALFORMED: dict[str, dict[str, object]] = {
    "protocol": {"mode": Mode.JOLTEON},
    "network": {"chain_id": b"x" * 32},
    "epoch": {"epoch": 2},
    "validator set": {"vset_hash": b"x" * 32},
    "parent is not the justified block": {"parent_id": b"x" * 32},
    "view not above justify": {"view": 1},
    "proposer is not the leader of the view": {"proposer": 3},
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_header_that_is_wrong_by_itself_is_refused_s18_s21(what: str) -> None:
    world = Alone()
    header = world.forge.header(2, world.forge.chain([1])[0][1], 2)
    assert world.replica._malformed(header) is None
    assert world.replica._malformed(replace(header, **MALFORMED[what])) == what


def test_a_header_on_something_like_the_genesis_qc_is_refused_s9_s10() -> None:
    world = Alone()
    fake = replace(world.forge.genesis, block_id=b"x" * 32)
    assert world.replica._malformed(world.forge.header(1, world.forge.genesis, 1)) is None
    assert world.replica._malformed(world.forge.header(1, fake, 1)) == "genesis certificate"


@pytest.mark.parametrize("wrong", ["height too low", "height too high", "lane with a gap", "unknown author"])
def test_a_block_that_does_not_fit_its_parent_gets_no_vote_and_no_place(wrong: str) -> None:
    world = Alone()
    first, qc = world.forge.chain([1])[0]
    world.propose(first)
    payload = {"lane with a gap": (ref(1, 2),), "unknown author": (ref(9, 1),)}.get(wrong, ())
    height = {"height too low": 1, "height too high": 3}.get(wrong, 2)
    block = world.forge.block(2, qc, height, payload=payload)
    for peer in (1, 2, 3):
        world.hear(peer, Ack(payload))
    world.propose(block)
    assert world.replica.view == 2
    assert world.replica.tree.get(block.id) is None
    assert [view for view, _ in world.votes()] == [1]
    assert [strike.peer for _, strike in world.cluster.strikes] == [2]


def test_a_vote_in_the_name_of_another_does_not_take_its_place_s22() -> None:
    world = Alone()
    block = world.forge.block(3, world.forge.genesis, 1)
    for claimed in (0, 2, 3):
        world.hear(1, world.forge.vote(claimed, 3, block.id))
    world.hear(1, replace(world.forge.vote(1, 3, block.id), epoch=2))
    assert [strike.peer for _, strike in world.cluster.strikes] == [1] * 4
    assert world.replica.view == 1
    for peer in (1, 2, 3):
        world.hear(peer, world.forge.vote(peer, 3, block.id))
    assert world.replica.view == 4


def time_out(world: Alone) -> None:
    """f+1 of seven give up on view 1: enough to join them, not enough for a TC."""
    for peer in (2, 3, 4):
        world.hear(peer, world.forge.timeout(peer, 1, world.forge.genesis))
    assert world.replica.view == 1


def test_a_timed_out_view_is_closed_s24() -> None:
    world = Alone(7)
    time_out(world)
    assert world.sent(Timeout) != []
    world.propose(world.forge.block(1, world.forge.genesis, 1))
    assert world.votes() == []


@pytest.mark.parametrize("rule", ["phase_not_voted", "view_not_timed_out"])
def test_the_checks_of_the_cluster_catch_a_replica_without_the_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(r for r in safety_module.VOTE_RULES if r.__name__ != rule)
    monkeypatch.setattr(safety_module, "VOTE_RULES", rules)
    refusal = safety_module.Safety.refusal
    monkeypatch.setattr(safety_module.Safety, "refusal", lambda self, header, given=rules: refusal(self, header, given))
    world = Alone(7)
    block = world.forge.block(1, world.forge.genesis, 1)
    if rule == "view_not_timed_out":
        time_out(world)
        with pytest.raises(AssertionError, match="timed-out view"):
            world.propose(block)
    else:
        world.propose(block)
        world.replica._proposal = None
        world.propose(Block(replace(block.header, payload_root=payload_root((ref(),))), (ref(),)))
        for peer in (2, 3):
            world.hear(peer, BATCH_ACKS)
        with pytest.raises(AssertionError, match="two votes"):
            world.hear(4, BATCH_ACKS)


def test_nothing_signed_leaves_before_it_is_durable() -> None:
    """The order inside one step: the record first, whatever refers to it after (the driver syncs in between)."""
    world = Alone()
    seen: list[Effect] = []
    run = world.cluster.run
    world.cluster.run = lambda i, effects: (seen.extend(effects), run(i, effects))[1]  # type: ignore[method-assign]
    world.propose(world.forge.block(1, world.forge.genesis, 1))
    first_vote = next(k for k, e in enumerate(seen) if isinstance(e, Send) and isinstance(e.message, Vote))
    records = [e.safety for e in seen[:first_vote] if isinstance(e, Persist) and e.safety is not None]
    assert records[-1].voted_view == 1


def test_a_qc_for_an_unknown_block_moves_the_view_and_asks_for_the_block_s14() -> None:
    world = Alone()
    chain = world.forge.chain(list(range(1, 40)))
    world.hear(2, NewView(chain[-1][1], None))
    assert world.replica.view == 40
    assert world.replica._sync.wants(chain[-1][0].id)


def test_a_forged_certificate_moves_nothing_and_costs_its_sender_s13_s15() -> None:
    world = Alone()
    block, qc = world.forge.chain([1])[0]
    forged = replace(qc, view=9, signature=bytes(96))
    tc = replace(world.forge.tc(9, dict.fromkeys(range(3), qc)), signature=bytes(96))
    world.hear(1, NewView(forged, None))
    world.hear(2, NewView(qc, tc))
    world.hear(3, world.forge.timeout(3, 10, forged))
    assert world.replica.view in (1, 2)
    assert {strike.peer for _, strike in world.cluster.strikes} == {1, 2, 3}
    assert world.replica._sync.wants(forged.block_id) == (world.replica.view == 2)
    del block


def test_two_committed_blocks_of_one_view_stop_the_replica() -> None:
    world = Alone()
    chain = heard_three(world)
    world.hear(1, NewView(chain[2][1], None))
    assert world.replica.tree.root.id == chain[0][0].id
    with pytest.raises(InvariantViolation, match="two committed blocks"):
        world.replica._commit(world.forge.qc(3, b"x" * 32, b"y" * 32))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_committed_branch_that_left_the_chain_below_our_root_stops_the_replica(length: int) -> None:
    """A third of the power was Byzantine. Going on would mean to follow one of two truths, and to ask for ever."""
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4, 5])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    root = world.replica.tree.root
    assert root.view == 3
    justify, branch = chain[0][1], []
    for height in range(4, 4 + length):
        block = world.forge.block(3 + height, justify, height)
        justify = world.forge.qc(block.header.view, block.id)
        branch.append(block)
    commit = world.forge.qc(20, b"x" * 32, branch[-1].id)
    world.hear(3, NewView(commit, None))
    with pytest.raises(InvariantViolation, match="does not extend"):
        for block in reversed(branch):
            world.hear(3, BlockResponse(block.id, (block,)))


def test_a_certified_branch_that_was_not_committed_stops_nobody() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4, 5])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    block = world.forge.block(7, chain[0][1], 4)
    world.hear(3, NewView(world.forge.qc(7, block.id), None))
    world.hear(3, BlockResponse(block.id, (block,)))
    assert world.replica.tree.root.view == 3


# ---- commit


def test_a_commit_over_a_view_gap_never_happens_s6() -> None:
    world = Alone()
    chain = world.forge.chain([1, 3, 4])
    tc = world.forge.tc(2, dict.fromkeys((1, 2, 3), chain[0][1]))
    b3 = world.forge.block(3, chain[0][1], 2, tc=tc)
    b4 = world.forge.block(4, world.forge.qc(3, b3.id), 3)
    world.propose(chain[0][0])
    world.propose(b3, tc)
    world.propose(b4)
    world.hear(1, NewView(world.forge.qc(4, b4.id), None))
    assert world.replica.view == 5
    assert world.replica.tree.root.height == 0
    votes = [e.message for e in world.sent(Vote) if isinstance(e.message, Vote)]
    assert all(vote.commit_id == ZERO_HASH for vote in votes if vote.view in (3, 4))
    b5 = world.forge.block(5, world.forge.qc(4, b4.id), 4)
    world.propose(b5)
    world.hear(1, NewView(world.forge.qc(5, b5.id, b3.id), None))
    assert world.replica.tree.root.id == b3.id
    assert world.cluster.chain(0) == [chain[0][0].id, b3.id]


def test_the_commit_rule_without_consecutive_views_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of S6 commits b1 over the gap; the test above sees that."""

    def parent_only(self: Chained, tree: object, node: object, phase: object) -> bytes:
        parent = tree.parent(node)  # type: ignore[attr-defined]
        grandparent = parent and tree.parent(parent)  # type: ignore[attr-defined]
        return grandparent.id if grandparent else ZERO_HASH

    monkeypatch.setattr(Chained, "commit_id", parent_only)
    with pytest.raises(AssertionError):
        test_a_commit_over_a_view_gap_never_happens_s6()


def test_any_arrival_order_ends_in_the_same_state_s42() -> None:
    ends = set()
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]):
        world = Alone()
        chain = world.forge.chain([1, 2, 3, 4])
        for k in order:
            block, qc = chain[k]
            world.propose(block)
            world.hear(2, NewView(qc, None))
        # What was asked for by hash arrives too.
        for block, _ in chain:
            if world.replica._sync.wants(block.id):
                world.replica._place(block)
        world.cluster.step(0, Tick())
        world.cluster.settle()
        record = world.replica.safety.record
        ends.add((world.replica.view, record.high_qc.key, record.locked_qc.key, tuple(world.cluster.chain(0))))
    assert len(ends) == 1
    assert ends.pop()[3] == (chain[0][0].id, chain[1][0].id)


# ---- pacemaker


def test_f_plus_one_timeouts_are_joined_and_fewer_are_not() -> None:
    world = Alone(7)
    for peer in (1, 2):
        world.hear(peer, world.forge.timeout(peer, 1, world.forge.genesis))
    assert world.sent(Timeout) == []
    world.hear(3, world.forge.timeout(3, 1, world.forge.genesis))
    assert {envelope.to for envelope in world.sent(Timeout)} == {1, 2, 3, 4, 5, 6}


def test_one_third_of_the_power_is_joined() -> None:
    world = Alone(4, powers=[1, 1, 1, 2])
    world.hear(1, world.forge.timeout(1, 1, world.forge.genesis))
    assert world.sent(Timeout) == []
    world.hear(3, world.forge.timeout(3, 1, world.forge.genesis))
    assert world.sent(Timeout) != []


def test_a_timeout_is_sent_again_byte_for_byte_until_the_view_ends() -> None:
    world = Alone(7)
    time_out(world)
    first = {envelope.message.encoding for envelope in world.sent(Timeout)}
    for _ in range(3):
        world.cluster.advance(REBROADCAST_MAX_US // 1000)
        assert {envelope.message.encoding for envelope in world.sent(Timeout)} == first
    world.hear(1, world.forge.timeout(1, 1, world.forge.genesis))
    assert world.replica.view == 2
    world.said.clear()
    world.cluster.advance(10_000)
    assert world.sent(Timeout) == []


def test_a_timeout_with_a_forged_qc_does_not_count_s15() -> None:
    world = Alone()
    forged = replace(world.forge.qc(1, b"x" * 32), signature=bytes(96))
    world.hear(1, world.forge.timeout(1, 2, forged))
    _, qc = world.forge.chain([1])[0]
    world.hear(2, NewView(qc, None))
    world.hear(3, world.forge.timeout(3, 2, qc))
    assert world.sent(Timeout) == []


def test_a_timeout_must_prove_that_its_view_was_entered() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3])
    qc1, qc3 = chain[0][1], chain[2][1]
    tc2 = world.forge.tc(2, dict.fromkeys(range(3), qc1))
    world.hear(1, world.forge.timeout(1, 3, qc1))
    world.hear(1, world.forge.timeout(1, 3, qc3))
    world.hear(1, world.forge.timeout(1, 4, qc1, tc2))
    tc_high = world.forge.tc(4, dict.fromkeys(range(3), qc3))
    world.hear(1, world.forge.timeout(1, 5, qc1, tc_high))
    world.hear(2, world.forge.timeout(1, 3, qc1, tc2))
    assert [strike.peer for _, strike in world.cluster.strikes] == [1, 1, 1, 1, 2]
    assert world.replica.view == 1
    world.hear(1, world.forge.timeout(1, 3, qc1, tc2))
    assert world.replica.view == 3


def test_a_stale_peer_is_helped_and_not_flooded() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3])
    world.hear(2, NewView(chain[2][1], None))
    world.said.clear()
    old = world.forge.timeout(1, 1, world.forge.genesis)
    for _ in range(20):
        world.hear(1, old)
    (help_,) = world.sent(NewView)
    assert (help_.to, help_.message) == (1, NewView(chain[2][1], None))
    world.cluster.now_us += 1_000_000
    world.hear(1, old)
    assert len(world.sent(NewView)) == 1, "the first answer may have been lost"


def test_whoever_enters_by_a_tc_tells_the_leader() -> None:
    world = Alone()
    tc = world.forge.tc(1, dict.fromkeys(range(3), world.forge.genesis))
    world.hear(1, NewView(world.forge.genesis, tc))
    assert [e.to for e in world.sent(NewView)] == [2]


def test_a_link_that_comes_up_hears_everything_again_s25() -> None:
    world = Alone()
    (block, qc), (second, _) = world.forge.chain([1, 2])
    world.propose(block)
    world.propose(second)
    vote = {e.message.encoding for e in world.sent(Vote) if isinstance(e.message, Vote) and e.message.view == 2}
    world.cluster.step(0, Connected(2))
    envelopes = list(world.said)
    assert {e.message.encoding for e in envelopes if isinstance(e.message, Vote)} == vote
    assert [e.message.high_qc for e in envelopes if isinstance(e.message, NewView)] == [qc]


# ---- whole clusters


def timeouts(cluster: Cluster) -> list[Report]:
    return [report for _, report in cluster.reports if report.name == "timed_out"]


def test_a_single_transaction_commits_everywhere_without_any_timer() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(2)
    cluster.settle()
    cluster.advance(20)
    assert [cluster.ordered(i) for i in range(4)] == [1, 1, 1, 1]
    assert timeouts(cluster) == []


def test_an_idle_cluster_sends_nothing_and_has_no_deadline_l30() -> None:
    cluster = Cluster(fast=True)
    cluster.advance(1000)
    assert cluster.sent == 0
    cluster.submit(0)
    cluster.advance(5000)
    sent, views = cluster.sent, cluster.views()
    cluster.advance(3_600_000)
    assert (cluster.sent, cluster.views()) == (sent, views)
    assert [cluster.replicas[i].deadline_us() for i in range(4)] == [None] * 4  # type: ignore[union-attr]


def test_empty_blocks_stop_when_the_tail_is_committed() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(0)
    cluster.advance(5000)
    proposals = [view for what, _, view in cluster.signed if what == "proposal"]
    assert proposals == [1, 2, 3]


@pytest.mark.parametrize("dead", range(4))
def test_one_crashed_replica_of_four_costs_one_timeout_for_each_of_its_turns_l1(dead: int) -> None:
    cluster = Cluster(fast=True)
    cluster.kill(dead)
    alive = cluster.alive()
    for k in range(30):
        cluster.submit(alive[k % 3])
        cluster.advance(400)
    cluster.advance(20_000)
    assert [cluster.ordered(i) for i in alive] == [30, 30, 30]
    assert {report.fields["leader"] for report in timeouts(cluster)} == {dead}
    failed = {report.fields["view"] for report in timeouts(cluster)}
    led = [view for view in range(1, max(cluster.views())) if view % 4 == dead]
    assert failed == set(led)
    cluster.assert_agreement()


def test_f_plus_one_crashed_commit_nothing_and_go_on_when_one_is_back_l3() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(0)
    cluster.advance(1000)
    cluster.kill(2)
    cluster.kill(3)
    view = max(cluster.views())
    for k in range(20):
        cluster.submit(k % 2)
        cluster.advance(3000)
    assert [cluster.ordered(i) for i in range(4)] == [1, 1, 1, 1]
    assert max(cluster.views()) <= view + 1, "views do not run away without a quorum"
    cluster.start(2)
    cluster.advance(20_000)
    assert [cluster.ordered(i) for i in range(3)] == [21, 21, 21]
    cluster.assert_agreement()


def test_a_restart_resumes_above_both_certificates() -> None:
    cluster = Cluster(fast=True)
    forge = Forge(cluster)
    chain = forge.chain([1, 2])
    tc = forge.tc(6, dict.fromkeys(range(3), chain[1][1]))
    for high_tc, view in ((None, 3), (tc, 7)):
        cluster.step(0, Received(1, NewView(chain[1][1], high_tc)))
        cluster.settle()
        cluster.kill(0)
        cluster.start(0)
        assert cluster.replicas[0].view == view  # type: ignore[union-attr]


def test_a_restart_repeats_the_last_vote_and_timeout_byte_for_byte_c3() -> None:
    world = Alone(7)
    world.propose(world.forge.block(1, world.forge.genesis, 1))
    time_out(world)
    before = {e.message.encoding for e in world.said if isinstance(e.message, (Vote, Timeout))}
    world.said.clear()
    world.cluster.kill(0)
    world.cluster.start(0)
    assert {e.message.encoding for e in world.said if isinstance(e.message, (Vote, Timeout))} == before
    assert len(before) == 2


def test_a_full_restart_commits_again_l15() -> None:
    cluster = Cluster(fast=True)
    for k in range(5):
        cluster.submit(k % 4)
        cluster.advance(20)
    for i in range(4):
        cluster.kill(i)
    for i in range(4):
        cluster.start(i)
    cluster.submit(1)
    cluster.advance(10_000)
    assert len({cluster.ordered(i) for i in range(4)}) == 1
    assert cluster.ordered(0) >= 1
    cluster.assert_agreement()


def test_a_replica_that_missed_many_views_is_brought_up_by_one_certificate_and_votes_again() -> None:
    cluster = Cluster(fast=True)
    cluster.drop = lambda e: e.to == 3
    for k in range(30):
        cluster.submit(k % 3)
        cluster.advance(300)
    assert cluster.views()[3] == 1
    cluster.drop = lambda _: False
    cluster.submit(0)
    cluster.advance(5000)
    assert len(set(cluster.views())) == 1
    assert cluster.ordered(3) == cluster.ordered(0) == 31
    before = cluster.views()[3]
    cluster.submit(3)
    cluster.advance(5000)
    assert any(what == "vote" and signer == 3 and view >= before for what, signer, view in cluster.signed)


def test_help_that_was_lost_is_given_again_even_if_nothing_else_happens() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(0)
    cluster.advance(1000)
    cluster.drop = lambda e: e.to == 3
    for k in range(3):
        cluster.submit(k)
        cluster.advance(30)
    cluster.advance(3000)
    cluster.submit(3)
    cluster.advance(5000)
    cluster.drop = lambda _: False
    cluster.advance(20_000)
    assert cluster.ordered(3) == cluster.ordered(0) == 5


def test_a_dead_next_leader_does_not_lose_the_qc_of_the_view_before() -> None:
    cluster = Cluster(fast=True)
    cluster.kill(2)  # leader of view 2, which would make QC(1)
    cluster.submit(0)
    cluster.advance(200)
    assert [cluster.replicas[i].safety.record.high_qc.view for i in (0, 1, 3)] == [1, 1, 1]  # type: ignore[union-attr]
    assert timeouts(cluster) == []


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_other_sizes_commit_l31(n: int) -> None:
    cluster = Cluster(n, fast=True)
    for k in range(n):
        cluster.submit(k)
    cluster.advance(3000)
    assert [cluster.ordered(i) for i in range(n)] == [n] * n


def test_five_replicas_need_four() -> None:
    cluster = Cluster(5, fast=True)
    cluster.kill(3)
    cluster.kill(4)
    cluster.submit(0)
    cluster.advance(30_000)
    assert cluster.ordered(0) == 0
    cluster.start(3)
    cluster.advance(30_000)
    assert cluster.ordered(0) == 1


def test_power_decides_and_not_heads() -> None:
    cluster = Cluster(4, powers=[1, 1, 1, 6], fast=True)
    cluster.kill(3)
    cluster.submit(0)
    cluster.advance(30_000)
    assert cluster.ordered(0) == 0, "three of four heads, a third of the power"
    cluster.start(3)
    cluster.kill(0)
    cluster.submit(3)
    cluster.advance(30_000)
    assert cluster.ordered(3) >= 1


def test_a_minority_of_the_power_that_is_a_majority_of_the_heads_may_be_down() -> None:
    cluster = Cluster(4, powers=[1, 1, 1, 6], fast=True)
    cluster.kill(0)
    cluster.kill(1)
    cluster.submit(3)
    cluster.advance(60_000)
    assert cluster.ordered(3) == 1


def test_real_signatures_work_too() -> None:
    cluster = Cluster()
    cluster.submit(0)
    cluster.advance(100)
    cluster.kill(2)
    for k in (0, 1, 3):
        cluster.submit(k)
        cluster.advance(1500)
    cluster.advance(5000)
    assert [cluster.ordered(i) for i in (0, 1, 3)] == [4, 4, 4]
    assert cluster.strikes == []


def test_the_same_inputs_give_the_same_effects() -> None:
    def run() -> list[bytes]:
        cluster = Cluster(fast=True, seed=5)
        said: list[bytes] = []
        cluster.drop = lambda e: said.append(bytes([e.sender, e.to]) + e.message.encoding) or False
        cluster.kill(3)
        for k in range(6):
            cluster.submit(k % 3)
            cluster.advance(700)
        cluster.start(3)
        cluster.advance(5000)
        return said

    assert run() == run()


def test_a_leader_proposes_on_its_own_higher_qc_and_not_on_the_one_in_the_tc() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    world.hear(2, NewView(chain[1][1], None))
    tc = world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[0][1]))
    world.replica.tree._nodes[chain[1][0].id] = replace(  # something to commit
        world.replica.tree._nodes[chain[1][0].id], payload_height=2
    )
    world.hear(2, NewView(chain[0][1], tc))
    proposals = [e.message for e in world.sent(Proposal) if isinstance(e.message, Proposal)]
    assert proposals[0].block.header.view == 4
    assert proposals[0].block.header.justify == chain[1][1]
    assert proposals[0].entry_tc == tc


def test_a_qc_is_only_a_qc_of_this_epoch() -> None:
    world = Alone()
    _, qc = world.forge.chain([1])[0]
    world.hear(1, NewView(replace(qc, epoch=2), None))
    assert world.replica.view == 1
    assert isinstance(qc, QC)


def test_a_record_from_the_future_keeps_its_replica_silent_until_the_others_have_passed_it_c28() -> None:
    cluster = Cluster(fast=True)
    cluster.kill(3)
    record = cluster.disks[3].safety
    cluster.disks[3].safety = replace(record, voted_view=20, timed_out_view=20, proposed_view=20)
    cluster.start(3)
    ahead = [(i, r.fields) for i, r in cluster.reports if r.name == "record_ahead"]
    assert ahead == [(3, {"acted_in_view": 20, "view": 1})]
    for k in range(40):
        cluster.submit(k % 3)
        cluster.advance(2000)
    assert [cluster.ordered(i) for i in range(4)] == [40] * 4
    views = [view for _, signer, view in cluster.signed if signer == 3]
    assert min(views) > 20, "silent until then"
    assert max(views) > 20, "and not for ever"
    cluster.assert_agreement()


def test_a_normal_restart_reports_no_record_from_the_future() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(0)
    cluster.advance(2000)
    cluster.kill(1)
    cluster.start(1)
    assert [r for _, r in cluster.reports if r.name == "record_ahead"] == []


def test_the_same_vote_in_other_bytes_counts_once_and_is_no_evidence_s5() -> None:
    world = Alone()
    block, qc = world.forge.chain([1, 2])[-1]
    world.propose(world.forge.chain([1])[0][0])
    world.propose(block)
    vote = world.forge.vote(1, 3, b"b" * 32)
    for signature in (vote.signature, b"\2" * 96, vote.signature[::-1]):
        world.hear(1, replace(vote, signature=signature))
    world.hear(2, world.forge.vote(2, 3, b"b" * 32))
    assert world.replica.view == 2, "two signers of four make no quorum, however often they say it"
    assert evidence(world) == []
    assert qc.view == 2


def test_votes_and_timeouts_of_nobody_count_for_nothing_s20() -> None:
    world = Alone()
    for signer in (4, 65535):
        world.hear(1, replace(world.forge.vote(1, 1, b"b" * 32), signer=signer))
        world.hear(1, replace(world.forge.timeout(1, 1, world.forge.genesis), signer=signer))
    assert world.replica.view == 1
    assert {strike.peer for _, strike in world.cluster.strikes} == {1}
    assert len(world.cluster.strikes) == 4


def test_old_messages_change_nothing_s23() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    before = world.replica.safety.record
    for view, (block, qc) in enumerate(chain, 1):
        world.propose(block)
        world.hear(2, world.forge.vote(2, view, block.id, qc.commit_id))
        world.hear(2, world.forge.timeout(2, view, chain[view - 2][1] if view > 1 else world.forge.genesis))
        world.hear(2, NewView(qc, None))
    assert world.replica.safety.record == before
    assert world.cluster.strikes == []
    assert evidence(world) == []


def test_an_hour_without_a_network_costs_no_more_than_a_moment_l11() -> None:
    cluster = Cluster(fast=True)
    cluster.submit(0)
    cluster.advance(2000)
    cluster.drop = lambda _: True
    for i in range(4):
        cluster.submit(i)
    cluster.advance(3_600_000)
    cluster.drop = lambda _: False
    cluster.reconnect()
    healed = cluster.now_us
    while any(cluster.ordered(i) < 5 for i in range(4)):
        cluster.advance(100)
        assert cluster.now_us - healed < 5_000_000, "not the hour, and no backoff that grew with it"
    cluster.submit(1)
    cluster.advance(1000)
    assert [cluster.ordered(i) for i in range(4)] == [6] * 4, "timers are short again"


def test_a_second_proposal_of_a_view_takes_no_place() -> None:
    world = Alone()
    first, second = (world.forge.block(1, world.forge.genesis, 1, payload=refs) for refs in ((), (ref(),)))
    world.propose(first)
    world.propose(second)
    assert world.replica.tree.get(first.id) is not None
    assert world.replica.tree.get(second.id) is None


def test_a_timeout_with_a_forged_tc_moves_nothing_s15() -> None:
    world = Alone()
    _, qc = world.forge.chain([1])[0]
    forged = replace(world.forge.tc(8, dict.fromkeys(range(3), qc)), signature=bytes(96))
    world.hear(1, world.forge.timeout(1, 9, qc, forged))
    assert world.replica.view <= 2
    assert [strike.peer for _, strike in world.cluster.strikes] == [1]


def test_the_certificates_in_a_timeout_bring_us_to_its_view() -> None:
    world = Alone()
    qc = world.forge.chain([1, 2, 3])[-1][1]
    world.hear(1, world.forge.timeout(1, 4, qc))
    assert world.replica.view == 4
    assert world.replica.safety.record.high_qc == qc


def test_a_lower_qc_that_commits_more_is_used() -> None:
    """The highest QC may be on a branch with a gap, and commit nothing."""
    world = Alone()
    chain = heard_three(world)
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[1][1]))
    b5 = world.forge.block(5, chain[1][1], 3, tc=tc)
    world.propose(b5, tc)
    world.hear(1, NewView(world.forge.qc(5, b5.id), None))
    assert world.replica.tree.root.height == 0
    world.hear(1, NewView(chain[2][1], None))
    assert world.replica.safety.record.high_qc.view == 5
    assert world.replica.tree.root.id == chain[0][0].id


def test_the_qc_in_a_tc_counts() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2])
    world.hear(1, NewView(world.forge.genesis, world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[1][1]))))
    assert world.replica.safety.record.high_qc == chain[1][1]


# ---- leading


def lead_view_4(world: Alone) -> list[QC]:
    """Replica 0 knows everything up to QC(2) and has something to propose; the QCs of views 1 to 3."""
    chain = heard_three(world)
    world.cluster.submit(0)
    world.cluster.settle()
    world.said.clear()
    return [qc for _, qc in chain]


def test_a_leader_without_the_block_of_its_highest_qc_does_not_propose() -> None:
    world = Alone()
    world.cluster.submit(0)
    world.cluster.settle()
    world.hear(1, NewView(world.forge.chain([1, 2, 3])[-1][1], None))
    assert world.replica.view == 4
    assert world.sent(Proposal) == []


def test_a_leader_with_the_qc_and_the_tc_of_the_view_before_uses_the_qc() -> None:
    world = Alone()
    chain = heard_three(world)
    world.hear(2, NewView(chain[1][1], world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[1][1]))))
    world.hear(3, NewView(chain[2][1], None))
    assert world.sent(Proposal) == [], "nothing to propose"
    world.cluster.submit(0)
    world.cluster.settle()
    proposals = [e.message for e in world.sent(Proposal) if isinstance(e.message, Proposal)]
    assert {(p.block.header.view, p.block.header.justify, p.entry_tc) for p in proposals} == {(4, chain[2][1], None)}


def test_the_leader_of_the_view_itself_waits_before_it_makes_the_qc() -> None:
    """Replica 0 leads view 4, and replica 1 view 5: its proposal brings the QC to everybody."""
    world = Alone()
    for peer in (1, 2, 3):
        world.hear(peer, world.forge.vote(peer, 4, b"b" * 32))
    world.cluster.advance(world.cluster.timing.spread_ms - 1)
    assert world.replica.view == 1
    world.cluster.advance(1)
    assert world.replica.view == 5


def test_a_qc_that_a_proposal_carries_is_not_spread_beside_it() -> None:
    cluster = Cluster(fast=True)
    told: list[int] = []
    cluster.drop = lambda e: isinstance(e.message, NewView) and (told.append(e.message.high_qc.view) or False)
    cluster.submit(0)
    cluster.settle()
    assert cluster.views() == [4] * 4
    assert set(told) == {3}


# ---- helping


def test_who_connects_hears_of_a_commit_that_the_highest_qc_does_not_prove() -> None:
    world = Alone()
    chain = heard_three(world)
    world.hear(1, NewView(chain[2][1], None))
    lone = world.forge.qc(9, b"x" * 32)
    world.hear(1, NewView(lone, None))
    world.said.clear()
    world.cluster.step(0, Connected(2))
    assert [e.message.high_qc for e in world.said if isinstance(e.message, NewView)] == [lone, chain[2][1]]


@pytest.mark.parametrize("what", ["timeout", "proposal", "new view"])
def test_a_stale_peer_is_helped_whatever_it_sends(what: str) -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4, 5])
    world.hear(2, NewView(chain[-1][1], None))
    world.said.clear()
    said = {
        "timeout": world.forge.timeout(1, 1, world.forge.genesis),
        "proposal": world.forge.proposal(chain[0][0]),
        "new view": NewView(world.forge.genesis, None),
    }
    world.hear(1, said[what])
    assert [(e.to, e.message) for e in world.sent(NewView)] == [(1, NewView(chain[-1][1], None))]


def test_a_link_that_comes_up_hears_our_proposal_and_our_timeout_again() -> None:
    leading, giving_up = Alone(), Alone(7)
    leading.hear(3, NewView(lead_view_4(leading)[2], None))
    time_out(giving_up)
    for world, kind in ((leading, Proposal), (giving_up, Timeout)):
        before = world.sent(kind)[0].message
        world.cluster.step(0, Connected(2))
        assert [(e.to, e.message) for e in world.sent(kind)] == [(2, before)]


# ---- timers


def view_us(world: Alone) -> int:
    """How long the current view may take; the test has not let any time pass."""
    deadline = world.replica._pacemaker.view_deadline_us
    assert deadline is not None, "no timer is running"
    return deadline


def test_a_timeout_is_not_repeated_with_every_message() -> None:
    world = Alone(7)
    given = [
        sum(isinstance(effect, Broadcast) for effect in world.replica.step(Received(peer, message), 0))
        for peer, message in [
            *((peer, world.forge.timeout(peer, 1, world.forge.genesis)) for peer in (2, 3, 4, 4)),
            (1, world.forge.vote(1, 1, b"b" * 32)),
        ]
    ]
    assert given == [0, 0, 1, 0, 0]


def test_the_view_timer_runs_while_a_block_with_transactions_is_uncommitted() -> None:
    world = Alone()
    block = world.forge.block(1, world.forge.genesis, 1, payload=(ref(),))
    world.propose(block)
    world.hear(2, NewView(world.forge.qc(1, block.id), None))
    assert view_us(world) == 1_000_000


def test_the_view_timer_runs_while_the_tip_is_unknown() -> None:
    world = Alone()
    world.hear(2, NewView(world.forge.qc(1, b"x" * 32), None))
    assert view_us(world) == 1_000_000


def test_lone_qcs_do_not_reset_the_backoff() -> None:
    """An adversary can let a QC through now and then and nothing commit; timers must grow all the same."""
    world = Alone()
    world.hear(2, NewView(world.forge.qc(30, b"x" * 32), None))
    assert view_us(world) == 1_000_000 * GROWTH_1024[-1] // 1024


@pytest.mark.parametrize("certified", [False, True])
def test_a_leader_whose_view_failed_gets_less_time_until_a_block_of_it_is_certified(certified: bool) -> None:
    world = Alone()
    world.hear(1, NewView(world.forge.genesis, world.forge.tc(2, dict.fromkeys((1, 2, 3), world.forge.genesis))))
    if certified:
        world.hear(1, NewView(world.forge.qc(2, b"x" * 32), None))
    world.hear(1, NewView(world.forge.qc(5, b"y" * 32), None))
    assert world.replica.view == 6, "the next turn of the same leader"
    assert view_us(world) == 1_000_000 // (1 if certified else SUSPECT_DIVISOR)


def test_who_gives_up_on_a_view_that_we_wait_for_nothing_in_is_told_what_we_know() -> None:
    world = Alone()
    chain = heard_three(world)
    world.hear(1, NewView(chain[2][1], None))
    world.said.clear()
    world.hear(1, world.forge.timeout(1, 4, chain[2][1]))
    assert [(e.to, e.message) for e in world.sent(NewView)] == [(1, NewView(chain[2][1], None))]


# ---- blocks and certificates in any order


@pytest.mark.parametrize("by", ["justify", "high_qc"])
def test_a_block_that_comes_after_its_qc_locks_on_its_justify(by: str) -> None:
    """The lock stands before the vote, also if nothing but the blocks was missing for it."""
    world = Alone()
    blocks, qcs = zip(*world.forge.chain([1, 2, 3]), strict=True)
    if by == "justify":
        world.hear(1, NewView(world.forge.qc(8, b"x" * 32), None))
        tc = world.forge.tc(9, dict.fromkeys((1, 2, 3), qcs[2]))
        last = world.forge.block(10, qcs[2], 4, tc=tc)
        world.propose(last, tc)
    else:
        world.hear(1, NewView(qcs[2], None))
    assert world.replica.safety.record.locked_qc == world.forge.genesis
    world.hear(1, BlockResponse(blocks[2].id, blocks[::-1]))
    assert world.replica.safety.record.locked_qc == qcs[1]
    assert world.votes() == ([(10, last.id)] if by == "justify" else [])


def test_a_qc_of_a_committed_view_asks_for_nothing() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4])
    for block, _ in chain:
        world.propose(block)
    world.hear(1, NewView(chain[3][1], None))
    assert world.replica.tree.root.view == 2
    old = world.forge.qc(2, b"x" * 32)
    world.hear(1, NewView(chain[3][1], world.forge.tc(9, dict.fromkeys((1, 2, 3), old))))
    assert world.replica.view == 10
    assert not world.replica._sync.wants(old.block_id)


def test_a_proposal_is_forgotten_with_its_view() -> None:
    world = Alone()
    world.hear(3, NewView(lead_view_4(world)[2], None))
    proposal = world.sent(Proposal)[0].message
    assert isinstance(proposal, Proposal)
    world.hear(1, NewView(world.forge.qc(4, proposal.block.id), None))
    world.said.clear()
    world.cluster.step(0, Connected(2))
    assert world.sent(Proposal) == []


def test_the_highest_commit_certificate_waits_for_its_block() -> None:
    world = Alone()
    blocks, qcs = zip(*world.forge.chain([1, 2, 3, 4, 5]), strict=True)
    for block in blocks[:2]:
        world.propose(block)
    world.hear(1, NewView(qcs[4], None))
    world.hear(1, NewView(qcs[4], world.forge.tc(6, dict.fromkeys((1, 2, 3), qcs[3]))))
    assert world.replica.tree.root.height == 0, "block 3 is missing; 2 is what a lower certificate commits"
    world.hear(1, BlockResponse(blocks[4].id, blocks[:1:-1]))
    assert world.replica.tree.root.id == blocks[2].id
    assert world.cluster.chain(0) == [block.id for block in blocks[:3]]


def test_what_a_qc_commits_is_asked_for() -> None:
    world = Alone()
    blocks, qcs = zip(*world.forge.chain([1, 2, 3, 4, 5]), strict=True)
    world.hear(1, NewView(qcs[4], None))
    assert [world.replica._sync.wants(block.id) for block in blocks] == [False, False, True, False, True]


def test_the_parent_of_a_held_block_is_asked_for() -> None:
    world = Alone()
    blocks, qcs = zip(*world.forge.chain([1, 2, 4, 5, 7]), strict=True)
    world.hear(1, NewView(qcs[4], None))
    world.hear(1, BlockResponse(blocks[4].id, blocks[4:]))
    assert [world.replica._sync.wants(block.id) for block in blocks] == [False, False, False, True, False]


def test_blocks_below_the_lock_are_taken_and_committed() -> None:
    """Replica 0 is locked on QC(2); the others have abandoned block 2 and committed without it."""
    world = Alone()
    chain = heard_three(world)
    world.hear(2, NewView(chain[2][1], None))
    assert world.replica.safety.record.locked_qc == chain[1][1]
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[0][1]))
    b5 = world.forge.block(5, chain[0][1], 2, tc=tc)
    b6 = world.forge.block(6, world.forge.qc(5, b5.id), 3)
    b7 = world.forge.block(7, world.forge.qc(6, b6.id), 4)
    world.hear(3, NewView(world.forge.qc(7, b7.id, b5.id), None))
    world.hear(1, BlockResponse(b7.id, (b7, b6, b5)))
    assert world.replica.tree.root.id == b5.id
    assert world.cluster.strikes == []


# ---- a new life


def test_a_restart_in_a_view_entered_by_a_tc_tells_the_leader() -> None:
    world = Alone()
    tc = world.forge.tc(1, dict.fromkeys(range(3), world.forge.genesis))
    world.hear(1, NewView(world.forge.genesis, tc))
    world.said.clear()
    world.cluster.kill(0)
    world.cluster.start(0)
    assert [(e.to, e.message) for e in world.sent(NewView)] == [(2, NewView(world.forge.genesis, tc))]


def test_a_restart_of_everybody_has_all_blocks_again() -> None:
    world = Alone()
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    world.cluster.kill(0)
    world.cluster.start(0)
    assert all(world.replica.tree.get(block.id) is not None for block, _ in chain)


def test_a_restart_commits_what_its_highest_qc_commits_without_hearing_of_it_again() -> None:
    """The QC was stored before the blocks, so nothing was committed; nobody else is there to tell."""
    world = Alone()
    chain = world.forge.chain([1, 2, 3])
    world.hear(1, NewView(chain[2][1], None))
    world.cluster.kill(0)
    world.cluster.disks[0].blocks = {block.id: block for block, _ in chain}
    world.cluster.start(0)
    assert world.cluster.chain(0) == [chain[0][0].id]


def test_a_justify_of_another_view_than_its_parent_gets_no_place() -> None:
    """No honest quorum makes such a QC. It would upset every argument about views that goes from block to block."""
    world = Alone()
    (first, _), *_ = world.forge.chain([1])
    world.propose(first)
    second = world.forge.block(4, world.forge.qc(3, first.id), 2)
    world.propose(second)
    assert world.replica.view == 4
    assert world.replica.tree.get(second.id) is None
    assert 4 not in [view for view, _ in world.votes()]


# ---- bodies


def test_no_vote_without_the_bodies() -> None:
    world = Alone()
    block = world.forge.block(1, world.forge.genesis, 1, payload=BATCH_ACKS.refs)
    world.propose(block)
    world.hear(2, BATCH_ACKS)
    assert world.votes() == [], "one peer that says to hold it is not enough"
    world.hear(3, BATCH_ACKS)
    assert world.votes() == [(1, block.id)]


def test_a_body_that_was_missing_in_a_failed_view_makes_its_author_slow() -> None:
    world = Alone()
    world.propose(world.forge.block(1, world.forge.genesis, 1, payload=(ref(2),)))
    world.hear(1, NewView(world.forge.genesis, world.forge.tc(1, dict.fromkeys((1, 2, 3), world.forge.genesis))))
    assert world.replica.view == 2
    assert set(world.replica._payload._slow_until) == {2}  # type: ignore[attr-defined]


# ---- what is written


def listen(world: Alone) -> list[Effect]:
    """Everything that replica 0 asks for from now on."""
    heard: list[Effect] = []
    run = world.cluster.run
    world.cluster.run = lambda i, effects: (heard.extend(effects), run(i, effects))[1]  # type: ignore[method-assign]
    return heard


def test_what_was_only_learned_is_written_lazily() -> None:
    world = Alone()
    heard = listen(world)
    world.hear(2, NewView(world.forge.qc(1, b"x" * 32), None))
    writes = [effect for effect in heard if isinstance(effect, Persist)]
    assert writes != []
    assert all(write.lazy for write in writes)


def test_a_small_batch_that_is_held_takes_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Alone()
    seen: list[Batch] = []
    monkeypatch.setattr(world.replica._witness, "stored", seen.append)
    batch = small_batch(world, 2)
    world.hear(2, BatchMessage(batch))
    assert seen == [batch]


def test_a_leader_that_may_have_proposed_before_a_crash_passes_its_qc_on() -> None:
    world = Alone()
    chain = heard_three(world)
    last, qc = chain[-1]
    assert world.replica.safety.record.proposed_view == 4, "reserved with the vote for its last block"
    world.cluster.kill(0)
    world.cluster.start(0)
    world.sent(NewView)
    for signer in (1, 2, 3):
        world.hear(signer, world.forge.vote(signer, 3, last.id, qc.commit_id))
    spread = {envelope.message.high_qc.view for envelope in world.said if isinstance(envelope.message, NewView)}
    assert spread == {3}
    assert world.sent(Proposal) == []


def test_what_an_event_calls_for_can_wait_for_the_next_step_and_no_longer() -> None:
    world = Alone()
    block = world.forge.block(1, world.forge.genesis, 1)
    proposal = world.forge.proposal(block)
    world.replica._desk.trust(proposal)
    effects = world.replica.step(Received(1, proposal), 0, more=True)
    assert not any(isinstance(effect, (Send, Broadcast)) for effect in effects)
    effects = world.replica.step(Tick(), 0)
    assert {effect.message.block_id for effect in effects if isinstance(effect, Send)} == {block.id}


def test_acknowledgements_leave_with_a_vote_and_after_its_record_but_not_with_a_lazy_one() -> None:
    world = Alone()
    heard = listen(world)
    batch = small_batch(world, 2)
    world.hear(2, BatchMessage(batch))
    (first, qc), (second, _) = world.forge.chain([1, 2])
    world.hear(2, NewView(qc, None))
    assert all(effect.lazy for effect in heard if isinstance(effect, Persist))
    assert world.sent(Ack) == []
    heard.clear()
    world.propose(first)
    world.propose(second)
    assert world.votes() == [(2, second.id)]
    order = [
        type(effect.message).__name__ if isinstance(effect, (Broadcast, Send)) else "sync"
        for effect in heard
        if isinstance(effect, (Broadcast, Send)) or (isinstance(effect, Persist) and not effect.lazy)
    ]
    assert order.index("sync") < order.index("Ack") and order.count("sync") == order.count("Ack") == 1
    assert {envelope.message for envelope in world.sent(Ack)} == {Ack((batch.ref,))}


def small_batch(world: Alone, author: int, text: bytes = b"tx") -> Batch:
    """A signed one."""
    body = native.build_frame(b"c" * 16, 1, [text])
    unsigned = Batch(1, author, 1, bytes(NODE_SIGNATURE_BYTES), body, tuple(native.parse_body(body, 1)))
    signature = world.cluster.members[author].node.sign(unsigned.message(world.cluster.context))
    return replace(unsigned, signature=signature)


def test_a_block_is_written_with_the_vote_for_it() -> None:
    world = Alone()
    block = world.forge.block(1, world.forge.genesis, 1)
    world.propose(block)
    assert world.votes() == [(1, block.id)]
    assert block.id in world.cluster.disks[0].blocks


# ---- what is noticed


def lie(world: Alone, *, placed: bool = True) -> tuple[QC, QC]:
    """Validator 2 votes for a block of view 3, and so knows its justify, a QC of view 2; the QCs of views 1 and 2."""
    (first, old), (second, qc), _ = world.forge.chain([1, 2, 3])
    world.propose(first)
    world.propose(second)
    block = world.forge.block(3, qc, 3 if placed else 7)
    world.propose(block)
    assert (world.replica.tree.get(block.id) is not None) is placed
    world.hear(2, world.forge.vote(2, 3, block.id))
    return old, qc


@pytest.mark.parametrize("placed", [True, False])
def test_a_timeout_that_hides_what_its_signer_voted_on_is_evidence(placed: bool) -> None:
    world = Alone()
    old, _ = lie(world, placed=placed)
    world.hear(2, world.forge.timeout(2, 3, old, world.forge.tc(2, dict.fromkeys((1, 2, 3), old))))
    assert evidence(world) == [("timeout lie", 2, 3)]


def test_a_tc_that_hides_what_its_signers_voted_on_is_evidence() -> None:
    world = Alone()
    old, qc = lie(world)
    world.hear(1, NewView(qc, world.forge.tc(3, {1: qc, 2: old, 3: qc})))
    assert evidence(world) == [("timeout lie", 2, 3)]


def test_a_vote_against_a_qc_of_the_same_signer_is_evidence() -> None:
    world = Alone()
    world.hear(2, world.forge.vote(2, 1, b"a" * 32))
    world.hear(1, NewView(world.forge.qc(1, b"b" * 32, signers=[1, 2, 3]), None))
    assert evidence(world) == [("double vote", 2, 1)]


def test_two_batches_with_one_number_are_evidence() -> None:
    world = Alone()
    for text in (b"one", b"other"):
        world.hear(2, BatchMessage(small_batch(world, 2, text)))
    assert evidence(world) == [("double batch", 2, 1)]


def test_evidence_is_stored_and_reported_once() -> None:
    world = Alone()
    heard = listen(world)
    for block_id in (b"a", b"b", b"c", b"a"):
        world.hear(2, world.forge.vote(2, 1, block_id * 32))
    stored = [piece for effect in heard if isinstance(effect, Persist) for piece in effect.evidence]
    assert [(piece.culprits, piece.view) for piece in stored] == [((2,), 1)]
    assert evidence(world) == [("double vote", 2, 1)]


def test_a_block_of_an_abandoned_branch_is_not_held() -> None:
    """Its parent never comes into the tree, so it would wait, and be asked for, until something else is committed."""
    world = Alone()
    chain = world.forge.chain([1, 2, 3, 4, 5])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    assert world.replica.tree.root.view == 3
    below = world.forge.qc(2, b"x" * 32)
    tc = world.forge.tc(6, dict.fromkeys((1, 2, 3), below))
    world.propose(world.forge.block(7, below, 4, tc=tc), tc)
    assert world.replica.view == 7
    assert world.replica._sync._orphans == {}
    assert not world.replica._sync.wants(below.block_id)


@pytest.mark.parametrize("of", ["view timer", "missing blocks", "payload"])
def test_the_driver_is_told_when_to_come_back(of: str) -> None:
    world = Alone()
    if of == "missing blocks":
        world.hear(1, NewView(world.forge.qc(5, b"y" * 32), None))
        expected = world.cluster.timing.fetch_retry_ms
    elif of == "payload":
        for _ in range(2):  # the second batch waits, as the first has no place yet
            world.cluster.submit(0)
            world.cluster.settle()
        expected = world.cluster.mempool_config.max_age_ms
    else:
        world.cluster.submit(0)
        for view in (2, 5):  # view 6 has the leader of view 2, and an eighth of the time
            tc = world.forge.tc(view, dict.fromkeys((1, 2, 3), world.forge.genesis))
            world.hear(1, NewView(world.forge.genesis, tc))
        expected = world.cluster.timing.view_timeout_ms // SUSPECT_DIVISOR
    assert world.replica.deadline_us() == expected * 1000
