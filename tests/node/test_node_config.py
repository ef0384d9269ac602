from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_helpers import write

from hotstuff.consensus.replica import Timing
from hotstuff.errors import ConfigError
from hotstuff.mempool.mempool import MempoolConfig
from hotstuff.node.config import KNOWN_FIELDS, LOG_LEVELS, NodeConfig, PeerEntry

KEY_A, KEY_B = "aa" * 32, "bb" * 32
VALIDATORS = {
    KEY_A: {"peer": "10.0.0.1:7100", "client": "10.0.0.1:7101"},
    KEY_B: {"peer": "[::1]:7100", "client": "b.example:7101"},
}
MIB = 1024 * 1024

# field: (lowest, highest, default)
INTEGERS = {
    "view_timeout_ms": (10, 600_000, 1000),
    "spread_ms": (1, 60_000, 50),
    "fetch_retry_ms": (10, 60_000, 250),
    "batch_kib": (1, 2048, 256),
    "batch_max_age_ms": (1, 10_000, 20),
    "ack_ms": (1, 1000, 10),
    "author_quota_mib": (16, 4096, 32),
    "storage_max_mib": (64, 64 * MIB, MIB),
}
# What goes with a value at its bound, so that only the bound is tested.
WITH = {"view_timeout_ms": {"spread_ms": 1}, "spread_ms": {"view_timeout_ms": 600_000}}


LOCAL = {
    KEY_A: {"peer": "127.0.0.1:7100", "client": "127.0.0.1:7101"},
    KEY_B: {"peer": "[::1]:7100", "client": "localhost:7101"},
}


def load(home: Path, **fields: Any) -> NodeConfig:
    content = {"validators": VALIDATORS, **fields}
    write(home / "config.json", {key: value for key, value in content.items() if value is not ...})
    return NodeConfig.load(home)


def refused(home: Path, **fields: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(home, **fields)
    start = f"{home / 'config.json'}: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def value_of(config: NodeConfig, field: str) -> int:
    return {
        "view_timeout_ms": config.timing.view_timeout_ms,
        "spread_ms": config.timing.spread_ms,
        "fetch_retry_ms": config.timing.fetch_retry_ms,
        "batch_kib": config.mempool.batch_bytes // 1024,
        "batch_max_age_ms": config.mempool.max_age_ms,
        "ack_ms": config.mempool.ack_ms,
        "author_quota_mib": config.mempool.author_quota_bytes // MIB,
        "storage_max_mib": config.storage_max_mib,
    }[field]


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.genesis, config.keys) == (tmp_path / "genesis.json", tmp_path / "keys.json")
    assert config.data == tmp_path / "data"
    assert (config.peer_bind, config.client_bind, config.tls, config.fsync) == (None, None, True, True)
    assert (config.timing, config.mempool) == (Timing(1000, 50, 250), MempoolConfig())
    assert (config.storage_max_mib, config.log_level) == (MIB, "info")
    assert config.validators == {
        bytes.fromhex(KEY_A): PeerEntry(("10.0.0.1", 7100), ("10.0.0.1", 7101)),
        bytes.fromhex(KEY_B): PeerEntry(("::1", 7100), ("b.example", 7101)),
    }


@pytest.mark.parametrize("field", INTEGERS)
def test_integers(tmp_path: Path, field: str) -> None:
    low, high, default = INTEGERS[field]
    others = WITH.get(field, {})
    assert value_of(load(tmp_path), field) == default
    for value in (low, high):
        assert value_of(load(tmp_path, **{**others, field: value}), field) == value
    for wrong in (low - 1, high + 1, True, str(low), float(low), None, [low]):
        text = refused(tmp_path, **{**others, field: wrong})
        assert text == f"{field}: got {wrong!r}, allowed: an integer from {low} to {high}"


def test_the_spread_is_at_most_a_quarter_of_the_timeout(tmp_path: Path) -> None:
    assert load(tmp_path, view_timeout_ms=400, spread_ms=100).timing.spread_ms == 100
    text = refused(tmp_path, view_timeout_ms=400, spread_ms=101)
    assert text == "spread_ms: got 101, allowed: at most a quarter of view_timeout_ms (400)"
    assert "spread_ms: got 50" in refused(tmp_path, view_timeout_ms=199)


def test_fetch_retry_is_for_blocks_and_bodies(tmp_path: Path) -> None:
    config = load(tmp_path, fetch_retry_ms=77)
    assert config.timing.fetch_retry_ms == config.mempool.fetch_retry_ms == 77


@pytest.mark.parametrize("field", ["tls", "fsync"])
def test_booleans(tmp_path: Path, field: str) -> None:
    assert getattr(load(tmp_path, **{field: False, "validators": LOCAL}), field) is False
    for wrong in (0, 1, "false", None):
        assert refused(tmp_path, **{field: wrong}) == f"{field}: got {wrong!r}, allowed: true or false"


def test_plain_tcp_stays_on_this_machine(tmp_path: Path) -> None:
    assert not load(tmp_path, tls=False, validators=LOCAL, peer_bind="127.0.0.1:1", client_bind="[::1]:2").tls
    start = f"validators[{KEY_A[:16]}…]: peer: got '10.0.0.1', allowed: a loopback"
    assert refused(tmp_path, tls=False).startswith(start)
    for field in ("peer_bind", "client_bind"):
        text = refused(tmp_path, tls=False, validators=LOCAL, **{field: "0.0.0.0:7100"})
        assert text.startswith(f"{field}: got '0.0.0.0', allowed: a loopback")


def test_log_levels(tmp_path: Path) -> None:
    for level in LOG_LEVELS:
        assert load(tmp_path, log_level=level).log_level == level
    for wrong in ("INFO", "trace", "", 3, None):
        text = refused(tmp_path, log_level=wrong)
        assert text == f"log_level: got {wrong!r}, allowed: debug or info or warning or error"


@pytest.mark.parametrize("field", ["genesis", "keys", "data"])
def test_paths_are_relative_to_the_file(tmp_path: Path, field: str) -> None:
    assert getattr(load(tmp_path, **{field: "../shared/x"}), field) == tmp_path / "../shared/x"
    assert getattr(load(tmp_path, **{field: "/etc/x"}), field) == Path("/etc/x")
    for wrong in (3, None, ["x"], "", "a\0b"):
        assert refused(tmp_path, **{field: wrong}) == f"{field}: got {wrong!r}, allowed: a path"


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    load(tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    assert NodeConfig.load(Path("home")).data == tmp_path / "home" / "data"


@pytest.mark.parametrize("field", ["peer_bind", "client_bind"])
def test_bind_addresses(tmp_path: Path, field: str) -> None:
    assert getattr(load(tmp_path, **{field: "[::]:7100"}), field) == ("::", 7100)
    assert refused(tmp_path, **{field: 7100}) == f"{field}: got 7100, allowed: host:port"
    text = refused(tmp_path, **{field: "0.0.0.0"})
    assert text == f"{field}: got '0.0.0.0', allowed: host:port with a port from 1 to 65535"


def test_unknown_fields(tmp_path: Path) -> None:
    text = refused(tmp_path, view_timeout=1000)
    assert text == "view_timeout: got 1000, allowed: nothing by this name; known fields: " + ", ".join(KNOWN_FIELDS)


def test_every_known_field_is_read(tmp_path: Path) -> None:
    values: dict[str, Any] = {field: default for field, (_, _, default) in INTEGERS.items()}
    values |= {"genesis": "g", "keys": "k", "data": "d", "peer_bind": "a:1", "client_bind": "a:2"}
    values |= {"tls": True, "fsync": True, "log_level": "info", "validators": VALIDATORS}
    assert set(values) == set(KNOWN_FIELDS)
    load(tmp_path, **values)


def test_what_is_no_object(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", [1])
    with pytest.raises(ConfigError, match="allowed: a JSON object"):
        NodeConfig.load(tmp_path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"config\.json: got 'No such file or directory', allowed: a readable file"):
        NodeConfig.load(tmp_path)


# ---- addresses of the validators

WHERE = f"validators[{KEY_B[:16]}…]"


def with_b(entry: object) -> dict[str, Any]:
    return {"validators": {**VALIDATORS, KEY_B: entry}}


def test_validators_are_needed(tmp_path: Path) -> None:
    assert "validators: got None, allowed: an object " in refused(tmp_path, validators=...)
    for wrong in ([], "x", 3, None):
        assert refused(tmp_path, validators=wrong).startswith(f"validators: got {wrong!r}, allowed: an object ")


@pytest.mark.parametrize("entry", [None, "10.0.0.2:7100", ["a:1", "a:2"]])
def test_an_entry_that_is_no_object(tmp_path: Path, entry: object) -> None:
    assert refused(tmp_path, **with_b(entry)) == f"{WHERE}: got {entry!r}, allowed: a JSON object"


@pytest.mark.parametrize("field", ["peer", "client"])
def test_addresses(tmp_path: Path, field: str) -> None:
    entry: dict[str, Any] = {"peer": "b:1", "client": "b:2"}
    text = refused(tmp_path, **with_b({**entry, field: "b"}))
    assert text == f"{WHERE}: {field}: got 'b', allowed: host:port with a port from 1 to 65535"
    assert refused(tmp_path, **with_b({**entry, field: 5})) == f"{WHERE}: {field}: got 5, allowed: host:port"
    del entry[field]
    text = refused(tmp_path, **with_b(entry))
    assert text == f"{WHERE}: {field}: got None, allowed: host:port (the field is missing)"


def test_an_unknown_field_of_an_entry(tmp_path: Path) -> None:
    text = refused(tmp_path, **with_b({"peer": "b:1", "client": "b:2", "http": "b:3"}))
    assert text == f"{WHERE}: http: got 'b:3', allowed: nothing by this name; known fields: peer, client"


@pytest.mark.parametrize("entry", [{"peer": "b:1", "client": "b:1"}, {"peer": "b:1", "client": "10.0.0.1:7100"}])
def test_one_address_twice(tmp_path: Path, entry: dict[str, str]) -> None:
    text = refused(tmp_path, **with_b(entry))
    assert text.startswith(f"{WHERE}: client: got '{entry['client']}', allowed: not the same as ")
    assert text.endswith(": peer")


@pytest.mark.parametrize("key", ["", "aa", "zz" * 32, "aa" * 33])
def test_a_key_that_is_none(tmp_path: Path, key: str) -> None:
    text = refused(tmp_path, validators={key: {"peer": "b:1", "client": "b:2"}})
    assert text == f"validators: got {key!r}, allowed: 64 hexadecimal digits"


def test_one_key_in_two_spellings(tmp_path: Path) -> None:
    validators = {**VALIDATORS, KEY_B.upper(): {"peer": "b:1", "client": "b:2"}}
    text = refused(tmp_path, validators=validators)
    assert text == f"validators[{'B' * 16}…]: got '{'B' * 64}', allowed: each node key once"
