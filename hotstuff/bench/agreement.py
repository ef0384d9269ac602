"""The check that matters: did every replica commit the same chain?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir

_PAGE = 4096


@dataclass(frozen=True)
class Agreement:
    """`heights` of all replicas; `agree` is False if two of them have different blocks at any height."""

    agree: bool
    heights: tuple[int, ...]
    first_difference: int | None


def compare_chains(data_dirs: Sequence[Path]) -> Agreement:
    """Compares the block id of every committed height of stopped replicas."""
    stores = [ChainStore(DataDir.open_readonly(path)) for path in data_dirs]
    heights = [0] * len(stores)
    difference: int | None = None
    try:
        for height, ids in enumerate(zip_longest(*(_committed(store) for store in stores)), start=1):
            present = {block_id for block_id in ids if block_id is not None}
            if len(present) > 1 and difference is None:
                difference = height
            heights = [height if block_id is not None else seen for block_id, seen in zip(ids, heights, strict=True)]
    finally:
        for store in stores:
            with closing(store):
                pass
    return Agreement(difference is None, tuple(heights), difference)


def _committed(store: ChainStore) -> Iterator[bytes]:
    height = 1
    while ids := store.committed_ids(height, _PAGE):
        yield from ids
        height += len(ids)
