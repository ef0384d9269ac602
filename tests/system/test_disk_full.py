"""One replica has no space left: it says so and keeps silent, the others go on, and it comes back by itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Load, MakeTestnet, Node, Testnet

DISK_MIB = 48
FILLER_MIB = 40
FULL, SPACE = "disk full", "disk has space again"
FULL_REPLICA = 2
STILL_S = 3.0


def mount_small_disk(node: Node) -> None:
    """Puts the data directory on a tmpfs of `DISK_MIB`."""
    prepared = node.home / "prepared"
    node.data.rename(prepared)
    node.data.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", str(node.data)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    shutil.copytree(prepared, node.data, dirs_exist_ok=True)


@pytest.fixture
def small_disk(make_net: MakeTestnet) -> Iterator[tuple[Testnet, Path]]:
    """A running network of which one replica has little space, and the file that takes most of it."""
    net = make_net()
    node = net.nodes[FULL_REPLICA]
    try:
        mount_small_disk(node)
        filler = node.data / "filler"
        with filler.open("wb") as file:
            for _ in range(FILLER_MIB):
                file.write(bytes(1 << 20))
        net.start()
        yield net, filler
    finally:
        if node.running:
            node.kill()
        subprocess.run(["umount", "--lazy", str(node.data)], capture_output=True, check=False)


def test_full_disk_stops_one_replica_until_there_is_space(small_disk: tuple[Testnet, Path]) -> None:
    net, filler = small_disk
    load = net.load(tx_bytes=20_000, pause_s=0.02)
    net.wait("the disk is full", lambda: net.value(FULL_REPLICA, "disk_full"))
    assert_silent(load)
    load.stop()
    net.wait_still(1.0)  # whatever comes from now on comes because the replica asks for it
    filler.unlink()
    node = net.nodes[FULL_REPLICA]
    net.wait("it has seen the space", lambda: node.said(SPACE) and not net.value(FULL_REPLICA, "disk_full"))
    net.wait_equal()
    assert_votes_again(net)
    load.assert_all_kept(others=1)


def test_storage_limit_stops_one_replica_until_it_is_raised(make_net: MakeTestnet) -> None:
    """The limit holds for each part of the storage: bodies reach it long before votes and blocks do."""
    net = make_net()
    net.nodes[FULL_REPLICA].configure(storage_max_mib=64)
    net.start()
    load = net.load(frame_tx=4, tx_bytes=100_000, pause_s=0.02)
    net.wait("the limit is reached", lambda: net.value(FULL_REPLICA, "disk_full"))
    assert_silent(load)
    load.stop()
    net.stop(FULL_REPLICA)
    net.nodes[FULL_REPLICA].configure(storage_max_mib=1024)
    net.start(FULL_REPLICA)
    net.wait_equal()
    assert_votes_again(net)
    load.assert_on_disk(net.stop_and_compare(net.height(FULL_REPLICA)))


def assert_silent(load: Load) -> None:
    """The full replica has said so, once; the others go on; with one of them gone there is no quorum."""
    net, node = load.net, load.net.nodes[FULL_REPLICA]
    assert len(node.said(FULL)) == 1
    load.wait_more()
    net.kill(0)
    net.wait_still(STILL_S)
    assert net.value(FULL_REPLICA, "disk_full") is True
    net.start(0)
    load.wait_more()
    assert len(node.said(FULL)) == 1
    assert not node.said(SPACE)


def assert_votes_again(net: Testnet) -> None:
    """With one of the others gone, a quorum needs the replica that was full."""
    net.kill(0)
    assert net.submit(b"needs the one that was full").fresh == 1
    net.start(0)
    net.wait_equal()
