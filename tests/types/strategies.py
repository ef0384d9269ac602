"""Hypothesis strategies for every value of `hotstuff.types`, and the codec of each.

`CODECS` lists everything that has bytes of its own; `wire_checks` holds what must be true of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hotstuff import native
from hotstuff.types.batch import MAX_FRAMES, Batch
from hotstuff.types.block import BatchRef, Block, Header, payload_root
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.client import Answer, Refusal, Refused
from hotstuff.types.encoding import MAX_COUNTER, ZERO_HASH, Buffer, decode_all
from hotstuff.types.evidence import (
    DoubleBatch,
    DoubleProposal,
    DoubleVote,
    EvidenceKind,
    LockViolation,
    TimeoutLie,
    decode_evidence,
)
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    BlockRequest,
    BlockResponse,
    ChainRequest,
    ChainResponse,
    Kind,
    Message,
    NewView,
    Proposal,
    RecoveryRequest,
    RecoveryResponse,
    StateReport,
    Timeout,
    Vote,
    decode_message,
)
from hotstuff.types.statements import SignedBatch, SignedProposal, TimeoutShare
from hotstuff.types.validators import (
    BLS_KEY_BYTES,
    BLS_SIGNATURE_BYTES,
    MAX_TOTAL_POWER,
    MAX_VALIDATORS,
    NODE_KEY_BYTES,
    NODE_SIGNATURE_BYTES,
    Validator,
    ValidatorSet,
)

MAX_MEMBERS = 24


def exactly(size: int) -> SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def tuples_of(items: SearchStrategy[Any], max_size: int, min_size: int = 0) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=min_size, max_size=max_size).map(tuple)


u16s = st.integers(0, 2**16 - 1)
u32s = st.integers(0, 2**32 - 1)
counters = st.one_of(st.integers(0, 9), st.sampled_from([2**32, MAX_COUNTER - 1]), st.integers(0, MAX_COUNTER - 1))
hashes = exactly(32)
bls_signatures = exactly(BLS_SIGNATURE_BYTES)
node_signatures = exactly(NODE_SIGNATURE_BYTES)
bitmaps = st.one_of(st.binary(max_size=4), exactly(MAX_VALIDATORS // 8))
modes = st.sampled_from(Mode)
phases = st.sampled_from(Phase)

contexts = st.builds(Context, modes, hashes, counters, hashes)

qcs = st.builds(QC, counters, counters, phases, hashes, hashes, bitmaps, bls_signatures)
timeout_groups = st.builds(TimeoutGroup, counters, bitmaps)
tcs = st.builds(TC, counters, counters, tuples_of(timeout_groups, 3, min_size=1), bls_signatures, qcs)
optional_tcs = st.none() | tcs

batch_refs = st.builds(BatchRef, u16s, counters.filter(bool), hashes, u32s, u32s)
payloads = tuples_of(batch_refs, 3)
headers = st.builds(
    Header, modes, hashes, counters, hashes, counters, counters, hashes, qcs, st.just(ZERO_HASH) | hashes, hashes, u16s
)


def sealed(header: Header, payload: tuple[BatchRef, ...]) -> Block:
    """The block of `header` with its payload root put right."""
    return Block(replace(header, payload_root=payload_root(payload)), payload)


blocks = st.builds(sealed, headers, payloads)

frames = st.builds(
    native.build_frame,
    exactly(native.CLIENT_ID_BYTES),
    st.integers(1, 9) | st.integers(1, MAX_COUNTER - 9),
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4),
)
bodies = st.lists(frames, min_size=1, max_size=3).map(b"".join)


def parsed(epoch: int, author: int, seq: int, signature: bytes, body: Buffer) -> Batch:
    """The batch around a well-formed body."""
    return Batch(epoch, author, seq, signature, body, tuple(native.parse_body(body, MAX_FRAMES)))


sequences = st.integers(1, 9) | st.integers(1, MAX_COUNTER - 1)
batches = st.builds(parsed, counters, u16s, sequences, node_signatures, bodies)


def without_sign(key: bytes) -> bytes:
    """A BLS key and its negation give the same."""
    return bytes([key[0] & 0b1101_1111]) + key[1:]


@st.composite
def validator_sets(draw: st.DrawFn, max_size: int = MAX_MEMBERS) -> ValidatorSet:
    """Sets of 1 to `max_size` members, many of equal and many of very different power."""
    bls_keys = draw(st.lists(exactly(BLS_KEY_BYTES), min_size=1, max_size=max_size, unique_by=without_sign))
    size = len(bls_keys)
    node_keys = draw(st.lists(exactly(NODE_KEY_BYTES), min_size=size, max_size=size, unique=True))
    power = st.just(1) | st.integers(1, 9) | st.integers(1, MAX_TOTAL_POWER // MAX_MEMBERS)
    powers = draw(st.lists(power, min_size=size, max_size=size))
    members = map(Validator, node_keys, sorted(bls_keys), powers)
    return ValidatorSet(draw(counters), tuple(members))


votes = st.builds(Vote, counters, counters, phases, hashes, hashes, u16s, bls_signatures)
timeouts = st.builds(Timeout, counters, counters, u16s, bls_signatures, qcs, optional_tcs)

answers = st.builds(Answer, counters, u32s, u32s, counters, hashes)
refusals = st.builds(Refused, counters, st.sampled_from(Refusal), u32s)


def proposed(block: Block, signature: bytes, entry_tc: TC | None) -> Proposal:
    """The proposal of `block` with the key of its entry TC put right."""
    key = ZERO_HASH if entry_tc is None else entry_tc.key
    return Proposal(Block(replace(block.header, entry_tc_hash=key), block.payload), signature, entry_tc)


def chain_response(from_height: int, chain: tuple[Block, ...], commit_qc: QC) -> ChainResponse:
    """A chain response: the QC comes with blocks or not at all."""
    return ChainResponse(from_height, chain, commit_qc if chain else None)


MESSAGES: dict[Kind, SearchStrategy[Any]] = {
    Kind.PROPOSAL: st.builds(proposed, blocks, node_signatures, optional_tcs),
    Kind.VOTE: votes,
    Kind.TIMEOUT: timeouts,
    Kind.NEW_VIEW: st.builds(NewView, qcs, optional_tcs),
    Kind.BLOCK_REQUEST: st.builds(BlockRequest, hashes, counters, u32s),
    Kind.BLOCK_RESPONSE: st.builds(BlockResponse, hashes, tuples_of(blocks, 2)),
    Kind.CHAIN_REQUEST: st.builds(ChainRequest, counters),
    Kind.CHAIN_RESPONSE: st.builds(chain_response, counters, tuples_of(blocks, 2), qcs),
    Kind.RECOVERY_REQUEST: st.just(RecoveryRequest()),
    Kind.RECOVERY_RESPONSE: st.builds(RecoveryResponse, qcs, optional_tcs),
    Kind.STATE_REPORT: st.builds(StateReport, counters, hashes),
    Kind.BATCH: st.builds(BatchMessage, batches),
    Kind.ACK: st.builds(Ack, payloads),
    Kind.BATCH_REQUEST: st.builds(BatchRequest, payloads),
}
messages: SearchStrategy[Any] = st.one_of(*MESSAGES.values())

signed_proposals = st.builds(SignedProposal, counters, counters, u16s, hashes, node_signatures)
signed_batches = st.builds(SignedBatch, counters, u16s, counters, hashes, node_signatures)
timeout_shares = st.builds(TimeoutShare, counters, counters, counters, u16s, bls_signatures)
voted = votes | qcs
gave_up = timeout_shares | tcs

EVIDENCE: dict[EvidenceKind, SearchStrategy[Any]] = {
    EvidenceKind.DOUBLE_PROPOSAL: st.builds(DoubleProposal, signed_proposals, signed_proposals),
    EvidenceKind.DOUBLE_VOTE: st.builds(DoubleVote, voted, voted),
    EvidenceKind.TIMEOUT_LIE: st.builds(TimeoutLie, voted, st.none() | headers, gave_up),
    EvidenceKind.LOCK_VIOLATION: st.builds(LockViolation, voted, tuples_of(headers, 2), voted, headers),
    EvidenceKind.DOUBLE_BATCH: st.builds(DoubleBatch, signed_batches, signed_batches),
}
evidence: SearchStrategy[Any] = st.one_of(*EVIDENCE.values())


@dataclass(frozen=True)
class Codec:
    """One type with bytes of its own: how to make values of it, and how to read it."""

    name: str
    values: SearchStrategy[Any]
    decode: Callable[[Buffer], Any]


def _message_codec(kind: Kind) -> Codec:
    def decode(data: Buffer) -> Message:
        return decode_message(kind, data)

    return Codec(f"message_{kind.name.lower()}", MESSAGES[kind], decode)


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("qc", qcs, QC.decode),
        Codec("tc", tcs, TC.decode),
        Codec("batch_ref", batch_refs, lambda data: decode_all(data, "reference", BatchRef.read)),
        Codec("header", headers, lambda data: decode_all(data, "header", Header.read)),
        Codec("block", blocks, Block.decode),
        Codec("batch", batches, Batch.decode),
        Codec("validator_set", validator_sets(), ValidatorSet.decode),
        Codec("vote", votes, Vote.decode),
        Codec("timeout", timeouts, Timeout.decode),
        Codec("client_answer", answers, lambda data: decode_all(data, "answer", Answer.read)),
        Codec("client_refused", refusals, Refused.decode),
        *map(_message_codec, Kind),
        *(Codec(f"evidence_{kind.name.lower()}", values, decode_evidence) for kind, values in EVIDENCE.items()),
    )
}
