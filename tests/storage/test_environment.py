"""The byte layer against a dict, damaged files, full disks, dying processes and other threads."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import lmdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hotstuff.errors import CorruptRecord, DiskFull, InvariantViolation, StorageError
from hotstuff.storage.environment import DATA_FILE, HASHED_WHOLE_BYTES_MAX, Environment, Record, structural_problems

TABLES = ("one", "two")
PAGE = os.sysconf("SC_PAGE_SIZE")
StartChild = Callable[..., "subprocess.Popen[str]"]


@cache
def filler(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture
def env(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment.open(tmp_path / "env", TABLES)
    yield environment
    environment.close()


class DictMachine(RuleBasedStateMachine):
    """Any sequence of writes and reopenings behaves like one dict per table."""

    keys = st.binary(min_size=1, max_size=3)
    values = st.one_of(
        st.none(),
        st.binary(max_size=50),
        st.integers(HASHED_WHOLE_BYTES_MAX - 2, 3 * PAGE).map(filler),
        st.binary(max_size=50).map(bytearray),
    )

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.model: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.open()

    def open(self) -> None:
        path = Path(self.directory.name) / "env"
        self.env = Environment.open(path, TABLES, fsync=False, map_bytes=16 * PAGE)

    @rule(records=st.lists(st.builds(Record, st.sampled_from(TABLES), keys, values), max_size=8))
    def write(self, records: list[Record]) -> None:
        self.env.write(records)
        for table, key, value in records:
            if value is None:
                self.model[table].pop(key, None)
            else:
                self.model[table][key] = bytes(value)

    @rule()
    def reopen(self) -> None:
        self.env.close()
        self.open()

    @rule(table=st.sampled_from(TABLES), key=keys)
    def look_up(self, table: str, key: bytes) -> None:
        assert self.env.get(table, key) == self.model[table].get(key)
        assert self.env.has(table, key) == (key in self.model[table])

    @rule(
        table=st.sampled_from(TABLES),
        start=st.one_of(st.just(b""), keys),
        stop=st.one_of(st.none(), st.just(b""), keys),
        reverse=st.booleans(),
        limit=st.integers(0, 5),
    )
    def scan(self, table: str, start: bytes, stop: bytes | None, reverse: bool, limit: int) -> None:
        inside = [key for key in self.model[table] if start <= key and (stop is None or key < stop)]
        expected = [(key, self.model[table][key]) for key in sorted(inside, reverse=reverse)][:limit]
        assert self.env.scan(table, start, stop, reverse=reverse, limit=limit) == expected

    @invariant()
    def ends_and_counts_agree(self) -> None:
        for table, content in self.model.items():
            in_order = sorted(content.items())
            assert self.env.first(table) == (in_order[0] if in_order else None)
            assert self.env.last(table) == (in_order[-1] if in_order else None)
            assert self.env.count(table) == len(content)

    def teardown(self) -> None:
        self.env.close()
        self.directory.cleanup()


TestDict = DictMachine.TestCase
TestDict.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_flags_are_the_durable_ones(env: Environment, tmp_path: Path) -> None:
    assert env._env is not None
    flags = env._env.flags()
    assert flags["sync"] and flags["metasync"] and flags["lock"]
    assert not flags["writemap"] and not flags["map_async"] and not flags["readahead"]
    assert env._env.lib_version()[:2] == (0, 9)
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "env" / DATA_FILE).stat().st_mode) == 0o600
    bench = Environment.open(tmp_path / "bench", TABLES, fsync=False)
    assert bench._env is not None and not bench._env.flags()["sync"] and not bench._env.flags()["writemap"]
    bench.close()


def test_error_in_records_writes_nothing_and_blocks_nothing(env: Environment) -> None:
    def records() -> Iterator[Record]:
        yield Record("one", b"k", b"v")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        env.write(records())
    for bad in (Record("none", b"k", b"v"), Record("one", b"", b"v"), Record("one", bytes(512), b"v")):
        with pytest.raises(InvariantViolation):
            env.write([Record("one", b"k", b"v"), bad])
    assert env.get("one", b"k") is None
    env.write([Record("one", b"k", b"w")])
    assert env.get("one", b"k") == b"w"


def test_closed_environment(env: Environment) -> None:
    env.close()
    env.close()
    with pytest.raises(StorageError, match="already closed"):
        env.get("one", b"k")
    with pytest.raises(StorageError, match="already closed"):
        env.write([])


def test_readonly_and_missing(env: Environment, tmp_path: Path) -> None:
    env.write([Record("one", b"k", b"v")])
    env.close()
    reader = Environment.open(tmp_path / "env", TABLES, readonly=True)
    assert reader.get("one", b"k") == b"v"
    with pytest.raises(StorageError):
        reader.write([Record("one", b"k", None)])
    reader.close()
    with pytest.raises(StorageError, match="No such file"):
        Environment.open(tmp_path / "absent", TABLES, create=False)
    assert not (tmp_path / "absent").exists()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, HASHED_WHOLE_BYTES_MAX, HASHED_WHOLE_BYTES_MAX + 1, 100_000])
def test_flipped_bits_in_values_are_found(tmp_path: Path, size: int) -> None:
    path = tmp_path / "env"
    marker = b"<marker>"
    value = marker + filler(size)
    env = Environment.open(path, TABLES)
    env.write([Record("one", b"key", value), Record("one", b"other", b"fine")])
    env.close()
    intact = (path / DATA_FILE).read_bytes()
    at = intact.index(marker)
    for offset in {0, len(marker), len(value) // 2, len(value) - 1, len(value), len(value) + 7}:
        damaged = bytearray(intact)
        damaged[at + offset] ^= 1 << offset % 8
        (path / DATA_FILE).write_bytes(damaged)
        env = Environment.open(path, TABLES)
        with pytest.raises(CorruptRecord, match="table one key 6b6579"):
            env.get("one", b"key")
        with pytest.raises(CorruptRecord):
            env.scan("one", limit=9)
        assert env.get("one", b"other") == b"fine"
        env.close()


def test_misdirected_values_are_found(env: Environment, tmp_path: Path) -> None:
    env.write([Record("one", b"a", b"first"), Record("one", b"b", b"second")])
    env.close()
    raw = lmdb.open(str(tmp_path / "env"), max_dbs=2)
    one, two = raw.open_db(b"one"), raw.open_db(b"two")
    with raw.begin(write=True) as txn:
        stored = txn.get(b"a", db=one)
        assert stored is not None
        txn.put(b"b", stored, db=one)
        txn.put(b"a", stored, db=two)
        txn.put(b"c", b"short", db=one)
    raw.close()
    env = Environment.open(tmp_path / "env", TABLES)
    assert env.get("one", b"a") == b"first"
    for table, key in (("one", b"b"), ("two", b"a"), ("one", b"c")):
        with pytest.raises(CorruptRecord):
            env.get(table, key)
    env.close()


def test_damage_anywhere_never_yields_wrong_data(tmp_path: Path, start_child: StartChild) -> None:
    """Flips and zeroed sectors also in tree pages, where LMDB itself may crash: hence one fork per case."""
    env = Environment.open(tmp_path / "env", TABLES)
    env.write(Record("one", b"%04d" % i, filler(i)) for i in range(0, 3000, 10))
    env.close()
    code = """
        import os, random, sys
        from pathlib import Path
        from hotstuff.errors import StorageError
        from hotstuff.storage.environment import Environment

        path, rng = Path(sys.argv[1]), random.Random(5)
        intact = (path / "data.mdb").read_bytes()
        devnull = os.open(os.devnull, os.O_WRONLY)
        for case in range(60):
            damaged = bytearray(intact)
            at = rng.randrange(len(intact) - 512)
            damaged[at : at + 512] = bytes(512) if case % 3 == 0 else rng.randbytes(1) + damaged[at + 1 : at + 512]
            (path / "data.mdb").write_bytes(damaged)
            child = os.fork()
            if child == 0:
                os.dup2(devnull, 2)
                wrong = 0
                try:
                    env = Environment.open(path, ["one", "two"])
                    for i in range(0, 3000, 10):
                        try:
                            wrong |= env.get("one", b"%04d" % i) not in (None, random.Random(i).randbytes(i))
                        except StorageError:
                            pass
                except StorageError:
                    pass
                os._exit(3 if wrong else 0)
            status = os.waitpid(child, 0)[1]
            assert not (os.WIFEXITED(status) and os.WEXITSTATUS(status)), (case, at, status)
        print("done")
    """
    assert start_child(code, tmp_path / "env").communicate()[0] == "done\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: b"", "empty or truncated"),
        (lambda data: data[:100], "empty or truncated"),
        (lambda data: data[: PAGE + 20], "ends inside the second meta page"),
        (lambda data: data[: 2 * PAGE], "truncated: .* bytes of"),
        (lambda data: data[: len(data) // 2], "truncated: .* bytes of"),
        (lambda data: filler(len(data)), "not an LMDB file"),
        (lambda data: data[:PAGE] + bytes(PAGE) + data[2 * PAGE :], "second meta page"),
        (lambda data: data[:20] + b"\x03\0\0\0" + data[24:], "data format 3"),
        (lambda data: data[:40] + b"\x03\0\0\0" + data[44:], "page size 3"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    path = tmp_path / "env"
    env = Environment.open(path, TABLES)
    env.write([Record("one", b"k", filler(50_000))])
    env.close()
    data = change((path / DATA_FILE).read_bytes())
    (path / DATA_FILE).write_bytes(data)
    with pytest.raises(StorageError, match=reason):
        Environment.open(path, TABLES)
    assert (path / DATA_FILE).read_bytes() == data, "evidence was changed"


def test_unwritten_free_pages_at_the_end_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "env"
    env = Environment.open(path, TABLES)
    env.write([Record("one", b"keep", b"v")])
    env.write([Record("one", b"big", filler(100_000))])
    env.write([Record("one", b"big", None)])
    env.write([Record("one", b"keep", b"w")])
    env.close()
    size = (path / DATA_FILE).stat().st_size
    # The pages of the deleted value are free, so losing the last of them loses nothing.
    os.truncate(path / DATA_FILE, size - PAGE)
    assert structural_problems(path) == []
    env = Environment.open(path, TABLES)
    assert env.get("one", b"keep") == b"w"
    env.write([Record("one", b"big", filler(100_000))])
    assert env.get("one", b"big") == filler(100_000)
    env.close()


# --- space ----------------------------------------------------------------------------------------


def test_map_grows_under_readers(tmp_path: Path) -> None:
    env = Environment.open(tmp_path / "env", TABLES, fsync=False, map_bytes=16 * PAGE)
    env.write([Record("one", b"fixed", filler(5000))])
    done = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        try:
            while not done.is_set():
                if env.get("one", b"fixed") != filler(5000) or len(env.scan("one", limit=3)) < 1:
                    wrong.append("value")
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for i in range(200):
        env.write([Record("two", b"%04d" % i, filler(50_000))])
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert env.stat()["map_bytes"] >= 200 * 50_000
    assert env.scan("two", limit=200) == [(b"%04d" % i, filler(50_000)) for i in range(200)]
    env.close()


def test_full_map_can_be_emptied_again_and_again(tmp_path: Path) -> None:
    cap = 64 * PAGE
    env = Environment.open(tmp_path / "env", TABLES, fsync=False, map_bytes=8 * PAGE, max_bytes=cap)
    for _ in range(20):
        count = 0
        with pytest.raises(DiskFull, match="cap"):
            for count in range(1000):
                env.write([Record("one", b"%04d" % count, filler(1000)), Record("two", b"last", b"%04d" % count)])
        assert count > 30
        assert env.count("one") == count, "the refused transaction left something"
        assert env.get("two", b"last") == b"%04d" % (count - 1)
        for i in range(count):
            env.write([Record("one", b"%04d" % i, None)])
        env.write([Record("two", b"again", b"works")])
    assert env.stat()["file_bytes"] <= cap + 64 * PAGE
    env.close()


@pytest.mark.parametrize("size", [100, 30_000, 700_000])
def test_full_disk(small_disk: Path, size: int) -> None:
    (small_disk / "other program").write_bytes(bytes(1 << 20))
    env = Environment.open(small_disk / "env", TABLES)
    count = 0
    with pytest.raises(DiskFull, match="no space left"):
        for count in range(100_000):
            env.write([Record("one", b"%06d" % (count * 10 + i), filler(size)) for i in range(5)])
    with pytest.raises(DiskFull):
        env.write([Record("one", b"more", filler(3_200_000))])
    assert env.count("one") == count * 5
    assert env.get("one", b"more") is None
    (small_disk / "other program").unlink()
    env.write([Record("two", b"again", b"works")])
    while some := env.scan("one", limit=100):
        env.write([Record("one", key, None) for key, _ in some])
    env.write([Record("one", b"0", filler(size))])
    env.close()
    env = Environment.open(small_disk / "env", TABLES)
    assert env.scan("one", limit=9) == [(b"0", filler(size))]
    env.close()


def test_file_size_limit_is_a_full_disk(tmp_path: Path, start_child: StartChild) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from hotstuff.errors import DiskFull
        from hotstuff.storage.environment import Environment, Record

        env = Environment.open(Path(sys.argv[1]), ["one"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        count = 0
        try:
            while True:
                env.write([Record("one", b"%04d" % count, bytes(30_000))])
                count += 1
        except DiskFull:
            assert env.count("one") == count > 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        env.write([Record("one", b"again", bytes(100_000))])
        print("done")
    """
    assert start_child(code, tmp_path / "env").communicate()[0] == "done\n"


def test_failed_sync_ends_writing(tmp_path: Path, start_child: StartChild, sync_shim: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from hotstuff.errors import StorageFailed
        from hotstuff.storage.environment import Environment, Record

        flag = Path(os.environ["SYNC_FAILS"])
        env = Environment.open(Path(sys.argv[1]), ["one"])
        env.write([Record("one", b"k", b"old")])
        flag.touch()
        try:
            env.write([Record("one", b"k", b"new")])
        except StorageFailed as error:
            print(error)
        flag.unlink()  # the disk looks well again, which proves nothing about the lost pages
        try:
            env.write([Record("one", b"k", b"new")])
        except StorageFailed as error:
            print(error)
        print(env.get("one", b"k"))
    """
    variables = {"LD_PRELOAD": str(sync_shim), "SYNC_FAILS": str(tmp_path / "fails")}
    lines = start_child(code, tmp_path / "env", **variables).communicate()[0].splitlines()
    assert "write failed" in lines[0] and "Input/output error" in lines[0]
    assert "no more writes after an earlier failure" in lines[1]
    assert lines[2] == "b'old'"


# --- processes, threads, copies -------------------------------------------------------------------


def test_kill_in_the_middle_loses_no_acknowledged_write(tmp_path: Path, start_child: StartChild) -> None:
    code = """
        import sys
        from pathlib import Path
        from hotstuff.storage.environment import Environment, Record

        env = Environment.open(Path(sys.argv[1]), ["one", "two"], map_bytes=1 << 16)
        i = env.count("one")
        while True:
            env.write([Record("one", b"%08d" % i, b"%d" % i * 500), Record("two", b"%08d" % i, b"")])
            print(i, flush=True)
            i += 1
    """
    path = tmp_path / "env"
    acknowledged = -1
    for _ in range(3):
        child = start_child(code, path)
        assert child.stdout is not None
        for seen, line in enumerate(child.stdout):  # goes on after the kill until the pipe is empty
            acknowledged = int(line)
            if seen == 60:
                os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        env = Environment.open(path, TABLES)
        count = env.count("one")
        assert count == env.count("two")
        assert count - 1 in (acknowledged, acknowledged + 1)
        assert env.scan("one", limit=count + 1) == [(b"%08d" % i, b"%d" % i * 500) for i in range(count)]
        env.close()


def test_use_after_fork_is_refused(tmp_path: Path, start_child: StartChild) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from hotstuff.errors import InvariantViolation
        from hotstuff.storage.environment import Environment, Record

        env = Environment.open(Path(sys.argv[1]), ["one"])
        env.write([Record("one", b"k", b"v")])
        env._write_lock.acquire()  # as if another thread were writing at the moment of the fork
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (lambda: env.get("one", b"k"), lambda: env.write([]), env.stat):
                try:
                    use()
                except InvariantViolation:
                    refused += 1
            env.close()
            os._exit(refused)
        refused = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        env._write_lock.release()
        env.write([Record("one", b"k", b"w")])
        print(refused, env.get("one", b"k"))
    """
    assert start_child(code, tmp_path / "env").communicate()[0] == "3 b'w'\n"


def test_copy_is_consistent_while_writing(env: Environment, tmp_path: Path) -> None:
    env.write([Record("one", b"filler", filler(3_000_000)), *(Record(table, b"n", b"-1") for table in TABLES)])
    done = threading.Event()

    def write() -> None:
        i = 0
        while not done.is_set():
            env.write([Record(table, b"n", b"%d" % i) for table in TABLES])
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(5):
            env.copy(tmp_path / f"copy{i}")
    finally:
        done.set()
        writer.join()
    for i in range(5):
        copy = Environment.open(tmp_path / f"copy{i}", TABLES, create=False)
        assert copy.get("one", b"n") == copy.get("two", b"n") is not None
        assert copy.get("one", b"filler") == filler(3_000_000)
        copy.close()
        assert structural_problems(tmp_path / f"copy{i}") == []
    with pytest.raises(StorageError, match="not empty"):
        env.copy(tmp_path / "copy0")


def test_copy_to_a_full_disk(env: Environment, small_disk: Path) -> None:
    env.write([Record("one", b"k", filler(8_000_000))])
    with pytest.raises(StorageError):
        env.copy(small_disk / "copy")
    assert env.get("one", b"k") == filler(8_000_000)


def test_same_files_twice_in_one_process(env: Environment, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="already open"):
        Environment.open(tmp_path / "env", TABLES)


def test_odd_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real dir ü").mkdir()
    (tmp_path / "link").symlink_to("real dir ü")
    env = Environment.open(Path("link/env"), TABLES)
    monkeypatch.chdir("/")
    env.write([Record("one", b"k", b"v")])
    env.close()
    shutil.move(tmp_path / "real dir ü", tmp_path / "moved")
    env = Environment.open(tmp_path / "moved/env", TABLES, create=False)
    assert env.get("one", b"k") == b"v"
    env.close()
