"""All four protocols in one cluster, and what each of them does that the others do not."""

from __future__ import annotations

import pytest
from alone import Alone
from cluster import Cluster

from hotstuff.consensus.effects import Tick
from hotstuff.consensus.pacemaker import LEADER_WAIT_DIVISOR, SUSPECT_DIVISOR
from hotstuff.consensus.rules import HotStuff2, Jolteon
from hotstuff.types.certificates import QC
from hotstuff.types.hashing import PHASES, Mode, Phase
from hotstuff.types.messages import BlockResponse, NewView, Proposal, Timeout, Vote

EVERY = pytest.mark.parametrize("mode", Mode)
BLOCKS_FOR_A_COMMIT = {Mode.BASIC: 1, Mode.CHAINED: 3, Mode.HOTSTUFF2: 2, Mode.JOLTEON: 2}


def timed_out(cluster: Cluster) -> list[tuple[int, int]]:
    """(replica, view) of every timeout that was given."""
    return [(i, int(report.fields["view"])) for i, report in cluster.reports if report.name == "timed_out"]


# ---- every protocol


@EVERY
def test_transactions_commit_everywhere_without_any_timeout(mode: Mode) -> None:
    cluster = Cluster(fast=True, mode=mode)
    for k in range(12):
        cluster.submit(k % 4)
        cluster.advance(200)
    assert [cluster.ordered(i) for i in range(4)] == [12] * 4
    assert timed_out(cluster) == []
    assert cluster.strikes == []
    cluster.assert_agreement()


@EVERY
def test_a_commit_takes_as_many_blocks_as_the_protocol_says(mode: Mode) -> None:
    cluster = Cluster(fast=True, mode=mode)
    cluster.submit(0)
    cluster.advance(500)
    assert [cluster.ordered(i) for i in range(4)] == [1] * 4
    assert cluster.views() == [1 + BLOCKS_FOR_A_COMMIT[mode]] * 4
    cluster.advance(5000)
    assert [replica.deadline_us() for replica in cluster.replicas if replica] == [None] * 4, "idle after that"
    assert cluster.views() == [1 + BLOCKS_FOR_A_COMMIT[mode]] * 4


@EVERY
@pytest.mark.parametrize("dead", range(4))
def test_one_crashed_replica_of_four_costs_one_timeout_for_each_of_its_turns_l1(mode: Mode, dead: int) -> None:
    cluster = Cluster(fast=True, mode=mode)
    cluster.kill(dead)
    for k in range(24):
        cluster.submit((dead + 1 + k % 3) % 4)
        cluster.advance(1200)
    cluster.advance(10_000)
    assert [cluster.ordered(i) for i in cluster.alive()] == [24] * 3
    led = {view for view in range(1, max(cluster.views())) if view % 4 == dead}
    assert {view for _, view in timed_out(cluster)} == led
    assert len(timed_out(cluster)) == 3 * len(led), "each of the others gives up once on each of these views"
    cluster.assert_agreement()


@EVERY
def test_f_plus_one_crashed_commit_nothing_and_go_on_when_one_is_back_l3(mode: Mode) -> None:
    cluster = Cluster(fast=True, mode=mode)
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


@EVERY
def test_a_restart_of_everybody_commits_again_l15(mode: Mode) -> None:
    cluster = Cluster(fast=True, mode=mode)
    for round_ in range(3):
        for k in range(4):
            cluster.submit(k)
        for _ in range(40 + 17 * round_):
            cluster.turn()
        for i in range(4):
            cluster.kill(i)
        for i in range(4):
            cluster.start(i)
        cluster.advance(10_000)
        assert len({tuple(cluster.chain(i)) for i in range(4)}) == 1
    cluster.submit(0)
    cluster.advance(5000)
    assert cluster.ordered(0) >= 1


@EVERY
def test_a_view_moves_by_certificates_of_its_protocol_only_s33(mode: Mode) -> None:
    world = Alone(mode=mode)
    (_, qc), *_ = world.forge.chain([1])
    foreign = Phase.GENERIC if mode is Mode.BASIC else Phase.COMMIT
    assert foreign not in PHASES[mode]
    world.hear(1, NewView(world.forge.qc(5, b"x" * 32, phase=foreign), None))
    world.hear(1, world.forge.vote(1, 1, b"x" * 32, phase=foreign))
    assert world.replica.view == 1
    assert len(world.cluster.strikes) == 2
    world.hear(1, NewView(qc, None))
    assert world.replica.view == 2


@EVERY
def test_real_signatures_work_in_every_protocol(mode: Mode) -> None:
    cluster = Cluster(mode=mode)
    cluster.submit(1)
    cluster.advance(500)
    assert [cluster.ordered(i) for i in range(4)] == [1] * 4


@EVERY
def test_a_validator_that_lost_its_record_rejoins(mode: Mode) -> None:
    cluster = Cluster(fast=True, passive=3, mode=mode)
    for k in range(20):
        cluster.submit(k % 3)
        cluster.advance(500)
    assert [cluster.ordered(i) for i in range(4)] == [20] * 4
    replica = cluster.replicas[3]
    assert replica is not None
    assert not replica.safety.record.passive
    cluster.submit(3)
    cluster.advance(3000)
    assert [cluster.ordered(i) for i in range(4)] == [21] * 4


# ---- basic


def basic_votes(world: Alone) -> list[tuple[Phase, int]]:
    return [(e.message.phase, e.to) for e in world.sent(Vote) if isinstance(e.message, Vote)]


def test_basic_votes_three_times_and_the_last_vote_goes_to_the_next_leader_too() -> None:
    world = Alone(mode=Mode.BASIC)
    block = world.forge.block(1, world.forge.genesis, 1)
    world.propose(block)
    assert basic_votes(world) == [(Phase.PREPARE, 1)]
    world.hear(1, NewView(world.forge.qc(1, block.id, phase=Phase.PREPARE), None))
    assert basic_votes(world) == [(Phase.PRECOMMIT, 1)]
    assert world.replica.safety.record.locked_qc.view == 0, "a PREPARE-QC is no lock"
    world.hear(1, NewView(world.forge.qc(1, block.id, phase=Phase.PRECOMMIT), None))
    assert basic_votes(world) == [(Phase.COMMIT, 2), (Phase.COMMIT, 1)]
    assert world.replica.safety.record.locked_qc.view == 1
    assert world.replica.view == 1
    assert world.cluster.ordered(0) == 0
    world.hear(2, NewView(world.forge.qc(1, block.id, block.id, phase=Phase.COMMIT), None))
    assert world.replica.view == 2
    assert world.replica.tree.root.id == block.id


def test_basic_locks_on_a_commit_qc_learned_first() -> None:
    world = Alone(mode=Mode.BASIC)
    block = world.forge.block(1, world.forge.genesis, 1)
    qc = world.forge.qc(1, block.id, block.id, phase=Phase.COMMIT)
    world.hear(2, NewView(qc, None))
    assert world.replica.safety.record.locked_qc == qc


def test_basic_takes_no_phase_of_a_view_that_it_has_timed_out_s24() -> None:
    world = Alone(mode=Mode.BASIC)
    block = world.forge.block(1, world.forge.genesis, 1)
    world.propose(block)
    for peer in (1, 2):
        world.hear(peer, world.forge.timeout(peer, 1, world.forge.genesis))
    assert len(world.sent(Timeout)) == 3
    world.hear(1, NewView(world.forge.qc(1, block.id, phase=Phase.PREPARE), None))
    assert basic_votes(world) == []


def test_basic_needs_the_block_to_vote_in_a_later_phase() -> None:
    world = Alone(mode=Mode.BASIC)
    block = world.forge.block(1, world.forge.genesis, 1)
    world.hear(1, NewView(world.forge.qc(1, block.id, phase=Phase.PREPARE), None))
    assert basic_votes(world) == []
    world.propose(block)
    assert (Phase.PRECOMMIT, 1) in basic_votes(world)


def test_basic_opens_the_view_of_a_certificate_that_leaves_it_open() -> None:
    world = Alone(mode=Mode.BASIC)
    world.hear(1, NewView(world.forge.qc(5, b"x" * 32, phase=Phase.PRECOMMIT), None))
    assert world.replica.view == 5


def test_basic_goes_on_from_a_block_that_was_prepared_in_a_failed_view() -> None:
    """Whoever prepared it reports that with its timeout, and the next leader extends it: locks are never stuck."""
    world = Alone(mode=Mode.BASIC)
    block = world.forge.block(2, world.forge.genesis, 1, tc=(tc := failed(world, 1, world.forge.genesis)))
    world.propose(block, tc)
    prepared = world.forge.qc(2, block.id, phase=Phase.PREPARE)
    after = world.forge.tc(2, {1: prepared, 2: world.forge.genesis, 3: world.forge.genesis})
    below = world.forge.block(3, world.forge.genesis, 1, tc=after)
    above = world.forge.block(3, prepared, 2, tc=after)
    world.hear(1, NewView(world.forge.qc(2, block.id, phase=Phase.PRECOMMIT), None))
    world.said.clear()
    world.propose(below, after)
    assert basic_votes(world) == [], "below the lock"
    world.replica._proposal = None
    world.propose(above, after)
    assert basic_votes(world) == [(Phase.PREPARE, 3)]


def failed(world: Alone, view: int, qc: QC) -> object:
    """A TC of `view` in which everybody reports `qc`."""
    return world.forge.tc(view, dict.fromkeys((1, 2, 3), qc))


# ---- hotstuff2: the leader waits after a failed view, and only then


def enter_view_4_by_tc(mode: Mode) -> tuple[Alone, QC]:
    """Replica 0 leads view 4, entered by a TC that hides the QC of view 2 from it."""
    world = Alone(mode=mode)
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    world.cluster.submit(0)
    world.cluster.settle()
    tc = world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[0][1]))
    world.said.clear()
    world.hear(1, NewView(chain[0][1], tc))
    assert world.replica.view == 4
    return world, chain[1][1]


def test_hotstuff2_waits_for_locks_after_a_failed_view_and_proposes_on_the_highest() -> None:
    world, higher = enter_view_4_by_tc(Mode.HOTSTUFF2)
    assert world.sent(Proposal) == []
    world.hear(3, NewView(higher, world.replica.safety.record.high_tc))
    assert world.sent(Proposal) == []
    wait_us = world.cluster.timing.view_timeout_ms * 1000 // LEADER_WAIT_DIVISOR
    assert world.replica.deadline_us() == wait_us
    world.cluster.now_us = wait_us
    world.cluster.step(0, Tick())
    (proposal, *_) = world.sent(Proposal)
    assert isinstance(proposal.message, Proposal)
    assert proposal.message.block.header.justify == higher
    assert world.replica.deadline_us() != wait_us, "the timer is over"


def test_hotstuff2_proposes_at_once_when_everybody_has_reported() -> None:
    world, _ = enter_view_4_by_tc(Mode.HOTSTUFF2)
    record = world.replica.safety.record
    for peer in (2, 3):
        assert world.sent(Proposal) == []
        world.hear(peer, NewView(record.high_qc, record.high_tc))
    assert len(world.sent(Proposal)) == 3


def test_hotstuff2_does_not_count_a_peer_that_is_not_in_the_view() -> None:
    world, _ = enter_view_4_by_tc(Mode.HOTSTUFF2)
    record = world.replica.safety.record
    for peer in (2, 3):
        world.hear(peer, NewView(record.high_qc, None))
    assert world.sent(Proposal) == []


def test_hotstuff2_waits_for_nothing_after_a_qc_and_the_others_never_wait() -> None:
    for mode in (Mode.CHAINED, Mode.JOLTEON):
        world, _ = enter_view_4_by_tc(mode)
        assert len(world.sent(Proposal)) == 3
    world = Alone(mode=Mode.HOTSTUFF2)
    chain = world.forge.chain([1, 2, 3])
    for block, _ in chain:
        world.propose(block)
    world.cluster.submit(0)
    world.cluster.settle()
    world.said.clear()
    world.hear(3, NewView(chain[2][1], None))
    assert len(world.sent(Proposal)) == 3


def test_hotstuff2_tells_the_leader_when_its_lock_rises_during_the_wait() -> None:
    world = Alone(mode=Mode.HOTSTUFF2)
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    world.hear(1, NewView(chain[0][1], world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[0][1]))))
    assert [e.to for e in world.sent(NewView)] == [1]
    world.hear(2, NewView(chain[1][1], None))
    told = [e.message for e in world.sent(NewView) if e.to == 1]
    assert told == [NewView(chain[1][1], world.replica.safety.record.high_tc)]


def test_a_hidden_lock_costs_jolteon_nothing_and_hotstuff2_its_wait() -> None:
    """A locked replica refuses what does not extend its lock; one that trusts the TC votes (rules 3.3, 3.4)."""
    for rules, expected in ((HotStuff2(), False), (Jolteon(), True)):
        world = Alone(mode=rules.mode)
        chain = world.forge.chain([1, 2])
        for block, qc in chain:
            world.propose(block)
            world.hear(3, NewView(qc, None))
        tc = world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[0][1]))
        world.propose(world.forge.block(4, chain[0][1], 2, tc=tc), tc)
        # Replica 0 leads view 4 itself, so the next one asks.
        tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[0][1]))
        world.propose(world.forge.block(5, chain[0][1], 2, tc=tc), tc)
        assert (5 in [view for view, _ in world.votes()]) is expected, rules


def test_basic_takes_no_later_phase_of_a_timed_out_view_that_goes_on() -> None:
    """f+1 of seven have given up on view 1, and so have we; there is no TC, so only our own timeout closes it."""
    world = Alone(7, mode=Mode.BASIC)
    block = world.forge.block(1, world.forge.genesis, 1)
    world.propose(block)
    for peer in (2, 3, 4):
        world.hear(peer, world.forge.timeout(peer, 1, world.forge.genesis))
    assert world.sent(Timeout) != []
    world.hear(1, NewView(world.forge.qc(1, block.id, phase=Phase.PREPARE), None))
    assert world.replica.view == 1
    assert basic_votes(world) == []


def test_hotstuff2_hears_everybody_anew_in_each_view() -> None:
    world = Alone(mode=Mode.HOTSTUFF2)
    chain = world.forge.chain([1, 2])
    for block, _ in chain:
        world.propose(block)
    world.cluster.submit(0)
    world.cluster.settle()
    for peer in (2, 3):
        world.hear(peer, NewView(chain[1][1], None))
    world.said.clear()
    world.hear(1, NewView(chain[1][1], world.forge.tc(3, dict.fromkeys((1, 2, 3), chain[1][1]))))
    assert world.replica.view == 4
    assert world.sent(Proposal) == [], "replicas 2 and 3 have spoken in view 3 only"


def test_hotstuff2_gives_a_suspect_the_whole_time_after_a_failed_view() -> None:
    """The wait for locks alone may take longer than the eighth that it would have."""
    for mode, suspected in ((Mode.JOLTEON, True), (Mode.HOTSTUFF2, False)):
        world = Alone(mode=mode)
        world.cluster.submit(0)
        world.cluster.settle()
        for view in (2, 5):
            world.hear(1, NewView(world.forge.genesis, failed(world, view, world.forge.genesis)))  # type: ignore[arg-type]
        assert world.replica.view == 6, "the leader of view 2 again"
        deadline = world.replica._pacemaker.view_deadline_us
        assert deadline == 1_000_000 // (SUSPECT_DIVISOR if suspected else 1)


# ---- some hold the QC of a view, others its TC


@EVERY
def test_who_left_a_view_by_its_tc_votes_for_a_block_on_its_qc_l14(mode: Mode) -> None:
    world = Alone(mode=mode)
    chain = world.forge.chain([1, 2, 3])
    for block, _ in chain:
        world.propose(block)
    world.hear(1, NewView(chain[1][1], world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[1][1]))))
    assert world.replica.view == 5
    late = world.forge.block(4, chain[2][1], 4)
    qc = world.forge.qc(4, late.id, phase=world.forge.last_phase)
    world.hear(2, NewView(qc, None))
    world.hear(2, BlockResponse(late.id, (late,)))
    world.said.clear()
    world.propose(world.forge.block(5, qc, 5))
    assert 5 in [e.message.view for e in world.sent(Vote) if isinstance(e.message, Vote)]


@EVERY
def test_who_left_a_view_by_its_qc_and_who_by_its_tc_meet_again_l14(mode: Mode) -> None:
    """The leader of view 5 knows only the TC. Where locks forbid to follow it, the next leader has heard of the QC."""
    world = Alone(mode=mode)
    chain = world.forge.chain([1, 2, 3, 4])
    for block, qc in chain:
        world.propose(block)
        world.hear(3, NewView(qc, None))
    assert world.replica.view == 5
    tc = world.forge.tc(4, dict.fromkeys((1, 2, 3), chain[2][1]))
    world.said.clear()
    world.propose(world.forge.block(5, chain[2][1], 4, tc=tc), tc)
    voted = [e.message.view for e in world.sent(Vote) if isinstance(e.message, Vote)]
    assert (5 in voted) == (mode in (Mode.CHAINED, Mode.JOLTEON))
    for peer in (1, 2):
        world.hear(peer, world.forge.timeout(peer, 5, chain[2][1], tc))
    own = [e.message for e in world.sent(Timeout) if isinstance(e.message, Timeout)]
    assert own[0].high_qc == chain[3][1], "everybody hears of the QC now"
    after = world.forge.tc(5, {0: chain[3][1], 1: chain[2][1], 2: chain[2][1]})
    world.propose(world.forge.block(6, chain[3][1], 5, tc=after), after)
    assert 6 in [e.message.view for e in world.sent(Vote) if isinstance(e.message, Vote)]
