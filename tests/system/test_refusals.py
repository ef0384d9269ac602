"""What an operator can get wrong: one line that says what was found where and what is allowed, and an exit status."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import PortBlock, Testnet

from hotstuff.errors import ConfigError
from hotstuff.node import testnet
from hotstuff.node.config import KNOWN_FIELDS, NodeConfig
from hotstuff.node.genesis import Genesis
from hotstuff.node.keys import Keys

USAGE, STORAGE = 2, 3
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two networks, `a` and `b`, that no test changes."""
    root = tmp_path_factory.mktemp("networks")
    for name in "ab":
        block = PortBlock(8)
        testnet.create_testnet(root / name, testnet.TestnetPlan(4, name=name, ports=block.ports))
        block.close()
    return root


@pytest.fixture
def home(networks: Path, tmp_path: Path) -> Path:
    """Replica 0 of network `a`, to be spoilt."""
    return shutil.copytree(networks / "a" / "node0", tmp_path / "home")


def refused(home: Path, status: int, *parts: object, command: tuple[str, ...] = ("node",)) -> str:
    """`hotstuff node` (or another command) must end with this status and one line with these parts in this order."""
    name, *arguments = command
    line = [sys.executable, "-m", "hotstuff.cli.main", name, "--home", str(home), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = [text for text in (done.stdout + done.stderr).splitlines() if not text.startswith('{"time":')]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: "), lines
    assert re.search(".*".join(re.escape(str(part)) for part in parts), lines[0]), lines
    assert done.returncode == status, lines
    assert "Traceback" not in done.stderr
    return lines[0]


def configure(home: Path, **settings: object) -> None:
    path = home / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **settings}))


# ---- files of another network or validator


def test_genesis_of_another_network(home: Path, networks: Path) -> None:
    shutil.copy(networks / "b" / "node0" / "genesis.json", home)
    refused(home, USAGE, home / "keys.json", "got", "allowed: a validator of the genesis")


def test_genesis_edited(home: Path) -> None:
    path = home / "genesis.json"
    path.write_text(path.read_text().replace('"name": "a"', '"name": "other"'))
    refused(home, USAGE, path, "validators[0]: possession: got", "allowed: a proof by this BLS key")


def test_other_chain_id_with_the_same_validators(home: Path, networks: Path) -> None:
    """A genesis that is right in itself: the data directory knows better."""
    everyone = [Keys.load(networks / "a" / f"node{i}" / "keys.json") for i in range(4)]
    old = Genesis.load(home / "genesis.json")
    new = Genesis("other", old.protocol, old.validators, tuple(keys.possession("other") for keys in everyone))
    (home / "genesis.json").unlink()
    new.save(home / "genesis.json")
    refused(home, STORAGE, home / "data", "belongs to network", old.chain_id.hex(), "expected", new.chain_id.hex())


def test_key_of_another_validator(home: Path, networks: Path) -> None:
    shutil.copy2(networks / "a" / "node1" / "keys.json", home)
    refused(home, STORAGE, home / "data", "belongs to validator 0", "expected: 1")


def test_key_that_is_not_in_the_genesis(home: Path, networks: Path) -> None:
    shutil.copy2(networks / "b" / "node0" / "keys.json", home)
    refused(home, USAGE, home / "keys.json", "got", "allowed: a validator of the genesis")


def test_keys_of_two_validators(home: Path, networks: Path) -> None:
    own, other = (json.loads((networks / "a" / f"node{i}" / "keys.json").read_bytes()) for i in (0, 1))
    (home / "keys.json").write_text(json.dumps({**own, "node_secret": other["node_secret"]}))
    refused(home, USAGE, home / "keys.json", "got 'two keys of different validators'", "allowed")


def test_data_directory_of_another_validator(home: Path, networks: Path) -> None:
    shutil.rmtree(home / "data")
    shutil.copytree(networks / "a" / "node1" / "data", home / "data")
    refused(home, STORAGE, home / "data", "belongs to validator 1", "expected: 0")


def test_part_of_a_data_directory_of_another_validator(home: Path, networks: Path) -> None:
    shutil.rmtree(home / "data" / "consensus")
    shutil.copytree(networks / "a" / "node1" / "data" / "consensus", home / "data" / "consensus")
    refused(home, STORAGE, home / "data" / "consensus", "belongs to", "expected")


def test_incomplete_data_directory(home: Path) -> None:
    (home / "data" / "META").unlink()
    refused(home, STORAGE, home / "data", "incomplete", "META")


# ---- files that cannot be read


@pytest.mark.parametrize("name", ["config.json", "genesis.json", "keys.json"])
def test_missing_file(home: Path, name: str) -> None:
    (home / name).unlink()
    refused(home, USAGE, home / name, "No such file", "allowed: a readable file")


def test_missing_home(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", USAGE, tmp_path / "nowhere" / "config.json", "No such file")


def test_not_json(home: Path) -> None:
    (home / "config.json").write_text('{"tls": true,\n "fsync" false}')
    refused(home, USAGE, home / "config.json", "line 2", "allowed: valid JSON")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_key_file_that_others_may_read(home: Path, mode: int) -> None:
    (home / "keys.json").chmod(mode)
    refused(home, USAGE, home / "keys.json", f"mode {mode:04o}", "allowed: mode 0600", "chmod 600")


@pytest.mark.parametrize("content", ['{"bls_secret": "SECRET", "node_secret": "SECRET"}', '"SECRET"', '{"SECRET": 1}'])
def test_key_file_with_nonsense_is_not_shown(home: Path, content: str) -> None:
    (home / "keys.json").write_text(content)
    assert "SECRET" not in refused(home, USAGE, home / "keys.json", "(hidden)", "allowed")


# ---- the surroundings


@pytest.mark.parametrize("kind", ["peer", "client"])
def test_port_in_use(home: Path, kind: str) -> None:
    config = NodeConfig.load(home)
    index_key = Keys.load(home / "keys.json").node.public_key()
    with socket.create_server(getattr(config.validators[index_key], kind)) as taken:
        port = taken.getsockname()[1]
        refused(home, USAGE, f"{kind}_bind", f"127.0.0.1:{port}", "allowed: a free address", "in use")


def test_address_of_another_machine(home: Path) -> None:
    configure(home, peer_bind="192.0.2.1:7000")
    refused(home, USAGE, "peer_bind", "192.0.2.1:7000", "allowed: a free address of this machine")


def test_second_process_on_the_same_data_directory(net: Testnet) -> None:
    node = net.nodes[0]
    refused(node.home, STORAGE, node.data, f"in use by process {node.pid}")
    net.submit(b"it did no harm")


def test_data_directory_that_cannot_be_made(home: Path) -> None:
    configure(home, data="/proc/nowhere")
    refused(home, STORAGE, "/proc/nowhere", "No such file")


# ---- config: every field, in this process

NOT_INTEGERS: tuple[object, ...] = (None, True, "7", 1.5, [7], {"ms": 7})
RANGES = {
    "view_timeout_ms": (10, 600_000),
    "spread_ms": (1, 60_000),
    "fetch_retry_ms": (10, 60_000),
    "batch_kib": (1, 2048),
    "batch_max_age_ms": (1, 10_000),
    "ack_ms": (1, 1000),
    "author_quota_mib": (16, 4096),
    "storage_max_mib": (64, 64 * 1024 * 1024),
}
# A spread that is legal for every view timeout that a test tries, and the other way round.
COMPANIONS: dict[str, dict[str, object]] = {
    "view_timeout_ms": {"spread_ms": 1},
    "spread_ms": {"view_timeout_ms": 600_000},
}
WRONG: dict[str, tuple[object, ...]] = {
    **{field: (*NOT_INTEGERS, low - 1, high + 1, -1) for field, (low, high) in RANGES.items()},
    **{field: (None, "true", 0, 1, []) for field in ("tls", "fsync")},
    **{field: (None, "", 7, [], "a\0b") for field in ("genesis", "keys", "data")},
    **dict.fromkeys(("peer_bind", "client_bind"), (None, 7, "x", ":7000", "h:", "h:0", "h:65536", "h:7x", "h:-1")),
    "validators": (None, [], "x", {"ab": {}}, {"ab" * 32: []}, {"ab" * 32: {"peer": "h:1"}}),
    "log_level": (None, "INFO", "loud", 1),
}
CASES = [(field, value) for field, values in WRONG.items() for value in values]


def config_error(home: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        NodeConfig.load(home)
    return str(caught.value)


def test_every_field_is_covered() -> None:
    assert WRONG.keys() == set(KNOWN_FIELDS)


@pytest.mark.parametrize(("field", "value"), CASES, ids=[f"{field}-{value!r}"[:50] for field, value in CASES])
def test_wrong_value(home: Path, field: str, value: object) -> None:
    configure(home, **{**COMPANIONS.get(field, {}), field: value})
    text = config_error(home)
    assert re.match(rf"{re.escape(str(home / 'config.json'))}: {field}.*: got .+, allowed: .+", text), text
    assert "\n" not in text


@pytest.mark.parametrize("field", RANGES)
@pytest.mark.parametrize("end", [0, 1])
def test_ends_of_ranges(home: Path, field: str, end: int) -> None:
    configure(home, **{**COMPANIONS.get(field, {}), field: RANGES[field][end]})
    NodeConfig.load(home)


@pytest.mark.parametrize("value", [0, -5, 10**30, "1000", True])
def test_wrong_value_ends_the_process(home: Path, value: object) -> None:
    configure(home, view_timeout_ms=value)
    refused(home, USAGE, home / "config.json", "view_timeout_ms: got", "allowed: an integer from 10 to 600000")


def test_unknown_field(home: Path) -> None:
    configure(home, veiw_timeout_ms=1000)
    refused(home, USAGE, home / "config.json", "veiw_timeout_ms: got 1000", "known fields", "view_timeout_ms")


def test_spread_of_more_than_a_quarter_of_the_view_timeout(home: Path) -> None:
    configure(home, view_timeout_ms=400, spread_ms=101)
    refused(home, USAGE, home / "config.json", "spread_ms: got 101", "allowed: at most a quarter", "400")
    configure(home, spread_ms=100)
    assert NodeConfig.load(home).timing.spread_ms == 100


Spoil = Callable[[list[dict[str, str]]], None]


def spoil_addresses(home: Path, spoil: Spoil) -> None:
    path = home / "config.json"
    config = json.loads(path.read_bytes())
    spoil(list(config["validators"].values()))
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entries: entries[1].update(peer=entries[0]["peer"]),
        lambda entries: entries[1].update(client=entries[3]["client"]),
        lambda entries: entries[2].update(client=entries[2]["peer"]),
    ],
)
def test_address_used_twice(home: Path, spoil: Spoil) -> None:
    spoil_addresses(home, spoil)
    refused(home, USAGE, home / "config.json", "validators[", "got '127.0.0.1:", "allowed: not the same as")


@pytest.mark.parametrize("field", ["peer_bind", "client_bind"])
def test_no_tls_on_an_open_address(home: Path, field: str) -> None:
    configure(home, tls=False, **{field: "0.0.0.0:7000"})
    refused(home, USAGE, home / "config.json", f"{field}: got '0.0.0.0'", "allowed: a loopback address")


@pytest.mark.parametrize("field", ["peer", "client"])
def test_no_tls_to_another_machine(home: Path, field: str) -> None:
    configure(home, tls=False)
    NodeConfig.load(home)
    spoil_addresses(home, lambda entries: entries[2].update({field: "192.0.2.1:7000"}))
    refused(home, USAGE, home / "config.json", "validators[", f"{field}: got '192.0.2.1'", "allowed: a loopback")


COMMANDS = [("node",), ("status",), ("client", "text"), ("init",)]


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_validator_without_address(home: Path, command: tuple[str, ...]) -> None:
    path = home / "config.json"
    config = json.loads(path.read_bytes())
    missing = sorted(config["validators"])[1]
    del config["validators"][missing]
    path.write_text(json.dumps(config))
    parts = (home / "config.json", f"validators[{missing}]", "no entry for this key", "allowed: exactly the validators")
    refused(home, USAGE, *parts, command=command)


def test_address_of_a_stranger(home: Path) -> None:
    path = home / "config.json"
    config = json.loads(path.read_bytes())
    config["validators"]["cd" * 32] = {"peer": "127.0.0.1:1", "client": "127.0.0.1:2"}
    path.write_text(json.dumps(config))
    refused(home, USAGE, home / "config.json", f"validators[{'cd' * 32}]", "not in the genesis", "allowed")
