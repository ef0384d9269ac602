"""Messages that wait until the certificates in them are verified.

A message is handled only after everything it carries was checked; until then it waits here, bounded for each peer.
Each item is checked once however many messages carry it. Only positive results are remembered, and by the hash of all
bytes: an answer for (view, block) alone would let other signers or another signature through.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotstuff.consensus.effects import Check, Checkable, Effect, Report, Strike
from hotstuff.types.batch import Batch
from hotstuff.types.hashing import Domain, digest
from hotstuff.types.messages import Message, Proposal

# Views of certificates that are still in use, with room for several signer sets for each.
MAX_VERIFIED = 4096
# Messages of one peer that may wait. An honest peer has a handful under way; the oldest are the least useful, but
# they are also the ones under check, so the newest is dropped and its certificates come again with the next message.
MAX_WAITING_PER_PEER = 64


def item_key(item: Checkable) -> bytes:
    """Identity of exactly these bytes."""
    if isinstance(item, Proposal):
        return digest(Domain.VERIFIED, item.block.id, item.signature)
    if isinstance(item, Batch):
        return digest(Domain.VERIFIED, item.ref.digest, item.signature)
    return item.key  # a certificate's or evidence's own hash covers all its bytes


@dataclass
class _Job:
    key: bytes
    waiting: list[tuple[int, Message]] = field(default_factory=list)


class Desk:
    """Asks for checks through `effects` and hands messages back when everything in them is verified."""

    def __init__(self, effects: list[Effect]) -> None:
        self._effects = effects
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._jobs: dict[int, _Job] = {}
        self._job_of: dict[bytes, int] = {}
        self._waiting: dict[int, int] = {}
        self._next_job = 0

    def new_job(self) -> int:
        """A number for a job that somebody else asks for."""
        self._next_job += 1
        return self._next_job

    def trust(self, item: Checkable) -> None:
        """We made this item ourselves, or verified it as part of making it."""
        self._remember(item_key(item))

    def ready(self, peer: int, message: Message, items: Iterable[Checkable]) -> bool:
        """Is everything verified? If not, the message waits, and comes back from `done` for another try."""
        missing = {item_key(item): item for item in items}
        missing = {key: item for key, item in missing.items() if key not in self._verified}
        if not missing:
            return True
        if self._waiting.get(peer, 0) >= MAX_WAITING_PER_PEER:
            self._effects.append(Report("message_dropped", {"peer": peer, "why": "too many wait for checks"}))
            return False
        # Wait on one item at a time: after it, `ready` runs again and finds the next. Ask for all of them now.
        for key, item in missing.items():
            if key not in self._job_of:
                self._ask(key, item)
        first = self._jobs[self._job_of[next(iter(missing))]]
        first.waiting.append((peer, message))
        self._waiting[peer] = self._waiting.get(peer, 0) + 1
        return False

    def done(self, job_number: int, valid: bool) -> list[tuple[int, Message]]:
        """The answer to a check: messages to handle again. An invalid item costs everybody who sent it."""
        job = self._jobs.pop(job_number, None)
        if job is None:
            return []
        del self._job_of[job.key]
        for peer, _ in job.waiting:
            self._waiting[peer] -= 1
        if valid:
            self._remember(job.key)
            return job.waiting
        for peer, message in job.waiting:
            self._effects.append(Strike(peer, f"{type(message).__name__} with an invalid signature"))
        return []

    def _ask(self, key: bytes, item: Checkable) -> None:
        number = self.new_job()
        self._jobs[number] = _Job(key)
        self._job_of[key] = number
        self._effects.append(Check(number, item))

    def _remember(self, key: bytes) -> None:
        self._verified[key] = None
        if len(self._verified) > MAX_VERIFIED:
            self._verified.popitem(last=False)
