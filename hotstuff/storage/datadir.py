"""The directory in which one replica keeps everything that must outlive the process.

    LOCK         held with flock while a process uses the directory; contains its process id
    META         whose directory this is: JSON, written last, so a directory without it is incomplete
    consensus/   small: safety record, blocks, certificates, commit index, small bodies
    batches/     bulk: large bodies of batches

Both environments carry a copy of META, so a part that was copied in from another directory is noticed.
Two processes with one key would equivocate, hence the lock; the operating system frees it whatever way
the process ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from hotstuff.errors import DataDirLocked, DataDirMismatch, DiskFull, StorageError
from hotstuff.storage.environment import MAP_BYTES_MAX, Environment, Record, sync_directory

FORMAT_VERSION = 4

SAFETY = "safety"
BLOCKS = "blocks"
HEIGHTS = "heights"
CERTIFICATES = "certificates"
STATE = "state"
SESSIONS = "sessions"
TESTIMONY = "testimony"
EVIDENCE = "evidence"
BODIES = "bodies"
LANES = "lanes"
BATCHES_TABLES = (BODIES, LANES)
# Small bodies are written with the record of a vote, so they are here, too.
CONSENSUS_TABLES = (SAFETY, BLOCKS, HEIGHTS, CERTIFICATES, STATE, SESSIONS, TESTIMONY, EVIDENCE, *BATCHES_TABLES)
# A body's key holds the digest of all its bytes.
PINNED_TABLES = (BODIES,)

_META_TABLE = "meta"
_META_KEY = b"identity"
_META_FILE = "META"
_META_BYTES_MAX = 4096  # ours has about 300; more is not ours
_LOCK_FILE = "LOCK"
_CONSENSUS_DIR = "consensus"
_BATCHES_DIR = "batches"
_PID_WIDTH = 20  # fixed, so that writing it again takes no new block on a full disk


class Identity(NamedTuple):
    """Whose directory it is. `instance_id` is 16 random bytes, new for every created directory."""

    network_id: bytes
    validator: int
    instance_id: bytes

    def encode(self) -> bytes:
        """The content of META."""
        fields: dict[str, object] = {
            "format_version": FORMAT_VERSION,
            "network_id": self.network_id.hex(),
            "validator": self.validator,
            "instance_id": self.instance_id.hex(),
        }
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, where: Path) -> Identity:
        """Raises DataDirMismatch for another format version, StorageError for damaged content."""
        try:
            fields = json.loads(data)
            version = fields["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{where}: damaged: {error!r}") from error
        # Before the checksum: another version may compute it in another way.
        if version != FORMAT_VERSION:
            age = "newer" if isinstance(version, int) and version > FORMAT_VERSION else "older"
            raise DataDirMismatch(f"{where}: format version {version} ({age}), this release reads {FORMAT_VERSION}")
        checksum = fields.pop("checksum", None)
        if checksum != _checksum(fields):
            raise StorageError(f"{where}: damaged: checksum does not match")
        return cls(bytes.fromhex(fields["network_id"]), fields["validator"], bytes.fromhex(fields["instance_id"]))


class DataDir:
    """An open, locked data directory. Made by `open` or `open_readonly`; `create` only prepares one."""

    def __init__(self, path: Path, identity: Identity, parts: dict[str, Environment], resources: ExitStack) -> None:
        self.path = path
        self.identity = identity
        self.consensus = parts[_CONSENSUS_DIR]
        self.batches = parts[_BATCHES_DIR]
        self._resources = resources

    @classmethod
    def create(cls, path: Path, network_id: bytes, validator: int) -> None:
        """Prepare a new directory; it may exist if it is empty. Everything is on disk on return.

        `network_id` is 32 bytes. Interrupted at any point it leaves a directory that `open` refuses as
        incomplete. Raises StorageError.
        """
        path = path.absolute()
        identity = Identity(network_id, validator, secrets.token_bytes(16))
        with _os_errors(path), ExitStack() as resources:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_content(path, set())
            _lock(path, resources)
            # Again under the lock: another process may have created one in between.
            _require_content(path, {_LOCK_FILE})
            meta = identity.encode()
            for name, environment in _open_parts(path, resources, create=True).items():
                environment.write([Record(_META_TABLE, _META_KEY, meta)])
                sync_directory(path / name)
            _write_meta(path, meta)
            sync_directory(path.parent)

    @classmethod
    def open(
        cls,
        path: Path,
        network_id: bytes,
        validator: int,
        *,
        fsync: bool = True,
        max_bytes: int = MAP_BYTES_MAX,
        create_if_missing: bool,
    ) -> DataDir:
        """Lock and open the directory of this validator in this network.

        `create_if_missing` also covers an existing empty directory. `fsync=False`: benchmarks only.
        `max_bytes` limits each of the two environments.
        Raises DataDirLocked, DataDirMismatch, or another StorageError with the exact reason.
        """
        path = path.absolute()
        with _os_errors(path):
            if create_if_missing and (not path.exists() or not any(path.iterdir())):
                cls.create(path, network_id, validator)
        return cls._open(path, (network_id, validator), fsync=fsync, max_bytes=max_bytes, readonly=False)

    @classmethod
    def open_readonly(cls, path: Path) -> DataDir:
        """For inspection while the node is stopped: any network, any validator, nothing can be written."""
        return cls._open(path.absolute(), None, fsync=True, readonly=True)

    @classmethod
    def _open(
        cls,
        path: Path,
        expected: tuple[bytes, int] | None,
        *,
        fsync: bool,
        max_bytes: int = MAP_BYTES_MAX,
        readonly: bool,
    ) -> DataDir:
        with _os_errors(path), ExitStack() as resources:
            if not (path / _META_FILE).exists() and not (path / _LOCK_FILE).exists():
                # Before locking: no LOCK file is to appear in somebody's home directory.
                raise StorageError(f"{path}: {'not a data directory' if path.is_dir() else 'no such directory'}")
            _lock(path, resources, readonly=readonly)
            meta = _read_meta(path)
            identity = Identity.decode(meta, path / _META_FILE)
            if expected is not None:
                _require_identity(path, identity, *expected)
            parts = _open_parts(path, resources, fsync=fsync, max_bytes=max_bytes, readonly=readonly)
            for name, environment in parts.items():
                found = environment.get(_META_TABLE, _META_KEY)
                if found != meta:
                    owner = "nobody" if found is None else str(Identity.decode(found, path / name))
                    raise DataDirMismatch(f"{path / name}: belongs to {owner}, expected: {identity}")
            return cls(path, identity, parts, resources.pop_all())

    @property
    def fresh(self) -> bool:
        """Whether there is no safety record inside: this validator has not signed anything from here."""
        return self.consensus.count(SAFETY) == 0

    def free_bytes(self) -> int:
        """Bytes that can still be written on this file system without being root. Raises StorageError."""
        with _os_errors(self.path):
            state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def close(self) -> None:
        """Close both environments, then free the lock. May be called again."""
        self._resources.close()


def _checksum(fields: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Turns an error of the operating system into one sentence with the path in front."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{error.filename or path}: {error.strerror}") from error


def _require_content(path: Path, names: set[str]) -> None:
    others = {entry.name for entry in path.iterdir()} - names
    if others:
        raise StorageError(f"{path}: cannot create a data directory here: not empty, it has {min(others)!r}")


def _require_identity(path: Path, found: Identity, network_id: bytes, validator: int) -> None:
    if found.network_id != network_id:
        raise DataDirMismatch(f"{path}: belongs to network {found.network_id.hex()}, expected: {network_id.hex()}")
    if found.validator != validator:
        raise DataDirMismatch(f"{path}: belongs to validator {found.validator}, expected: {validator}")


def _open_parts(
    path: Path,
    resources: ExitStack,
    *,
    fsync: bool = True,
    max_bytes: int = MAP_BYTES_MAX,
    create: bool = False,
    readonly: bool = False,
) -> dict[str, Environment]:
    parts = {}
    for name, tables in ((_CONSENSUS_DIR, CONSENSUS_TABLES), (_BATCHES_DIR, BATCHES_TABLES)):
        parts[name] = Environment.open(
            path / name,
            (_META_TABLE, *tables),
            pinned=PINNED_TABLES,
            fsync=fsync,
            max_bytes=max_bytes,
            create=create,
            readonly=readonly,
        )
        resources.callback(parts[name].close)
    return parts


def _lock(path: Path, resources: ExitStack, *, readonly: bool = False) -> None:
    """Take the lock until `resources` is closed. Raises DataDirLocked with the holder's process id."""
    try:
        descriptor = os.open(path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if not readonly or error.errno not in (errno.EROFS, errno.EACCES):
            raise
        descriptor = os.open(path / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    # Closing frees the lock only with the last copy of the descriptor: a forked child that closes its
    # own, unlike one that calls LOCK_UN, does not take the lock from its parent.
    resources.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, _PID_WIDTH, 0).decode(errors="replace").strip() or "(starting up)"
        raise DataDirLocked(f"{path}: in use by process {holder}") from None
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        os.pwrite(descriptor, f"{os.getpid():<{_PID_WIDTH - 1}}\n".encode(), 0)


def _write_meta(path: Path, meta: bytes) -> None:
    """The last step of creation: after the rename the directory is complete."""
    draft = path / f"{_META_FILE}.new"
    with open(draft, "xb") as file:
        file.write(meta)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path / _META_FILE)
    sync_directory(path)


def _read_meta(path: Path) -> bytes:
    try:
        with open(path / _META_FILE, "rb") as file:
            return file.read(_META_BYTES_MAX)
    except FileNotFoundError:
        raise StorageError(
            f"{path}: incomplete: no {_META_FILE}; its creation was interrupted or the file was removed"
        ) from None
