"""Whose directory it is, who may open it, and what is said when it cannot be opened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hotstuff.errors import DataDirLocked, DataDirMismatch, DiskFull, StorageError
from hotstuff.storage.datadir import BATCHES_TABLES, BODIES, CONSENSUS_TABLES, SAFETY, DataDir, Identity
from hotstuff.storage.environment import Environment, Record

NETWORK, OTHER = bytes(range(32)), bytes(32)
StartChild = Callable[..., "subprocess.Popen[str]"]

HOLD = """
    import sys
    from pathlib import Path
    from hotstuff.storage.datadir import DataDir

    held = DataDir.open(Path(sys.argv[1]), bytes(range(32)), 1, create_if_missing=True)
    print("open", flush=True)
    sys.stdin.read()
"""


def create(path: Path) -> Path:
    DataDir.create(path, NETWORK, 1)
    return path


def reopen(path: Path) -> DataDir:
    return DataDir.open(path, NETWORK, 1, create_if_missing=False)


def is_fresh(directory: DataDir) -> bool:
    return directory.fresh


def edit_meta(path: Path, **changes: object) -> None:
    fields = {**json.loads((path / "META").read_text()), **changes}
    (path / "META").write_text(json.dumps(fields))


def test_life_of_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node 1"
    directory = DataDir.open(path, NETWORK, 1, create_if_missing=True)
    assert is_fresh(directory)
    assert 0 < directory.free_bytes() < 1 << 60
    directory.batches.write([Record(table, b"k", b"v") for table in BATCHES_TABLES])
    assert is_fresh(directory)
    directory.consensus.write([Record(table, b"k", b"v") for table in CONSENSUS_TABLES])
    assert not is_fresh(directory)
    identity = directory.identity
    directory.close()
    directory.close()
    directory = DataDir.open(path, NETWORK, 1, fsync=False, create_if_missing=True)
    assert directory.identity == identity
    assert not directory.fresh
    assert directory.consensus.get(SAFETY, b"k") == directory.batches.get(BODIES, b"k") == b"v"
    directory.close()


def test_every_directory_has_its_own_instance(tmp_path: Path) -> None:
    instances = set()
    for name in "ab":
        directory = reopen(create(tmp_path / name))
        instances.add(directory.identity.instance_id)
        directory.close()
    assert len(instances) == 2


def test_create_needs_an_empty_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(StorageError, match=r"not empty, it has 'letter.txt'"):
        create(tmp_path / "other")
    with pytest.raises(StorageError, match="not a data directory"):
        DataDir.open(tmp_path / "other", NETWORK, 1, create_if_missing=True)
    assert [entry.name for entry in (tmp_path / "other").iterdir()] == ["letter.txt"]
    with pytest.raises(StorageError, match="not empty"):
        create(tmp_path / "empty")
    with pytest.raises(StorageError, match="no such directory"):
        reopen(tmp_path / "absent")
    with pytest.raises(StorageError, match="File exists"):
        create(tmp_path / "other" / "letter.txt")


def test_interrupted_creation_is_refused(tmp_path: Path, start_child: StartChild) -> None:
    """Ends the process before each system call that changes a name or syncs, one after the other."""
    code = """
        import os, sys
        from pathlib import Path
        from hotstuff.storage.datadir import DataDir

        left = int(sys.argv[2])

        def end_at_the_nth(event, args):
            global left
            if event in ("os.rename", "os.mkdir") or (event == "open" and sys.argv[1] in str(args[0])):
                if left == 0:
                    os._exit(9)
                left -= 1

        sys.addaudithook(end_at_the_nth)
        DataDir.create(Path(sys.argv[1]), bytes(range(32)), 1)
    """
    steps = 0
    while True:
        path = tmp_path / f"node{steps}"
        child = start_child(code, path, steps)
        if child.wait() == 0:
            break
        assert child.returncode == 9
        if path.exists() and any(path.iterdir()) and not (path / "META").exists():
            with pytest.raises(StorageError, match="incomplete: no META"):
                DataDir.open(path, NETWORK, 1, create_if_missing=True)
            with pytest.raises(StorageError, match="not empty"):
                create(path)
        else:
            # Nothing was made yet, or all of it.
            DataDir.open(path, NETWORK, 1, create_if_missing=True).close()
        steps += 1
    assert steps > 5
    reopen(path).close()


# --- mismatch and damage --------------------------------------------------------------------------


def test_mismatches_name_both_sides(tmp_path: Path) -> None:
    path = create(tmp_path / "node")
    with pytest.raises(DataDirMismatch, match=f"network {NETWORK.hex()}, expected: {OTHER.hex()}"):
        DataDir.open(path, OTHER, 1, create_if_missing=True)
    with pytest.raises(DataDirMismatch, match="validator 1, expected: 2"):
        DataDir.open(path, NETWORK, 2, create_if_missing=True)
    reopen(path).close()


def test_other_format_versions(tmp_path: Path) -> None:
    path = create(tmp_path / "node")
    edit_meta(path, format_version=5)
    with pytest.raises(DataDirMismatch, match=r"format version 5 \(newer\), this release reads 4"):
        reopen(path)
    edit_meta(path, format_version=1)
    with pytest.raises(DataDirMismatch, match=r"format version 1 \(older\)"):
        reopen(path)


def test_golden_meta() -> None:
    """The bytes of format version 4 never change: directories written today must open for ever."""
    golden = (
        b'{\n "format_version": 4,\n "network_id": "' + b"00" * 32 + b'",\n "validator": 7,\n'
        b' "instance_id": "' + b"11" * 16 + b'",\n'
        b' "checksum": "4b20760dab8c116272dabf1fa26e89953349fccc2fba9d4ffcdaa66837a842d2"\n}\n'
    )
    identity = Identity(bytes(32), 7, b"\x11" * 16)
    assert identity.encode() == golden
    assert Identity.decode(golden, Path("META")) == identity


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\x00", b'{"format_version": 4}', b"x" * 9999])
def test_damaged_meta(tmp_path: Path, content: bytes) -> None:
    path = create(tmp_path / "node")
    (path / "META").write_bytes(content)
    with pytest.raises(StorageError, match="META: damaged"):
        reopen(path)


def test_any_changed_field_of_meta_is_noticed(tmp_path: Path) -> None:
    path = create(tmp_path / "node")
    for field, value in {"network_id": OTHER.hex(), "validator": 2, "instance_id": "00", "more": 1}.items():
        intact = (path / "META").read_bytes()
        edit_meta(path, **{field: value})
        with pytest.raises(StorageError, match="checksum"):
            reopen(path)
        (path / "META").write_bytes(intact)


def test_part_of_another_directory(tmp_path: Path) -> None:
    mine, other = create(tmp_path / "mine"), create(tmp_path / "other")
    shutil.rmtree(mine / "consensus")
    shutil.copytree(other / "consensus", mine / "consensus")
    with pytest.raises(DataDirMismatch, match="consensus: belongs to"):
        reopen(mine)


@pytest.mark.parametrize("part", ["consensus", "batches"])
def test_missing_empty_and_truncated_parts(tmp_path: Path, part: str) -> None:
    path = create(tmp_path / "node")
    file = path / part / "data.mdb"
    os.truncate(file, 0)
    with pytest.raises(StorageError, match=f"{part}/data.mdb: empty or truncated"):
        reopen(path)
    file.unlink()
    with pytest.raises(StorageError, match=f"{part}/data.mdb: No such file"):
        reopen(path)
    assert not file.exists(), "a missing part must not be made anew"
    Environment.open(path / part, ["foreign"]).close()
    with pytest.raises(StorageError):
        reopen(path)


# --- lock -----------------------------------------------------------------------------------------


def test_second_opener_is_refused_until_kill(tmp_path: Path, start_child: StartChild) -> None:
    path = tmp_path / "node"
    child = start_child(HOLD, path)
    assert child.stdout is not None and child.stdout.readline() == "open\n"
    for attempt in (reopen, DataDir.open_readonly):
        with pytest.raises(DataDirLocked, match=f"in use by process {child.pid}$"):
            attempt(path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    reopen(path).close()


def test_second_opener_in_the_same_process(tmp_path: Path) -> None:
    first = reopen(create(tmp_path / "node"))
    with pytest.raises(DataDirLocked, match=f"process {os.getpid()}$"):
        reopen(tmp_path / "node")
    first.consensus.write([Record(SAFETY, b"k", b"v")])
    first.close()
    reopen(tmp_path / "node").close()


def test_failed_open_frees_the_lock(tmp_path: Path) -> None:
    path = create(tmp_path / "node")
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(DataDirMismatch):
            DataDir.open(path, OTHER, 1, create_if_missing=False)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    reopen(path).close()


def test_forked_child_cannot_free_the_lock(tmp_path: Path, start_child: StartChild) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from hotstuff.errors import DataDirLocked
        from hotstuff.storage.datadir import DataDir

        held = DataDir.open(Path(sys.argv[1]), bytes(32), 1, create_if_missing=True)
        child = os.fork()
        if child == 0:
            held.close()
            os._exit(0)
        os.waitpid(child, 0)
        try:
            DataDir.open_readonly(Path(sys.argv[1]))
        except DataDirLocked:
            print("locked", held.fresh)
    """
    assert start_child(code, tmp_path / "node").communicate()[0] == "locked True\n"


# --- access ---------------------------------------------------------------------------------------


def test_readonly(tmp_path: Path) -> None:
    directory = reopen(create(tmp_path / "node"))
    directory.consensus.write([Record(SAFETY, b"k", b"v")])
    directory.close()
    inspected = DataDir.open_readonly(tmp_path / "node")
    assert (inspected.identity.network_id, inspected.identity.validator) == (NETWORK, 1)
    assert inspected.consensus.get(SAFETY, b"k") == b"v"
    assert not inspected.fresh
    with pytest.raises(StorageError):
        inspected.consensus.write([Record(SAFETY, b"k", None)])
    inspected.close()


def test_readonly_file_system(small_disk: Path) -> None:
    path = create(small_disk / "node")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        reopen(path)
    with pytest.raises(StorageError, match="Read-only file system"):
        create(small_disk / "new")
    inspected = DataDir.open_readonly(path)
    assert inspected.fresh
    inspected.close()


def test_full_disk_at_creation_and_at_start(small_disk: Path) -> None:
    path = create(small_disk / "node")
    with open(small_disk / "ballast", "wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)) == 4096 and os.statvfs(small_disk).f_bavail:
            pass
    directory = reopen(path)
    assert directory.free_bytes() == 0
    with pytest.raises(DiskFull):
        directory.batches.write([Record(BODIES, b"k", bytes(1 << 20))])
    directory.close()
    with pytest.raises(DiskFull):
        create(small_disk / "new")
    (small_disk / "ballast").unlink()
    with pytest.raises(StorageError, match="not empty"):
        create(small_disk / "new")
    reopen(path).close()


def test_no_permission(tmp_path: Path) -> None:
    """As the user nobody, in a forked child that never returns to pytest."""
    if os.geteuid():
        pytest.skip("cannot become another user")
    path = create(tmp_path / "node")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            DataDir.open(path, NETWORK, 1, create_if_missing=True)
        except StorageError as error:
            code = 0 if "Permission denied" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
