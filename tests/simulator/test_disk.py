"""What survives a crash, and the pages of old blocks that are read from it."""

from __future__ import annotations

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.disk import PAGE_BLOCKS, Disk
from hotstuff.simulator.setup import Setup
from hotstuff.simulator.world import World
from hotstuff.types.messages import MAX_PAGE_BLOCKS


@pytest.fixture(scope="module")
def world() -> World:
    """A few dozen committed blocks."""
    world = World(Setup(duration_us=400_000))
    world.run()
    return world


@pytest.fixture
def disk(world: World) -> Disk:
    """The same chain on a disk of its own, each block with its certificate."""
    full = world.nodes[0].disk
    copy = Disk(full.safety, dict(full.blocks), list(full.executed), dict(full.batches), dict(full.commit_qcs))
    copy.written = len(copy.executed)
    assert copy.written > 2 * PAGE_BLOCKS
    return copy


def test_a_write_makes_everything_that_waits_durable_at_once(world: World) -> None:
    block = world.nodes[0].disk.executed[0]
    qc = world.nodes[0].disk.commit_qcs[block.id]
    first, second = (SafetyRecord.initial(world.context, passive=passive) for passive in (False, True))
    disk = Disk(first)
    disk.waiting += [fx.Persist(blocks=(block,), lazy=True), fx.Persist(safety=second), fx.Persist(commit_qc=qc)]
    disk.executed.append(block)
    assert (disk.safety, disk.blocks, disk.commit_qc, disk.written) == (first, {}, None, 0)
    assert len(disk.write()) == 3
    assert (disk.safety, disk.blocks, disk.commit_qc, disk.written) == (second, {block.id: block}, qc, 1)
    assert disk.commit_qcs == {block.id: qc} and disk.waiting == []


def test_what_waits_can_be_lost(world: World) -> None:
    block = world.nodes[0].disk.executed[0]
    disk = Disk(SafetyRecord.initial(world.context, passive=False))
    disk.waiting.append(fx.Persist(blocks=(block,), lazy=True))
    disk.executed.append(block)
    disk.lose_waiting()
    assert disk.write() == [] and disk.blocks == {} and disk.executed == []


def test_small_batches_are_at_hand_at_once_and_durable_with_the_next_write(disk: Disk, world: World) -> None:
    first, second = list(disk.batches.values())[:2]
    other = Disk(disk.safety)
    other.put(fx.Persist(batches=(first,), lazy=True))
    assert first.ref in other.batches and not other.durable(first.ref)
    other.write()
    other.put(fx.Persist(batches=(second,), lazy=True))
    other.lose_waiting()
    assert other.durable(first.ref) and second.ref not in other.batches and other.write() == []


def test_a_life_begins_where_execution_ended(world: World, disk: Disk) -> None:
    root = disk.root(world.context, 4)
    last = disk.executed[-1]
    assert (root.id, root.height, root.view) == (last.id, len(disk.executed), last.header.view)
    assert sum(root.included) == sum(len(block.payload) for block in disk.executed)
    above = disk.blocks_above(10)
    assert [block.header.height for block in above[:3]] == [11, 12, 13]
    assert all(ref.seq > root.included[ref.author] for ref in disk.held_above(root.included))
    empty = Disk(disk.safety).root(world.context, 4)
    assert (empty.id, empty.height, empty.included) == (world.context.root_id, 0, (0, 0, 0, 0))


def test_a_page_ends_with_a_block_that_its_certificate_commits(disk: Disk) -> None:
    page = disk.page(5)
    assert [block.header.height for block in page.blocks] == list(range(5, 5 + PAGE_BLOCKS))
    assert page.commit_qc is not None and page.commit_qc.commit_id == page.blocks[-1].id
    del disk.commit_qcs[page.blocks[-1].id], disk.commit_qcs[page.blocks[-2].id]
    assert disk.page(5).blocks == page.blocks[:-2]


def test_a_commit_longer_than_a_page_is_one_page(disk: Disk) -> None:
    for block in disk.executed[: PAGE_BLOCKS + 5]:
        del disk.commit_qcs[block.id]
    page = disk.page(1)
    assert len(page.blocks) == PAGE_BLOCKS + 6 <= MAX_PAGE_BLOCKS


def test_there_is_nothing_beyond_the_end_or_beyond_what_is_durable(disk: Disk) -> None:
    end = len(disk.executed)
    assert disk.page(end + 1).blocks == () and disk.page(end + 1).commit_qc is None
    disk.written = 3
    assert len(disk.page(0).blocks) == len(disk.page(1).blocks) == 3
    disk.commit_qcs.clear()
    assert disk.page(1).blocks == ()
