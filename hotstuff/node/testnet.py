"""Writes the files of a new network: genesis, and for each node its keys, config and an empty data directory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.errors import ConfigError
from hotstuff.node.config import CONFIG_FILE
from hotstuff.node.files import parse_address, write_json
from hotstuff.node.genesis import (
    DEFAULT_ROTATION,
    FIRST_EPOCH,
    MAX_STICKY_VIEWS,
    NAME_ALLOWED,
    PROTOCOLS,
    Genesis,
    Rotation,
    is_name,
)
from hotstuff.node.keys import Keys
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.validators import MAX_VALIDATORS, Validator, ValidatorSet

DEFAULT_BASE_PORT = 7100


@dataclass(frozen=True)
class TestnetPlan:
    """What to write. Node i listens for peers on `base_port + 2i` and for clients on the port after it."""

    nodes: int
    name: str = "testnet"
    protocol: str = "chained"
    rotation: Rotation = DEFAULT_ROTATION
    host: str = "127.0.0.1"
    base_port: int = DEFAULT_BASE_PORT
    ports: tuple[int, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)

    def port(self, slot: int) -> int:
        """Port number `slot` of 2 * nodes."""
        return self.ports[slot] if self.ports else self.base_port + slot


def create_testnet(directory: Path, plan: TestnetPlan) -> Genesis:
    """Writes `directory`/node0 … and returns the genesis. Nothing that exists is touched."""
    if not 1 <= plan.nodes <= MAX_VALIDATORS:
        raise ConfigError("--nodes", plan.nodes, f"1 to {MAX_VALIDATORS}")
    if not is_name(plan.name):
        raise ConfigError("--name", plan.name, NAME_ALLOWED)
    if plan.protocol not in PROTOCOLS:
        raise ConfigError("--protocol", plan.protocol, " or ".join(PROTOCOLS))
    if not 1 <= plan.rotation.sticky <= MAX_STICKY_VIEWS:
        raise ConfigError("--sticky", plan.rotation.sticky, f"1 to {MAX_STICKY_VIEWS}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError("DIR", str(directory), "a new or empty directory: nothing is overwritten")
    if not plan.ports and not 1 <= plan.base_port <= 65536 - 2 * plan.nodes:
        raise ConfigError("--base-port", plan.base_port, f"1 to {65536 - 2 * plan.nodes} for {plan.nodes} nodes")
    for slot in range(2 * plan.nodes):
        parse_address(f"{plan.host}:{plan.port(slot)}", "--host")
    everyone = [Keys.generate(os.urandom(32)) for _ in range(plan.nodes)]
    everyone.sort(key=lambda keys: keys.bls.public_key().to_bytes())
    members = tuple(Validator(k.node.public_key(), k.bls.public_key().to_bytes(), 1) for k in everyone)
    possessions = tuple(keys.possession(plan.name) for keys in everyone)
    genesis = Genesis(plan.name, plan.protocol, ValidatorSet(FIRST_EPOCH, members), possessions, plan.rotation)
    addresses = {
        keys.node.public_key().hex(): {
            "peer": f"{plan.host}:{plan.port(2 * i)}",
            "client": f"{plan.host}:{plan.port(2 * i + 1)}",
        }
        for i, keys in enumerate(everyone)
    }
    for i, keys in enumerate(everyone):
        home = directory / f"node{i}"
        home.mkdir(parents=True)
        genesis.save(home / "genesis.json")
        keys.save(home / "keys.json")
        write_json(home / CONFIG_FILE, {"validators": addresses, **plan.settings})
        create_data(home / "data", genesis, i)
    return genesis


def create_data(path: Path, genesis: Genesis, index: int) -> None:
    """An empty data directory with the record of a validator that has never signed.

    Only for a validator that is new: with a key that has signed before, it could sign the opposite.
    """
    DataDir.create(path, genesis.chain_id, index)
    data = DataDir.open(path, genesis.chain_id, index, create_if_missing=False)
    try:
        ChainStore(data).write_safety(SafetyRecord.initial(genesis.context, passive=False))
    finally:
        data.close()
