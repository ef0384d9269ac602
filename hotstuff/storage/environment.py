"""One LMDB environment with named tables of checksummed byte records.

Three rules carry the safety argument of the replica:

1. `Environment.write` returns only after all its records are on disk, or raises and none is
   (one exception: see rule 2).
2. A failed write or sync that is not provably a lack of space ends all writing for the life of
   the process (`StorageFailed`): after a failed fsync the page cache may have dropped the data and a
   second fsync would report success without having written it.
3. A value is returned only if its checksum matches, and the checksum covers the table and the key,
   so a value that turns up in the wrong place is as bad as one with a flipped bit. A *missing* record
   cannot be noticed here (the pages of the tree have no checksum): hash chains above this layer must.
   Tables whose keys hold a digest of the value may do without a checksum (`pinned`): their readers check the digest.

Threads: reads from any thread, writes from any thread but one at a time. Never across `fork`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypedDict, TypeVar

import lmdb
import lmdb.verify

from hotstuff.errors import CorruptRecord, DiskFull, InvariantViolation, StorageError, StorageFailed

DATA_FILE = "data.mdb"
KEY_BYTES_MAX = 511  # fixed in LMDB 0.9
MAP_BYTES = 256 << 20  # address space, not disk: large enough that most nodes never pay for a remap
MAP_BYTES_MAX = 1 << 40
# A delete copies the pages on its way down, so a map filled to the brim could never be emptied
# again. Writes that only delete may go this far above the cap.
DELETE_RESERVE_BYTES = 4 << 20
READERS_MAX = 126  # slots in the lock file: threads that read at the same moment
TAG_BYTES = 8
# From 2048 bytes on hashlib gives up the GIL, and getting it back from a busy thread costs up to one
# switch interval (5 ms). Values below this are hashed together with a key of at most 511 bytes.
HASHED_WHOLE_BYTES_MAX = 1024
CRC_STEP_BYTES = 5120  # zlib gives up the GIL above this: 40 ms for eight values of 512 KiB beside a busy thread

# Offsets in an LMDB 0.9 meta page on a 64-bit machine: page header (16 bytes), then MDB_meta.
_META_FLAGS, _META_MAGIC, _META_PAGE_BYTES, _META_LAST_PAGE = 10, 16, 40, 136
_META_END = 152
_PAGE_IS_META = 0x08
_MAGIC = 0xBEEFC0DE
_FORMAT = 1

# EIO is here because LMDB reports the short write of a full disk as EIO; see `_lacks_space`.
_SPACE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

_T = TypeVar("_T")
BytesLike = bytes | bytearray | memoryview


class Record(NamedTuple):
    """One change: `value` replaces what is stored under `key`; None deletes it (or does nothing).

    A memoryview must be one of bytes (format "B").
    """

    table: str
    key: bytes
    value: BytesLike | None


class Stat(TypedDict):
    """Sizes of one environment. All in bytes but the last."""

    map_bytes: int
    max_bytes: int
    file_bytes: int  # high-water mark: the file never shrinks
    used_bytes: int  # pages of live records; the rest of the file is reused before it grows
    free_fraction: float  # of max_bytes


class _Batch(NamedTuple):
    """The records of one transaction, one entry per table and key, ready for LMDB."""

    puts: dict[str, list[tuple[bytes, BytesLike]]]
    deletes: list[tuple[str, bytes]]
    put_bytes: int


class _Gate:
    """Lets any number of readers through, or nobody while the map is being moved.

    Moving the map under an open transaction is undefined behaviour in LMDB.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._inside = 0
        self._shut = False

    def __enter__(self) -> None:
        with self._condition:
            while self._shut:
                self._condition.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._inside -= 1
            if not self._inside:
                self._condition.notify_all()

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Wait until all readers have left and keep new ones out. One caller at a time."""
        with self._condition:
            self._shut = True
            while self._inside:
                self._condition.wait()
        try:
            yield
        finally:
            with self._condition:
                self._shut = False
                self._condition.notify_all()


class Environment:
    """See the module text. Make one with `Environment.open`."""

    def __init__(
        self,
        path: Path,
        env: lmdb.Environment,
        tables: Mapping[str, lmdb._Database],
        pinned: frozenset[str],
        max_bytes: int,
    ) -> None:
        self.path = path
        self._pinned = pinned
        self._env: lmdb.Environment | None = env
        self._tables = tables
        self._max_bytes = max_bytes
        self._pid = os.getpid()
        self._failure: str | None = None
        self._gate = _Gate()
        self._write_lock = threading.Lock()
        # Held by a copy and by a remap: a remap that waits for a long copy must not shut the gate yet.
        self._map_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: Path,
        tables: Sequence[str],
        *,
        pinned: Iterable[str] = (),
        fsync: bool = True,
        map_bytes: int = MAP_BYTES,
        max_bytes: int = MAP_BYTES_MAX,
        create: bool = True,
        readonly: bool = False,
    ) -> Environment:
        """Open the environment in directory `path`; `create` makes what is missing.

        `pinned` tables store their values as they are, without a copy and a checksum: large ones that prove themselves.
        `fsync=False` is for benchmarks: a power cut may then destroy everything. `readonly` needs the
        caller to keep writers away, since it leaves no trace in LMDB's lock file.
        Raises StorageError with the exact reason if the files are missing, damaged or not accessible.
        """
        path = path.absolute()
        create = create and not readonly
        with _storage_errors(path):
            if create:
                path.mkdir(mode=0o700, exist_ok=True)
            is_new = _is_new_data_file(path / DATA_FILE, create)
            env = lmdb.open(
                str(path),
                map_size=_whole_pages(min(map_bytes, max_bytes)),
                readonly=readonly,
                create=False,
                sync=fsync,
                readahead=False,
                mode=0o600,
                max_readers=READERS_MAX,
                max_dbs=len(tables),
                max_spare_txns=1,
                lock=not readonly,
                lib_version=0,  # the formats of LMDB 0.9 and 1.0 exclude each other
            )
            try:
                if not readonly:
                    env.reader_check()  # slots left behind by kill -9
                handles = _open_tables(env, tables, create, readonly)
                if is_new and fsync:
                    sync_directory(path)  # LMDB syncs the file but not its name
            except BaseException:
                env.close()
                raise
            return cls(path, env, handles, frozenset(pinned), max_bytes)

    def write(self, records: Iterable[Record]) -> None:
        """Apply all records in one transaction, durable on return. The last record for a key wins.

        Raises DiskFull (nothing was written; try again after making room) or StorageFailed (unknown
        what was written; every later write raises it too).

        Small writes that only delete work at the cap of the map, so pruning gets out of that. On a full
        disk they may fail as well, since LMDB copies every page it changes: somebody has to free space.
        """
        batch = self._prepare(records)
        map_limit = _whole_pages(self._max_bytes) + (0 if batch.puts else DELETE_RESERVE_BYTES)
        with self._write_lock:
            env = self._live_env()
            if self._failure is not None:
                raise StorageFailed(f"{self.path}: no more writes after an earlier failure: {self._failure}")
            while True:
                try:
                    self._commit(env, batch)
                    break
                except lmdb.MapFullError as error:
                    if not self._grow(env, map_limit):
                        raise DiskFull(f"{self.path}: map is full at its cap of {self._max_bytes} bytes") from error
                except lmdb.Error as error:
                    if self._lacks_space(env, error, batch.put_bytes):
                        raise DiskFull(f"{self.path}: no space left on the disk: {error}") from error
                    self._failure = str(error)
                    raise StorageFailed(f"{self.path}: write failed: {error}") from error
            if not batch.puts and env.info()["map_size"] > _whole_pages(self._max_bytes):
                self._remap(env, _whole_pages(self._max_bytes))  # the reserve is for deletes only

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, or None. Raises CorruptRecord if its checksum does not match."""
        handle = self._table(table)

        def read(env: lmdb.Environment) -> bytes | None:
            with env.begin(db=handle, buffers=True) as txn:
                stored = txn.get(key)
                return None if stored is None else self._value(table, key, stored)

        return self._read(f"table {table} key {key.hex()}", read)

    def has(self, table: str, key: bytes) -> bool:
        """Whether a record is stored under `key`. Does not look at its checksum."""
        handle = self._table(table)

        def read(env: lmdb.Environment) -> bool:
            with env.begin(db=handle, buffers=True) as txn:
                return txn.get(key) is not None

        return self._read(f"table {table} key {key.hex()}", read)

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, *, reverse: bool = False, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` records with start <= key < stop, in key order or from the end backwards.

        A list, not an iterator: an open reader would stop LMDB from reusing pages and the file would
        grow without bound. Raises CorruptRecord as `get` does.
        """
        handle = self._table(table)

        def read(env: lmdb.Environment) -> list[tuple[bytes, bytes]]:
            found: list[tuple[bytes, bytes]] = []
            with env.begin(db=handle, buffers=True) as txn, txn.cursor() as cursor:
                for key_view, stored in _walk(cursor, start, stop, reverse):
                    key = bytes(key_view)
                    if len(found) == limit or not (start <= key and (stop is None or key < stop)):
                        break
                    found.append((key, self._value(table, key, stored)))
            return found

        return self._read(f"table {table}", read)

    def first(self, table: str) -> tuple[bytes, bytes] | None:
        """The record with the smallest key, or None if the table is empty."""
        return next(iter(self.scan(table, limit=1)), None)

    def last(self, table: str) -> tuple[bytes, bytes] | None:
        """The record with the largest key, or None if the table is empty."""
        return next(iter(self.scan(table, reverse=True, limit=1)), None)

    def count(self, table: str) -> int:
        """Number of records in the table."""
        handle = self._table(table)

        def read(env: lmdb.Environment) -> int:
            with env.begin() as txn:
                return txn.stat(handle)["entries"]

        return self._read(f"table {table}", read)

    def stat(self) -> Stat:
        """Sizes for metrics and for the decision to prune."""

        def read(env: lmdb.Environment) -> Stat:
            info, page_bytes = env.info(), env.stat()["psize"]
            with env.begin() as txn:
                trees = [env.stat(), *(txn.stat(handle) for handle in self._tables.values())]
            pages = sum(tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"] for tree in trees)
            return Stat(
                map_bytes=info["map_size"],
                max_bytes=self._max_bytes,
                file_bytes=(info["last_pgno"] + 1) * page_bytes,
                used_bytes=pages * page_bytes,
                free_fraction=max(0.0, 1 - pages * page_bytes / self._max_bytes),
            )

        return self._read("statistics", read)

    def copy(self, path: Path) -> None:
        """Write a consistent copy of the last committed state into `path`, a new or empty directory.

        Reads and writes go on meanwhile, except that a write that needs a larger map waits for the end.
        Raises StorageError (DiskFull if that is the reason) and leaves an incomplete copy to the caller.
        """
        path = path.absolute()

        def read(env: lmdb.Environment) -> None:
            with _storage_errors(path):
                path.mkdir(mode=0o700, exist_ok=True)
                if any(path.iterdir()):
                    raise StorageError(f"{path}: not empty, a copy must go into a new directory")
                env.copy(str(path))
                with open(path / DATA_FILE, "rb") as file:
                    os.fsync(file.fileno())
                sync_directory(path)

        with self._map_lock:
            self._read("copy", read)

    def close(self) -> None:
        """Wait for reads and writes under way, then release the files. May be called again.

        In a forked child it does nothing: the files belong to the parent.
        """
        if self._pid != os.getpid():
            return
        with self._write_lock, self._alone():
            if self._env is not None:
                self._env.close()
                self._env = None

    def _live_env(self) -> lmdb.Environment:
        if self._pid != os.getpid():
            raise InvariantViolation(f"{self.path}: opened by process {self._pid}, used after fork in {os.getpid()}")
        if self._env is None:
            raise StorageError(f"{self.path}: already closed")
        return self._env

    def _table(self, name: str) -> lmdb._Database:
        try:
            return self._tables[name]
        except KeyError:
            raise InvariantViolation(f"{self.path}: no table {name!r}, there are {sorted(self._tables)}") from None

    def _read(self, what: str, read: Callable[[lmdb.Environment], _T]) -> _T:
        # Before the gate: a lock that was held at the time of the fork stays locked in the child.
        self._live_env()
        with self._gate:
            try:
                return read(self._live_env())
            except (lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
                raise CorruptRecord(f"{self.path}: {what}: damaged page: {error}") from error
            except lmdb.Error as error:
                raise StorageError(f"{self.path}: {what}: cannot read: {error}") from error
            except CorruptRecord as error:
                raise CorruptRecord(f"{self.path}: {error}") from None

    def _prepare(self, records: Iterable[Record]) -> _Batch:
        """Checks and checksums outside the transaction: an error in `records` must not leave one open."""
        self._live_env()
        latest: dict[tuple[str, bytes], BytesLike | None] = {}
        for table, key, value in records:
            self._table(table)
            if not 1 <= len(key) <= KEY_BYTES_MAX:
                raise InvariantViolation(f"table {table}: key of {len(key)} bytes, allowed: 1 to {KEY_BYTES_MAX}")
            if value is not None and table not in self._pinned:
                value = b"".join((value, _tag(table, key, value)))
            latest[table, key] = value
        puts: dict[str, list[tuple[bytes, BytesLike]]] = {}
        deletes: list[tuple[str, bytes]] = []
        put_bytes = 0
        for (table, key), stored in latest.items():
            if stored is None:
                deletes.append((table, key))
            else:
                puts.setdefault(table, []).append((key, stored))
                put_bytes += len(key) + len(stored)
        return _Batch(puts, deletes, put_bytes)

    def _value(self, table: str, key: bytes, stored: memoryview) -> bytes:
        """A stored value, copied out of the map. Raises CorruptRecord."""
        return bytes(stored) if table in self._pinned else _checked(table, key, stored)

    def _commit(self, env: lmdb.Environment, batch: _Batch) -> None:
        txn = env.begin(write=True)
        try:
            for table, items in batch.puts.items():
                txn.cursor(self._tables[table]).putmulti(items)
            for table, key in batch.deletes:
                txn.delete(key, db=self._tables[table])
        except BaseException:
            with self._alone():
                txn.abort()
            raise
        txn.commit()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps readers out. A remap needs that, and py-lmdb's abort waits for a moment without any
        read in progress, which two busy readers never grant."""
        with self._map_lock, self._gate.shut():
            yield

    def _grow(self, env: lmdb.Environment, limit: int) -> bool:
        """Double the map up to `limit` bytes. False if it is there already. No transaction may be open."""
        map_bytes = env.info()["map_size"]
        if map_bytes >= limit:
            return False
        self._remap(env, min(2 * map_bytes, limit))
        return True

    def _remap(self, env: lmdb.Environment, map_bytes: int) -> None:
        with self._alone():
            try:
                env.set_mapsize(map_bytes)
            except lmdb.Error as error:
                self._failure = str(error)
                raise StorageFailed(f"{self.path}: cannot map {map_bytes} bytes: {error}") from error

    def _lacks_space(self, env: lmdb.Environment, error: lmdb.Error, put_bytes: int) -> bool:
        """Whether the failed transaction is gone as a whole for want of space, so that a retry is safe.

        The retry writes all its pages anew and syncs them, and pages of earlier transactions were synced
        before, so this never trusts the cache of a failed sync. That holds only while the failure came
        before the meta page, which is the commit point; LMDB refuses all transactions after a later one.
        """
        if error.code not in _SPACE_ERRNOS:
            return False
        try:
            with self._alone():
                env.begin(write=True).abort()
        except lmdb.Error:
            return False
        # LMDB turns a short write into EIO, the code of a broken disk. Believe in a full one only on proof.
        return error.code != errno.EIO or _is_full(self.path, put_bytes)


def structural_problems(path: Path) -> list[str]:
    """What is wrong with the pages of the closed environment in `path`, in words. Reads the whole file.

    Pure Python, so damage that would crash LMDB is only reported. Does not check the values' checksums.
    """
    with _storage_errors(path):
        try:
            problems: list[str] = lmdb.verify.verify(str(path))  # type: ignore[no-untyped-call]
        except lmdb.verify.VerifyError as error:
            return [str(error)]
        return problems


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Turns the errors of the operating system and of LMDB into ours, with the path in front."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"{error.filename or path}: {error.strerror}") from error
    except lmdb.Error as error:
        kind = DiskFull if isinstance(error, lmdb.DiskError) else StorageError
        raise kind(f"{path}: {error}") from error


def _tag(table: str, key: bytes, value: BytesLike) -> bytes:
    """Checksum of a record. Part of the disk format.

    Large values enter by their CRC-32, 3.5 times as fast as SHA-256 here; a change slips through with
    probability 2^-32, which is enough against decay (the disk is not an adversary).
    """
    content = value if len(value) <= HASHED_WHOLE_BYTES_MAX else _crc(memoryview(value)).to_bytes(4, "big")
    name = table.encode()
    sizes = struct.pack(">BHQ", len(name), len(key), len(value))
    return hashlib.sha256(b"".join((sizes, name, key, content))).digest()[:TAG_BYTES]


def _crc(value: memoryview) -> int:
    crc = 0
    for start in range(0, len(value), CRC_STEP_BYTES):
        crc = zlib.crc32(value[start : start + CRC_STEP_BYTES], crc)
    return crc


def _checked(table: str, key: bytes, stored: memoryview) -> bytes:
    """The value without its tag, copied out of the map. Raises CorruptRecord."""
    value, tag = stored[:-TAG_BYTES], stored[-TAG_BYTES:]
    if len(tag) != TAG_BYTES or tag != _tag(table, key, value):
        raise CorruptRecord(f"table {table} key {key.hex()}: checksum of {len(stored)} stored bytes does not match")
    return bytes(value)


def _walk(
    cursor: lmdb.Cursor[memoryview], start: bytes, stop: bytes | None, reverse: bool
) -> Iterator[tuple[memoryview, memoryview]]:
    """The records from the first that can be in [start, stop) on; the caller ends at the last."""
    if not reverse:
        return cursor.iternext() if cursor.set_range(start) else iter(())
    if stop is not None and cursor.set_range(stop):
        # The cursor is on the first key at or after `stop`, which is one too far.
        return cursor.iterprev() if cursor.prev() else iter(())
    return cursor.iterprev() if cursor.last() else iter(())


def _open_tables(
    env: lmdb.Environment, tables: Sequence[str], create: bool, readonly: bool
) -> dict[str, lmdb._Database]:
    if readonly:
        # py-lmdb keeps a read transaction for later use instead of committing it, and LMDB forgets
        # the handles opened in it.
        return {name: env.open_db(name.encode(), create=False) for name in tables}
    # One transaction for all: a crash leaves either none of the tables or all.
    with env.begin(write=True) as txn:
        return {name: env.open_db(name.encode(), txn=txn, create=create) for name in tables}


def _whole_pages(size: int) -> int:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return -(-size // page_bytes) * page_bytes


def _is_full(path: Path, wanted_bytes: int) -> bool:
    """Whether `wanted_bytes` more cannot be had at the end of the data file, shown by trying it elsewhere."""
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            os.posix_fallocate(probe.fileno(), (path / DATA_FILE).stat().st_size, _whole_pages(wanted_bytes + 1))
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return False


def _is_new_data_file(file: Path, create: bool) -> bool:
    """True if LMDB will make the file. Raises StorageError for one it would crash on or wrongly start afresh."""
    try:
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            metas = [_read_meta(file, stream.read(_META_END), "first")]
            page_bytes = metas[0][0]
            stream.seek(page_bytes)
            metas.append(_read_meta(file, stream.read(_META_END), "second"))
    except FileNotFoundError:
        if create:
            return True
        raise
    last_page = max(metas, key=lambda meta: meta[2])[1]
    if size < (last_page + 1) * page_bytes:
        _refuse_truncated(file, size, (last_page + 1) * page_bytes)
    return False


def _read_meta(file: Path, page: bytes, which: str) -> tuple[int, int, int]:
    """(page size in bytes, last page number, transaction id) of one of the two meta pages."""
    if len(page) < _META_END:
        # LMDB takes an empty file for a new environment: silent loss of the safety record.
        raise StorageError(f"{file}: empty or truncated: ends inside the {which} meta page")
    (flags,) = struct.unpack_from("=H", page, _META_FLAGS)
    magic, version = struct.unpack_from("=II", page, _META_MAGIC)
    (page_bytes,) = struct.unpack_from("=I", page, _META_PAGE_BYTES)
    last_page, txn_id = struct.unpack_from("=QQ", page, _META_LAST_PAGE)
    if magic != _MAGIC or not flags & _PAGE_IS_META:
        raise StorageError(f"{file}: not an LMDB file or damaged: no magic number in the {which} meta page")
    if version != _FORMAT:
        raise StorageError(f"{file}: LMDB data format {version}, this release reads {_FORMAT}")
    if page_bytes not in (1 << shift for shift in range(9, 17)):
        raise StorageError(f"{file}: damaged: page size {page_bytes} in the {which} meta page")
    return page_bytes, last_page, txn_id


def _refuse_truncated(file: Path, size: int, full_size: int) -> None:
    """Pages at the end that were free at the last commit may never have been written, so being short
    is damage only if a page in use is missing."""
    problems = structural_problems(file)
    if problems:
        raise StorageError(f"{file}: truncated: {size} bytes of {full_size}: {problems[0]}")
