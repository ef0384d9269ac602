"""One replica as a process: reads its files, starts, runs until it is told to stop or cannot go on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from hotstuff import native
from hotstuff.consensus.desk import Desk
from hotstuff.consensus.effects import Connected, Effect
from hotstuff.consensus.replica import Replica
from hotstuff.consensus.rules import RULES
from hotstuff.consensus.safety import Safety, SafetyRecord
from hotstuff.consensus.verifier import Verifier
from hotstuff.crypto.selftest import self_test
from hotstuff.errors import ConfigError
from hotstuff.mempool.mempool import Mempool
from hotstuff.network import ClientLimits, FrameServer, PeerAddress, PeerLimits, PeerNetwork
from hotstuff.network.framing import Body
from hotstuff.node.config import NodeConfig, PeerEntry
from hotstuff.node.driver import Driver
from hotstuff.node.executor import Executor
from hotstuff.node.gateway import Gateway
from hotstuff.node.genesis import Genesis
from hotstuff.node.keys import Keys
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.batch import MAX_BODY_BYTES

logger = logging.getLogger("hotstuff.node")

# A frame holds one batch or one page of blocks, with its head.
MAX_FRAME_BYTES = MAX_BODY_BYTES + 1024 * 1024
# Threads that verify and write hand results to a busy event loop; with Python's default of 5 ms each handover may
# wait that long.
SWITCH_INTERVAL_S = 0.0005
# New containers between two looks of the garbage collector: a second's worth of messages under load.
GC_THRESHOLD = 50_000
# Freed memory that is kept for the next bodies: about what is under way at full load.
KEPT_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True)
class Home:
    """A node's files, read and checked against each other."""

    config: NodeConfig
    genesis: Genesis
    keys: Keys
    index: int

    @classmethod
    def load(cls, path: Path) -> Home:
        """Raises `ConfigError` for the first thing that does not fit."""
        config = NodeConfig.load(path)
        genesis, keys = Genesis.load(config.genesis), Keys.load(config.keys)
        index = genesis.index_of(keys.bls.public_key().to_bytes())
        if index is None:
            raise ConfigError(str(config.keys), keys.bls.public_key().to_bytes().hex(), "a validator of the genesis")
        if genesis.validators.validators[index].node_key != keys.node.public_key():
            raise ConfigError(str(config.keys), "two keys of different validators", "both keys of one validator")
        config.require_members(genesis.validators)
        return cls(config, genesis, keys, index)


class Node:
    """One running replica."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._store = self._open_store()
        self._driver = self._make_driver()
        self._gateway = self._make_gateway()
        self._network = self._make_network()
        self._server = FrameServer(
            secret=home.keys.node.private_key,
            bind=home.config.client_bind or self._entry(home.index).client,
            tls=home.config.tls,
            handler=self._gateway,
            limits=ClientLimits(),
        )

    async def run(self) -> None:
        """Until SIGTERM or SIGINT (a second one ends the process at once), or until it cannot go on: raises why."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            await self._listen("peer_bind", self._network)
            await self._listen("client_bind", self._server)
            self._driver.start(self._network)
            logger.info("ready", extra={"fields": self._addresses()})
            await self._stop.wait()
        finally:
            await self._close()
        if self._error is not None:
            raise self._error

    async def _listen(self, field: str, listener: PeerNetwork | FrameServer) -> None:
        try:
            await listener.start()
        except ConfigError as error:
            raise ConfigError(f"{self._home.config.path}: {field}", error.given, error.allowed) from None

    # ---- network.PeerHandler

    def frame_received(self, peer: int, kind: int, body: Body) -> None:
        """A peer's frame."""
        self._driver.frame_received(peer, kind, body)

    def peer_connected(self, peer: int) -> None:
        """A link came up."""
        self._driver.post(Connected(peer))

    def peer_lost(self, peer: int) -> None:
        """A link went down; the network sets it up again and says so in the log."""

    def fatal(self, exc: BaseException) -> None:
        """Cannot go on: stop, and let `run` raise it."""
        if self._error is None:
            logger.critical("stopping: %s", exc)
            self._error = exc
        self._stop.set()

    # ---- parts

    def _entry(self, index: int) -> PeerEntry:
        key = self._home.genesis.validators.validators[index].node_key
        return self._home.config.validators[key]

    def _open_store(self) -> ChainStore:
        home = self._home
        data = DataDir.open(
            home.config.data,
            home.genesis.chain_id,
            home.index,
            fsync=home.config.fsync,
            max_bytes=home.config.storage_max_mib * 1024 * 1024,
            create_if_missing=True,
        )
        return ChainStore(data)

    def _safety_record(self) -> SafetyRecord:
        stored = self._store.load_safety()
        if stored is not None:
            return stored
        # `hotstuff testnet` writes the first record. If there is none, this validator may have signed elsewhere.
        logger.warning("no safety record: will not sign until the others have moved past whatever was signed before")
        record = SafetyRecord.initial(self._home.genesis.context, passive=True)
        self._store.write_safety(record)
        return record

    def _make_driver(self) -> Driver:
        home, store = self._home, self._store
        genesis = home.genesis
        rules = RULES[genesis.context.mode]
        executed = store.load_executed(genesis.context, len(genesis.validators))
        record = self._safety_record()
        safety = Safety(home.index, genesis.context, rules, home.keys.bls, home.keys.node, record)
        replica = Replica(
            context=genesis.context,
            validators=genesis.validators,
            rules=rules,
            leaders=genesis.rotation.leaders(genesis.validators),
            safety=safety,
            root=executed.node(),
            blocks=store.blocks_above(executed.height),
            commit_qc=store.last_commit_qc(),
            payload=lambda effects, desk: self._make_mempool(safety, executed.included, effects, desk),
            timing=home.config.timing,
        )
        return Driver(
            replica=replica,
            store=store,
            verifier=Verifier(genesis.context, genesis.validators),
            executor=Executor(executed, store.load_sessions()),
            answer=lambda answers: self._gateway.answer(answers),
            fatal=self.fatal,
        )

    def _make_mempool(self, safety: Safety, executed: tuple[int, ...], effects: list[Effect], desk: Desk) -> Mempool:
        self._mempool = Mempool(
            validators=self._home.genesis.validators,
            safety=safety,
            config=self._home.config.mempool,
            executed=executed,
            held=self._store.held_refs(executed),
            effects=effects,
            desk=desk,
        )
        return self._mempool

    def _make_gateway(self) -> Gateway:
        driver = self._driver
        return Gateway(
            submit=driver.post,
            room_bytes=self._mempool.room_bytes,
            ready=lambda: not driver.disk_full and not driver.replica.safety.record.passive,
            status=self.status,
            fatal=self.fatal,
        )

    def _make_network(self) -> PeerNetwork:
        home = self._home
        peers = [
            PeerAddress(i, *self._entry(i).peer, validator.node_key)
            for i, validator in enumerate(home.genesis.validators.validators)
            if i != home.index
        ]
        return PeerNetwork(
            index=home.index,
            secret=home.keys.node.private_key,
            peers=peers,
            bind=home.config.peer_bind or self._entry(home.index).peer,
            network_id=home.genesis.chain_id,
            tls=home.config.tls,
            handler=self,
            limits=PeerLimits(max_frame_bytes=MAX_FRAME_BYTES, max_buffered_bytes=2 * MAX_FRAME_BYTES),
        )

    # ---- status and end

    def status(self) -> dict[str, object]:
        """Where this replica stands, for people and tools."""
        driver = self._driver
        replica, executed = driver.replica, driver.executed
        record = replica.safety.record
        return {
            "network": self._home.genesis.name,
            "validator": self._home.index,
            "view": replica.view,
            "voted_view": record.voted_view,
            "high_qc_view": record.high_qc.view,
            "committed_height": replica.tree.root.height,
            "executed_height": executed.height,
            "executed_tx": executed.tx_count,
            "state": executed.state.hex(),
            "passive": record.passive,
            "disk_full": driver.disk_full,
            "peers": sorted(self._network.connected),
            "counters": dict(sorted(driver.counters.items())),
            "traffic": self._network.stats(),
        }

    def _addresses(self) -> dict[str, str | int]:
        return {
            "validator": self._home.index,
            "peer_port": self._network.bound_port,
            "client_port": self._server.bound_port,
            "tls": str(self._home.config.tls).lower(),
            "fsync": str(self._home.config.fsync).lower(),
        }

    def _signalled(self) -> None:
        if self._stop.is_set():
            sys.exit(1)
        logger.info("stopping")
        self._stop.set()

    async def _close(self) -> None:
        with contextlib.suppress(Exception):
            await self._server.stop()
        with contextlib.suppress(Exception):
            await self._network.stop()
        self._driver.stop()
        self._store.close()


async def run_node(home: Path) -> None:
    """Reads the files under `home` and runs the replica until it is told to stop."""
    self_test()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    native.keep_memory(KEPT_BYTES)
    node = Node(Home.load(home))
    # What exists now lives as long as the process: the collector need not look at it again, nor at every message.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    await node.run()
