"""The directory of a long computation: what is in it is not done again, and it is not mixed with anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotstuff.errors import ConfigError
from hotstuff.simulator import ledger
from hotstuff.simulator.ledger import Ledger, code_hash

RUN = {"protocol": "chained", "views": 3}


def test_parts_are_there_after_a_restart(tmp_path: Path) -> None:
    with Ledger(tmp_path / "a" / "b", RUN) as one:
        assert one.load("seeds") == {}
        one.add("seeds", 3, {"commits": 7})
        one.add("seeds", 0, {"commits": 5})
        one.add("others", 0, [1])
    with Ledger(tmp_path / "a" / "b", RUN) as again:
        assert again.load("seeds") == {3: {"commits": 7}, 0: {"commits": 5}}
        assert again.load("others") == {0: [1]}
        assert again.load("none") == {}


@pytest.mark.parametrize("cut", [1, 2, 15])
def test_a_line_that_was_cut_short_is_done_again(tmp_path: Path, cut: int) -> None:
    with Ledger(tmp_path, RUN) as one:
        one.add("seeds", 0, {"commits": 5})
        one.add("seeds", 1, {"commits": 7})
    path = tmp_path / "seeds.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    with Ledger(tmp_path, RUN) as again:
        assert again.load("seeds") == {0: {"commits": 5}}
        again.add("seeds", 1, {"commits": 8})
    with Ledger(tmp_path, RUN) as third:
        assert third.load("seeds") == {0: {"commits": 5}, 1: {"commits": 8}}
    assert [json.loads(line)["part"] for line in path.read_text().splitlines()] == [0, 1]


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    with Ledger(tmp_path, RUN):
        pass
    with pytest.raises(ConfigError, match=r"--resume: got .* views was 3, is now 4"):
        Ledger(tmp_path, {**RUN, "views": 4})
    with pytest.raises(ConfigError, match="strategy was None, is now 'mutator'"):
        Ledger(tmp_path, {**RUN, "strategy": "mutator"})
    with Ledger(tmp_path, RUN):
        pass


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path, RUN), pytest.raises(ConfigError, match="no other run is using"):
        Ledger(tmp_path, RUN)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="a writable directory"):
        Ledger(tmp_path / "file", RUN)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        Ledger(tmp_path, RUN)


def test_without_a_directory_nothing_is_remembered() -> None:
    with Ledger(None, RUN) as one:
        one.add("seeds", 0, 1)
        assert one.load("seeds") == {}


def test_other_code_has_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_hash() == code_hash()
    monkeypatch.setattr(ledger.hotstuff, "__file__", str(tmp_path / "__init__.py"))
    hashes = []
    for name, text in (("types/a.py", "1"), ("types/a.py", "2"), ("types/b.py", ""), ("cli/c.py", "3")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        hashes.append(code_hash())
    assert len({*hashes[:3]}) == 3
    assert hashes[3] == hashes[2], "how a result is shown does not change it"
