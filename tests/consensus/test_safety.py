"""Every rule that stands before a signature, and that the record outlives a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cluster import Cluster
from forge import Forge

from hotstuff.consensus import safety as safety_module
from hotstuff.consensus.safety import LATER_VOTE_RULES, PROPOSAL_RULES, VOTE_RULES, Safety, SafetyRecord
from hotstuff.errors import InvariantViolation
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Mode, Phase


class World:
    """One signer in view 5, high_qc and lock at views 4 and 3 of one chain."""

    def __init__(self, mode: Mode = Mode.CHAINED) -> None:
        cluster = Cluster(4, fast=True, mode=mode)
        self.forge = Forge(cluster)
        self.chain = self.forge.chain([1, 2, 3, 4])
        self.qc = {0: self.forge.genesis} | {block.header.view: qc for block, qc in self.chain}
        self.record = replace(
            SafetyRecord.initial(cluster.context, passive=False), high_qc=self.qc[4], locked_qc=self.qc[3]
        )
        self.cluster = cluster

    def safety(self, **changes: object) -> Safety:
        member = self.cluster.members[1]
        record = replace(self.record, **changes)
        return Safety(1, self.cluster.context, self.cluster.rules, member.bls, member.node, record)

    def header(self, view: int = 5, justify: int = 4) -> Header:
        return self.forge.header(view, self.qc[justify], justify + 1)


# What each rule alone refuses: (record, header) for which every other rule says yes.
ALONE: dict[str, Callable[[World], tuple[Safety, Header]]] = {
    "view_is_current": lambda w: (w.safety(), w.header(view=6)),
    "phase_not_voted": lambda w: (w.safety(voted_view=5), w.header()),
    "view_not_timed_out": lambda w: (w.safety(timed_out_view=5), w.header()),
    "view_not_proposed": lambda w: (w.safety(proposed_view=5), w.header()),
    "lock_allows": lambda w: (w.safety(), w.header(justify=2)),
    "not_passive": lambda w: (w.safety(passive=True), w.header()),
}


def test_a_good_proposal_gets_a_vote() -> None:
    world = World()
    safety = world.safety()
    vote = safety.vote(world.header(), None, ZERO_HASH)
    assert vote is not None
    assert vote.view == 5
    assert safety.record.voted_view == 5
    assert safety.record.last_vote == vote


@pytest.mark.parametrize("rule", VOTE_RULES, ids=lambda rule: rule.__name__)
def test_vote_rule(rule: safety_module.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    safety, header = ALONE[rule.__name__](world)
    assert safety.refusal(safety.request(header, None)) == rule.__name__
    assert safety.vote(header, None, ZERO_HASH) is None
    assert safety.record.last_vote is None
    # The mutant without the rule votes: nothing else stands in its place.
    monkeypatch.setattr(safety_module, "VOTE_RULES", tuple(r for r in VOTE_RULES if r is not rule))
    assert safety.vote(header, None, ZERO_HASH) is not None


@pytest.mark.parametrize("rule", PROPOSAL_RULES, ids=lambda rule: rule.__name__)
def test_proposal_rule(rule: safety_module.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    safety, header = ALONE[rule.__name__](world)
    assert safety.propose(header) is None
    monkeypatch.setattr(safety_module, "PROPOSAL_RULES", tuple(r for r in PROPOSAL_RULES if r is not rule))
    assert safety.propose(header) is not None


def test_no_rule_is_missing() -> None:
    assert {rule.__name__ for rule in VOTE_RULES} == {
        "view_is_current",
        "phase_not_voted",
        "view_not_timed_out",
        "lock_allows",
        "not_passive",
    }
    assert {rule.__name__ for rule in PROPOSAL_RULES} == {
        "view_is_current",
        "view_not_proposed",
        "view_not_timed_out",
        "not_passive",
    }


def test_one_vote_per_view_also_for_the_same_block() -> None:
    world = World()
    safety = world.safety()
    assert safety.vote(world.header(), None, ZERO_HASH) is not None
    assert safety.vote(world.header(), None, ZERO_HASH) is None
    assert safety.vote(world.header(justify=3), None, ZERO_HASH) is None


def test_a_view_is_closed_by_the_timeout() -> None:
    world = World()
    safety = world.safety()
    assert safety.timeout() is not None
    assert safety.vote(world.header(), None, ZERO_HASH) is None
    assert safety.propose(world.header()) is None


def test_a_timeout_is_the_same_bytes_again() -> None:
    world = World()
    safety = world.safety()
    first = safety.timeout()
    safety.learn(high_qc=world.qc[4])
    assert safety.timeout() is first


def test_a_timeout_reports_the_highest_qc_and_how_we_got_here() -> None:
    world = World()
    tc = world.forge.tc(5, dict.fromkeys(range(3), world.qc[4]))
    by_qc, by_tc = world.safety().timeout(), world.safety(high_tc=tc).timeout()
    assert by_qc is not None
    assert by_tc is not None
    assert (by_qc.view, by_qc.high_qc, by_qc.prev_tc) == (5, world.qc[4], None)
    assert (by_tc.view, by_tc.high_qc, by_tc.prev_tc) == (6, world.qc[4], tc)


def test_a_lost_timeout_is_not_made_again_with_other_contents() -> None:
    assert World().safety(timed_out_view=5).timeout() is None


def test_a_passive_replica_signs_nothing() -> None:
    world = World()
    safety = world.safety(passive=True)
    assert safety.timeout() is None
    assert safety.vote(world.header(), None, ZERO_HASH) is None
    assert safety.propose(world.header()) is None
    with pytest.raises(InvariantViolation):
        safety.sign_batch(1, b"d" * 32)


def test_certificates_only_rise() -> None:
    world = World()
    safety = world.safety()
    tc5 = world.forge.tc(5, dict.fromkeys(range(3), world.qc[4]))
    tc2 = world.forge.tc(2, dict.fromkeys(range(3), world.qc[1]))
    safety.learn(high_qc=world.qc[2], locked_qc=world.qc[1], high_tc=tc5)
    safety.learn(high_tc=tc2)
    assert safety.record == replace(world.record, high_tc=tc5)


def test_a_qc_below_the_current_view_still_rises() -> None:
    world = World()
    tc = world.forge.tc(9, dict.fromkeys(range(3), world.qc[2]))
    safety = world.safety(high_qc=world.qc[2], high_tc=tc)
    safety.learn(high_qc=world.qc[4])
    assert safety.record.high_qc == world.qc[4]
    assert safety.record.current_view == 10


def test_current_view_follows_the_higher_of_both_certificates() -> None:
    world = World()
    tc = world.forge.tc(7, dict.fromkeys(range(3), world.qc[4]))
    assert world.record.current_view == 5
    assert replace(world.record, high_tc=tc).current_view == 8


def test_rejoining_closes_every_view_up_to_the_qc() -> None:
    world = World()
    safety = world.safety(passive=True)
    safety.rejoin(world.qc[4])
    record = safety.record
    assert (record.voted_view, record.timed_out_view, record.proposed_view) == (4, 4, 4)
    assert record.locked_qc == world.qc[4]
    assert not record.passive
    with pytest.raises(InvariantViolation):
        safety.rejoin(world.qc[4])


def test_rejoining_needs_a_qc_that_is_known() -> None:
    world = World()
    with pytest.raises(InvariantViolation):
        world.safety(passive=True, high_qc=world.qc[3]).rejoin(world.qc[4])


@pytest.mark.parametrize("passive", [False, True])
def test_the_record_outlives_a_crash(passive: bool) -> None:
    world = World()
    tc = world.forge.tc(5, dict.fromkeys(range(3), world.qc[4]))
    safety = world.safety()
    safety.vote(world.header(), None, ZERO_HASH)
    safety.learn(high_tc=tc)
    safety.timeout()
    record = replace(safety.record, passive=passive, proposed_view=3)
    assert SafetyRecord.decode(record.encode()) == record
    assert SafetyRecord.decode(world.record.encode()) == world.record


# ---- later phases (basic) --------------------------------------------------------------------------------------------


def in_phase(phase: Phase, **changes: object) -> tuple[Safety, QC]:
    """A replica of basic that has voted in the phase before, and knows the QC of it."""
    world = World(Mode.BASIC)
    before = Phase(phase - 1)
    qc = world.forge.qc(5, b"b" * 32, phase=before)
    known = {"high_qc": qc, "voted_view": 5, "voted_phase": before}
    if before is Phase.PRECOMMIT:
        known["locked_qc"] = qc
    return world.safety(**(known | changes)), qc


def failed_view_5() -> TC:
    world = World(Mode.BASIC)
    return world.forge.tc(5, dict.fromkeys(range(3), world.qc[4]))


LATER_ALONE: dict[str, Callable[[Phase], tuple[Safety, QC]]] = {
    "view_is_current": lambda phase: in_phase(phase, high_tc=failed_view_5()),
    "phase_not_voted": lambda phase: in_phase(phase, voted_phase=phase),
    "view_not_timed_out": lambda phase: in_phase(phase, timed_out_view=5),
    "certificate_is_kept": lambda phase: in_phase(phase, locked_qc=World(Mode.BASIC).qc[4]),
    "not_passive": lambda phase: in_phase(phase, passive=True),
}


@pytest.mark.parametrize("phase", [Phase.PRECOMMIT, Phase.COMMIT])
def test_the_qc_of_a_phase_gets_a_vote_in_the_next(phase: Phase) -> None:
    safety, qc = in_phase(phase)
    vote = safety.later_vote(qc, ZERO_HASH)
    assert vote is not None
    assert (vote.view, vote.phase, vote.block_id) == (5, phase, qc.block_id)
    assert (safety.record.voted_view, safety.record.voted_phase) == (5, phase)
    assert safety.later_vote(qc, ZERO_HASH) is None


@pytest.mark.parametrize("rule", LATER_VOTE_RULES, ids=lambda rule: rule.__name__)
def test_later_vote_rule(rule: safety_module.Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    safety, qc = LATER_ALONE[rule.__name__](Phase.COMMIT)
    assert safety.later_vote(qc, ZERO_HASH) is None
    monkeypatch.setattr(safety_module, "LATER_VOTE_RULES", tuple(r for r in LATER_VOTE_RULES if r is not rule))
    assert safety.later_vote(qc, ZERO_HASH) is not None


def test_no_later_vote_without_the_certificate_in_the_record() -> None:
    safety, qc = in_phase(Phase.PRECOMMIT, high_qc=World(Mode.BASIC).forge.qc(4, b"a" * 32, phase=Phase.PREPARE))
    assert safety.later_vote(qc, ZERO_HASH) is None


def test_a_later_phase_may_come_first() -> None:
    # Whoever missed the proposal still helps with the phases after it.
    safety, qc = in_phase(Phase.COMMIT, voted_view=4, voted_phase=Phase.COMMIT)
    assert safety.later_vote(qc, ZERO_HASH) is not None


def test_an_earlier_phase_is_closed_by_a_later_one() -> None:
    world = World(Mode.BASIC)
    safety = world.safety(voted_view=5, voted_phase=Phase.PRECOMMIT)
    assert safety.vote(world.header(), None, ZERO_HASH) is None


def test_a_qc_of_an_open_view_leads_to_that_view_only() -> None:
    world = World(Mode.BASIC)
    for phase, view in ((Phase.PREPARE, 5), (Phase.PRECOMMIT, 5), (Phase.COMMIT, 6)):
        assert world.safety(high_qc=world.forge.qc(5, b"b" * 32, phase=phase)).record.current_view == view


def test_a_timeout_reports_the_certificate_of_its_own_view() -> None:
    safety, qc = in_phase(Phase.COMMIT)
    timeout = safety.timeout()
    assert timeout is not None
    assert (timeout.view, timeout.high_qc, timeout.prev_tc) == (5, qc, None)


# ---- each rule by name: one that is no longer in its table is missed here --------------------------------------------


@pytest.mark.parametrize(
    "rule", ["view_is_current", "phase_not_voted", "view_not_timed_out", "lock_allows", "not_passive"]
)
def test_a_vote_is_refused_by_each_rule_alone(rule: str) -> None:
    safety, header = ALONE[rule](World())
    assert safety.vote(header, None, ZERO_HASH) is None


@pytest.mark.parametrize(
    "rule", ["view_is_current", "phase_not_voted", "view_not_timed_out", "certificate_is_kept", "not_passive"]
)
def test_a_later_vote_is_refused_by_each_rule_alone(rule: str) -> None:
    safety, qc = LATER_ALONE[rule](Phase.COMMIT)
    assert safety.later_vote(qc, ZERO_HASH) is None


@pytest.mark.parametrize("rule", ["view_is_current", "view_not_proposed", "view_not_timed_out", "not_passive"])
def test_a_proposal_is_refused_by_each_rule_alone(rule: str) -> None:
    safety, header = ALONE[rule](World())
    assert safety.propose(header) is None


def test_a_view_is_proposed_in_once() -> None:
    world = World()
    safety = world.safety()
    assert safety.propose(world.header()) is not None
    assert safety.record.proposed_view == 5
    assert safety.propose(world.header(justify=3)) is None


def test_a_reserved_view_is_proposed_in_once_and_needs_no_other_record() -> None:
    world = World()
    safety = world.safety(proposed_view=1)
    safety.reserve(5)
    reserved = safety.record
    assert reserved.proposed_view == 5
    assert not safety.may_have_proposed(5)
    assert safety.propose(world.header()) is not None
    assert safety.record == reserved
    assert safety.may_have_proposed(5)
    safety.reserve(5)
    assert safety.propose(world.header(justify=3)) is None


def test_the_next_life_does_not_propose_in_a_reserved_view() -> None:
    world = World()
    safety = world.safety(proposed_view=1)
    safety.reserve(5)
    again = world.safety(proposed_view=safety.record.proposed_view)
    assert again.may_have_proposed(5)
    assert again.propose(world.header()) is None


def test_only_a_later_view_can_be_reserved() -> None:
    world = World()
    for view in (4, 5):
        safety = world.safety(proposed_view=5)
        safety.reserve(view)
        assert safety.record.proposed_view == 5
        assert safety.propose(world.header()) is None
    passive = world.safety(passive=True)
    passive.reserve(9)
    assert passive.record.proposed_view == 0


def test_a_reserved_view_below_the_last_proposal_is_lost() -> None:
    """The record alone decides: whatever says "reserved", only the highest view of the record can be."""
    world = World()
    record = world.safety(proposed_view=6).record
    request = replace(world.safety().request(world.header(), None), reserved=True)
    assert not safety_module.view_not_proposed(record, request, world.cluster.rules)


def test_another_view_than_the_reserved_one_needs_a_record() -> None:
    world = World()
    safety = world.safety(proposed_view=1)
    safety.reserve(4)
    assert safety.propose(world.header(view=5)) is not None
    assert safety.record.proposed_view == 5
    assert safety.may_have_proposed(4) and safety.may_have_proposed(5)


def test_no_later_vote_in_a_view_entered_by_a_tc_without_the_certificate_in_the_record() -> None:
    """The view is current, by the TC of the view before; only the certificate itself is missing."""
    world = World(Mode.BASIC)
    tc = world.forge.tc(4, dict.fromkeys(range(3), world.qc[3]))
    safety = world.safety(high_qc=world.qc[3], high_tc=tc)
    assert safety.record.current_view == 5
    prepared = world.forge.qc(5, b"b" * 32, phase=Phase.PREPARE)
    assert safety.later_vote(prepared, ZERO_HASH) is None
    safety.learn(high_qc=prepared)
    assert safety.later_vote(prepared, ZERO_HASH) is not None


def test_a_timeout_is_the_same_bytes_again_when_a_higher_qc_is_known() -> None:
    world = World()
    tc = world.forge.tc(5, dict.fromkeys(range(3), world.qc[3]))
    safety = world.safety(high_qc=world.qc[3], high_tc=tc)
    first = safety.timeout()
    safety.learn(high_qc=world.qc[4])
    assert safety.timeout() is first


def test_the_phase_of_the_last_vote_outlives_a_crash() -> None:
    record = replace(World(Mode.BASIC).record, voted_view=5, voted_phase=Phase.PRECOMMIT)
    assert SafetyRecord.decode(record.encode()) == record
