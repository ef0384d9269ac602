"""Evidence on disk: once for each offence, so much and no more, and the certificates by which more can be found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hotstuff.consensus.effects import Persist
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.errors import CorruptRecord, DiskFull
from hotstuff.storage import chain, datadir
from hotstuff.storage.chain import ChainStore
from hotstuff.storage.datadir import DataDir
from hotstuff.storage.environment import Record
from hotstuff.types.block import Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.evidence import DoubleBatch, DoubleVote, Evidence
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import Vote
from hotstuff.types.statements import SignedBatch

NETWORK = b"\7" * 32
CONTEXT = Context(Mode.CHAINED, NETWORK, 1, b"\5" * 32)
FRESH = SafetyRecord.initial(CONTEXT, passive=False)
LOW, HIGH, THIRD = b"\x11" * 32, b"\x22" * 32, b"\x33" * 32


def double_vote(view: int, signer: int = 1, other: bytes = HIGH) -> Evidence:
    votes = [Vote(1, view, Phase.GENERIC, block_id, ZERO_HASH, signer, bytes(96)) for block_id in (LOW, other)]
    return DoubleVote.of(*votes)


def qc(view: int, phase: Phase = Phase.GENERIC) -> QC:
    return QC(1, view, phase, LOW, ZERO_HASH, b"\7", bytes(96))


def tc(view: int) -> TC:
    return TC(1, view, (TimeoutGroup(0, b"\7"),), bytes(96), QC.genesis(CONTEXT))


def found(*evidence: Evidence) -> Persist:
    return Persist(evidence=evidence, lazy=True)


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


# ---- evidence


def test_there_is_none_at_first(store: ChainStore) -> None:
    assert store.load_evidence() == []


def test_evidence_survives_a_restart(data: DataDir, store: ChainStore) -> None:
    pieces = [double_vote(256), double_vote(3), double_vote(3, signer=2)]
    batches = [SignedBatch(1, 2, 7, digest, bytes(64)) for digest in (LOW, HIGH)]
    pieces.append(DoubleBatch.of(*batches))
    store.persist([found(pieces[0]), found(pieces[1], pieces[2]), Persist(safety=FRESH), found(pieces[3])])
    again = reopened(data)
    assert again.load_evidence() == [pieces[1], pieces[2], pieces[3], pieces[0]], "by epoch and view"
    assert again.load_safety() == FRESH
    again.close()


def test_an_offence_is_stored_once_and_its_first_proof_stays(data: DataDir, store: ChainStore) -> None:
    first, another = double_vote(3), double_vote(3, other=THIRD)
    store.persist([found(first, another)])
    store.persist([found(another), found(another)])
    assert store.load_evidence() == [first]
    again = reopened(data)
    again.persist([found(another)])
    assert again.load_evidence() == [first], "also in the next life, which does not remember what it has found before"
    again.close()


def test_evidence_is_bounded_and_the_oldest_stays(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "MAX_EVIDENCE", 5)
    store.persist([found(*map(double_vote, (10, 11, 12)))])
    store.persist([found(*map(double_vote, (1, 2, 3)))])
    store.persist([found(double_vote(4)), Persist(safety=FRESH)])
    assert [evidence.view for evidence in store.load_evidence()] == [1, 2, 10, 11, 12]
    assert store.load_safety() == FRESH, "what is written with it is written all the same"


def test_much_evidence_is_read_in_steps(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_SCAN_ROWS", 3)
    store.persist([found(*map(double_vote, range(1, 11)))])
    assert [evidence.view for evidence in store.load_evidence()] == list(range(1, 11))


def test_damaged_evidence_is_noticed(data: DataDir, store: ChainStore) -> None:
    evidence = double_vote(3)
    for value in (b"", b"\xff", evidence.encoding[:-1], evidence.encoding + b"\0"):
        data.consensus.write([Record(datadir.EVIDENCE, evidence.offence, value)])
        with pytest.raises(CorruptRecord, match="stored evidence: "):
            store.load_evidence()


def test_evidence_can_be_read_without_writing(data: DataDir, store: ChainStore) -> None:
    store.persist([found(double_vote(3))])
    data.close()
    readonly = ChainStore(DataDir.open_readonly(data.path))
    assert readonly.load_evidence() == [double_vote(3)]
    readonly.close()


# ---- what an audit needs


def test_headers_of_all_branches(store: ChainStore) -> None:
    def block(height: int, proposer: int) -> Block:
        place = (height, height, CONTEXT.root_id, QC.genesis(CONTEXT), ZERO_HASH, payload_root(()), proposer)
        return Block(Header(Mode.CHAINED, NETWORK, 1, CONTEXT.vset_hash, *place), ())

    blocks = [block(1, 0), block(1, 1), block(2, 0)]
    store.persist([Persist(blocks=tuple(blocks))])
    assert {header.id for header in store.headers()} == {each.id for each in blocks}


def test_the_tcs_of_all_views_are_kept(data: DataDir, store: ChainStore) -> None:
    """The safety record holds the highest one only; a block names the TC of its view by its hash."""
    store.persist([Persist(safety=replace(FRESH, high_tc=tc(3)))])
    store.persist([Persist(safety=replace(FRESH, high_tc=tc(view)), lazy=True) for view in (4, 300)])
    assert store.certificates() == ([], [tc(3), tc(4), tc(300)])
    again = reopened(data)
    again.persist([Persist(safety=replace(FRESH, high_tc=tc(view))) for view in (300, 301)])
    assert again.certificates() == ([], [tc(3), tc(4), tc(300), tc(301)])
    again.close()


def test_the_first_qcs_of_all_views_with_several_phases_are_kept(store: ChainStore) -> None:
    phases = (Phase.PREPARE, Phase.PRECOMMIT, Phase.COMMIT)
    for view in (1, 2):
        for phase in phases:
            store.persist([Persist(safety=replace(FRESH, high_qc=qc(view, phase)))])
    assert store.certificates() == ([qc(1, Phase.PREPARE), qc(2, Phase.PREPARE)], [])


def test_a_qc_of_one_phase_is_in_the_next_block_and_is_not_kept_twice(store: ChainStore) -> None:
    store.persist([Persist(safety=replace(FRESH, high_qc=qc(1)))])
    store.persist([Persist(commit_qc=qc(1), commit_height=7)])
    assert store.certificates() == ([qc(1)], [])


def test_the_same_tc_is_written_once(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Record] = []
    monkeypatch.setattr(store._consensus, "write", written.extend)
    for _ in range(3):
        store.persist([Persist(safety=replace(FRESH, high_tc=tc(3)))])
    assert [record.table for record in written].count(datadir.TESTIMONY) == 1


def test_what_a_full_disk_kept_from_being_written_is_written_later(
    store: ChainStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise DiskFull("full")

    writes = [Persist(safety=replace(FRESH, high_tc=tc(3))), found(double_vote(3))]
    with monkeypatch.context() as patch:
        patch.setattr(store._consensus, "write", full)
        with pytest.raises(DiskFull):
            store.persist(writes)
    store.persist(writes)
    assert store.certificates() == ([], [tc(3)])
    assert store.load_evidence() == [double_vote(3)]
