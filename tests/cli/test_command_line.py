from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import hotstuff
from hotstuff import errors
from hotstuff.cli.main import EXIT_BUG, EXIT_FAILED, EXIT_OK, EXIT_STORAGE, EXIT_USAGE, guarded, main, status_line

ROOT = Path(hotstuff.__file__).parents[1]
HEAVY = (
    "lmdb",
    "blspy",
    "py_arkworks_bls12381",
    "cryptography",
    "asyncio",
    "uvloop",
    "ssl",
    "rich",
    "orjson",
    "logging",
)

IMPORTED = """
import json, sys
before = set(sys.modules)
from {module} import main
try:
    main({arguments})
except SystemExit as ended:
    assert ended.code == {status}, ended.code
new = set(sys.modules) - before
print("\\n" + json.dumps(sorted(new)))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "hotstuff.cli.main", *arguments)


# ---- help and usage


@pytest.mark.parametrize(
    ("module", "arguments", "status"),
    [
        ("hotstuff.cli.main", ["--help"], 0),
        ("hotstuff.cli.main", ["node", "--help"], 0),
        ("hotstuff.cli.main", ["sim", "--help"], 0),
        ("hotstuff.cli.main", ["sim", "twins", "--help"], 0),
        ("hotstuff.cli.main", ["inspect", "evidence", "--help"], 0),
        ("hotstuff.cli.main", ["nonsense"], 2),
        ("hotstuff.cli.bench", ["--help"], 0),
    ],
)
def test_help_imports_nothing_heavy(module: str, arguments: list[str], status: int) -> None:
    """What `--help` costs is what it imports: compared with `python -c pass`, argparse and little else."""
    run = python("-c", IMPORTED.format(module=module, arguments=arguments, status=status))
    assert run.returncode == 0, run.stderr
    imported = json.loads(run.stdout.splitlines()[-1])
    assert {name.partition(".")[0] for name in imported}.isdisjoint(HEAVY)
    assert [name for name in imported if name.startswith("hotstuff.") and not name.startswith("hotstuff.cli")] == []


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in ("testnet", "node", "init", "client", "status", "inspect", "version"):
        assert re.search(rf"^    {name} ", text, re.MULTILINE)
    assert "exit status: 0 done; 1 failed; 2 a mistake" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["testnet"],
        ["node"],
        ["client", "--home", "x"],
        ["testnet", "x", "--nodes", "many"],
        ["version", "x"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: hotstuff")


# ---- exit statuses


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigError("field", 3, "4"), EXIT_USAGE),
        (errors.StorageError("x"), EXIT_STORAGE),
        (errors.DataDirLocked("x"), EXIT_STORAGE),
        (errors.DataDirMismatch("x"), EXIT_STORAGE),
        (errors.CorruptRecord("x"), EXIT_STORAGE),
        (errors.DiskFull("x"), EXIT_STORAGE),
        (errors.StorageFailed("x"), EXIT_STORAGE),
        (errors.InvariantViolation("x"), EXIT_BUG),
        (errors.RequestTimeout("x"), EXIT_FAILED),
        (errors.NotConnected("x"), EXIT_FAILED),
        (errors.InvalidMessage("x"), EXIT_FAILED),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: errors.HotstuffError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert guarded(fail) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"error: {error}\n")


def test_our_own_bug_is_loud(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: 1 // 0) == EXIT_BUG
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_interrupt_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guarded(interrupted) == EXIT_FAILED
    assert capsys.readouterr().err == ""


def test_statuses() -> None:
    assert (EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_STORAGE, EXIT_BUG) == (0, 1, 2, 3, 70)
    assert guarded(lambda: 5) == 5


def test_the_status_of_the_process(tmp_path: Path) -> None:
    run = command("node", "--home", str(tmp_path))
    assert run.returncode == EXIT_USAGE
    assert run.stdout == ""
    assert run.stderr == f"error: {tmp_path}/config.json: got 'No such file or directory', allowed: a readable file\n"


# ---- commands


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == EXIT_OK
    text = capsys.readouterr().out
    assert re.fullmatch(
        rf"hotstuff {re.escape(hotstuff.__version__)}, (native|pure) code, \w+, Python 3\.\d+\.\S+\n", text
    )


def test_testnet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net"
    assert main(["testnet", str(net), "--nodes", "2", "--name", "mine", "--base-port", "9000"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"network 'mine', chain id [0-9a-f]{{64}}, 2 validators in {re.escape(str(net))}", lines[0])
    assert lines[1:] == ["start each of them with:", *(f"  hotstuff node --home {net}/node{i}" for i in range(2))]
    assert json.loads((net / "node1" / "genesis.json").read_text())["name"] == "mine"
    assert main(["testnet", str(net)]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: DIR: got '{net}', allowed: a new or empty directory")


@pytest.mark.parametrize(
    ("option", "value"), [("--nodes", "0"), ("--base-port", "70000"), ("--name", ""), ("--host", "")]
)
def test_testnet_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    assert main(["testnet", str(tmp_path / "net"), option, value]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith(f"error: {option}: got ")
    assert not (tmp_path / "net").exists()


def test_init_makes_data_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    main(["testnet", str(tmp_path / "net"), "--nodes", "1"])
    home = tmp_path / "net" / "node0"
    assert main(["init", "--home", str(home)]) == EXIT_STORAGE
    assert "not empty" in capsys.readouterr().err
    shutil.rmtree(home / "data")
    assert main(["init", "--home", str(home)]) == EXIT_OK
    assert capsys.readouterr().out == f"{home}/data: empty data directory of validator 0 of network 'testnet'\n"


STATUS: dict[str, Any] = {
    "validator": 2,
    "view": 17,
    "executed_height": 15,
    "executed_tx": 1234,
    "peers": [0, 1, 3],
    "state": "ab" * 32,
    "passive": False,
    "disk_full": False,
}


def test_status_lines() -> None:
    line = "validator 2: view 17, height 15, 1234 transactions, 3 peers, state abababababababab"
    assert status_line(STATUS) == line
    assert status_line({**STATUS, "passive": True, "disk_full": True}) == line + ", passive, disk_full"
    assert status_line({"validator": 1, "error": "x:1: refused"}) == "validator 1: not reached (x:1: refused)"


def test_status_of_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["testnet", str(tmp_path / "net"), "--nodes", "2", "--base-port", "1"])
    capsys.readouterr()
    home = str(tmp_path / "net" / "node0")
    assert main(["status", "--home", home]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["validator 0: not reached", "validator 1: not reached"]
    assert main(["status", "--home", home, "--json"]) == EXIT_FAILED
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["validator"], sorted(each)) for each in found] == [(i, ["error", "validator"]) for i in (0, 1)]


# ---- a network of one, as a process


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A running node's home; it must end well on SIGTERM."""
    from hotstuff.node.testnet import TestnetPlan as Plan
    from hotstuff.node.testnet import create_testnet

    create_testnet(tmp_path / "net", Plan(1, name="solo", ports=tuple(free_ports(2))))
    home = tmp_path / "net" / "node0"
    process = subprocess.Popen(
        [sys.executable, "-m", "hotstuff.cli.main", "node", "--home", str(home)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["message"] == "ready":
                break
        else:
            pytest.fail("the node did not start")
        yield home
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
        assert process.returncode == EXIT_OK
        assert rest[-1]["message"] == "stopping"
    finally:
        process.kill()
        process.communicate()


def test_client_and_status_of_a_running_node(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "--home", str(home), "one", "two", "\u00e4"]) == EXIT_OK
    match = re.fullmatch(r"committed 3 at height (\d+), state ([0-9a-f]{64})\n", capsys.readouterr().out)
    assert match is not None
    assert main(["status", "--home", str(home)]) == EXIT_OK
    line = capsys.readouterr().out
    assert re.fullmatch(rf"validator 0: view \d+, height \d+, 3 transactions, 0 peers, state {match[2][:16]}\n", line)
    assert main(["status", "--home", str(home), "--json"]) == EXIT_OK
    status = json.loads(capsys.readouterr().out)
    assert set(STATUS) <= set(status)
    assert (status["network"], status["state"], status["executed_tx"]) == ("solo", match[2], 3)
    assert command("node", "--home", str(home)).returncode == EXIT_STORAGE, "two processes with one key"
