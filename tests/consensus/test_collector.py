"""Shares: the first counts, quorum by power, bad ones are found and left out, the window is bounded."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus.collector import DISTRUST_PATIENCE_US, DISTRUST_VIEWS, VOTE_WINDOW_VIEWS, Collector
from hotstuff.consensus.effects import Collect, Collected, Effect, Strike
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import Phase

ID, OTHER = b"i" * 32, b"o" * 32


class World:
    """A collector in view 5."""

    def __init__(self, n: int = 4, powers: list[int] | None = None) -> None:
        self.forge = Forge(Cluster(n, powers=powers, fast=True))
        self.effects: list[Effect] = []
        jobs = count(1)
        self.collector = Collector(self.forge.context, self.forge.validators, self.effects, lambda: next(jobs))
        self.collector.enter(5)

    def vote(self, signer: int, view: int = 5, block_id: bytes = ID) -> None:
        self.collector.add_vote(self.forge.vote(signer, view, block_id), 5)

    def forged_vote(self, signer: int, view: int = 5) -> None:
        self.collector.add_vote(replace(self.forge.vote(signer, view, ID), signature=bytes(96)), 5)

    def start(self, now_us: int = 0, patience_us: int = 0) -> list[Collect]:
        """Starts what is due; the jobs that began."""
        self.collector.start_votes(now_us, lambda _view, _phase: patience_us)
        self.collector.start_timeouts(now_us, 0)
        jobs = [effect for effect in self.effects if isinstance(effect, Collect)]
        self.effects.clear()
        return jobs

    def finish(self, job: Collect) -> QC | TC | None:
        """Answers a job as the driver does."""
        found = self.forge.cluster.verifier.collect(job.shares)
        return self.collector.collected(Collected(job.job, found.signature, found.good, found.bad))

    def signers(self, job: Collect) -> list[int]:
        return [share.signer for share in job.shares]


def test_a_quorum_becomes_a_qc_once() -> None:
    world = World()
    for signer in (3, 0):
        world.vote(signer)
    assert world.start() == []
    world.vote(1)
    (job,) = world.start()
    assert world.start() == [], "one job at a time"
    assert world.finish(job) == world.forge.qc(5, ID, signers=[0, 1, 3])
    world.vote(2)
    assert world.start() == [], "one certificate is enough"


def test_five_replicas_need_four_shares() -> None:
    world = World(5)
    for signer in range(3):
        world.vote(signer)
        world.collector.add_timeout(world.forge.timeout(signer, 5, world.forge.qc(4, ID)), 5)
    assert world.start() == []
    world.vote(3)
    world.collector.add_timeout(world.forge.timeout(3, 5, world.forge.qc(4, ID)), 5)
    assert len(world.start()) == 2


def test_power_counts_and_not_heads() -> None:
    world = World(4, powers=[1, 1, 1, 6])
    for signer in range(3):
        world.vote(signer)
    assert world.start() == []
    world.vote(3)
    assert len(world.start()) == 1


def test_the_first_share_of_a_signer_counts_and_is_not_replaced() -> None:
    world = World()
    world.vote(0, block_id=ID)
    world.vote(0, block_id=OTHER)
    world.forged_vote(0)
    for signer in (1, 2):
        world.vote(signer, block_id=OTHER)
    assert world.start() == [], "a voter of two blocks counts for the first"
    for signer in (1, 2):
        world.vote(signer, block_id=ID)
    assert world.start() == []
    world.vote(3)
    assert world.start() == []


def test_a_repeated_vote_counts_once_s4() -> None:
    world = World()
    for _ in range(1000):
        world.vote(0)
        world.vote(1)
    assert world.start() == []
    world.vote(2)
    assert world.signers(world.start()[0]) == [0, 1, 2]


def test_votes_with_another_commit_id_or_phase_are_another_certificate() -> None:
    world = World()
    world.vote(0)
    world.vote(1)
    world.collector.add_vote(world.forge.vote(2, 5, ID, OTHER), 5)
    world.collector.add_vote(replace(world.forge.vote(3, 5, ID), phase=Phase.COMMIT), 5)
    assert world.start() == []


def test_votes_outside_the_window_are_not_kept() -> None:
    world = World()
    for signer in range(4):
        world.vote(signer, view=4)
        world.vote(signer, view=5 + VOTE_WINDOW_VIEWS + 1)
        world.vote(signer, view=2**62)
    assert world.start() == []
    assert world.collector._votes == {}
    assert world.collector._voted == {}
    for signer in range(4):
        world.vote(signer, view=5 + VOTE_WINDOW_VIEWS)
    assert len(world.start()) == 1


def test_a_hostile_voter_costs_bounded_memory() -> None:
    world = World()
    for view in range(100):
        for phase in Phase:
            for number in range(3):
                vote = world.forge.vote(0, view, bytes([number]) * 32)
                world.collector.add_vote(replace(vote, phase=phase), 5)
    assert len(world.collector._votes) <= (VOTE_WINDOW_VIEWS + 1) * len(Phase)


def test_entering_a_view_forgets_what_is_below() -> None:
    world = World()
    for signer in range(3):
        world.vote(signer, view=5)
        world.vote(signer, view=7)
    world.collector.add_timeout(world.forge.timeout(0, 5, world.forge.qc(4, ID)), 5)
    (late, _) = world.start()
    world.collector.enter(6)
    assert world.finish(late) is None
    assert {key.view for key in world.collector._votes} == {7}
    assert not world.collector._timeouts.shares
    assert world.collector.deadline_us() is None


def test_patience_delays_a_quorum_and_has_a_deadline() -> None:
    world = World()
    for signer in range(3):
        world.vote(signer)
    assert world.start(now_us=10, patience_us=50) == []
    assert world.collector.deadline_us() == 60
    assert world.start(now_us=59, patience_us=50) == []
    assert len(world.start(now_us=60, patience_us=50)) == 1
    assert world.collector.deadline_us() is None


def test_a_bad_share_is_dropped_and_its_slot_stays_taken() -> None:
    world = World()
    world.forged_vote(2)
    world.vote(0)
    world.vote(1)
    (job,) = world.start()
    assert world.finish(job) is None
    assert [effect.peer for effect in world.effects if isinstance(effect, Strike)] == [2]
    world.vote(2)
    assert world.start() == [], "no second chance in one view"
    assert world.collector.deadline_us() is None, "nothing to wait for"
    world.vote(3)
    (job,) = world.start()
    assert world.finish(job) == world.forge.qc(5, ID, signers=[0, 1, 3])


def test_the_good_shares_of_a_failed_aggregate_are_enough() -> None:
    world = World()
    world.forged_vote(2)
    for signer in (0, 1, 3):
        world.vote(signer)
    (job,) = world.start()
    assert world.finish(job) == world.forge.qc(5, ID, signers=[0, 1, 3])


def test_a_distrusted_signer_is_left_out_while_others_make_a_quorum() -> None:
    world = World()
    world.forged_vote(2)
    for signer in (0, 1, 3):
        world.vote(signer)
    world.finish(world.start()[0])
    for signer in range(4):
        world.vote(signer, view=6)
    (job,) = world.start(patience_us=0)
    assert world.signers(job) == [0, 1, 3]


def test_a_distrusted_signer_is_used_after_some_patience_if_the_quorum_needs_it() -> None:
    world = World()
    world.forged_vote(2)
    for signer in (0, 1, 3):
        world.vote(signer)
    world.finish(world.start()[0])
    for signer in (0, 1, 2):
        world.vote(signer, view=6)
    assert world.start(now_us=0) == []
    assert world.collector.deadline_us() == DISTRUST_PATIENCE_US
    (job,) = world.start(now_us=DISTRUST_PATIENCE_US)
    assert world.signers(job) == [0, 1, 2]


def test_distrust_ends() -> None:
    world = World()
    world.forged_vote(2)
    for signer in (0, 1, 3):
        world.vote(signer)
    world.finish(world.start()[0])
    world.collector.enter(5 + DISTRUST_VIEWS - 1)
    assert world.collector._distrusted == {2: 5 + DISTRUST_VIEWS}
    world.collector.enter(5 + DISTRUST_VIEWS)
    assert world.collector._distrusted == {}


def test_timeouts_become_a_tc_with_the_highest_qc_reported() -> None:
    world = World()
    low, high = world.forge.qc(2, OTHER), world.forge.qc(3, ID)
    reports = {0: low, 1: high, 3: low}
    for signer, qc in reports.items():
        world.collector.add_timeout(world.forge.timeout(signer, 5, qc), 5)
    tc = world.finish(world.start()[0])
    assert tc == world.forge.tc(5, reports)
    assert isinstance(tc, TC)
    assert tc.high_qc == high
    assert world.forge.cluster.verifier.check(tc)


def test_the_first_timeout_of_a_signer_counts_and_is_not_replaced() -> None:
    world = World()
    low, high = world.forge.qc(2, OTHER), world.forge.qc(3, ID)
    world.collector.add_timeout(world.forge.timeout(0, 5, low), 5)
    world.collector.add_timeout(world.forge.timeout(0, 5, high), 5)
    for signer in (1, 2):
        world.collector.add_timeout(world.forge.timeout(signer, 5, low), 5)
    assert world.finish(world.start()[0]) == world.forge.tc(5, {0: low, 1: low, 2: low})


def test_a_tc_without_the_signer_of_the_highest_report_has_the_next_highest() -> None:
    world = World()
    qcs = [world.forge.qc(view, bytes([view]) * 32) for view in (1, 2, 3, 4)]
    timeouts = [world.forge.timeout(i, 5, qc) for i, qc in enumerate(qcs)]
    timeouts[3] = replace(timeouts[3], signature=bytes(96))
    for timeout in timeouts:
        world.collector.add_timeout(timeout, 5)
    tc = world.finish(world.start()[0])
    assert isinstance(tc, TC)
    assert tc.high_qc == qcs[2]


@pytest.mark.parametrize("view", [4, 6, 2**62])
def test_only_timeouts_of_the_current_view_are_kept(view: int) -> None:
    world = World()
    for signer in range(4):
        world.collector.add_timeout(world.forge.timeout(signer, view, world.forge.genesis), 5)
    assert not world.collector.timeouts_have_honest()
    assert world.start() == []


def test_one_third_of_the_power_contains_an_honest_replica() -> None:
    world = World(4, powers=[1, 1, 1, 6])
    qc = world.forge.qc(4, ID)
    world.collector.add_timeout(world.forge.timeout(0, 5, qc), 5)
    world.collector.add_timeout(world.forge.timeout(0, 5, world.forge.qc(3, ID)), 5)
    world.collector.add_timeout(world.forge.timeout(1, 5, qc), 5)
    assert not world.collector.timeouts_have_honest()
    world.collector.add_timeout(world.forge.timeout(2, 5, qc), 5)
    assert world.collector.timeouts_have_honest()


def test_an_unknown_or_repeated_answer_is_ignored() -> None:
    world = World()
    for signer in range(3):
        world.vote(signer)
    (job,) = world.start()
    assert world.collector.collected(Collected(99, bytes(96), (0, 1, 2), ())) is None
    assert world.finish(job) is not None
    assert world.finish(job) is None


def test_too_few_shares_are_not_aggregated_however_long_they_wait() -> None:
    world = World(5)
    for signer in range(3):
        world.vote(signer)
        world.collector.add_timeout(world.forge.timeout(signer, 5, world.forge.qc(4, ID)), 5)
    for now_us in (0, DISTRUST_PATIENCE_US, 10**9):
        assert world.start(now_us=now_us) == []
    assert world.collector.deadline_us() is None
