"""Networks of real processes for the system tests, and clients that remember what they were told.

A `Testnet` writes the files of a network, runs its replicas as child processes and kills, stops or pauses them by
their process id. Nothing here sleeps for a fixed time in order to let something happen: `Testnet.wait` polls a
condition and, if it does not come true in time, fails with the status and the last log lines of every replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from hotstuff import native
from hotstuff.client import Client, Receipt, ReplicaAddress, fetch_status
from hotstuff.errors import ClientError, RequestTimeout
from hotstuff.node.genesis import Genesis
from hotstuff.node.testnet import TestnetPlan, create_testnet
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.block import Block

T = TypeVar("T")
Status = dict[str, Any]
MakeTestnet = Callable[..., "Testnet"]

# Generous: two slow cores may be shared with other work. A test that passes never waits this long.
DEADLINE_S = 60.0
POLL_S = 0.05
TAIL_LINES = 12
RESENT_AT_ONCE = 32
# Below the range from which the system takes ports of outgoing connections: a replica that is restarted must not find
# its port in use by some client's end of a connection. 32 ports are one network's.
PORTS = range(12_000, 32_000, 32)

# The child dies with this process, whatever way it ends; `start_new_session` alone would let it live on.
_RUN_NODE = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
from hotstuff.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class LoopThread:
    """An event loop in a thread, for clients that run while the test goes on."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="clients", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = DEADLINE_S) -> T:
        """Runs `work` there and waits for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        """Ends the loop; nothing may run in it any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE_S)
        self.loop.close()


class PortBlock:
    """Free TCP ports that no other test process takes: the UDP port of the first one is held as the claim."""

    def __init__(self, count: int) -> None:
        bases = list(PORTS)
        random.Random(os.urandom(8)).shuffle(bases)
        for base in bases:
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.ports = tuple(range(base, base + count))
            if _binds(claim, base) and all(_is_free(port) for port in self.ports):
                self._claim = claim
                return
            claim.close()
        raise AssertionError("no free ports")

    def close(self) -> None:
        """Others may have them."""
        self._claim.close()


def _binds(sock: socket.socket, port: int) -> bool:
    with contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return _binds(probe, port)


class Process:
    """`hotstuff` with some arguments, its output in a file. One object for all lives of one replica."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        self._arguments = arguments
        self._child: subprocess.Popen[bytes] | None = None
        self._life_at = 0
        log.touch()

    @property
    def pid(self) -> int:
        """Of the current life."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Started and not ended (it may be paused)."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """A new life."""
        assert not self.running
        self._life_at = self.log.stat().st_size
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _RUN_NODE, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """To this process alone."""
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        if self.running:
            self.signal(signal.SIGKILL)
        self.wait_exit()

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """The exit status; fails if it does not end in time."""
        assert self._child is not None
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"process {self.pid} did not end within {timeout_s} s\n{self.tail()}")

    def output(self) -> str:
        """Everything that this life has written."""
        with self.log.open("rb") as file:
            file.seek(self._life_at)
            return file.read().decode(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The log of this life. A line that is being written is left out; one that is not JSON fails."""
        return [json.loads(line) for line in self.output().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, text: str) -> list[dict[str, Any]]:
        """The log lines of this life whose message contains `text`."""
        return [line for line in self.lines() if text in line["message"]]

    def tail(self) -> str:
        """The last lines of all lives."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def cpu_s(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Node(Process):
    """One replica of a network."""

    def __init__(self, index: int, home: Path) -> None:
        super().__init__(["node", "--home", str(home)], home / "log")
        self.index = index
        self.home = home
        self.data = home / "data"
        self.paused = False

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def kill(self) -> None:
        super().kill()
        self.paused = False

    @property
    def answering(self) -> bool:
        """Can it be asked for its status?"""
        return self.running and not self.paused

    def configure(self, **settings: object) -> None:
        """Changes fields of the config file; None removes one."""
        path = self.home / "config.json"
        fields = {**json.loads(path.read_bytes()), **settings}
        path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))

    def wipe(self) -> None:
        """Removes the data directory."""
        shutil.rmtree(self.data)


class Testnet:
    """A network of `size` replicas on loopback with TLS. `settings` go into every config file."""

    __test__ = False  # not a test class, whatever its name

    def __init__(self, directory: Path, size: int = 4, **settings: object) -> None:
        self._ports = PortBlock(2 * size)
        plan = TestnetPlan(size, ports=self._ports.ports, settings=settings)
        self.genesis: Genesis = create_testnet(directory, plan)
        self.nodes = [Node(i, directory / f"node{i}") for i in range(size)]
        members = self.genesis.validators.validators
        self.addresses = [
            ReplicaAddress("127.0.0.1", plan.port(2 * i + 1), member.node_key, member.power)
            for i, member in enumerate(members)
        ]
        self.peer_ports = [plan.port(2 * i) for i in range(size)]
        self.clients = LoopThread()
        self._loads: list[Load] = []

    def close(self) -> None:
        """Ends everything."""
        for load in self._loads:
            load.stop()
        for node in self.nodes:
            if node.running:
                node.kill()
        self.clients.close()
        self._ports.close()

    # ---- life of replicas

    def start(self, *indices: int) -> None:
        """Starts these replicas (all by default) and waits until they are ready and connected to one another."""
        chosen = [self.nodes[i] for i in indices] or self.nodes
        for node in chosen:
            node.start()
        for node in chosen:
            self.wait(f"replica {node.index} is ready", partial(self._is_ready, node))
        self.wait("links are up", self._linked)

    def _is_ready(self, node: Node) -> bool:
        if not node.running:
            pytest.fail(f"replica {node.index} ended with status {node.wait_exit()}\n{node.tail()}")
        return bool(node.said("ready"))

    def _linked(self) -> bool:
        up = {node.index for node in self.nodes if node.answering}
        return all(up <= {i, *status["peers"]} for i, status in self.statuses().items())

    def stop(self, *indices: int) -> None:
        """SIGTERM to these replicas (all that run by default); each must end with status 0."""
        chosen = [self.nodes[i] for i in indices] or [node for node in self.nodes if node.running]
        for node in chosen:
            node.signal(signal.SIGTERM)
        for node in chosen:
            assert node.wait_exit() == 0, node.tail()

    def kill(self, *indices: int) -> None:
        """kill -9, all at once."""
        for i in indices:
            self.nodes[i].signal(signal.SIGKILL)
        for i in indices:
            self.nodes[i].kill()

    # ---- asking

    def try_status(self, i: int) -> Status | None:
        """A replica's status, or None if it does not answer."""
        with contextlib.suppress(ClientError):
            return self.clients.call(fetch_status(self.addresses[i]))
        return None

    def status(self, i: int) -> Status:
        """A replica's status."""
        return self.wait(f"replica {i} answers", lambda: self.try_status(i))

    def statuses(self) -> dict[int, Status]:
        """Of every replica that runs and answers."""
        found = {node.index: self.try_status(node.index) for node in self.nodes if node.answering}
        return {i: status for i, status in found.items() if status is not None}

    def value(self, i: int, name: str) -> Any:
        """One field of a replica's status."""
        return self.status(i)[name]

    def height(self, i: int) -> int:
        """How many blocks a replica has executed."""
        return int(self.value(i, "executed_height"))

    # ---- waiting

    def wait(self, what: str, condition: Callable[[], T | None], timeout_s: float = DEADLINE_S) -> T:
        """The first true value of `condition`; fails with everything there is to know if it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout_s} s: {what}\n{self.report()}")
            time.sleep(POLL_S)
        return value

    def wait_progress(self, *indices: int, blocks: int = 5, timeout_s: float = DEADLINE_S) -> None:
        """Until each of these replicas has executed so many blocks more."""
        goals = {i: self.height(i) + blocks for i in indices}
        self.wait(
            f"{blocks} more blocks at {indices}",
            lambda: all(self.height(i) >= goal for i, goal in goals.items()),
            timeout_s,
        )

    def wait_still(self, still_s: float, timeout_s: float = DEADLINE_S) -> None:
        """Until nothing has been committed anywhere for `still_s`: it can commit nothing, or has nothing to."""
        seen: list[tuple[object, float]] = []

        def still() -> bool:
            heights = {i: (s["committed_height"], s["executed_height"]) for i, s in self.statuses().items()}
            now = time.monotonic()
            if not seen or seen[-1][0] != heights:
                seen.append((heights, now))
            return now - seen[-1][1] >= still_s

        self.wait(f"no commit for {still_s} s", still, timeout_s)

    def wait_equal(self, timeout_s: float = DEADLINE_S) -> Status:
        """Until all replicas run and are at the same place, with all that has been ordered; returns one's status."""
        names = ("executed_height", "committed_height", "executed_tx", "state", "view")

        def equal() -> Status | None:
            found = self.statuses()
            places = {tuple(status[name] for name in names) for status in found.values()}
            return found[0] if len(found) == len(self.nodes) and len(places) == 1 else None

        return self.wait("all replicas are at the same place", equal, timeout_s)

    def report(self) -> str:
        """Status and last log lines of every replica."""
        parts = []
        for node in self.nodes:
            state = "paused" if node.paused else "running" if node.running else "not running"
            status = self.try_status(node.index) if node.answering else None
            parts.append(f"--- replica {node.index}: {state}, {status}\n{node.tail()}")
        return "\n".join(parts)

    # ---- load

    def load(self, **options: Any) -> Load:
        """Clients that send all the time until `Load.stop`."""
        load = Load(self, **options)
        self._loads.append(load)
        return load

    def submit(self, *transactions: bytes, author: int | None = None, timeout_s: float = DEADLINE_S) -> Receipt:
        """One frame from a new client, to a certain replica first if it matters."""

        async def send() -> Receipt:
            async with Client(self.addresses, author=author) as client:
                return await client.submit(transactions, timeout_s=timeout_s)

        return self.clients.call(send(), timeout_s + DEADLINE_S)

    # ---- what is on disk

    def stop_and_compare(self, min_height: int = 0) -> Stored:
        """Stops all that run, then compares the committed chains on disk block by block, and what was executed.

        `min_height` is what every chain must reach. They need not end alike: a client that got no answer in time has
        sent its frame to the next replica as well, and that one may get it ordered once more while the others stop.
        Also fails on any trace of a broken protocol in the logs. Returns what the one with the longest chain has.
        """
        self.stop()
        found = [Stored.read(node.data, self.genesis) for node in self.nodes]
        best = max(found, key=lambda stored: len(stored.chain))
        longest = best.chain
        for i, stored in enumerate(found):
            for height, block_id in enumerate(stored.chain, start=1):
                assert block_id == longest[height - 1], f"replica {i} has another block at height {height}"
            assert len(stored.chain) >= min_height, f"replica {i} ends at height {len(stored.chain)}, not {min_height}"
            if len(stored.chain) == len(longest):
                assert (stored.state, stored.tx_count) == (best.state, best.tx_count), f"replica {i} has another state"
        for node in self.nodes:
            log = node.log.read_text(errors="replace")
            for trace in ("Traceback", "evidence", "strike", "safety violation", '"level":"critical"'):
                assert trace not in log, f"replica {node.index}: {trace} in its log\n{node.tail()}"
        return best


@dataclass(frozen=True)
class Stored:
    """What one stopped replica has on disk."""

    chain: list[bytes]
    state: bytes
    tx_count: int
    frames: dict[int, list[bytes]]
    """By height, every frame ordered there."""

    @classmethod
    def read(cls, path: Path, genesis: Genesis) -> Stored:
        """From the data directory of a replica that does not run."""
        store = ChainStore(DataDir.open_readonly(path))
        try:
            chain = store.committed_ids(1, limit=10**9)
            blocks = {block.id: block for block in store.blocks_above(0)}
            frames = {height: _frames(store, blocks[block_id]) for height, block_id in enumerate(chain, start=1)}
            place = store.load_executed(genesis.context, len(genesis.validators))
            assert place.height == len(chain)
            return cls(chain, place.state, place.tx_count, frames)
        finally:
            store.close()


def _frames(store: ChainStore, block: Block) -> list[bytes]:
    found = []
    for ref in block.payload:
        batch = store.load_batch(ref)
        assert batch is not None, f"batch {ref.author}/{ref.seq} is committed and not stored"
        found += [bytes(batch.body[f.offset : f.offset + f.size]) for f in batch.frames]
    return found


@dataclass
class ClientRecord:
    """What one client sent, and what it was told."""

    client_id: bytes
    frame_tx: int
    tx_bytes: int
    frames: int = 0
    receipts: dict[int, Receipt] = field(default_factory=dict)
    """By first number."""

    def transactions(self, frame: int) -> list[bytes]:
        """Of frame number `frame`, counted from 0: the same ones whenever it is asked for."""
        first = 1 + frame * self.frame_tx
        name = self.client_id.hex()[:8]
        return [f"{name}-{first + i}-".encode().ljust(self.tx_bytes, b".") for i in range(self.frame_tx)]


class Load:
    """Some clients, each with one frame under way at a time, sending until `stop`."""

    def __init__(
        self, net: Testnet, *, clients: int = 4, frame_tx: int = 5, tx_bytes: int = 100, pause_s: float = 0.01
    ) -> None:
        self.net = net
        self.records = [ClientRecord(os.urandom(16), frame_tx, tx_bytes) for _ in range(clients)]
        self._pause_s = pause_s
        self._ended: asyncio.Event | None = None
        self._running = True
        self._done = asyncio.run_coroutine_threadsafe(self._run(), net.clients.loop)

    async def _run(self) -> None:
        self._ended = asyncio.Event()
        tasks = [asyncio.create_task(self._send(record)) for record in self.records]
        ended = asyncio.create_task(self._ended.wait())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, ended):
            task.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        for task in done - {ended}:
            task.result()  # none ends by itself unless something is wrong

    async def _send(self, record: ClientRecord) -> None:
        async with Client(self.net.addresses, client_id=record.client_id, retry_s=1.0) as client:
            while self._running:
                transactions = record.transactions(record.frames)
                record.frames += 1
                with contextlib.suppress(RequestTimeout):
                    receipt = await client.submit(transactions, timeout_s=10 * DEADLINE_S)
                    record.receipts[receipt.first_seq] = receipt
                await asyncio.sleep(self._pause_s)

    @property
    def committed(self) -> int:
        """Transactions that a client has seen committed."""
        return sum(receipt.count for record in self.records for receipt in record.receipts.values())

    def wait_more(self, transactions: int = 50, timeout_s: float = DEADLINE_S) -> None:
        """Until clients have seen so many more commit."""
        assert not self._done.done(), self._done.result()
        goal = self.committed + transactions
        self.net.wait(f"{transactions} more transactions seen", lambda: self.committed >= goal, timeout_s)

    def stop(self) -> None:
        """No more; what was not answered yet stays unknown."""
        if self._running:
            self._running = False
            self.net.wait("load has started", lambda: self._ended)
            assert self._ended is not None
            self.net.clients.loop.call_soon_threadsafe(self._ended.set)
            self._done.result(DEADLINE_S)

    def resubmit(self) -> None:
        """Every frame once more, by clients with the same ids: nothing that was seen as committed may be new."""
        for record in self.records:
            again = self.net.clients.call(self._resend(record))
            for first_seq, receipt in record.receipts.items():
                assert again[first_seq].fresh == 0, f"lost: {receipt}, executed again: {again[first_seq]}"

    async def _resend(self, record: ClientRecord) -> dict[int, Receipt]:
        receipts: dict[int, Receipt] = {}
        async with Client(self.net.addresses, client_id=record.client_id) as client:
            for start in range(0, record.frames, RESENT_AT_ONCE):
                some = range(start, min(start + RESENT_AT_ONCE, record.frames))
                frames = [client.submit(record.transactions(i), timeout_s=DEADLINE_S) for i in some]
                receipts.update((receipt.first_seq, receipt) for receipt in await asyncio.gather(*frames))
        return receipts

    def assert_all_kept(self, *, others: int = 0) -> None:
        """All replicas run and the load is over: whatever a client saw is there, once, and at every replica alike.

        `others`: transactions that came from elsewhere. Ends with the network stopped and compared on disk.
        """
        self.resubmit()
        assert self.net.submit(b"one more").fresh == 1
        place = self.net.wait_equal()
        assert place["executed_tx"] == self.sent + others + 1
        stored = self.net.stop_and_compare(place["executed_height"])
        assert stored.tx_count == place["executed_tx"]
        self.assert_on_disk(stored)

    @property
    def sent(self) -> int:
        """Transactions sent, whatever became of them."""
        return sum(record.frames * record.frame_tx for record in self.records)

    def assert_on_disk(self, stored: Stored) -> None:
        """Every frame with a receipt is in the block that the receipt names, byte for byte."""
        for record in self.records:
            for first_seq, receipt in record.receipts.items():
                transactions = record.transactions((first_seq - 1) // record.frame_tx)
                frame = native.build_frame(record.client_id, first_seq, transactions)
                assert frame in stored.frames.get(receipt.height, []), f"not in its block: {receipt}"
