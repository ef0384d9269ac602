"""Four real replicas with real stores and signatures in one loop; only the sockets are missing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from node_helpers import NETWORK, run, transaction, until

from hotstuff import native
from hotstuff.consensus import effects as fx
from hotstuff.consensus.leaders import Weighted
from hotstuff.consensus.replica import Replica, Timing
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.verifier import Verifier
from hotstuff.errors import DiskFull
from hotstuff.mempool.mempool import Mempool, MempoolConfig
from hotstuff.node import bodies as bodies_module
from hotstuff.node import driver as module
from hotstuff.node.driver import Driver
from hotstuff.node.executor import ClientAnswer, Executor
from hotstuff.simulator.scheme import members, validator_set
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.hashing import Context, Mode
from hotstuff.types.messages import Proposal, Timeout, Vote, decode_message

TIMING = Timing(view_timeout_ms=300, spread_ms=20, fetch_retry_ms=50)
MEMBERS = members(4, "bls")
VALIDATORS = validator_set(MEMBERS)
CONTEXT = Context(Mode.CHAINED, NETWORK, 1, VALIDATORS.hash)


class Store(ChainStore):
    """Full when the test says so."""

    full = False

    def persist(self, *args: Any) -> None:
        if self.full:
            raise DiskFull("full")
        super().persist(*args)

    def store_batches(self, *args: Any) -> None:
        if self.full:
            raise DiskFull("full")
        super().store_batches(*args)


class Member:
    """One replica: its store, its driver, and what it told its clients."""

    def __init__(self, net: Net, index: int, path: Path) -> None:
        self.net, self.index = net, index
        self.store = Store(DataDir.open(path, NETWORK, index, fsync=False, create_if_missing=True))
        record = self.store.load_safety()
        if record is None:
            record = SafetyRecord.initial(CONTEXT, passive=False)
            self.store.write_safety(record)
        safety = Safety(index, CONTEXT, RULES[Mode.CHAINED], MEMBERS[index].bls, MEMBERS[index].node, record)
        executed = self.store.load_executed(CONTEXT, 4)
        replica = Replica(
            context=CONTEXT,
            validators=VALIDATORS,
            rules=RULES[Mode.CHAINED],
            leaders=Weighted([1] * 4),
            safety=safety,
            root=executed.node(),
            blocks=self.store.blocks_above(executed.height),
            commit_qc=self.store.last_commit_qc(),
            payload=lambda effects, desk: Mempool(
                validators=VALIDATORS,
                safety=safety,
                config=MempoolConfig(fetch_retry_ms=50),
                executed=executed.included,
                held=self.store.held_refs(executed.included),
                effects=effects,
                desk=desk,
            ),
            timing=TIMING,
        )
        self.answers: list[ClientAnswer] = []
        self.driver = Driver(
            replica=replica,
            store=self.store,
            verifier=Verifier(CONTEXT, VALIDATORS),
            executor=Executor(executed, self.store.load_sessions()),
            answer=self.answers.extend,
            fatal=net.crashes.append,
        )

    # ---- Links

    def send(self, peer: int, kind: int, *parts: Any, bulk: bool = False) -> bool:
        body = b"".join(parts)
        self.check(decode_message(kind, body))
        target = self.net.members.get(peer)
        if target is None or not self.net.passes(self.index, peer):
            return False
        asyncio.get_running_loop().call_soon(self.net.deliver, target, self.index, kind, body)
        return True

    def broadcast(self, kind: int, *parts: Any, bulk: bool = False) -> int:
        return sum(self.send(peer, kind, *parts) for peer in range(4) if peer != self.index)

    def strike(self, peer: int, reason: str) -> None:
        self.net.strikes.append((self.index, peer, reason))

    def check(self, message: object) -> None:
        """What leaves is on the disk already: not in memory, on the disk."""
        record = self.store.load_safety()
        assert record is not None
        if isinstance(message, Vote):
            assert message.view <= record.voted_view
        elif isinstance(message, Timeout):
            assert message.view <= record.timed_out_view
        elif isinstance(message, Proposal):
            assert message.block.header.view <= record.proposed_view

    def submit(self, client_id: bytes, first: int, count: int) -> None:
        data = native.build_frame(client_id, first, [transaction(client_id, first + i) for i in range(count)])
        (frame,) = native.parse_body(data, 1)
        self.driver.post(fx.Submitted(data, frame))


class Net:
    """The members that run, and the network between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.members: dict[int, Member] = {}
        self.crashes: list[BaseException] = []
        self.strikes: list[tuple[int, int, str]] = []
        self.passes: Callable[[int, int], bool] = lambda _sender, _to: True

    def deliver(self, target: Member, sender: int, kind: int, body: bytes) -> None:
        if self.members.get(target.index) is target:
            target.driver.frame_received(sender, kind, body)

    def start(self, index: int) -> Member:
        member = self.members[index] = Member(self, index, self.path / str(index))
        member.driver.start(member)
        for other in self.members.values():
            if other is not member:
                member.driver.post(fx.Connected(other.index))
                other.driver.post(fx.Connected(index))
        return member

    def stop(self, index: int) -> None:
        member = self.members.pop(index)
        member.driver.stop()
        member.store.close()

    def ordered(self) -> list[int]:
        return [member.driver.executed.tx_count for member in self.members.values()]

    async def agree(self) -> None:
        await until(lambda: len({member.driver.executed for member in self.members.values()}) == 1)
        chains = [member.store.committed_ids(1, 10_000) for member in self.members.values()]
        longest = max(chains, key=len)
        assert all(chain == longest[: len(chain)] for chain in chains)
        assert self.crashes == []
        assert self.strikes == []


def go(path: Path, test: Callable[[Net], Coroutine[Any, Any, None]], start: Sequence[int] = range(4)) -> None:
    async def main() -> None:
        net = Net(path)
        try:
            for index in start:
                net.start(index)
            await test(net)
        finally:
            for index in list(net.members):
                net.stop(index)
            for _ in range(3):
                await asyncio.sleep(0)

    run(main)


def client(i: int) -> bytes:
    return bytes([i + 65]) * 16


def test_everybody_executes_the_same(tmp_path: Path) -> None:
    async def main(net: Net) -> None:
        for i in range(20):
            net.members[i % 4].submit(client(i % 3), 1 + 10 * (i // 3), 10)
        await until(lambda: net.ordered() == [200] * 4)
        await net.agree()
        answers = [member.answers for member in net.members.values()]
        assert all(each == answers[0] for each in answers)
        assert sum(answer.answer.fresh for answer in answers[0]) == 200

    go(tmp_path, main)


def test_what_is_submitted_everywhere_is_executed_once(tmp_path: Path) -> None:
    async def main(net: Net) -> None:
        for first in (1, 6, 11):
            for member in net.members.values():
                member.submit(client(0), first, 10)  # and the halves overlap
        await until(lambda: all(len(member.answers) >= 12 for member in net.members.values()))
        assert net.ordered() == [20] * 4
        await net.agree()

    go(tmp_path, main)


def test_a_restart_goes_on_from_the_disk(tmp_path: Path) -> None:
    async def main(net: Net) -> None:
        rng = random.Random(1)
        sent = 0
        for victim in (2, 0, 3):
            for _ in range(4):
                rng.choice(list(net.members.values())).submit(client(1), 1 + sent, 5)
                sent += 5
            await until(lambda n=sent: net.ordered() == [n] * 4)
            before = net.members[victim].driver.executed
            net.stop(victim)
            sent += 5
            net.members[1].submit(client(1), 1 + sent - 5, 5)
            await until(lambda n=sent: net.ordered() == [n] * 3)
            member = net.start(victim)
            assert member.driver.executed == before
            await until(lambda n=sent: net.ordered() == [n] * 4)
        await net.agree()

    go(tmp_path, main)


def test_all_stop_and_all_come_back(tmp_path: Path) -> None:
    async def first(net: Net) -> None:
        net.members[0].submit(client(0), 1, 50)
        await until(lambda: net.ordered() == [50] * 4)

    async def second(net: Net) -> None:
        assert net.ordered() == [50] * 4
        net.members[3].submit(client(0), 26, 50)
        await until(lambda: net.ordered() == [75] * 4)
        await net.agree()

    go(tmp_path, first)
    go(tmp_path, second)


def test_one_that_joins_late_catches_up(tmp_path: Path) -> None:
    async def main(net: Net) -> None:
        for i in range(5):
            net.members[i % 3].submit(client(0), 1 + 10 * i, 10)
            await until(lambda i=i: net.ordered() == [10 * (i + 1)] * 3)
        late = net.start(3)
        await until(lambda: net.ordered() == [50] * 4)
        assert late.store.load_executed(CONTEXT, 4).tx_count <= 50
        await net.agree()

    go(tmp_path, main, start=(0, 1, 2))


def test_a_full_disk_holds_up_one_and_not_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(bodies_module, "RETRY_S", 0.01)

    async def main(net: Net) -> None:
        net.members[0].submit(client(0), 1, 10)
        await until(lambda: net.ordered() == [10] * 4)
        full = net.members[2]
        full.store.full = True
        net.members[0].submit(client(0), 11, 10)
        await until(lambda: sorted(net.ordered())[1:] == [20] * 3)
        assert full.driver.disk_full
        assert full.driver.executed.tx_count == 10
        full.store.full = False
        await until(lambda: not full.driver.disk_full)
        net.members[1].submit(client(0), 21, 10)
        await until(lambda: net.ordered() == [30] * 4)
        await net.agree()

    go(tmp_path, main)


def test_a_replica_that_is_cut_off_catches_up(tmp_path: Path) -> None:
    async def main(net: Net) -> None:
        net.passes = lambda sender, to: 1 not in (sender, to)
        net.members[0].submit(client(0), 1, 10)
        await until(lambda: sorted(net.ordered()) == [0, 10, 10, 10])
        net.passes = lambda _sender, _to: True
        for peer in (0, 2, 3):
            net.members[1].driver.post(fx.Connected(peer))
            net.members[peer].driver.post(fx.Connected(1))
        await until(lambda: net.ordered() == [10] * 4)
        await net.agree()

    go(tmp_path, main)
