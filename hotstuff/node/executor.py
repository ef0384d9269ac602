"""Runs committed blocks through the application, each transaction once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hotstuff import native
from hotstuff.app.ordered_log import OrderedLog
from hotstuff.app.sessions import Session, Sessions
from hotstuff.consensus.divergence import CHECKPOINT_BLOCKS
from hotstuff.errors import InvariantViolation
from hotstuff.storage.chain import Executed, execution_records
from hotstuff.storage.environment import Record
from hotstuff.types.batch import Batch
from hotstuff.types.block import BatchRef, Block
from hotstuff.types.client import Answer


class ClientAnswer(NamedTuple):
    """An answer and whom it is for."""

    client_id: bytes
    answer: Answer


class Executor:
    """The application's state and the sessions, always at the last executed block."""

    def __init__(self, executed: Executed, sessions: dict[bytes, bytes]) -> None:
        self.executed = executed
        self._log = OrderedLog(executed.state, executed.tx_count)
        self._checkpoints: list[tuple[int, bytes]] = []
        self._sessions = Sessions({client: Session.decode(data) for client, data in sessions.items()})

    def execute(
        self, blocks: tuple[Block, ...], body_of: Callable[[BatchRef], Batch]
    ) -> tuple[list[ClientAnswer], list[Record]]:
        """Execute blocks in height order; returns the answers and what has to be stored."""
        answers: list[ClientAnswer] = []
        for block in blocks:
            if block.header.parent_id != self.executed.block_id:
                raise InvariantViolation(
                    f"block at height {block.header.height} does not follow the executed one at {self.executed.height}"
                )
            included = list(self.executed.included)
            for ref in block.payload:
                answers += self._execute_batch(body_of(ref), block.header.height)
                included[ref.author] = ref.seq
            header = block.header
            place = (header.height, header.view, block.id, header.parent_id)
            self.executed = Executed(*place, tuple(included), self._log.state, self._log.executed)
            if header.height % CHECKPOINT_BLOCKS == 0:
                self._checkpoints.append((header.height, self._log.state))
        return answers, execution_records(self.executed, blocks, self._sessions.changes())

    def take_checkpoints(self) -> list[tuple[int, bytes]]:
        """(height, state) of the checkpoints that were executed since the last call."""
        taken, self._checkpoints = self._checkpoints, []
        return taken

    def _execute_batch(self, batch: Batch, height: int) -> Iterator[ClientAnswer]:
        """Frame by frame: Python runs for each frame, native code for each transaction."""
        for frame in batch.frames:
            fresh = 0
            spans = self._sessions.take(frame.client_id, frame.first_seq, frame.count)
            for start, stop in spans or ():
                count = stop - start
                offset = start - frame.first_seq
                whole = count == frame.count
                root = frame.root if whole else native.slice_root(batch.body, frame, offset, offset + count)
                self._log.execute(root, count)
                fresh += count
            executed = spans is not None
            answer = Answer(frame.first_seq, frame.count, fresh, height, self._log.state, executed)
            yield ClientAnswer(frame.client_id, answer)
