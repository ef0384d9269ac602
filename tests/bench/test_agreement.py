"""The check of `hotstuff-bench` on real data directories: it must be able to say no."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hotstuff.bench.agreement import Agreement, compare_chains
from hotstuff.storage.datadir import HEIGHTS, DataDir
from hotstuff.storage.environment import Record


def write_chains(directory: Path, chains: Sequence[str]) -> list[Path]:
    """One data directory for each chain; each letter is a block."""
    paths = []
    for i, chain in enumerate(chains):
        data = DataDir.open(directory / str(i), bytes(32), i, create_if_missing=True)
        data.consensus.write(
            Record(HEIGHTS, height.to_bytes(8, "big"), block.encode() * 32) for height, block in enumerate(chain, 1)
        )
        data.close()
        paths.append(directory / str(i))
    return paths


@pytest.mark.parametrize(
    ("chains", "expected"),
    [
        (["abc", "abc", "abc"], Agreement(True, (3, 3, 3), None)),
        (["abc", "a", "ab"], Agreement(True, (3, 1, 2), None)),
        (["", "abc"], Agreement(True, (0, 3), None)),
        (["abc", "axc", "abc"], Agreement(False, (3, 3, 3), 2)),
        (["abcd", "abc", "abcx"], Agreement(False, (4, 3, 4), 4)),
        (["x", "abc"], Agreement(False, (1, 3), 1)),
    ],
)
def test_chains_agree_exactly_if_no_height_has_two_blocks(
    tmp_path: Path, chains: list[str], expected: Agreement
) -> None:
    assert compare_chains(write_chains(tmp_path, chains)) == expected
