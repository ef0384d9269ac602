"""What one view and one batch cost, part by part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hotstuff import native
from hotstuff.consensus.effects import Persist, Share
from hotstuff.consensus.safety import SafetyRecord
from hotstuff.consensus.verifier import Verifier
from hotstuff.node.executor import Executor
from hotstuff.simulator.scheme import members, validator_set
from hotstuff.storage.chain import ChainStore, Executed
from hotstuff.storage.datadir import DataDir
from hotstuff.types.batch import Batch
from hotstuff.types.certificates import QC
from hotstuff.types.client import Answer, encode_answers
from hotstuff.types.encoding import ZERO_HASH
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import Vote

CLIENT = b"a benchmark's id"
BATCH_BYTES = 256 * 1024

MEMBERS = members(4, "bls")
VALIDATORS = validator_set(MEMBERS)
CONTEXT = Context(Mode.CHAINED, bytes(32), 1, VALIDATORS.hash)
VERIFIER = Verifier(CONTEXT, VALIDATORS)
BLOCK_ID, COMMIT_ID = b"\1" * 32, b"\2" * 32
MESSAGE = CONTEXT.vote_message(7, Phase.GENERIC, BLOCK_ID, COMMIT_ID)
SHARES = tuple(Share(i, MESSAGE, MEMBERS[i].bls.sign(MESSAGE)) for i in range(3))


@pytest.fixture(scope="module")
def body() -> bytes:
    """A batch body of 512 B transactions."""
    transactions = [os.urandom(512) for _ in range(BATCH_BYTES // 512)]
    return native.build_frame(CLIENT, 1, transactions)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChainStore]:
    """A real data directory, not synced: how long a disk takes says nothing about this code."""
    chain = ChainStore(DataDir.open(tmp_path / "data", bytes(32), 0, create_if_missing=True, fsync=False))
    yield chain
    chain.close()


def test_parse_and_hash_a_batch(benchmark: BenchmarkFixture, body: bytes) -> None:
    (frame,) = benchmark(native.parse_body, body, 16)
    assert frame.count == BATCH_BYTES // 512


def test_hash_4096_small_transactions(benchmark: BenchmarkFixture) -> None:
    (frame,) = benchmark(native.parse_body, native.build_frame(CLIENT, 1, [os.urandom(64)] * 4096), 1)
    assert frame.count == 4096


def test_build_a_frame(benchmark: BenchmarkFixture) -> None:
    transactions = [os.urandom(512)] * 128
    assert len(benchmark(native.build_frame, CLIENT, 1, transactions)) == 32 + 128 * 516


def test_decode_and_encode_a_batch(benchmark: BenchmarkFixture, body: bytes) -> None:
    frames = tuple(native.parse_body(body, 16))
    wire = Batch(1, 0, 1, bytes(64), body, frames).encoding

    def there_and_back() -> int:
        return len(Batch.decode(wire).encoding)

    assert benchmark(there_and_back) == len(wire)


def single_transactions() -> Batch:
    """As many clients send them: 512 frames of 16 clients, one transaction each."""
    parts = [native.build_frame(bytes([i % 16]) * 16, i // 16 + 1, [b"x" * 512]) for i in range(512)]
    body = b"".join(parts)
    return Batch(1, 0, 1, bytes(64), body, tuple(native.parse_body(body, 512)))


def test_execute_512_single_transactions(benchmark: BenchmarkFixture) -> None:
    """Each is looked up in its client's session, appended to the log and answered."""
    batch = single_transactions()

    def fresh() -> tuple[tuple[Executor], dict[str, object]]:
        return (Executor(Executed(0, 0, ZERO_HASH, ZERO_HASH, (0,), ZERO_HASH, 0), {}),), {}

    answers = benchmark.pedantic(lambda executor: list(executor._execute_batch(batch, 1)), setup=fresh, rounds=40)
    assert sum(answer.answer.fresh for answer in answers) == 512


def test_encode_512_answers(benchmark: BenchmarkFixture) -> None:
    answers = [Answer(i + 1, 1, 1, 7, bytes(32)) for i in range(512)]
    assert len(benchmark(encode_answers, answers)) == 4 + 512 * Answer.ENCODED_BYTES


def test_store_eight_batches(benchmark: BenchmarkFixture, store: ChainStore, body: bytes) -> None:
    frames = tuple(native.parse_body(body, 16))
    batches = [Batch(1, 0, seq, bytes(64), body, frames) for seq in range(1, 9)]
    benchmark(store.store_batches, batches)
    assert store.load_batch(batches[7].ref) is not None


def test_tally_votes(benchmark: BenchmarkFixture) -> None:
    bitmap = VALIDATORS.bitmap([0, 1, 3])

    def tally() -> bool:
        return VALIDATORS.is_quorum(VALIDATORS.signers(bitmap))

    assert benchmark(tally)


def test_merkle_root_of_1000_hashes(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(native.merkle_root, os.urandom(32 * 1000))) == 32


def test_sign_a_vote(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(MEMBERS[0].bls.sign, MESSAGE)) == 96


def test_decode_a_vote(benchmark: BenchmarkFixture) -> None:
    vote = Vote(1, 7, Phase.GENERIC, BLOCK_ID, COMMIT_ID, 0, SHARES[0].signature)
    assert benchmark(Vote.decode, vote.encoding) == vote


def test_collect_a_quorum(benchmark: BenchmarkFixture) -> None:
    assert benchmark(VERIFIER.collect, SHARES).signature is not None


def test_check_a_qc(benchmark: BenchmarkFixture) -> None:
    signature = VERIFIER.collect(SHARES).signature
    assert signature is not None
    qc = QC(1, 7, Phase.GENERIC, BLOCK_ID, COMMIT_ID, VALIDATORS.bitmap([0, 1, 2]), signature)
    assert benchmark(VERIFIER.check, qc)


def test_write_a_safety_record(benchmark: BenchmarkFixture, store: ChainStore) -> None:
    record = SafetyRecord.initial(CONTEXT, passive=False)
    benchmark(store.persist, [Persist(safety=record)])
    assert store.load_safety() == record
