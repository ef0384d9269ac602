from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotstuff import native
from hotstuff.consensus.effects import Persist
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.errors import CorruptRecord, StorageError
from hotstuff.storage import chain, datadir
from hotstuff.storage.chain import ChainStore, Executed, execution_records
from hotstuff.storage.datadir import DataDir
from hotstuff.storage.environment import Record
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import U64, ZERO_HASH
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import MAX_PAGE_BLOCKS, ChainResponse, Vote

NETWORK = b"\7" * 32
CONTEXT = Context(Mode.CHAINED, NETWORK, 1, b"\5" * 32)
COPIES = (b"record", b"record-copy")
FRESH = SafetyRecord.initial(CONTEXT, passive=False)


def make_batch(author: int = 0, seq: int = 1, transactions: int = 1) -> Batch:
    body = native.build_frame(b"c" * 16, 1, [b"tx-%d" % i for i in range(transactions)])
    return Batch(1, author, seq, bytes(64), body, tuple(native.parse_body(body, 10)))


def make_block(height: int, parent: bytes, refs: tuple[BatchRef, ...] = (), proposer: int = 0) -> Block:
    place = (height, height, parent, QC.genesis(CONTEXT), ZERO_HASH)
    return Block(Header(Mode.CHAINED, NETWORK, 1, CONTEXT.vset_hash, *place, payload_root(refs), proposer), refs)


def make_chain(length: int, refs: tuple[BatchRef, ...] = ()) -> list[Block]:
    blocks: list[Block] = []
    for height in range(1, length + 1):
        blocks.append(make_block(height, blocks[-1].id if blocks else CONTEXT.root_id, refs))
    return blocks


def make_qc(block: Block, view: int = 9) -> QC:
    return QC(1, view, Phase.GENERIC, b"\3" * 32, block.id, b"\7", b"\4" * 96)


def committing(block: Block) -> Persist:
    return Persist(commit_qc=make_qc(block), commit_height=block.header.height)


def executed_at(block: Block, included: tuple[int, ...] = (3, 0), tx_count: int = 5) -> Executed:
    header = block.header
    return Executed(header.height, header.view, block.id, header.parent_id, included, b"\6" * 32, tx_count)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDir]:
    opened = DataDir.open(tmp_path / "data", NETWORK, 0, fsync=False, create_if_missing=True)
    yield opened
    opened.close()


@pytest.fixture
def store(data: DataDir) -> ChainStore:
    return ChainStore(data)


def reopened(data: DataDir) -> ChainStore:
    data.close()
    return ChainStore(DataDir.open(data.path, NETWORK, 0, fsync=False, create_if_missing=False))


def damage(data: DataDir, table: str, key: bytes, value: bytes | None) -> None:
    data.consensus.write([Record(table, key, value)])


# ---- safety record


def test_no_record_is_none(store: ChainStore) -> None:
    assert store.load_safety() is None


@pytest.mark.parametrize("passive", [False, True])
def test_the_safety_record_survives(data: DataDir, store: ChainStore, passive: bool) -> None:
    vote = Vote(1, 7, Phase.GENERIC, b"\1" * 32, b"\2" * 32, 0, b"\3" * 96)
    record = replace(FRESH, voted_view=7, timed_out_view=6, proposed_view=5, last_vote=vote, passive=passive)
    store.write_safety(FRESH)
    store.write_safety(record)
    again = reopened(data)
    assert again.load_safety() == record
    again.close()


@pytest.mark.parametrize("key", COPIES)
@pytest.mark.parametrize("value", [None, replace(FRESH, voted_view=1).encode(), b""])
def test_one_bad_copy_refuses(data: DataDir, store: ChainStore, key: bytes, value: bytes | None) -> None:
    store.write_safety(FRESH)
    damage(data, datadir.SAFETY, key, value)
    with pytest.raises(CorruptRecord, match="safety record: its two copies differ; refusing to sign"):
        store.load_safety()


@pytest.mark.parametrize("key", COPIES)
def test_a_copy_with_a_flipped_bit_refuses(data: DataDir, store: ChainStore, key: bytes) -> None:
    marked = replace(FRESH, voted_view=0x1122334455667788)
    store.write_safety(marked)
    data.close()
    path = data.path / "consensus" / "data.mdb"
    content = bytearray(path.read_bytes())
    start = content.index(key + marked.encode()) + len(key)
    content[start + 20] ^= 1
    path.write_bytes(content)
    again = ChainStore(DataDir.open(data.path, NETWORK, 0, fsync=False, create_if_missing=False))
    with pytest.raises(CorruptRecord, match="checksum"):
        again.load_safety()
    again.close()


def test_the_last_safety_record_counts(store: ChainStore) -> None:
    records = [replace(FRESH, voted_view=view) for view in (1, 2, 3)]
    store.persist([Persist(safety=record) for record in records])
    assert store.load_safety() == records[-1]
    store.persist([Persist(safety=records[0]), Persist(blocks=tuple(make_chain(1)))])
    assert store.load_safety() == records[0]
    store.persist([Persist(blocks=tuple(make_chain(2)))])
    assert store.load_safety() == records[0]


# ---- blocks


def test_one_transaction_for_everything(data: DataDir, store: ChainStore) -> None:
    blocks = make_chain(3)
    store.write_safety(FRESH)
    voted = replace(FRESH, voted_view=2)
    writes = [Persist(safety=voted, blocks=tuple(blocks[:2])), Persist(blocks=(blocks[2],)), committing(blocks[0])]
    broken = Record("no such table", b"k", b"v")
    with pytest.raises(Exception, match="no such table"):
        store.persist(writes, [broken])
    assert store.load_safety() == FRESH
    assert store.blocks_above(0) == []
    assert store.last_commit_qc() is None
    store.persist(writes)
    again = reopened(data)
    assert again.load_safety() == voted
    assert again.blocks_above(0) == blocks
    assert again.last_commit_qc() == make_qc(blocks[0])
    again.close()


def test_blocks_above_ascend(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_SCAN_ROWS", 7)
    blocks = make_chain(300)
    rivals = [make_block(h, blocks[h - 2].id, proposer=1) for h in (255, 256, 257)]
    store.persist([Persist(blocks=(*reversed(blocks), *rivals))])
    found = store.blocks_above(250)
    assert [b.header.height for b in found] == sorted([*range(251, 301), 255, 256, 257])
    assert set(found) == {*blocks[250:], *rivals}
    assert store.blocks_above(0)[0] == blocks[0]
    assert store.blocks_above(299) == [blocks[299]]
    assert store.blocks_above(300) == []


def test_the_certificate_of_the_highest_block_is_the_last(store: ChainStore) -> None:
    assert store.last_commit_qc() is None
    blocks = make_chain(300)
    for height in (256, 3, 255):
        store.persist([committing(blocks[height - 1])])
    assert store.last_commit_qc() == make_qc(blocks[255])


def test_a_block_with_references_survives(store: ChainStore) -> None:
    refs = tuple(make_batch(author, seq, 3).ref for author in (0, 1) for seq in (1, 2))
    (block,) = make_chain(1, refs)
    store.persist([Persist(blocks=(block,))])
    assert store.blocks_above(0) == [block]
    assert store.blocks_above(0)[0].payload == refs


# ---- pages of the committed chain


def stored_chain(store: ChainStore, length: int, certified: tuple[int, ...], refs: tuple[BatchRef, ...] = ()) -> None:
    blocks = make_chain(length, refs)
    records = execution_records(executed_at(blocks[-1]), blocks, {})
    store.persist([Persist(blocks=tuple(blocks)), *(committing(blocks[h - 1]) for h in certified)], records)


def heights(page: ChainResponse) -> list[int]:
    assert (page.commit_qc is None) == (not page.blocks)
    if page.commit_qc is not None:
        assert page.commit_qc.commit_id == page.blocks[-1].id
    return [block.header.height for block in page.blocks]


def test_a_page_ends_at_the_last_block_with_a_certificate(store: ChainStore) -> None:
    stored_chain(store, 10, certified=(2, 5, 7))
    assert heights(store.chain_page(1)) == [1, 2, 3, 4, 5, 6, 7]
    assert heights(store.chain_page(3)) == [3, 4, 5, 6, 7]
    assert heights(store.chain_page(7)) == [7]
    assert store.chain_page(4).from_height == 4


@pytest.mark.parametrize("start", [8, 10, 11, 2**63 - 1])
def test_an_empty_page(store: ChainStore, start: int) -> None:
    stored_chain(store, 10, certified=(2, 5, 7))
    assert store.chain_page(start) == ChainResponse(start, (), None)


def test_a_page_of_an_empty_chain(store: ChainStore) -> None:
    assert store.chain_page(1) == ChainResponse(1, (), None)
    assert store.chain_page(0) == ChainResponse(0, (), None)


def test_a_page_from_height_0_is_no_hole_in_our_chain(store: ChainStore) -> None:
    """Any peer may ask for it: it must not end the node as a damaged record does."""
    stored_chain(store, 3, certified=(3,))
    assert heights(store.chain_page(0)) == [1, 2, 3]


def test_a_page_has_a_limit_of_blocks(store: ChainStore) -> None:
    stored_chain(store, MAX_PAGE_BLOCKS + 50, certified=(MAX_PAGE_BLOCKS - 6, MAX_PAGE_BLOCKS + 3))
    assert heights(store.chain_page(1)) == list(range(1, MAX_PAGE_BLOCKS - 5))
    assert heights(store.chain_page(4)) == list(range(4, MAX_PAGE_BLOCKS + 4))


def test_a_page_has_a_limit_of_bytes(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_chain(store, 9, certified=tuple(range(1, 10)))
    size = len(make_chain(1)[0].encoding)
    monkeypatch.setattr(chain, "MAX_PAGE_BYTES", 3 * size)
    assert heights(store.chain_page(1)) == [1, 2, 3]
    monkeypatch.setattr(chain, "MAX_PAGE_BYTES", 3 * size - 1)
    assert heights(store.chain_page(4)) == [4, 5]
    monkeypatch.setattr(chain, "MAX_PAGE_BYTES", 1)
    assert heights(store.chain_page(9)) == [9], "one block always fits"


def test_a_missing_block_is_corruption(data: DataDir, store: ChainStore) -> None:
    stored_chain(store, 3, certified=(3,))
    block = make_chain(3)[1]
    damage(data, datadir.BLOCKS, U64.pack(2) + block.id, None)
    with pytest.raises(CorruptRecord, match=f"block {block.id.hex()} at height 2 is committed but not stored"):
        store.chain_page(1)
    assert heights(store.chain_page(3)) == [3]


def test_a_rival_at_the_same_height_is_not_in_the_page(store: ChainStore) -> None:
    stored_chain(store, 3, certified=(3,))
    blocks = make_chain(3)
    store.persist([Persist(blocks=(make_block(2, blocks[0].id, proposer=1),))])
    assert list(store.chain_page(1).blocks) == blocks


def test_committed_ids(store: ChainStore) -> None:
    stored_chain(store, 5, certified=(5,))
    ids = [block.id for block in make_chain(5)]
    assert store.committed_ids(1, 100) == ids
    assert store.committed_ids(3, 2) == ids[2:4]
    assert store.committed_ids(6, 2) == []


# ---- execution


def test_nothing_was_executed_yet(store: ChainStore) -> None:
    executed = store.load_executed(CONTEXT, 4)
    assert executed == Executed.nothing(CONTEXT, 4)
    assert (executed.block_id, executed.included, executed.height) == (CONTEXT.root_id, (0, 0, 0, 0), 0)
    assert store.load_sessions() == {}


def test_execution_survives(data: DataDir, store: ChainStore) -> None:
    blocks = make_chain(4)
    store.persist((), execution_records(executed_at(blocks[1]), blocks[:2], {b"a" * 16: b"1", b"b" * 16: b"1"}))
    last = executed_at(blocks[3], included=(2**62, 7), tx_count=2**40)
    store.persist((), execution_records(last, blocks[2:], {b"a" * 16: b"2", b"b" * 16: None, b"c" * 16: b"3"}))
    again = reopened(data)
    assert again.load_executed(CONTEXT, 2) == last
    assert again.load_sessions() == {b"a" * 16: b"2", b"c" * 16: b"3"}
    assert again.committed_ids(1, 10) == [block.id for block in blocks]
    again.close()


def test_sessions_are_read_in_steps(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_SCAN_ROWS", 3)
    sessions: dict[bytes, bytes | None] = {bytes([i]) * 16: b"s%d" % i for i in (0, 1, 2, 3, 254, 255)}
    store.persist((), execution_records(executed_at(make_chain(1)[0]), (), sessions))
    assert store.load_sessions() == sessions


def test_the_state_of_another_number_of_validators_is_refused(store: ChainStore) -> None:
    store.persist((), execution_records(executed_at(make_chain(1)[0]), (), {}))
    with pytest.raises(StorageError, match="state: got 2 lanes, expected 4"):
        store.load_executed(CONTEXT, 4)


def test_executed_round_trip_and_node() -> None:
    executed = executed_at(make_chain(3)[2], included=(1, 2, 3))
    assert Executed.decode(executed.encode()) == executed
    node = executed.node()
    assert (node.id, node.view, node.height, node.included) == (executed.block_id, 3, 3, (1, 2, 3))


# ---- batches


def test_batches_survive(data: DataDir, store: ChainStore) -> None:
    batches = [make_batch(author, seq, 3) for author in (0, 1) for seq in (1, 300)]
    store.store_batches(batches)
    store.store_batches(batches[:1])
    again = reopened(data)
    for batch in batches:
        found = again.load_batch(batch.ref)
        assert found is not None
        assert found.encoding == batch.encoding
        assert found.ref == batch.ref
    again.close()


def test_small_batches_are_in_the_transaction_of_the_record_and_survive(data: DataDir, store: ChainStore) -> None:
    store.write_safety(FRESH)
    voted, batch = replace(FRESH, voted_view=2), make_batch(1, 7, 3)
    writes = [Persist(batches=(batch,), lazy=True), Persist(safety=voted)]
    with pytest.raises(Exception, match="no such table"):
        store.persist(writes, [Record("no such table", b"k", b"v")])
    assert store.load_batch(batch.ref) is None and store.held_refs((0, 0)) == []
    store.persist(writes)
    assert data.batches.scan(datadir.BODIES, limit=1) == [] and len(data.consensus.scan(datadir.BODIES, limit=2)) == 1
    again = reopened(data)
    found = again.load_batch(batch.ref)
    assert found is not None and (found.ref, found.encoding) == (batch.ref, batch.encoding)
    assert again.load_safety() == voted
    again.close()


def test_a_damaged_small_body_is_corruption(data: DataDir, store: ChainStore) -> None:
    batch = make_batch()
    store.persist([Persist(batches=(batch,))])
    ((key, value),) = data.consensus.scan(datadir.BODIES, limit=1)
    data.consensus.write([Record(datadir.BODIES, key, value[:-1] + b"?")])
    with pytest.raises(CorruptRecord, match=f"batch {batch.ref.digest.hex()}: "):
        store.load_batch(batch.ref)


def test_a_batch_is_found_by_all_of_its_reference(store: ChainStore) -> None:
    batch = make_batch(1, 5)
    store.store_batches([batch])
    # Also with wrong sizes, which peers may name: that is not our database's fault.
    for change in ({"author": 2}, {"seq": 6}, {"digest": b"\1" * 32}, {"size_bytes": 1}, {"tx_count": 9}):
        assert store.load_batch(replace(batch.ref, **change)) is None


def test_a_damaged_body_is_corruption(data: DataDir, store: ChainStore) -> None:
    batch = make_batch()
    store.store_batches([batch])
    key = data.batches.scan(datadir.BODIES, limit=1)[0][0]
    for value in (batch.encoding[:-1], b"", batch.encoding + b"\0"):
        data.batches.write([Record(datadir.BODIES, key, value)])
        with pytest.raises(CorruptRecord, match=f"batch {batch.ref.digest.hex()}: "):
            store.load_batch(batch.ref)


def test_a_body_under_the_key_of_another_is_corruption(data: DataDir, store: ChainStore) -> None:
    batch, other = make_batch(1, 1), make_batch(1, 2)
    store.store_batches([batch, other])
    (key, _), (_, value) = data.batches.scan(datadir.BODIES, limit=2)
    data.batches.write([Record(datadir.BODIES, key, value)])
    with pytest.raises(CorruptRecord, match=f"batch {batch.ref.digest.hex()}: "):
        store.load_batch(batch.ref)


def test_a_flipped_bit_in_a_body_is_corruption(data: DataDir, store: ChainStore) -> None:
    batch = make_batch()
    store.store_batches([batch])
    ((key, value),) = data.batches.scan(datadir.BODIES, limit=1)
    for at in range(0, len(value), 5):
        damaged = bytearray(value)
        damaged[at] ^= 1
        data.batches.write([Record(datadir.BODIES, key, bytes(damaged))])
        with pytest.raises(CorruptRecord):
            store.load_batch(batch.ref)


def test_held_references_are_those_above_the_executed_ones(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_SCAN_ROWS", 3)
    batches = {(a, s): make_batch(a, s, 1 + s % 3) for a in (0, 1, 2) for s in (*range(1, 9), 255, 256, 257)}
    store.store_batches(list(batches.values()))
    expected = [batches[0, s].ref for s in (257,)] + [batches[2, s].ref for s in (*range(1, 9), 255, 256, 257)]
    assert store.held_refs((256, 257, 0)) == expected
    assert store.held_refs((999, 999)) == []
    assert store.held_refs(()) == []


def test_held_references_of_small_and_large_batches_are_in_one_order(
    store: ChainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "_SCAN_ROWS", 2)
    batches = [make_batch(author, seq) for author in (0, 1) for seq in range(1, 12)]
    store.store_batches(batches[::2])
    store.persist([Persist(batches=tuple(batches[1::2]))])
    assert store.held_refs((3, 0)) == [batch.ref for batch in batches if batch.author or batch.seq > 3]


def test_both_of_two_batches_with_one_number_are_held(store: ChainStore) -> None:
    pair = [make_batch(0, 4, 1), make_batch(0, 4, 2)]
    store.store_batches(pair)
    assert set(store.held_refs((3,))) == {batch.ref for batch in pair}
    assert store.held_refs((4,)) == []


def test_free_bytes(store: ChainStore) -> None:
    assert store.free_bytes() > 0
