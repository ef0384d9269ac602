"""I4 and I8 fire on what goes back and on what leaves too early."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from stage import Stage, violates

from hotstuff.consensus.effects import Persist
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.checkers.records import DurableFirst, NothingGoesBack
from hotstuff.simulator.disk import Disk
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import Ack, BatchMessage


def replica(record: SafetyRecord, height: int = 0) -> Any:
    """What the checker sees of one."""
    return SimpleNamespace(
        safety=SimpleNamespace(record=record), tree=SimpleNamespace(root=SimpleNamespace(height=height))
    )


def becomes(stage: Stage, record: SafetyRecord, height: int = 0) -> None:
    """Validator 0 makes a step after which it looks like this."""
    stage.node(0).replica = replica(record, height)
    stage.steps(0)


def ahead(stage: Stage) -> SafetyRecord:
    """A record of a validator that has been around."""
    qc = stage.qc(stage.block(4))
    tc = stage.tc(5, dict.fromkeys((0, 1, 2), qc))
    return replace(
        stage.node(0).disk.safety, voted_view=6, timed_out_view=5, proposed_view=3, high_qc=qc, locked_qc=qc, high_tc=tc
    )


BACK = [
    ({"voted_view": 5}, "voted view and phase"),
    ({"voted_phase": Phase.COMMIT}, "voted view and phase"),
    ({"timed_out_view": 4}, "timed-out view"),
    ({"proposed_view": 2}, "proposed view"),
    ({"high_tc": None}, "current view"),
]


@pytest.mark.parametrize(("changes", "what"), BACK)
def test_what_a_step_lowers_is_found(changes: dict[str, Any], what: str) -> None:
    stage = Stage(NothingGoesBack())
    becomes(stage, ahead(stage))
    becomes(stage, ahead(stage))
    with violates("I4", f"{what} went from"):
        becomes(stage, replace(ahead(stage), **changes))


@pytest.mark.parametrize(("field", "what"), [("high_qc", "high QC"), ("locked_qc", "lock")])
def test_a_lower_certificate_is_found(field: str, what: str) -> None:
    stage = Stage(NothingGoesBack())
    becomes(stage, ahead(stage))
    with violates("I4", f"{what} went from"):
        becomes(stage, replace(ahead(stage), **{field: stage.qc(stage.block(3))}))


def test_another_certificate_of_the_same_view_is_no_step_back() -> None:
    stage = Stage(NothingGoesBack())
    becomes(stage, ahead(stage))
    becomes(stage, replace(ahead(stage), high_qc=stage.qc(stage.block(4), (1, 2, 3))))


def test_the_committed_height_never_falls_in_a_life() -> None:
    stage = Stage(NothingGoesBack())
    becomes(stage, ahead(stage), 7)
    stage.restarts(0)
    becomes(stage, ahead(stage), 6)
    with violates("I4", "committed height went from 6 to 5"):
        becomes(stage, ahead(stage), 5)


def test_a_restart_keeps_what_was_durable_and_may_lose_the_rest() -> None:
    stage = Stage(NothingGoesBack())
    stage.writes(0, voted_view=3)
    becomes(stage, ahead(stage))
    stage.restarts(0)
    with violates("I4", r"voted view and phase went from \(3, .* after a restart"):
        stage.restarts(0, Disk(replace(stage.node(0).disk.safety, voted_view=2)))


def test_who_lost_its_record_is_exempt_until_it_rejoins() -> None:
    stage = Stage(NothingGoesBack())
    record = ahead(stage)
    stage.writes(0, voted_view=6)
    passive = SafetyRecord.initial(stage.context, passive=True)
    stage.restarts(0, Disk(passive))
    becomes(stage, passive)
    stage.writes(0, high_qc=record.high_qc)
    becomes(stage, replace(passive, high_qc=record.high_qc))
    with violates("I4", r"voted view and phase went from \(6, .* by rejoining"):
        becomes(stage, replace(passive, high_qc=record.high_qc, voted_view=5, passive=False))


def test_rejoining_above_everything_is_fine() -> None:
    stage = Stage(NothingGoesBack())
    stage.writes(0, voted_view=3)
    passive = SafetyRecord.initial(stage.context, passive=True)
    stage.restarts(0, Disk(passive))
    becomes(stage, passive)
    becomes(stage, replace(ahead(stage), passive=False))


# ---- I8 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage() -> Stage:
    return Stage(DurableFirst())


def durable_vote(stage: Stage, **without: Any) -> None:
    """Validator 0 votes for the second block of a chain, with everything on its disk but what is taken away."""
    parent = stage.shows(stage.block(1))
    block = stage.shows(stage.block(2, stage.qc(parent), height=2))
    vote = stage.vote(0, block)
    record = {"voted_view": 2, "last_vote": vote, "high_qc": block.header.justify} | without
    stage.writes(0, record.pop("blocks", [block]), **record)
    stage.sends(0, vote)


def test_a_vote_with_everything_on_the_disk_may_leave(stage: Stage) -> None:
    durable_vote(stage)
    # A turn that votes in two views writes once, and sends both.
    third = stage.vote(0, stage.block(3))
    durable_vote(stage, voted_view=3, last_vote=third)


@pytest.mark.parametrize(
    ("without", "what"),
    [
        ({"voted_view": 1}, "voted view and phase"),
        ({"last_vote": None}, "vote"),
        ({"blocks": []}, "block"),
        ({"high_qc": None}, "QC that it rests on"),
    ],
)
def test_a_vote_before_its_record_is_found(stage: Stage, without: dict[str, Any], what: str) -> None:
    if "high_qc" in without:
        without = {"high_qc": stage.genesis}
    with violates("I8", f"sends Vote of view 2, and its disk lacks the {what}$"):
        durable_vote(stage, **without)


def test_another_vote_of_the_view_on_the_disk_is_not_this_one(stage: Stage) -> None:
    with violates("I8", "lacks the vote"):
        durable_vote(stage, last_vote=stage.vote(0, stage.block(2)))


def test_a_lock_is_durable_with_the_vote_that_shows_it() -> None:
    for locked in (True, False):
        stage = Stage(DurableFirst(), mode=Mode.HOTSTUFF2)
        justify = stage.qc(stage.shows(stage.block(1)))
        if locked:
            durable_vote(stage, locked_qc=justify)
        else:
            with violates("I8", "lacks the lock"):
                durable_vote(stage)


@pytest.mark.parametrize(("high", "what"), [(Phase.PREPARE, None), (None, "QC that it rests on")])
def test_in_basic_the_qc_of_the_phase_before_is_durable(high: Phase | None, what: str | None) -> None:
    stage = Stage(DurableFirst(), mode=Mode.BASIC)
    block = stage.shows(stage.block(1))
    vote = stage.vote(0, block, phase=Phase.PRECOMMIT)
    qc = stage.genesis if high is None else stage.qc(block, phase=high)
    stage.writes(0, [block], voted_view=1, voted_phase=Phase.PRECOMMIT, last_vote=vote, high_qc=qc)
    if what is None:
        stage.sends(0, vote)
    else:
        with violates("I8", f"lacks the {what}"):
            stage.sends(0, vote)


def test_a_timeout_before_its_record_is_found(stage: Stage) -> None:
    qc = stage.qc(stage.block(1))
    timeout = stage.timeout(0, 2, qc)
    stage.writes(0, timed_out_view=2, last_timeout=timeout, high_qc=qc)
    stage.sends(0, timeout)
    stage.writes(0, last_timeout=stage.timeout(0, 2))
    with violates("I8", "lacks the timeout$"):
        stage.sends(0, stage.timeout(0, 2, qc))
    stage.writes(1, timed_out_view=2, last_timeout=stage.timeout(1, 2, qc))
    with violates("I8", "lacks the reported QC"):
        stage.sends(1, stage.timeout(1, 2, qc))
    with violates("I8", "lacks the timed-out view"):
        stage.sends(2, stage.timeout(2, 1))


def test_a_proposal_before_its_record_is_found(stage: Stage) -> None:
    stage.writes(1, proposed_view=1)
    stage.proposes(stage.block(1))
    with violates("I8", "sends Proposal of view 2, and its disk lacks the proposed view"):
        stage.proposes(stage.block(2))


def test_a_body_is_stored_before_it_is_promised(stage: Stage) -> None:
    batch, other = stage.batch(0, 1), stage.batch(0, 2)
    stage.stores(0, batch)
    stage.stores(1, batch)
    stage.sends(0, BatchMessage(batch))
    stage.sends(1, Ack((batch.ref,)))
    stage.sends(2, BatchMessage(batch))  # passing on another's promises nothing
    with violates("I8", "sends BatchMessage, and its disk lacks the body"):
        stage.sends(0, BatchMessage(other))
    with violates("I8", "sends Ack"):
        stage.sends(1, Ack((batch.ref, other.ref)))
    stage.node(0).disk.put(Persist(batches=(other,), lazy=True))
    with violates("I8", "sends BatchMessage, and its disk lacks the body"):
        stage.sends(0, BatchMessage(other))
    stage.node(0).disk.write()
    stage.sends(0, BatchMessage(other))


def test_byzantine_validators_promise_nothing(stage: Stage) -> None:
    stage.sends(3, Ack((stage.batch().ref,)))
    stage.votes((3,), stage.block(1))
