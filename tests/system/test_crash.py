"""Processes that are killed or paused under load: the others go on if they can, nothing that a client saw is lost."""

from __future__ import annotations

import random
import time

import pytest
from harness import Load, Testnet

PAUSE_S = 10.0
STILL_S = 3.0  # three view timeouts
KILLS = 12


def assert_takes_part(load: Load, replica: int) -> None:
    """Four replicas, one of the others dies: a quorum needs `replica` then."""
    other = (replica + 1) % 4
    load.net.kill(other)
    load.wait_more()
    load.net.start(other)


def test_one_killed(net: Testnet) -> None:
    load = net.load()
    load.wait_more()
    net.kill(3)
    net.wait_progress(0, 1, 2, blocks=20)
    goal = net.height(0)
    net.start(3)
    started = time.monotonic()
    net.wait("it has caught up", lambda: net.height(3) >= goal)
    print(f"caught up to height {goal} within {time.monotonic() - started:.2f} s of being connected")
    net.wait_progress(3)
    assert_takes_part(load, 3)
    load.stop()
    load.assert_all_kept()


def test_two_killed(net: Testnet) -> None:
    load = net.load()
    load.wait_more()
    net.kill(2, 3)
    net.wait_still(STILL_S)
    seen, heights = load.committed, [net.height(0), net.height(1)]
    net.start(2)
    load.wait_more()
    assert load.committed > seen
    net.start(3)
    net.wait_progress(0, 1, 2, 3)
    assert min(net.height(0), net.height(1)) > max(heights)
    load.stop()
    load.assert_all_kept()


def test_all_killed_at_once(net: Testnet) -> None:
    load = net.load(clients=8)
    load.wait_more(300)
    net.kill(0, 1, 2, 3)
    seen = load.committed
    net.start()
    load.wait_more()
    assert load.committed > seen
    load.stop()
    load.assert_all_kept()


def test_all_killed_and_nobody_sends(net: Testnet) -> None:
    """What was under way when they died is not needed to bring them together again."""
    load = net.load()
    load.wait_more()
    net.kill(0, 1, 2, 3)
    load.stop()
    net.start()
    net.wait_equal()
    load.assert_all_kept()


def test_one_paused(net: Testnet) -> None:
    load = net.load()
    load.wait_more()
    net.nodes[1].pause()
    resume_at = time.monotonic() + PAUSE_S
    load.wait_more()
    time.sleep(max(0.0, resume_at - time.monotonic()))  # the pause itself
    goal = net.height(0)
    net.nodes[1].resume()
    started = time.monotonic()
    net.wait("it has caught up", lambda: net.height(1) >= goal)
    print(f"caught up to height {goal} within {time.monotonic() - started:.2f} s of the end of the pause")
    assert_takes_part(load, 1)
    load.stop()
    load.assert_all_kept()


@pytest.mark.parametrize("seed", [1])
def test_random_kills(net: Testnet, seed: int) -> None:
    """One, two or all at a time, and again before or after they have come together."""
    rng = random.Random(seed)
    load = net.load()
    killed = 0
    while killed < KILLS:
        victims = rng.sample(range(4), rng.choice((1, 1, 2, 4)))
        killed += len(victims)
        load.wait_more(rng.choice((5, 20, 100)))
        net.kill(*victims)
        time.sleep(rng.uniform(0, 0.5))  # any moment will do
        net.start(*victims)
    load.stop()
    load.assert_all_kept()
