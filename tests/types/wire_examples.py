"""Fixed values, several of each type: what the golden files pin and what the exhaustive checks cut and flip."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from strategies import parsed, proposed, sealed

from hotstuff import native
from hotstuff.types.block import BatchRef, Header
from hotstuff.types.certificates import QC, TC, TimeoutGroup
from hotstuff.types.client import Answer, Refusal, Refused
from hotstuff.types.encoding import MAX_COUNTER, ZERO_HASH
from hotstuff.types.evidence import DoubleBatch, DoubleProposal, DoubleVote, LockViolation, TimeoutLie
from hotstuff.types.hashing import Context, Mode, Phase
from hotstuff.types.messages import (
    Ack,
    BatchMessage,
    BatchRequest,
    BlockRequest,
    BlockResponse,
    ChainRequest,
    ChainResponse,
    NewView,
    Proposal,
    RecoveryRequest,
    RecoveryResponse,
    StateReport,
    Timeout,
    Vote,
)
from hotstuff.types.statements import SignedBatch, SignedProposal, TimeoutShare
from hotstuff.types.validators import Validator, ValidatorSet


def fill(label: str, size: int = 32) -> bytes:
    """`size` bytes that look random and never change."""
    parts = [sha256(f"{label}/{i}".encode()).digest() for i in range(size // 32 + 1)]
    return b"".join(parts)[:size]


CONTEXT = Context(Mode.JOLTEON, fill("chain"), 3, fill("vset"))
GENESIS_QC = QC.genesis(CONTEXT)
QC_8 = QC(3, 8, Phase.GENERIC, fill("block 8"), fill("block 7"), b"\x0d", fill("qc 8", 96))
QC_TOP = QC(MAX_COUNTER - 1, MAX_COUNTER - 1, Phase.COMMIT, fill("a"), ZERO_HASH, bytes(126) + b"\xff\x80", bytes(96))
TC_9 = TC(3, 9, (TimeoutGroup(8, b"\x05"), TimeoutGroup(2, b"\x08")), fill("tc 9", 96), QC_8)
REF = BatchRef(2, 41, fill("batch 41"), 1_000_000, 4_000)
REF_TOP = BatchRef(65535, MAX_COUNTER - 1, fill("batch top"), 2**32 - 1, 2**32 - 1)
PLAIN = Header(Mode.JOLTEON, fill("chain"), 3, fill("vset"), 9, 7, fill("block 8"), QC_8, ZERO_HASH, fill("payload"), 1)
BLOCK = sealed(PLAIN, (REF, REF_TOP))
EMPTY_BLOCK = sealed(PLAIN, ())
ENTERED = Header(
    Mode.BASIC, fill("chain"), 0, fill("vset"), 10, 8, fill("p"), GENESIS_QC, TC_9.key, fill("payload"), 65535
)
BODY = native.build_frame(fill("client", 16), 1, [b"a", b"bc" * 20]) + native.build_frame(bytes(16), 2**40, [b"\0"])
BATCH = parsed(3, 2, 41, fill("batch signature", 64), BODY)
SMALL_BATCH = parsed(0, 0, 1, bytes(64), native.build_frame(b"\xff" * 16, MAX_COUNTER - 2, [b"!"]))
VOTE = Vote(3, 9, Phase.GENERIC, fill("block 9"), fill("block 8"), 3, fill("vote", 96))
COMMIT_VOTE = Vote(0, 1, Phase.COMMIT, fill("block 1"), ZERO_HASH, 0, bytes(96))
TIMEOUT = Timeout(3, 9, 1, fill("timeout", 96), QC_8, None)
LATE_TIMEOUT = Timeout(3, 10, 65535, fill("timeout", 96), QC_8, TC_9)
MEMBERS = tuple(Validator(fill(f"node {i}"), bytes([0x80 + i]) + fill(f"bls {i}", 47), i**3 + 1) for i in range(5))
ANSWER = Answer(1, 1000, 998, 7, fill("state"))
ANSWER_TOP = Answer(MAX_COUNTER - 1, 2**32 - 1, 2**32 - 1, MAX_COUNTER - 1, bytes(32))
SIGNED_BLOCK = SignedProposal(3, 9, 1, PLAIN.id, fill("proposal", 64))
SIGNED_BATCH = SignedBatch(3, 2, 41, REF.digest, fill("batch signature", 64))
SHARE = TimeoutShare(3, 11, 2, 0, fill("timeout", 96))

# The name of a codec, and of each value below it.
EXAMPLES: dict[str, dict[str, Any]] = {
    "qc": {"genesis": GENESIS_QC, "prepare": QC_8, "largest": QC_TOP},
    "tc": {"two_groups": TC_9, "one_group": TC(0, 1, (TimeoutGroup(0, b"\x07"),), bytes(96), GENESIS_QC)},
    "batch_ref": {"plain": REF, "largest": REF_TOP},
    "header": {"plain": PLAIN, "entered_by_tc": ENTERED},
    "block": {"two_batches": BLOCK, "empty": EMPTY_BLOCK},
    "batch": {"two_frames": BATCH, "smallest": SMALL_BATCH},
    "validator_set": {"five": ValidatorSet(3, MEMBERS), "one": ValidatorSet(0, MEMBERS[:1])},
    "vote": {"prepare": VOTE, "commit": COMMIT_VOTE},
    "timeout": {"after_qc": TIMEOUT, "after_tc": LATE_TIMEOUT},
    "client_answer": {"plain": ANSWER, "largest": ANSWER_TOP},
    "client_refused": {"busy": Refused(17, Refusal.BUSY, 250), "not_ready": Refused(0, Refusal.NOT_READY, 2**32 - 1)},
    "message_proposal": {
        "after_qc": Proposal(BLOCK, fill("proposal", 64), None),
        "after_tc": proposed(sealed(ENTERED, (REF,)), bytes(64), TC_9),
    },
    "message_vote": {"prepare": VOTE, "commit": COMMIT_VOTE},
    "message_timeout": {"after_qc": TIMEOUT, "after_tc": LATE_TIMEOUT},
    "message_new_view": {"qc": NewView(QC_8, None), "qc_and_tc": NewView(QC_8, TC_9)},
    "message_block_request": {"plain": BlockRequest(fill("block 9"), 4, 128)},
    "message_block_response": {
        "two": BlockResponse(BLOCK.id, (BLOCK, EMPTY_BLOCK)),
        "none": BlockResponse(fill("block 9"), ()),
    },
    "message_chain_request": {"plain": ChainRequest(1), "largest": ChainRequest(MAX_COUNTER - 1)},
    "message_chain_response": {"two": ChainResponse(7, (BLOCK, EMPTY_BLOCK), QC_8), "none": ChainResponse(7, (), None)},
    "message_recovery_request": {"plain": RecoveryRequest()},
    "message_state_report": {"plain": StateReport(64, fill("state"))},
    "message_recovery_response": {"qc": RecoveryResponse(QC_8, None), "qc_and_tc": RecoveryResponse(QC_8, TC_9)},
    "message_batch": {"two_frames": BatchMessage(BATCH), "smallest": BatchMessage(SMALL_BATCH)},
    "message_ack": {"two": Ack((REF, REF_TOP)), "none": Ack(())},
    "message_batch_request": {"one": BatchRequest((REF,)), "none": BatchRequest(())},
    "evidence_double_proposal": {
        "two_blocks": DoubleProposal(SIGNED_BLOCK, SignedProposal(3, 9, 1, fill("block 9"), bytes(64))),
    },
    "evidence_double_vote": {"votes": DoubleVote(VOTE, COMMIT_VOTE), "vote_and_qc": DoubleVote(COMMIT_VOTE, QC_8)},
    "evidence_timeout_lie": {
        "vote_and_timeout": TimeoutLie(VOTE, None, SHARE),
        "qc_and_tc": TimeoutLie(QC_8, PLAIN, TC_9),
    },
    "evidence_lock_violation": {
        "votes": LockViolation(COMMIT_VOTE, (), VOTE, PLAIN),
        "qcs": LockViolation(QC_8, (PLAIN, ENTERED), QC_8, PLAIN),
    },
    "evidence_double_batch": {
        "two_batches": DoubleBatch(SIGNED_BATCH, SignedBatch(0, 65535, MAX_COUNTER - 1, fill("batch 42"), bytes(64))),
    },
}
