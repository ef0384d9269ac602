"""A validator whose data directory is gone may have signed anything: it keeps silent until that cannot matter."""

from __future__ import annotations

import pytest
from harness import Testnet

from hotstuff.errors import RequestTimeout

WARNING = "no safety record"
STILL_S = 3.0


def lose_data(net: Testnet, replica: int) -> None:
    """Wipe and restart a replica."""
    net.stop(replica)
    net.nodes[replica].wipe()
    net.start(replica)
    assert net.nodes[replica].said(WARNING)
    assert net.value(replica, "passive") is True


def test_wiped_replica_keeps_silent_in_an_idle_cluster(net: Testnet) -> None:
    for i in range(5):
        net.submit(b"tx-%d" % i)
    executed = net.wait_equal()["executed_tx"]
    assert executed == 5
    lose_data(net, 3)
    net.wait_equal()  # it learns the chain, silent as it is
    net.wait_still(STILL_S)
    assert net.value(3, "passive") is True
    # Still so after a crash, which leaves it a record that says so.
    net.kill(3)
    net.start(3)
    assert net.value(3, "passive") is True
    assert net.wait_equal()["executed_tx"] == executed
    # Two that may sign and a silent one are no quorum; replica 1 keeps the transaction until there is one.
    net.kill(0)
    with pytest.raises(RequestTimeout):
        net.submit(b"too early", author=1, timeout_s=STILL_S)
    assert net.value(3, "passive") is True
    net.start(0)
    net.wait("the transaction has been committed", lambda: net.value(0, "executed_tx") == executed + 1)
    net.stop_and_compare(net.wait_equal()["executed_height"])


def test_wiped_replica_rejoins_under_load(net: Testnet) -> None:
    load = net.load()
    load.wait_more(200)
    lose_data(net, 3)
    net.wait("it may sign again", lambda: not net.value(3, "passive"))
    assert net.nodes[3].said("rejoined")
    net.wait_progress(3)
    net.kill(0)
    load.wait_more()  # needs the signature of 3
    net.start(0)
    load.stop()
    load.assert_all_kept()
