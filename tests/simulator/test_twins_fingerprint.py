"""Executions that look alike go on alike, and a copy is a copy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from hotstuff.consensus.replica import Replica
from hotstuff.simulator.fingerprint import copy_of, fingerprint
from hotstuff.simulator.rounds import Arena, Execution
from hotstuff.simulator.scenarios import PLAIN, Round, Scenario, Space, Turn, Variant
from hotstuff.simulator.trials import carry_out
from hotstuff.types.hashing import Mode

VIEWS = 4


def begun(arena: Arena, scenario: Scenario, following: int) -> Execution:
    found = Execution(arena, record=True)
    carry_out(found, scenario, following)
    return found


def beginnings(arena: Arena, chance: random.Random, count: int) -> Iterator[tuple[bytes, Scenario, int]]:
    """Fingerprints after two views, with what led there and the leader of the next."""
    space = Space(4, 1, 2)
    for number in chance.sample(range(space.count), count):
        scenario = space.scenario(number)
        leader = scenario[-1].turn.leader
        found = Execution(arena)
        carry_out(found, scenario, leader)
        yield fingerprint(found), scenario, leader


def pairs(arena: Arena, chance: random.Random, count: int) -> list[tuple[Scenario, Scenario, int]]:
    """Different beginnings with equal fingerprints."""
    first: dict[bytes, Scenario] = {}
    found = []
    for key, scenario, leader in beginnings(arena, chance, count):
        other = first.setdefault(key, scenario)
        if other is not scenario:
            found.append((other, scenario, leader))
    return found


def told(execution: Execution) -> list[Any]:
    """What an observer sees, in words that do not depend on ids."""

    def name(value: bytes) -> int | bytes:
        return execution.names.get(value, value)

    states = []
    for instance in execution.instances:
        assert instance.replica is not None
        record = instance.replica.safety.record
        chain = [name(block.id) for block in instance.executed]
        states.append((record.current_view, record.high_qc.rank, name(record.high_qc.block_id), chain))
        states.append((record.locked_qc.rank, max(record.timed_out_view, record.current_view - 1)))
    heard = [(type(m).__name__, getattr(m, "view", None), getattr(m, "signer", None)) for m in execution.messages or ()]
    return [states, heard, [(x.sender, x.to, x.view, type(x.message).__name__) for x in execution.late]]


@pytest.mark.parametrize("variant", [PLAIN, Variant(late=True), Variant(one_way=True)], ids=lambda v: v.name)
@pytest.mark.parametrize("mode", Mode)
def test_alike_means_alike_from_then_on(mode: Mode, variant: Variant) -> None:
    arena, chance = Arena(mode, 4, 1, VIEWS, variant), random.Random(f"{mode}/{variant.name}")
    found = pairs(arena, chance, 110)
    assert len(found) >= (1 if variant.late else 8), "nothing to compare"
    for one, other, leader in found[:12]:
        executions = [begun(arena, scenario, leader) for scenario in (one, other)]
        for execution in executions:
            execution.messages = []
        following = chance.randrange(4)
        rounds = [(Round(Turn(leader), chance.randrange(1, 31)), following)]
        rounds += [(Round(Turn(following), chance.randrange(1, 31)), None)]
        for this, after in rounds:
            for execution in executions:
                execution.play(this, after)
            assert told(executions[0]) == told(executions[1])
            assert fingerprint(executions[0]) == fingerprint(executions[1])
        assert executions[0].calm(3, 20) == executions[1].calm(3, 20)
        assert told(executions[0]) == told(executions[1])


def test_scenarios_of_one_state_had_different_pasts() -> None:
    arena = Arena(Mode.CHAINED, 4, 1, VIEWS)
    one, other, leader = pairs(arena, random.Random("pasts"), 130)[0]
    first, second = (begun(arena, scenario, leader) for scenario in (one, other))
    assert one != other
    assert told(first)[1] != told(second)[1]
    assert first.names != second.names


# ---- what tells executions apart ------------------------------------------------------------------------------------


@pytest.fixture
def execution() -> Execution:
    arena = Arena(Mode.CHAINED, 4, 1, VIEWS)
    rounds = [(1, 0b01111), (2, 0b01111), (3, 0b01111)]
    return begun(arena, tuple(Round(Turn(leader), part) for leader, part in rounds), 1)


def other_view(execution: Execution) -> None:
    execution.view += 1


def other_leader(execution: Execution) -> None:
    execution.turns.chosen[-1] = 2


def lost_message(execution: Execution) -> None:
    del execution.held[0]


def other_order(execution: Execution) -> None:
    execution.held.reverse()


def replica(execution: Execution, number: int) -> Replica:
    found = execution.instances[number].replica
    assert found is not None
    return found


def lost_block(execution: Execution) -> None:
    del replica(execution, 1).tree._nodes[replica(execution, 2).safety.record.high_qc.block_id]


def change_record(execution: Execution, **fields: Any) -> None:
    changed = replica(execution, 1)
    changed.safety.record = changed._persisted = replace(changed.safety.record, **fields)


def lower_lock(execution: Execution) -> None:
    change_record(execution, locked_qc=replica(execution, 4).safety.record.locked_qc)


def voted_already(execution: Execution) -> None:
    change_record(execution, voted_view=execution.instances[1].view)


def timed_out_already(execution: Execution) -> None:
    change_record(execution, timed_out_view=execution.instances[1].view)


def suspicion(execution: Execution) -> None:
    replica(execution, 1)._suspects.failed(2)


def later_timer(execution: Execution) -> None:
    replica(execution, 1)._pacemaker.view_deadline_us = 10**12


def stopped(execution: Execution) -> None:
    execution.instances[4].replica = None


CHANGES = [
    *(other_view, other_leader, lost_message, other_order, lost_block, lower_lock, voted_already),
    *(timed_out_already, suspicion, later_timer, stopped),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_matters_makes_a_difference(execution: Execution, change: Callable[[Execution], None]) -> None:
    before = fingerprint(execution)
    copy = copy_of(execution)
    assert fingerprint(copy) == before
    change(copy)
    assert fingerprint(copy) != before
    assert fingerprint(execution) == before, "the copy shares what changes"


def test_a_copy_goes_its_own_way(execution: Execution) -> None:
    before, copies = fingerprint(execution), [copy_of(execution), copy_of(execution)]
    for copy in copies:
        copy.play(Round(Turn(1), 0b01111), None)
        assert copy.calm(5, 20) is not None
    assert told(copies[0]) == told(copies[1])
    assert fingerprint(execution) == before
    execution.play(Round(Turn(1), 0b01111), None)
    execution.calm(5, 20)
    assert told(execution)[0] == told(copies[0])[0]


def test_what_cannot_be_copied_is_refused(execution: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica(execution, 0)._suspects, "reason", lambda: None, raising=False)
    with pytest.raises(TypeError, match="function"):
        copy_of(execution)
