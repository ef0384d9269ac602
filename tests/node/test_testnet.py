from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.errors import ConfigError, DataDirMismatch, StorageError
from hotstuff.node.config import NodeConfig
from hotstuff.node.genesis import PROTOCOLS, Genesis, Rotation
from hotstuff.node.keys import Keys
from hotstuff.node.node import Home
from hotstuff.node.testnet import TestnetPlan as Plan
from hotstuff.node.testnet import create_data, create_testnet
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.types.validators import MAX_VALIDATORS


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(directory: Path, *args: Any, **options: Any) -> str:
    before = sorted(directory.rglob("*")) if directory.is_dir() else None
    with pytest.raises(ConfigError) as caught:
        create_testnet(directory, Plan(*args, **options))
    assert (sorted(directory.rglob("*")) if directory.is_dir() else None) == before, "something was written"
    return str(caught.value)


@pytest.mark.parametrize("nodes", [1, 4])
def test_the_files_of_a_network(tmp_path: Path, nodes: int) -> None:
    genesis = create_testnet(tmp_path / "net", Plan(nodes, name="here", base_port=9000))
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [f"node{i}" for i in range(nodes)]
    secrets = set()
    for i in range(nodes):
        directory = tmp_path / "net" / f"node{i}"
        assert mode(directory / "keys.json") == 0o600
        assert mode(directory / "data") == 0o700
        home = Home.load(directory)
        assert (home.index, home.genesis, home.genesis.name) == (i, genesis, "here")
        secrets |= {home.keys.bls.to_bytes(), home.keys.node.to_bytes()}
        entries = [home.config.validators[v.node_key] for v in genesis.validators.validators]
        assert [entry.peer for entry in entries] == [("127.0.0.1", 9000 + 2 * k) for k in range(nodes)]
        assert [entry.client for entry in entries] == [("127.0.0.1", 9001 + 2 * k) for k in range(nodes)]
        data = DataDir.open(home.config.data, genesis.chain_id, i, create_if_missing=False)
        assert ChainStore(data).load_safety() == SafetyRecord.initial(genesis.context, passive=False)
        data.close()
    assert len(secrets) == 2 * nodes
    assert Genesis.load(tmp_path / "net" / "node0" / "genesis.json") == genesis


def test_two_networks_of_one_name_differ(tmp_path: Path) -> None:
    ids = {create_testnet(tmp_path / name, Plan(1)).chain_id for name in "ab"}
    assert len(ids) == 2


def test_given_ports_settings_and_an_empty_directory(tmp_path: Path) -> None:
    plan = Plan(2, host="::1", ports=(5, 6, 7, 8), settings={"tls": False, "view_timeout_ms": 500})
    create_testnet(tmp_path, plan)
    config = NodeConfig.load(tmp_path / "node1")
    assert (config.tls, config.timing.view_timeout_ms) == (False, 500)
    assert {entry.peer for entry in config.validators.values()} == {("::1", 5), ("::1", 7)}
    assert {entry.client for entry in config.validators.values()} == {("::1", 6), ("::1", 8)}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    allowed = "a new or empty directory: nothing is overwritten"
    assert refused(tmp_path, 1) == f"DIR: got '{tmp_path}', allowed: {allowed}"
    assert allowed in refused(tmp_path / "x", 1)
    create_testnet(tmp_path / "net", Plan(1))
    before = (tmp_path / "net" / "node0" / "keys.json").read_bytes()
    assert allowed in refused(tmp_path / "net", 1)
    assert (tmp_path / "net" / "node0" / "keys.json").read_bytes() == before


@pytest.mark.parametrize("nodes", [0, -1, MAX_VALIDATORS + 1])
def test_numbers_of_nodes(tmp_path: Path, nodes: int) -> None:
    assert refused(tmp_path, nodes) == f"--nodes: got {nodes}, allowed: 1 to {MAX_VALIDATORS}"


@pytest.mark.parametrize("port", [0, -1, 65529, 65536])
def test_base_ports(tmp_path: Path, port: int) -> None:
    assert refused(tmp_path, 4, base_port=port) == f"--base-port: got {port}, allowed: 1 to 65528 for 4 nodes"


def test_the_highest_base_port(tmp_path: Path) -> None:
    create_testnet(tmp_path, Plan(1, base_port=65534))
    (entry,) = NodeConfig.load(tmp_path / "node0").validators.values()
    assert entry.client == ("127.0.0.1", 65535)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\udcff"])
def test_names_that_the_genesis_could_not_have(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, 1, name=name) == f"--name: got {name!r}, allowed: 1 to 64 characters"


def test_an_unknown_protocol(tmp_path: Path) -> None:
    allowed = "basic or chained or hotstuff2 or jolteon"
    assert refused(tmp_path, 1, protocol="fast") == f"--protocol: got 'fast', allowed: {allowed}"


def test_too_many_views_for_one_leader(tmp_path: Path) -> None:
    assert refused(tmp_path, 1, rotation=Rotation(sticky=65)) == "--sticky: got 65, allowed: 1 to 64"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_network_of_each_protocol(tmp_path: Path, protocol: str) -> None:
    create_testnet(tmp_path / "net", Plan(1, protocol=protocol, rotation=Rotation(sticky=4)))
    genesis = Genesis.load(tmp_path / "net" / "node0" / "genesis.json")
    assert (genesis.protocol, genesis.rotation.sticky) == (protocol, 4)


def test_a_host_that_the_config_could_not_have(tmp_path: Path) -> None:
    assert refused(tmp_path, 1, host="").startswith("--host: got ':7100', allowed: host:port")


def test_data_is_made_once_and_for_one(tmp_path: Path) -> None:
    genesis = create_testnet(tmp_path / "net", Plan(1))
    data = tmp_path / "net" / "node0" / "data"
    with pytest.raises(StorageError, match="not empty"):
        create_data(data, genesis, 0)
    with pytest.raises(DataDirMismatch, match="belongs to validator 0, expected: 1"):
        DataDir.open(data, genesis.chain_id, 1, create_if_missing=False)


# ---- the files against each other


def home_of(tmp_path: Path) -> tuple[Path, Path]:
    create_testnet(tmp_path / "net", Plan(2))
    return tmp_path / "net" / "node0", tmp_path / "net" / "node1"


def replace(target: Path, source: Path) -> None:
    target.unlink()
    target.write_bytes(source.read_bytes())
    target.chmod(0o600)


def test_keys_of_another_network(tmp_path: Path) -> None:
    home, _ = home_of(tmp_path)
    create_testnet(tmp_path / "other", Plan(1))
    replace(home / "keys.json", tmp_path / "other" / "node0" / "keys.json")
    with pytest.raises(ConfigError, match=r"keys\.json: got '[0-9a-f]{96}', allowed: a validator of the genesis"):
        Home.load(home)


def test_keys_of_two_validators(tmp_path: Path) -> None:
    home, other = home_of(tmp_path)
    mixed = Keys(Keys.load(home / "keys.json").bls, Keys.load(other / "keys.json").node)
    (home / "keys.json").unlink()
    mixed.save(home / "keys.json")
    with pytest.raises(ConfigError, match="got 'two keys of different validators', allowed: both keys of one"):
        Home.load(home)


def test_a_genesis_of_another_network(tmp_path: Path) -> None:
    home, _ = home_of(tmp_path)
    create_testnet(tmp_path / "other", Plan(2))
    replace(home / "genesis.json", tmp_path / "other" / "node0" / "genesis.json")
    with pytest.raises(ConfigError, match="allowed: a validator of the genesis"):
        Home.load(home)


def test_addresses_of_others_than_the_validators(tmp_path: Path) -> None:
    home, _ = home_of(tmp_path)
    text = (home / "config.json").read_text()
    node_key = Home.load(home).genesis.validators.validators[1].node_key.hex()
    (home / "config.json").write_text(text.replace(node_key, "cc" * 32))
    with pytest.raises(ConfigError, match=r"validators\[[0-9a-f]{64}\]: got '.*', allowed: exactly the validators"):
        Home.load(home)
