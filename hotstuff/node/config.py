"""One node's config file. Every mistake is refused with the field, what was given and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hotstuff.consensus.replica import Timing
from hotstuff.errors import ConfigError
from hotstuff.mempool.mempool import MempoolConfig
from hotstuff.network.sockets import require_loopback
from hotstuff.node.files import Fields, parse_address, parse_hex, read_json
from hotstuff.types.validators import NODE_KEY_BYTES, ValidatorSet

CONFIG_FILE = "config.json"
LOG_LEVELS = ("debug", "info", "warning", "error")

Address = tuple[str, int]


@dataclass(frozen=True)
class PeerEntry:
    """Where one validator is reached: by other replicas and by clients."""

    peer: Address
    client: Address


@dataclass(frozen=True)
class NodeConfig:
    """Everything an operator can set. Paths are absolute; the file gives them relative to itself."""

    path: Path
    genesis: Path
    keys: Path
    data: Path
    peer_bind: Address | None
    client_bind: Address | None
    validators: dict[bytes, PeerEntry]
    tls: bool
    fsync: bool
    timing: Timing
    mempool: MempoolConfig
    storage_max_mib: int
    log_level: str

    @classmethod
    def load(cls, home: Path) -> NodeConfig:
        """Reads `home`/config.json."""
        path = home.resolve() / CONFIG_FILE
        fields = Fields(read_json(path), str(path))
        bind = {}
        for field in ("peer_bind", "client_bind"):
            text = fields.optional(field, str, "", "host:port")
            bind[field] = parse_address(text, fields.name(field)) if text else None
        timing = Timing(
            view_timeout_ms=fields.integer("view_timeout_ms", 1000, 10, 600_000),
            spread_ms=fields.integer("spread_ms", 50, 1, 60_000),
            fetch_retry_ms=fields.integer("fetch_retry_ms", 250, 10, 60_000),
        )
        # The backup leader must have spread its QC well before the timer of the next view runs out.
        if timing.spread_ms * 4 > timing.view_timeout_ms:
            allowed = f"at most a quarter of view_timeout_ms ({timing.view_timeout_ms})"
            raise ConfigError(fields.name("spread_ms"), timing.spread_ms, allowed)
        mempool = MempoolConfig(
            batch_bytes=fields.integer("batch_kib", 256, 1, 2048) * 1024,
            max_age_ms=fields.integer("batch_max_age_ms", 20, 1, 10_000),
            ack_ms=fields.integer("ack_ms", 10, 1, 1000),
            fetch_retry_ms=timing.fetch_retry_ms,
            author_quota_bytes=fields.integer("author_quota_mib", 32, 16, 4096) * 1024 * 1024,
        )
        config = cls(
            path=path,
            genesis=path.parent / _read_path(fields, "genesis", "genesis.json"),
            keys=path.parent / _read_path(fields, "keys", "keys.json"),
            data=path.parent / _read_path(fields, "data", "data"),
            peer_bind=bind["peer_bind"],
            client_bind=bind["client_bind"],
            validators=_read_validators(fields),
            tls=fields.optional("tls", bool, True, "true or false"),
            fsync=fields.optional("fsync", bool, True, "true or false"),
            timing=timing,
            mempool=mempool,
            storage_max_mib=fields.integer("storage_max_mib", 1024 * 1024, 64, 64 * 1024 * 1024),
            log_level=fields.optional("log_level", str, "info", " or ".join(LOG_LEVELS), lambda v: v in LOG_LEVELS),
        )
        fields.finish(KNOWN_FIELDS)
        if not config.tls:
            _require_loopback(config, fields)
        return config

    def require_members(self, members: ValidatorSet) -> None:
        """Raises `ConfigError` unless there is an entry for each of these validators and for nobody else."""
        for key in self.validators.keys() ^ {validator.node_key for validator in members.validators}:
            problem = "a node key that is not in the genesis" if key in self.validators else "no entry for this key"
            field = f"{self.path}: validators[{key.hex()}]"
            raise ConfigError(field, problem, "exactly the validators of the genesis")


KNOWN_FIELDS = (
    "genesis",
    "keys",
    "data",
    "peer_bind",
    "client_bind",
    "validators",
    "tls",
    "fsync",
    "view_timeout_ms",
    "spread_ms",
    "fetch_retry_ms",
    "batch_kib",
    "batch_max_age_ms",
    "ack_ms",
    "author_quota_mib",
    "storage_max_mib",
    "log_level",
)


def _read_path(fields: Fields, field: str, default: str) -> str:
    return fields.optional(field, str, default, "a path", lambda v: v != "" and "\0" not in v)


def _require_loopback(config: NodeConfig, fields: Fields) -> None:
    addresses = {"peer_bind": config.peer_bind, "client_bind": config.client_bind}
    for key, entry in config.validators.items():
        where = _entry_name(key.hex())
        addresses |= {f"{where}: peer": entry.peer, f"{where}: client": entry.client}
    for field, address in addresses.items():
        if address is not None:
            require_loopback(fields.name(field), address[0])


def _entry_name(key: str) -> str:
    return f"validators[{key[:16]}…]"


def _read_validators(fields: Fields) -> dict[bytes, PeerEntry]:
    entries = fields.take("validators", dict, 'an object {node key: {"peer": host:port, "client": host:port}}')
    found: dict[bytes, PeerEntry] = {}
    used: dict[Address, str] = {}
    for key, value in entries.items():
        where = fields.name(_entry_name(key))
        entry = Fields(value, where)
        addresses = []
        for field in ("peer", "client"):
            address = parse_address(entry.take(field, str, "host:port"), entry.name(field))
            if address in used:
                raise ConfigError(entry.name(field), f"{address[0]}:{address[1]}", f"not the same as {used[address]}")
            used[address] = entry.name(field)
            addresses.append(address)
        entry.finish(("peer", "client"))
        node_key = parse_hex(key, NODE_KEY_BYTES, fields.name("validators"))
        if node_key in found:  # spelled in another case: JSON keeps both
            raise ConfigError(where, key, "each node key once")
        found[node_key] = PeerEntry(*addresses)
    return found
