"""Replicas whose application states differ must notice, and liars must not be able to stop anybody (S36)."""

from __future__ import annotations

import pytest
from cluster import Cluster

from hotstuff.consensus.divergence import CHECKPOINT_BLOCKS, MAX_CHECKPOINTS, Divergence
from hotstuff.consensus.effects import Broadcast, Connected, Effect, Executed, Received, Send
from hotstuff.errors import InvariantViolation
from hotstuff.types.messages import StateReport

OURS, THEIRS, OTHER = b"o" * 32, b"t" * 32, b"x" * 32
AT = 2 * CHECKPOINT_BLOCKS


def watch(n: int = 4, powers: list[int] | None = None) -> tuple[Divergence, list[Effect]]:
    effects: list[Effect] = []
    return Divergence(0, Cluster(n, powers=powers, fast=True).validators, effects), effects


def test_our_state_is_told_to_everybody_and_again_to_who_comes_back() -> None:
    divergence, effects = watch()
    divergence.greet(2)
    divergence.executed(AT, OURS)
    divergence.greet(2)
    assert effects == [Broadcast(StateReport(AT, OURS)), Send(2, StateReport(AT, OURS))]


@pytest.mark.parametrize("late", [False, True])
def test_f_plus_one_other_states_stop_us_s36(late: bool) -> None:
    divergence, _ = watch()
    if not late:
        divergence.executed(AT, OURS)
    divergence.reported(1, StateReport(AT, THEIRS))
    divergence.reported(3, StateReport(AT, THEIRS)) if late else None
    with pytest.raises(InvariantViolation, match=f"state divergence at height {AT}: ours is {OURS.hex()}; validator 1"):
        divergence.executed(AT, OURS) if late else divergence.reported(3, StateReport(AT, OTHER))


def test_fewer_than_f_plus_one_liars_stop_nobody() -> None:
    divergence, _ = watch()
    divergence.executed(AT, OURS)
    for _ in range(9):
        divergence.reported(1, StateReport(AT, THEIRS))
    divergence.reported(2, StateReport(AT, OURS))
    divergence.reported(3, StateReport(AT + CHECKPOINT_BLOCKS, THEIRS))
    divergence.reported(0, StateReport(AT, THEIRS))


def test_power_counts_and_not_heads() -> None:
    divergence, _ = watch(4, [3, 1, 1, 1])
    divergence.executed(AT, OURS)
    divergence.reported(1, StateReport(AT, THEIRS))
    with pytest.raises(InvariantViolation):
        divergence.reported(2, StateReport(AT, THEIRS))


def test_the_first_word_of_a_peer_counts() -> None:
    divergence, _ = watch()
    divergence.reported(1, StateReport(AT, OURS))
    divergence.reported(1, StateReport(AT, THEIRS))
    divergence.reported(2, StateReport(AT, THEIRS))
    divergence.executed(AT, OURS)


def test_what_peers_say_is_bounded_and_only_about_checkpoints() -> None:
    divergence, _ = watch()
    for height in range(1, 100 * CHECKPOINT_BLOCKS):
        divergence.reported(1, StateReport(height, THEIRS))
    kept = divergence._states[1]
    assert len(kept) == MAX_CHECKPOINTS
    assert all(height % CHECKPOINT_BLOCKS == 0 for height in kept)


def test_a_replica_stops_when_its_application_has_diverged_s36() -> None:
    cluster = Cluster(fast=True)
    for i in range(4):
        cluster.step(i, Executed(CHECKPOINT_BLOCKS, THEIRS if i != 2 else OURS))
    with pytest.raises(InvariantViolation, match=f"state divergence at height {CHECKPOINT_BLOCKS}"):
        cluster.settle()


def test_equal_states_stop_nobody() -> None:
    cluster = Cluster(fast=True)
    for i in range(4):
        cluster.step(i, Executed(CHECKPOINT_BLOCKS, OURS))
        cluster.step(i, Connected((i + 1) % 4))
    cluster.step(1, Received(2, StateReport(CHECKPOINT_BLOCKS, THEIRS)))
    cluster.settle()
