"""A directory that remembers the finished parts of a long computation, so that it can be interrupted.

run.json        what is computed; parts of something else are refused
<stage>.jsonl   a line for each finished part: its number and its result
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import hotstuff
from hotstuff.errors import ConfigError


class Ledger:
    """Results by stage and part; without a directory it remembers nothing."""

    def __init__(self, directory: Path | None, run: Mapping[str, Any]) -> None:
        """Raises `ConfigError` if the directory holds another run, is in use, or cannot be written."""
        self._directory = directory
        self._lock = None
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
        except OSError as error:
            raise ConfigError("--resume", str(directory), f"a writable directory ({error.strerror})") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._claim(directory / "run.json", dict(run))
        except (OSError, ConfigError) as error:
            self._lock.close()
            if isinstance(error, ConfigError):
                raise
            raise ConfigError("--resume", str(directory), "a directory that no other run is using") from None

    def _claim(self, path: Path, ours: dict[str, Any]) -> None:
        if not path.exists():
            path.write_text(json.dumps(ours, indent=2) + "\n")
        try:
            theirs = dict(json.loads(path.read_text()))
        except ValueError:
            raise ConfigError("--resume", str(path.parent), f"the directory of a run; {path.name} is damaged") from None
        differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        if differing:
            told = ", ".join(f"{name} was {theirs.get(name)!r}, is now {ours.get(name)!r}" for name in differing)
            raise ConfigError("--resume", str(path.parent), f"the directory of this same run; {told}")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self, stage: str) -> dict[int, Any]:
        """What is done of a stage. A line that was cut short is as if it had never been written."""
        if self._directory is None:
            return {}
        path = self._directory / f"{stage}.jsonl"
        if not path.exists():
            return {}
        whole, newline, _ = path.read_text().rpartition("\n")
        path.write_text(whole + newline)
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["part"]: line["result"] for line in lines}

    def add(self, stage: str, part: int, result: Any) -> None:
        """One more part is done."""
        if self._directory is not None:
            with (self._directory / f"{stage}.jsonl").open("a") as file:
                file.write(json.dumps({"part": part, "result": result}) + "\n")


# What results depend on, besides what was asked for.
_PARTS = ("app", "consensus", "crypto", "mempool", "node", "simulator", "types")


def code_hash() -> str:
    """Results of other code are not results of this code."""
    folder = Path(hotstuff.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(path for part in _PARTS for path in (folder / part).rglob("*.py")):
        hasher.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:16]
