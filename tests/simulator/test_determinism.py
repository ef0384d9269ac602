"""Same seed, same run: in one process, in others, under other hash seeds, and with the plain Python code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hotstuff import native
from hotstuff.simulator.faults import plan
from hotstuff.simulator.setup import Action, Parameters, Plan, Setup
from hotstuff.simulator.world import World
from hotstuff.types.hashing import Mode

# Prints a hash over the traces of a few runs of every kind, Byzantine replicas and twins included.
SCRIPT = """
import random
from hotstuff import native
from hotstuff.simulator.byzantine import arm
from hotstuff.simulator.faults import plan
from hotstuff.simulator.setup import Setup
from hotstuff.simulator.strategies import mix
from hotstuff.simulator.world import World
from hotstuff.types.hashing import Mode
print(native.IMPLEMENTATION)
for seed in range(8):
    mode, protocol = ("safety", "liveness")[seed % 2], list(Mode)[seed % 4]
    byzantine = (seed % 4,) if seed >= 4 else ()
    setup = Setup(seed, protocol, byzantine=byzantine, mode=mode, wire=seed % 3 == 0, duration_us=300_000)
    world = World(setup, plan(setup))
    if byzantine:
        arm(world, {i: mix(random.Random(f"{seed}/mix")) for i in byzantine})
    print(seed, world.run().trace_hash)
"""


def traces(**environment: str) -> list[str]:
    """What the script prints in a process of its own."""
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def reference() -> list[str]:
    return traces(PYTHONHASHSEED="1")


def test_the_hash_seed_does_not_matter(reference: list[str]) -> None:
    assert traces(PYTHONHASHSEED="2") == reference
    assert len(set(reference)) == 9


@pytest.mark.skipif(native.IMPLEMENTATION == "pure", reason="the compiled code was not built")
def test_plain_python_does_not_matter(reference: list[str]) -> None:
    pure = traces(PYTHONHASHSEED="1", HOTSTUFF_PURE="1")
    assert (reference[0], pure[0]) == ("native", "pure")
    assert pure[1:] == reference[1:]


@pytest.mark.parametrize("mode", ["safety", "liveness"])
def test_a_run_can_be_repeated(mode: str) -> None:
    for seed in range(4):
        setup = Setup(seed, list(Mode)[seed % 4], mode=mode, duration_us=300_000)  # type: ignore[arg-type]
        first, second = (World(setup, plan(setup)).run() for _ in range(2))
        first.wall_s = second.wall_s = 0.0
        assert first == second


SETUP = Setup(duration_us=200_000)
PARAMETERS = Parameters(view_timeout_ms=40)
OTHERS = [
    (Setup(seed=1, duration_us=200_000), Plan(PARAMETERS)),
    (Setup(nodes=5, duration_us=200_000), Plan(PARAMETERS)),
    (Setup(protocol=Mode.JOLTEON, duration_us=200_000), Plan(PARAMETERS)),
    (Setup(duration_us=200_001), Plan(Parameters(view_timeout_ms=40, disk_us=201))),
    (SETUP, Plan(PARAMETERS, (Action(100_000, "crash", 1, for_us=10),))),
    (SETUP, Plan(PARAMETERS, (Action(100_000, "crash", 1, for_us=11),))),
    (SETUP, Plan(PARAMETERS, (Action(100_000, "crash", 2, for_us=10),))),
    (SETUP, Plan(PARAMETERS, (Action(100_001, "crash", 1, for_us=10),))),
    (SETUP, Plan(PARAMETERS, (Action(100_000, "pause", 1, for_us=10),))),
]


def test_whatever_differs_shows_in_the_hash() -> None:
    hashes = [World(setup, made).run().trace_hash for setup, made in [(SETUP, Plan(PARAMETERS)), *OTHERS]]
    assert len(set(hashes)) == len(hashes)


def test_who_watches_does_not_matter() -> None:
    from hotstuff.simulator.timeline import Timeline

    setup = Setup(seed=5, duration_us=300_000)
    made = plan(setup)
    assert World(setup, made, [Timeline()]).run().trace_hash == World(setup, made).run().trace_hash
