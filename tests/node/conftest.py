"""Makes `cluster` importable, and opens real data directories."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from node_helpers import NETWORK

from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    """A new data directory, without fsync."""
    opened = DataDir.open(tmp_path / "data", NETWORK, 0, fsync=False, create_if_missing=True)
    yield opened
    opened.close()


@pytest.fixture
def store(data: DataDir) -> ChainStore:
    """What a replica sees of it."""
    return ChainStore(data)
