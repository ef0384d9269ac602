"""What clients and replicas say to each other."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from hotstuff.errors import InvalidEncoding
from hotstuff.native import CLIENT_ID_BYTES
from hotstuff.types.encoding import U8, U32, U64, Buffer, Reader, decode_all

# Answers in one message: one for each frame of this client in the blocks that were executed together.
MAX_ANSWERS = 65536


class ClientKind(enum.IntEnum):
    """The frame kind of each message between a client and a replica."""

    HELLO = 16
    SUBMIT = 17
    ANSWERS = 18
    REFUSED = 19
    STATUS_REQUEST = 20
    STATUS = 21


class Refusal(enum.IntEnum):
    """Why a replica does not take a frame now. None of them means that it will not commit."""

    BUSY = 1
    NOT_READY = 2


@dataclass(frozen=True)
class Answer:
    """A frame was executed: `fresh` of its `count` transactions now, the others before.

    Or it was ordered and not `executed`, because the client has left too many gaps in its numbers.
    `height` and `state` (32 B, the running hash after this frame) are the same at every honest replica, so f+1 equal
    answers include an honest one.
    """

    first_seq: int
    count: int
    fresh: int
    height: int
    state: bytes
    executed: bool = True

    ENCODED_BYTES = 8 + 4 + 4 + 8 + 32 + 1

    @property
    def encoding(self) -> bytes:
        """first_seq u64 | count u32 | fresh u32 | height u64 | state 32 | executed u8."""
        numbers = U64.pack(self.first_seq) + U32.pack(self.count) + U32.pack(self.fresh)
        return numbers + U64.pack(self.height) + self.state + U8.pack(self.executed)

    @classmethod
    def read(cls, reader: Reader) -> Answer:
        """Reads one answer."""
        return cls(reader.counter(), reader.u32(), reader.u32(), reader.counter(), reader.hash(), reader.flag())


def encode_answers(answers: Sequence[Answer]) -> bytes:
    """count u32 | answers."""
    return U32.pack(len(answers)) + b"".join(answer.encoding for answer in answers)


def decode_answers(data: Buffer) -> list[Answer]:
    """Inverse of `encode_answers`."""

    def read(reader: Reader) -> list[Answer]:
        count = reader.count(MAX_ANSWERS, Answer.ENCODED_BYTES)
        return [Answer.read(reader) for _ in range(count)]

    return decode_all(data, "answers", read)


@dataclass(frozen=True)
class Refused:
    """A frame was not taken; try again here after `retry_ms`, or at another replica."""

    first_seq: int
    reason: Refusal
    retry_ms: int

    @property
    def encoding(self) -> bytes:
        """first_seq u64 | reason u8 | retry_ms u32."""
        return U64.pack(self.first_seq) + U8.pack(self.reason) + U32.pack(self.retry_ms)

    @classmethod
    def decode(cls, data: Buffer) -> Refused:
        """Inverse of `encoding`."""
        return decode_all(data, "refusal", cls._read)

    @classmethod
    def _read(cls, reader: Reader) -> Refused:
        first_seq, reason, retry_ms = reader.counter(), reader.u8(), reader.u32()
        try:
            return cls(first_seq, Refusal(reason), retry_ms)
        except ValueError:
            raise InvalidEncoding(f"refusal: got reason {reason}, allowed: {[int(r) for r in Refusal]}") from None


def decode_hello(data: Buffer) -> bytes:
    """The client's id, 16 bytes of its own choice."""
    return decode_all(data, "client hello", lambda reader: reader.fixed(CLIENT_ID_BYTES))
