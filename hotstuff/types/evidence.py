"""Evidence of misbehaviour: two signed statements that no honest validator makes both (protocol rule 10).

    double proposal   two blocks of one view, signed by its leader
    double vote       two votes of one view and phase that differ
    timeout lie       a vote that proves knowledge of a QC, and a timeout of the same or a later view that denies it
    lock violation    a vote that proves a lock, and a later vote for a block that is justified below it
    double batch      two batches with one number

Why an honest validator never makes both. Proposals and votes: the safety record says that one was signed before it
leaves. Timeouts: a timed-out view is closed for voting, so the timeout came after the vote, and timeouts report the
highest QC, which is never forgotten. Locks: see `statements.locked_view`; votes are signed in ascending views, and
locks are never lowered. Batches: a batch is stored before it is sent. (An author that lost its data directory avoids
the numbers that f+1 others hold and may repeat one that fewer have seen: to lose data is a fault, and that is a trace
of it.)

Not evidence: two timeouts of one view that report different QCs, a vote and a timeout of one view, two QCs for one
block, the same statement in other bytes, and everything whose signature does not verify: anybody could have made it.

Each side may be a share or a certificate. Evidence is small and complete by itself: with the genesis file anybody can
check it (`consensus.proof.verify`), years later.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from hotstuff.errors import InvalidEncoding
from hotstuff.types.block import Header
from hotstuff.types.certificates import QC
from hotstuff.types.encoding import U8, U64, ZERO_HASH, Buffer, Reader, decode_all
from hotstuff.types.hashing import PHASES, Domain, Mode, digest
from hotstuff.types.statements import (
    GaveUp,
    SignedBatch,
    SignedProposal,
    Statement,
    TimeoutShare,
    Voted,
    encode_gave_up,
    encode_voted,
    fits,
    hiders,
    indices,
    is_proposal_vote,
    known_qc_view,
    locked_view,
    read_gave_up,
    read_voted,
    voters,
)

# The largest evidence there can be holds a TC of 1024 validators who all report different QCs (about 141,000 bytes).
MAX_EVIDENCE_BYTES = 256 * 1024


class EvidenceKind(enum.IntEnum):
    """What was done."""

    DOUBLE_PROPOSAL = 1
    DOUBLE_VOTE = 2
    TIMEOUT_LIE = 3
    LOCK_VIOLATION = 4
    DOUBLE_BATCH = 5

    @property
    def text(self) -> str:
        """For people."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Evidence(ABC):
    """Two statements that contradict each other. Nothing is verified yet: see `consensus.proof.verify`."""

    kind: ClassVar[EvidenceKind]

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The epoch of both statements."""

    @property
    @abstractmethod
    def view(self) -> int:
        """The view in which the contradiction became one (the later of the two); for batches their number."""

    @property
    @abstractmethod
    def statements(self) -> tuple[Statement, ...]:
        """Everything whose signature must be verified."""

    @property
    @abstractmethod
    def accused(self) -> int:
        """Who made both statements, bit i for validator i."""

    @property
    @abstractmethod
    def said(self) -> tuple[str, str]:
        """The two statements in words."""

    @abstractmethod
    def flaw(self, mode: Mode) -> str | None:
        """What is wrong with this as evidence, or None: do the statements contradict each other under this protocol?

        `mode` is that of the network: a vote of one protocol does not imply what the same vote implies in another one.
        """

    @abstractmethod
    def _body(self) -> bytes:
        """What comes after the kind."""

    @classmethod
    @abstractmethod
    def read(cls, reader: Reader) -> Evidence:
        """Reads what comes after the kind."""

    @cached_property
    def encoding(self) -> bytes:
        """kind u8 | what the kind says."""
        return U8.pack(self.kind) + self._body()

    @cached_property
    def key(self) -> bytes:
        """Identity of exactly these bytes."""
        return digest(Domain.EVIDENCE, self.encoding)

    @cached_property
    def offence(self) -> bytes:
        """Who did what when: the same for every proof of it. In the order of epoch and view."""
        who = self.accused
        place = U64.pack(self.epoch) + U64.pack(self.view) + U8.pack(self.kind)
        return place + who.to_bytes((who.bit_length() + 7) // 8, "little")

    @property
    def culprits(self) -> tuple[int, ...]:
        """Indices of those who made both statements, ascending."""
        return indices(self.accused)


def _first(*checks: tuple[bool, str]) -> str | None:
    return next((what for good, what in checks if not good), None)


@dataclass(frozen=True)
class DoubleProposal(Evidence):
    """Two blocks that one leader signed for one view. `first` has the lower block id."""

    first: SignedProposal
    second: SignedProposal

    kind = EvidenceKind.DOUBLE_PROPOSAL

    @classmethod
    def of(cls, one: SignedProposal, other: SignedProposal) -> DoubleProposal:
        """In the order that makes one pair one evidence."""
        return cls(*sorted((one, other), key=lambda proposal: proposal.block_id))

    @property
    def epoch(self) -> int:
        return self.first.epoch

    @property
    def view(self) -> int:
        return self.first.view

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.first, self.second

    @property
    def accused(self) -> int:
        return 1 << self.first.proposer if self.first.proposer == self.second.proposer else 0

    @property
    def said(self) -> tuple[str, str]:
        return f"proposed block {_short(self.first.block_id)}", f"proposed block {_short(self.second.block_id)}"

    def flaw(self, mode: Mode) -> str | None:
        one, other = self.first, self.second
        return _first(
            (one.epoch == other.epoch, "two epochs"),
            (one.view == other.view, "two views"),
            (one.proposer == other.proposer, "two proposers"),
            (one.block_id < other.block_id, "the same block, or the order of the blocks is not canonical"),
        )

    def _body(self) -> bytes:
        return self.first.encoding + self.second.encoding

    @classmethod
    def read(cls, reader: Reader) -> DoubleProposal:
        return cls(SignedProposal.read(reader), SignedProposal.read(reader))


@dataclass(frozen=True)
class DoubleVote(Evidence):
    """Two votes of one view and phase. `first` has the lower block id (and commit id)."""

    first: Voted
    second: Voted

    kind = EvidenceKind.DOUBLE_VOTE

    @classmethod
    def of(cls, one: Voted, other: Voted) -> DoubleVote:
        """In the order that makes one pair one evidence."""
        return cls(*sorted((one, other), key=_content))

    @property
    def epoch(self) -> int:
        return self.first.epoch

    @property
    def view(self) -> int:
        return self.first.view

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.first, self.second

    @property
    def accused(self) -> int:
        return voters(self.first) & voters(self.second)

    @property
    def said(self) -> tuple[str, str]:
        return _vote_text(self.first), _vote_text(self.second)

    def flaw(self, mode: Mode) -> str | None:
        one, other = self.first, self.second
        return _first(
            (one.epoch == other.epoch, "two epochs"),
            (one.view == other.view, "two views"),
            (one.phase is other.phase, "two phases"),
            (_is_vote(mode, one), "not votes of this protocol"),
            (_content(one) < _content(other), "the same vote, or the order of the votes is not canonical"),
            (self.accused != 0, "nobody signed both"),
        )

    def _body(self) -> bytes:
        return encode_voted(self.first) + encode_voted(self.second)

    @classmethod
    def read(cls, reader: Reader) -> DoubleVote:
        return cls(read_voted(reader), read_voted(reader))


@dataclass(frozen=True)
class TimeoutLie(Evidence):
    """A vote that proves knowledge of a QC, and a timeout of the same or a later view that denies it.

    `header`: of the block voted for, if the vote does not say by itself which QC was known.
    """

    voted: Voted
    header: Header | None
    gave_up: GaveUp

    kind = EvidenceKind.TIMEOUT_LIE

    @property
    def epoch(self) -> int:
        return self.voted.epoch

    @property
    def view(self) -> int:
        return self.gave_up.view

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.voted, self.gave_up

    @property
    def known_view(self) -> int:
        """The view of the QC that the voters knew; 0 if that does not follow."""
        return known_qc_view(self.voted, self.header) or 0

    @property
    def accused(self) -> int:
        return voters(self.voted) & hiders(self.gave_up, self.known_view)

    @property
    def said(self) -> tuple[str, str]:
        knowledge = f"{_vote_text(self.voted)}, knowing a QC of view {self.known_view}"
        if isinstance(self.gave_up, TimeoutShare):
            reported = f"view {self.gave_up.high_qc_view}"
        else:
            lower = [g.high_qc_view for g in self.gave_up.groups if g.high_qc_view < self.known_view]
            reported = f"view {max(lower, default=0)} or lower"
        return knowledge, f"gave up on view {self.gave_up.view}, reporting a QC of {reported} as the highest"

    def flaw(self, mode: Mode) -> str | None:
        return _first(
            (self.voted.epoch == self.gave_up.epoch, "two epochs"),
            (_is_vote(mode, self.voted), "not a vote of this protocol"),
            (known_qc_view(self.voted, self.header) is not None, "the header is missing, another one or not needed"),
            (self.gave_up.view >= self.voted.view, "the timeout is of an earlier view than the vote"),
            (self.accused != 0, "nobody who signed both hid a QC"),
        )

    def _body(self) -> bytes:
        return encode_voted(self.voted) + _encode_headers(_listed(self.header)) + encode_gave_up(self.gave_up)

    @classmethod
    def read(cls, reader: Reader) -> TimeoutLie:
        voted, path = read_voted(reader), _read_headers(reader, 1)
        return cls(voted, path[0] if path else None, read_gave_up(reader))


@dataclass(frozen=True)
class LockViolation(Evidence):
    """A vote that proves a lock, and a later vote for a block that is justified below it.

    `path`: the headers that show the lock (`statements.locked_view`); `header`: of the block of the later vote.
    """

    voted: Voted
    path: tuple[Header, ...]
    later: Voted
    header: Header

    kind = EvidenceKind.LOCK_VIOLATION

    @property
    def epoch(self) -> int:
        return self.voted.epoch

    @property
    def view(self) -> int:
        return self.later.view

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.voted, self.later

    @property
    def accused(self) -> int:
        return voters(self.voted) & voters(self.later)

    @property
    def said(self) -> tuple[str, str]:
        lock = locked_view(self.header.mode, self.voted, self.path)
        justified = f"which is justified by a QC of view {self.header.justify.view}"
        return f"{_vote_text(self.voted)}, locked on a QC of view {lock}", f"{_vote_text(self.later)}, {justified}"

    def flaw(self, mode: Mode) -> str | None:
        lock = locked_view(mode, self.voted, self.path)
        votes = _is_vote(mode, self.voted) and _is_vote(mode, self.later)
        return _first(
            (self.voted.epoch == self.later.epoch, "two epochs"),
            (votes and is_proposal_vote(mode, self.later), "not votes of this protocol"),
            (lock is not None, "no lock follows from the earlier vote and these headers"),
            (fits(self.header, self.later), "the header of the later vote is another one"),
            (self.header.mode is mode, "a header of another protocol"),
            (self.later.view > self.voted.view, "the later vote is not of a later view"),
            (lock is not None and self.header.justify.view < lock, "the lock is respected"),
            (self.accused != 0, "nobody signed both"),
        )

    def _body(self) -> bytes:
        first = encode_voted(self.voted) + _encode_headers(self.path)
        return first + encode_voted(self.later) + self.header.encoding

    @classmethod
    def read(cls, reader: Reader) -> LockViolation:
        return cls(read_voted(reader), _read_headers(reader, 2), read_voted(reader), Header.read(reader))


@dataclass(frozen=True)
class DoubleBatch(Evidence):
    """Two batches that one author signed with one number. `first` has the lower digest."""

    first: SignedBatch
    second: SignedBatch

    kind = EvidenceKind.DOUBLE_BATCH

    @classmethod
    def of(cls, one: SignedBatch, other: SignedBatch) -> DoubleBatch:
        """In the order that makes one pair one evidence."""
        return cls(*sorted((one, other), key=lambda batch: batch.digest))

    @property
    def epoch(self) -> int:
        return self.first.epoch

    @property
    def view(self) -> int:
        return self.first.seq

    @property
    def statements(self) -> tuple[Statement, ...]:
        return self.first, self.second

    @property
    def accused(self) -> int:
        return 1 << self.first.author if self.first.author == self.second.author else 0

    @property
    def said(self) -> tuple[str, str]:
        first, second = (f"signed batch {_short(b.digest)} as number {b.seq}" for b in (self.first, self.second))
        return first, second

    def flaw(self, mode: Mode) -> str | None:
        one, other = self.first, self.second
        return _first(
            (one.epoch == other.epoch, "two epochs"),
            (one.author == other.author, "two authors"),
            (one.seq == other.seq, "two numbers"),
            (one.digest < other.digest, "the same batch, or the order of the batches is not canonical"),
        )

    def _body(self) -> bytes:
        return self.first.encoding + self.second.encoding

    @classmethod
    def read(cls, reader: Reader) -> DoubleBatch:
        return cls(SignedBatch.read(reader), SignedBatch.read(reader))


# ---- encoding -------------------------------------------------------------------------------------------------------


_TYPES: dict[int, Callable[[Reader], Evidence]] = {
    int(cls.kind): cls.read for cls in (DoubleProposal, DoubleVote, TimeoutLie, LockViolation, DoubleBatch)
}


def decode_evidence(data: Buffer) -> Evidence:
    """Inverse of `Evidence.encoding`; raises `InvalidEncoding`."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise InvalidEncoding(f"evidence: got {len(data)} bytes, allowed: at most {MAX_EVIDENCE_BYTES}")
    return decode_all(data, "evidence", _read_evidence)


def _read_evidence(reader: Reader) -> Evidence:
    kind = reader.u8()
    read = _TYPES.get(kind)
    if read is None:
        raise InvalidEncoding(f"evidence: got kind {kind}, allowed: {sorted(_TYPES)}")
    return read(reader)


def _listed(header: Header | None) -> tuple[Header, ...]:
    return () if header is None else (header,)


def _encode_headers(headers: tuple[Header, ...]) -> bytes:
    return U8.pack(len(headers)) + b"".join(header.encoding for header in headers)


def _read_headers(reader: Reader, limit: int) -> tuple[Header, ...]:
    count = reader.u8()
    if count > limit:
        raise InvalidEncoding(f"{reader.what}: got {count} headers, allowed: at most {limit}")
    return tuple(Header.read(reader) for _ in range(count))


# ---- small questions ------------------------------------------------------------------------------------------------


def _content(voted: Voted) -> tuple[bytes, bytes]:
    """What a vote of a view and phase is for."""
    return voted.block_id, voted.commit_id


def _is_vote(mode: Mode, voted: Voted) -> bool:
    """Can a validator of this protocol have cast it? (View 0 is the genesis certificate, which nobody signed.)"""
    return voted.view > 0 and voted.phase in PHASES[mode]


def _short(block_id: bytes) -> str:
    return block_id.hex()[:16]


def _vote_text(voted: Voted) -> str:
    phase = f" ({voted.phase.name})" if voted.phase is not voted.phase.GENERIC else ""
    commit = "" if voted.commit_id == ZERO_HASH else f", committing {_short(voted.commit_id)}"
    source = " (in a QC)" if isinstance(voted, QC) else ""
    return f"voted{phase} for block {_short(voted.block_id)} in view {voted.view}{commit}{source}"
