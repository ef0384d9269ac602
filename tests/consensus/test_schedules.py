"""Any order, loss and duplication of messages, any crashes: nobody signs twice, nobody forks, and it goes on after.

The checks are in `cluster`: two signatures for one view in all lives, a vote in a timed-out view, a signature that
left before its record was durable, two blocks at one height, a block executed without its bodies, a timer that spins.
"""

from __future__ import annotations

import random

import pytest
from cluster import Cluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotstuff.types.hashing import Mode
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BlockResponse,
    ChainResponse,
    NewView,
    Proposal,
    Timeout,
    Vote,
)

SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
ACTIONS = ("turns", "turns", "turns", "submit", "lose", "repeat", "tick", "tick", "hold", "kill", "start", "reconnect")
ACTIONS += ("deaf", "hear", "wait", "wait")
KINDS = (Proposal, Vote, Timeout, NewView, BlockResponse, ChainResponse, BatchMessage, Ack)
SCHEDULES = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2**16)), min_size=5, max_size=60)


def act(cluster: Cluster, action: str, argument: int) -> None:
    """One step of a schedule."""
    chance, n = random.Random(argument), len(cluster.members)
    cluster.random = chance
    i = argument % n
    if action == "turns":
        for _ in range(argument % 61):
            cluster.turn()
    elif action == "submit" and cluster.replicas[i] is not None:
        cluster.submit(i)
    elif action == "lose":
        cluster.network = [e for e in cluster.network if chance.random() < 0.7]
    elif action == "repeat":
        cluster.network += [e for e in cluster.network if chance.random() < 0.3]
    elif action == "tick":
        cluster.tick()
    elif action == "hold":
        # Until the next action, nothing comes to one replica, or from it.
        held = [e for e in cluster.network if i in ((e.to,) if argument & 1 else (e.sender,))]
        cluster.network = [e for e in cluster.network if e not in held]
        for _ in range(argument % 97):
            cluster.turn()
        cluster.network += held
    elif action == "kill":
        cluster.kill(i)
    elif action == "start" and cluster.replicas[i] is None:
        cluster.start(i)
    elif action == "reconnect":
        cluster.reconnect()
    elif action == "deaf":
        # For some time, one replica gets no messages of one kind, or of none at all.
        kind = chance.choice([*KINDS, *KINDS, object])
        cluster.drop = lambda e: e.to == i and isinstance(e.message, kind)
    elif action == "hear":
        cluster.drop = lambda _: False
    elif action == "wait":
        cluster.advance(argument % 3000)


def heal(cluster: Cluster, *, reconnect: bool) -> None:
    """Everybody is back, every link works: what was submitted now commits everywhere, and then it is quiet.

    `reconnect`: the links broke, as they do when messages are lost; without it, timers alone must repair everything.
    """
    cluster.drop = lambda _: False
    for i in range(len(cluster.members)):
        if cluster.replicas[i] is None:
            cluster.start(i)
    if reconnect:
        cluster.reconnect()
    cluster.advance(60_000)
    before = min(cluster.ordered(i) for i in cluster.alive())
    for i in cluster.alive():
        assert cluster.replicas[i]._payload.room_bytes() > 0, f"replica {i} takes no transactions"
        cluster.submit(i)
    cluster.advance(60_000)
    cluster.assert_agreement()
    assert len({tuple(cluster.chain(i)) for i in cluster.alive()}) == 1, "somebody lags for ever"
    assert cluster.ordered(0) >= before + len(cluster.members), "what was submitted after healing is not ordered"
    assert cluster.network == []
    assert [cluster.replicas[i].deadline_us() for i in cluster.alive()] == [None] * len(cluster.members), "not idle"
    assert cluster.strikes == [], "honest replicas struck each other"


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("reconnect", [False, True])
@settings(SETTINGS, max_examples=50)
@given(schedule=SCHEDULES)
def test_any_schedule_agrees_and_recovers(reconnect: bool, mode: Mode, schedule: list[tuple[str, int]]) -> None:
    cluster = Cluster(4, fast=True, mode=mode)
    cluster.keep_lazy = False
    for action, argument in schedule:
        act(cluster, action, argument)
    heal(cluster, reconnect=reconnect)


@settings(SETTINGS, max_examples=40)
@given(SCHEDULES)
def test_any_schedule_agrees_and_recovers_with_weights(schedule: list[tuple[str, int]]) -> None:
    cluster = Cluster(5, powers=[1, 2, 3, 1, 2], fast=True)
    for action, argument in schedule:
        act(cluster, action, argument)
    heal(cluster, reconnect=True)


def test_long_schedules_agree_and_recover(schedule_seed: int) -> None:
    """Longer than what Hypothesis draws; these commit, fail views, restart and catch up many times."""
    chance = random.Random(schedule_seed)
    cluster = Cluster(chance.choice([4, 4, 5, 7]), fast=True, mode=Mode(1 + schedule_seed % len(Mode)))
    cluster.keep_lazy = chance.random() < 0.5
    for _ in range(120):
        act(cluster, chance.choice(ACTIONS), chance.randrange(2**16))
    heal(cluster, reconnect=bool(schedule_seed & 1))
