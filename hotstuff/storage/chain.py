"""What a replica keeps, in the terms of the protocol: on top of the byte tables of `datadir`.

`consensus` environment: the safety record (twice, so that a damaged page cannot make it look absent), blocks by
(height, id), the id and commit certificate of each committed height, the application's state and the sessions; evidence
of misbehaviour, and the testimony by which it can be found later: certificates that are in no block.
`batches` environment: bodies and an index of them by lane, apart, so that a vote never waits behind bulk writes. Small
bodies are in `consensus`, written with the record of the vote that relies on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hotstuff.consensus.effects import Persist
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.consensus.tree import Node
from hotstuff.errors import CorruptRecord, InvalidEncoding, StorageError
from hotstuff.storage import datadir
from hotstuff.storage.datadir import DataDir
from hotstuff.storage.environment import Record
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block, Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import U16, U32, U64, ZERO_HASH, Reader, decode_all
from hotstuff.types.evidence import Evidence, decode_evidence
from hotstuff.types.hashing import Context, Phase
from hotstuff.types.messages import MAX_PAGE_BLOCKS, MAX_PAGE_BYTES, ChainResponse

T = TypeVar("T")

_RECORD_KEYS = (b"record", b"record-copy")
_EXECUTED_KEY = b"executed"
# Some hundred bytes each, rarely 140,000. Whoever did more has been convicted often enough: the oldest are kept.
MAX_EVIDENCE = 10_000
_QC_TESTIMONY, _TC_TESTIMONY = b"qc", b"tc"
# In front of an entry of a lane: bytes and transactions of the batch.
_SIZES_BYTES = 8
# Rows read at a time where a table is walked: bounds memory, not the walk.
_SCAN_ROWS = 4096


@dataclass(frozen=True)
class Executed:
    """Where execution stands: the last executed block (height 0: none) and the state after it."""

    height: int
    view: int
    block_id: bytes
    parent_id: bytes
    included: tuple[int, ...]
    state: bytes
    tx_count: int

    @classmethod
    def nothing(cls, context: Context, validators: int) -> Executed:
        """Before the first block."""
        return cls(0, 0, context.root_id, ZERO_HASH, (0,) * validators, ZERO_HASH, 0)

    def encode(self) -> bytes:
        """height u64 | view u64 | block_id 32 | parent_id 32 | state 32 | tx_count u64 | n u16 | included u64 each."""
        head = U64.pack(self.height) + U64.pack(self.view) + self.block_id + self.parent_id + self.state
        return head + U64.pack(self.tx_count) + U16.pack(len(self.included)) + b"".join(map(U64.pack, self.included))

    @classmethod
    def decode(cls, data: bytes) -> Executed:
        """Inverse of `encode`."""
        return decode_all(data, "executed state", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> Executed:
        height, view, block_id, parent_id = reader.u64(), reader.u64(), reader.hash(), reader.hash()
        state, tx_count = reader.hash(), reader.u64()
        included = tuple(reader.u64() for _ in range(reader.u16()))
        return cls(height, view, block_id, parent_id, included, state, tx_count)

    def node(self) -> Node:
        """The root of the block tree: its block is not needed, only its place."""
        return Node(self.block_id, self.parent_id, self.view, self.height, self.included, 0, None)


class ChainStore:
    """Typed reads and writes of one data directory."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._consensus = data.consensus
        self._batches = data.batches
        self._testified = {_QC_TESTIMONY: b"", _TC_TESTIMONY: b""}

    # ---- safety record

    def load_safety(self) -> SafetyRecord | None:
        """The safety record, or None if this directory never had one.

        One damaged copy is an error too: what damaged it may have taken the newest record with it.
        """
        copies = [self._consensus.get(datadir.SAFETY, key) for key in _RECORD_KEYS]
        if copies[0] is None and copies[1] is None:
            return None
        if copies[0] is None or copies[0] != copies[1]:
            raise CorruptRecord("safety record: its two copies differ; refusing to sign")
        return _decoded("safety record", SafetyRecord.decode, copies[0])

    def write_safety(self, record: SafetyRecord) -> None:
        """Replace the safety record, durably."""
        self._consensus.write(_safety_records(record))

    # ---- consensus

    def persist(self, writes: Sequence[Persist], extra: Iterable[Record] = ()) -> None:
        """Everything in one durable transaction. Of several safety records the last one counts."""
        records: list[Record] = list(extra)
        safety = next((write.safety for write in reversed(writes) if write.safety is not None), None)
        if safety is not None:
            records += _safety_records(safety)
        for write in writes:
            records += (Record(datadir.BLOCKS, _block_key(b.header.height, b.id), b.encoding) for b in write.blocks)
            if write.commit_qc is not None:
                key = U64.pack(write.commit_height)
                records.append(Record(datadir.CERTIFICATES, key, write.commit_qc.encoding))
        testimony = self._testimony([write.safety for write in writes if write.safety is not None])
        records += (Record(datadir.TESTIMONY, key, encoded) for key, encoded in testimony.items())
        records += self._evidence_records([e for write in writes for e in write.evidence])
        records += _batch_records([batch for write in writes for batch in write.batches])
        self._consensus.write(records)
        for key in testimony:
            self._testified[key[:2]] = max(self._testified[key[:2]], key)

    def load_executed(self, context: Context, validators: int) -> Executed:
        """Where execution stood when this was last saved."""
        stored = self._consensus.get(datadir.STATE, _EXECUTED_KEY)
        executed = (
            Executed.nothing(context, validators) if stored is None else _decoded("state", Executed.decode, stored)
        )
        if len(executed.included) != validators:
            raise StorageError(f"state: got {len(executed.included)} lanes, expected {validators}")
        return executed

    def blocks_above(self, height: int) -> list[Block]:
        """Stored blocks above a height, ascending: what was voted for and not executed yet."""
        return [_decoded("block", Block.decode, value) for _, value in self._walk(datadir.BLOCKS, U64.pack(height + 1))]

    def last_commit_qc(self) -> QC | None:
        """The certificate of the highest committed block."""
        last = self._consensus.last(datadir.CERTIFICATES)
        return None if last is None else _decoded("commit certificate", QC.decode, last[1])

    def load_sessions(self) -> dict[bytes, bytes]:
        """Every client's encoded session."""
        return dict(self._walk(datadir.SESSIONS, b""))

    def _walk(self, table: str, start: bytes) -> Iterable[tuple[bytes, bytes]]:
        while rows := self._consensus.scan(table, start, limit=_SCAN_ROWS):
            yield from rows
            start = rows[-1][0] + b"\0"

    # ---- misbehaviour

    def load_evidence(self) -> list[Evidence]:
        """All evidence, by epoch and view."""
        return [_decoded("evidence", decode_evidence, value) for _, value in self._walk(datadir.EVIDENCE, b"")]

    def headers(self) -> list[Header]:
        """The headers of all stored blocks, whether on the committed chain or not."""
        return [_decoded("block", Block.decode, value).header for _, value in self._walk(datadir.BLOCKS, b"")]

    def certificates(self) -> tuple[list[QC], list[TC]]:
        """All stored certificates that are in no block."""
        qcs = [_decoded("commit certificate", QC.decode, value) for _, value in self._walk(datadir.CERTIFICATES, b"")]
        tcs: list[TC] = []
        for key, value in self._walk(datadir.TESTIMONY, b""):
            if key.startswith(_QC_TESTIMONY):
                qcs.append(_decoded("QC", QC.decode, value))
            else:
                tcs.append(_decoded("TC", TC.decode, value))
        return qcs, tcs

    def _evidence_records(self, found: Sequence[Evidence]) -> list[Record]:
        """One piece for each offence, the first that was found, until there is enough."""
        room = MAX_EVIDENCE - self._consensus.count(datadir.EVIDENCE) if found else 0
        fresh: dict[bytes, Evidence] = {}
        for evidence in found:
            key = evidence.offence
            if len(fresh) < room and key not in fresh and not self._consensus.has(datadir.EVIDENCE, key):
                fresh[key] = evidence
        return [Record(datadir.EVIDENCE, key, evidence.encoding) for key, evidence in fresh.items()]

    def _testimony(self, records: Iterable[SafetyRecord]) -> dict[bytes, bytes]:
        """The certificates without which a later audit could not say who is to blame (`consensus.audit`), if new.

        The TC by which a view was entered, of which blocks name only the hash, and the QC of the first of several
        phases. Every voter's safety record has held them when it voted.
        """
        found: dict[bytes, bytes] = {}
        for record in records:
            if record.high_qc.phase is Phase.PREPARE:
                found[_QC_TESTIMONY + U64.pack(record.high_qc.view)] = record.high_qc.encoding
            if record.high_tc is not None:
                found[_TC_TESTIMONY + U64.pack(record.high_tc.view)] = record.high_tc.encoding
        return {key: encoded for key, encoded in found.items() if key > self._testified[key[:2]]}

    # ---- committed chain

    def committed_ids(self, from_height: int, limit: int) -> list[bytes]:
        """Ids of executed blocks from a height on, ascending."""
        rows = self._consensus.scan(datadir.HEIGHTS, U64.pack(from_height), limit=limit)
        return [block_id for _, block_id in rows]

    def chain_page(self, from_height: int) -> ChainResponse:
        """Committed blocks from a height on, up to the last one in the page that has a commit certificate."""
        blocks: list[Block] = []
        size = 0
        certified, commit_qc = 0, None
        # Heights start at 1. Whoever asks for 0 must not make our own chain look as if it had a hole.
        first = max(from_height, 1)
        for height, block_id in enumerate(self.committed_ids(first, MAX_PAGE_BLOCKS), start=first):
            encoded = self._consensus.get(datadir.BLOCKS, _block_key(height, block_id))
            if encoded is None:
                raise CorruptRecord(f"block {block_id.hex()} at height {height} is committed but not stored")
            size += len(encoded)
            if blocks and size > MAX_PAGE_BYTES:
                break
            blocks.append(_decoded("block", Block.decode, encoded))
            proof = self._consensus.get(datadir.CERTIFICATES, U64.pack(height))
            if proof is not None:
                certified, commit_qc = len(blocks), _decoded("commit certificate", QC.decode, proof)
        return ChainResponse(from_height, tuple(blocks[:certified]), commit_qc)

    # ---- batches

    def store_batches(self, batches: Sequence[Batch]) -> None:
        """Bodies and their places in the lanes, durably, in one transaction."""
        self._batches.write(_batch_records(batches))

    def load_batch(self, ref: BatchRef) -> Batch | None:
        """A stored batch; raises `CorruptRecord` if it is damaged.

        None also if a batch with this digest is here whose sizes are not those of `ref`: peers name what they like.
        """
        key = _batch_key(ref)
        home = self._consensus if self._consensus.has(datadir.LANES, key) else self._batches
        encoded, place = home.get(datadir.BODIES, key), home.get(datadir.LANES, key)
        if encoded is None or place is None or _batch_ref(key, place) != ref:
            return None
        if not encoded.startswith(place[_SIZES_BYTES:]):
            raise CorruptRecord(f"stored batch {ref.digest.hex()}: damaged before its body")
        batch = _decoded(f"batch {ref.digest.hex()}", Batch.decode, encoded)
        if batch.ref != ref:
            raise CorruptRecord(f"stored batch {ref.digest.hex()}: it is another one, {batch.ref.digest.hex()}")
        return batch

    def held_refs(self, executed: tuple[int, ...]) -> list[BatchRef]:
        """References of stored batches above the executed ones, lane by lane."""
        refs: list[BatchRef] = []
        for author, seq in enumerate(executed):
            found: dict[bytes, BatchRef] = {}
            for home in (self._batches, self._consensus):
                start, stop = U16.pack(author) + U64.pack(seq + 1), U16.pack(author + 1)
                while rows := home.scan(datadir.LANES, start, stop, limit=_SCAN_ROWS):
                    found |= {key: _batch_ref(key, value) for key, value in rows}
                    start = rows[-1][0] + b"\0"
            refs += [ref for _, ref in sorted(found.items())]
        return refs

    # ---- health

    def free_bytes(self) -> int:
        """Free space of the file system."""
        return self._data.free_bytes()

    def close(self) -> None:
        """Releases the data directory."""
        self._data.close()


def execution_records(executed: Executed, blocks: Iterable[Block], sessions: dict[bytes, bytes | None]) -> list[Record]:
    """What executing `blocks` changes: the index of heights, the state after them and the sessions."""
    records = [Record(datadir.HEIGHTS, U64.pack(b.header.height), b.id) for b in blocks]
    records += (Record(datadir.SESSIONS, client_id, encoded) for client_id, encoded in sessions.items())
    records.append(Record(datadir.STATE, _EXECUTED_KEY, executed.encode()))
    return records


def _decoded(what: str, decode: Callable[[bytes], T], data: bytes) -> T:
    """A stored value. Its checksum was right, so bytes that do not decode were written by something else."""
    try:
        return decode(data)
    except InvalidEncoding as error:
        raise CorruptRecord(f"stored {what}: {error}") from None


def _safety_records(record: SafetyRecord) -> list[Record]:
    encoded = record.encode()
    return [Record(datadir.SAFETY, key, encoded) for key in _RECORD_KEYS]


def _batch_records(batches: Iterable[Batch]) -> list[Record]:
    records: list[Record] = []
    for batch in batches:
        key, ref = _batch_key(batch.ref), batch.ref
        records.append(Record(datadir.BODIES, key, batch.encoding))
        # The digest in the key pins the body but not the signature, so the head is here once more, with a checksum.
        records.append(Record(datadir.LANES, key, U32.pack(ref.size_bytes) + U32.pack(ref.tx_count) + batch.head()))
    return records


def _block_key(height: int, block_id: bytes) -> bytes:
    return U64.pack(height) + block_id


def _batch_key(ref: BatchRef) -> bytes:
    return U16.pack(ref.author) + U64.pack(ref.seq) + ref.digest


def _batch_ref(key: bytes, value: bytes) -> BatchRef:
    reader, sizes = Reader(key, "lane key"), Reader(value[:_SIZES_BYTES], "lane entry")
    return BatchRef(reader.u16(), reader.u64(), reader.hash(), sizes.u32(), sizes.u32())
