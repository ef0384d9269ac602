"""A cluster of replica processes on this machine, and what they cost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hotstuff.client import ReplicaAddress, fetch_status
from hotstuff.errors import HotstuffError, NotConnected
from hotstuff.node.config import NodeConfig
from hotstuff.node.genesis import Genesis
from hotstuff.node.testnet import TestnetPlan, create_testnet

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


class ClusterFailed(HotstuffError):
    """A replica did not start or died."""


class Memory(NamedTuple):
    """Resident memory of a process, and what of it is its own.

    The rest are mapped files: pages of its database that it has read. They are the page cache's, which takes them back
    when it needs them, so they grow with what is read and say nothing about a leak.
    """

    resident_mib: float
    own_mib: float


@dataclass
class Cluster:
    """Replica processes of a network whose files are in `directory`."""

    directory: Path
    genesis: Genesis
    tls: bool
    replicas: list[ReplicaAddress]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def create(cls, directory: Path, nodes: int, *, protocol: str, tls: bool, settings: dict[str, object]) -> Cluster:
        """Writes the files of a new network on free ports of this machine."""
        plan = TestnetPlan(
            nodes,
            name="bench",
            protocol=protocol,
            ports=free_ports(2 * nodes),
            settings={"tls": tls, "log_level": "warning", **settings},
        )
        genesis = create_testnet(directory, plan)
        entries = NodeConfig.load(directory / "node0").validators
        replicas = [
            ReplicaAddress(*entries[member.node_key].client, member.node_key, member.power)
            for member in genesis.validators.validators
        ]
        return cls(directory, genesis, tls, replicas)

    def home(self, index: int) -> Path:
        """The directory of one node."""
        return self.directory / f"node{index}"

    def log(self, index: int) -> Path:
        """Where a node's standard error goes."""
        return self.home(index) / "log"

    async def start(self) -> None:
        """Starts all replicas; returns when each is linked to all others."""
        self.processes = [self._spawn(index) for index in range(len(self.replicas))]
        try:
            await asyncio.wait_for(asyncio.gather(*map(self._until_linked, range(len(self.replicas)))), START_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise ClusterFailed(f"replicas did not find each other within {START_TIMEOUT_S:.0f} s") from None

    def _spawn(self, index: int) -> subprocess.Popen[bytes]:
        home = self.home(index).resolve()
        command = [sys.executable, "-m", "hotstuff.cli.main", "node", "--home", str(home)]
        with self.log(index).open("ab") as log:
            # In its home, because `-m` looks for the package in the working directory first, and in a checkout that is
            # the source without its compiled part.
            return subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, stderr=log)

    def kill(self, index: int) -> None:
        """As a power cut does; returns when it is gone."""
        self.processes[index].kill()
        self.processes[index].wait()

    def restart(self, index: int) -> None:
        """Starts one that was killed, and does not wait for it."""
        self.processes[index] = self._spawn(index)

    async def _until_linked(self, index: int) -> None:
        while True:
            self.check()
            try:
                status = await fetch_status(self.replicas[index], tls=self.tls)
                if len(status["peers"]) == len(self.replicas) - 1:
                    return
            except NotConnected:
                pass
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raises `ClusterFailed` if a replica has died, with the end of its log."""
        for index, process in enumerate(self.processes):
            if process.poll() is not None:
                tail = self.log(index).read_text(errors="replace")[-2000:]
                raise ClusterFailed(f"replica {index} ended with status {process.returncode}:\n{tail}")

    async def statuses(self) -> list[dict[str, Any]]:
        """Every replica's status."""
        return await asyncio.gather(*(fetch_status(replica, tls=self.tls) for replica in self.replicas))

    def stop(self) -> None:
        """Ends every process: politely, then not."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu_s(self) -> float:
        """CPU seconds used by all replicas so far; 0 where there is no /proc."""
        return sum(process_cpu_s(process.pid) for process in self.processes)

    def memory(self) -> Memory:
        """Of the largest replica now; 0 where there is no /proc."""
        each = [process_memory(process.pid) for process in self.processes]
        return Memory(max(m.resident_mib for m in each), max(m.own_mib for m in each))


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that nothing listens on now. They are held together, so all differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)
    finally:
        for one in sockets:
            one.close()


def process_cpu_s(pid: int) -> float:
    """User and system time of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def process_memory(pid: int) -> Memory:
    """What a process holds now."""
    try:
        _, resident, mapped = map(int, Path(f"/proc/{pid}/statm").read_text().split()[:3])
    except OSError:
        return Memory(0.0, 0.0)
    return Memory(resident * _PAGE_MIB, (resident - mapped) * _PAGE_MIB)
