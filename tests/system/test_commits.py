"""Four processes in good health: they commit, they rest when there is nothing to do, they stop when told to."""

from __future__ import annotations

import signal
import time

import pytest
from harness import MakeTestnet, Testnet

# What an idle replica may use of one core, in per cent, and over how long it is measured.
IDLE_CPU_PERCENT = 2.0
IDLE_S = 5.0
STOP_S = 5.0


def test_four_processes_commit_the_same(net: Testnet) -> None:
    load = net.load()
    load.wait_more(500)
    load.stop()
    load.assert_all_kept()


def test_lone_transaction_does_not_wait_for_a_full_batch(make_net: MakeTestnet) -> None:
    net = make_net(batch_kib=2048, batch_max_age_ms=10_000)
    net.start()
    started = time.monotonic()
    receipt = net.submit(b"alone")
    took_s = time.monotonic() - started
    assert (receipt.count, receipt.fresh) == (1, 1)
    assert took_s < 8, f"took {took_s:.1f} s: it waited for others"


def test_idle_cluster_rests(net: Testnet) -> None:
    for i in range(3):
        net.submit(b"tx-%d" % i)
    net.wait_still(1.0)
    net.wait_equal()
    names = ("view", "high_qc_view", "committed_height", "executed_height", "executed_tx", "counters")
    before = {i: [status[name] for name in names] for i, status in net.statuses().items()}
    used = [node.cpu_s() for node in net.nodes]
    time.sleep(IDLE_S)  # the measured period itself
    percent = [100 * (node.cpu_s() - used[node.index]) / IDLE_S for node in net.nodes]
    assert {i: [status[name] for name in names] for i, status in net.statuses().items()} == before
    print(f"idle replicas use {', '.join(f'{p:.2f}' for p in percent)} % of a core")
    assert max(percent) < IDLE_CPU_PERCENT, percent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_told_to(net: Testnet, number: signal.Signals) -> None:
    load = net.load()
    load.wait_more()
    for node in net.nodes:
        node.signal(number)
    for node in net.nodes:
        assert node.wait_exit(STOP_S) == 0
        assert node.said("stopping")
    load.stop()
    net.stop_and_compare()


def test_second_signal_forces(net: Testnet) -> None:
    """Both arrive before the first one can have done its work."""
    node = net.nodes[0]
    node.pause()
    node.signal(signal.SIGTERM)
    node.signal(signal.SIGINT)
    node.resume()
    assert node.wait_exit(STOP_S) == 1
    node.start()
    net.wait("it is back", lambda: node.said("ready"))
    net.submit(b"after")
