"""Messages that reach only some, come in another's name or changed, answer with lies, or forget a former life."""

from __future__ import annotations

import copy
import dataclasses
import enum
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.byzantine import Outgoing, Strategy
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.forger import Forger
from hotstuff.types.block import payload_root
from hotstuff.types.certificates import QC, TC
from hotstuff.types.encoding import HASH_BYTES, ZERO_HASH
from hotstuff.types.hashing import Mode, Phase
from hotstuff.types.messages import (
    BatchMessage,
    BlockResponse,
    ChainResponse,
    Message,
    Proposal,
    StateReport,
    Timeout,
    Vote,
)

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

# The first life lasts so many views at least, each later one half as many again: it has more and more to catch up with.
# The node is away for less than a network delay.
LIFE_VIEWS = 8
AWAY_US = 200


class SelectiveDelivery(Strategy):
    """Speaks (or proposes) to some only: just so many that a quorum can form, one, or others in each view."""

    MODES = ("quorum", "proposals", "one", "changing")

    def attach(self, world: World, node: SimNode, forger: Forger) -> None:
        super().attach(world, node, forger)
        self._reached: tuple[int, ...] = ()
        self._choose()

    def _choose(self) -> None:
        order = list(self.honest)
        self.chance.shuffle(order)
        if self.mode == "one":
            self._reached = tuple(order[:1])
            return
        quorum = self.world.validators.is_quorum
        enough = next((k for k in range(len(order)) if quorum((*self.forger.signers, *order[:k]))), len(order))
        self._reached = tuple(order[: self.chance.randrange(len(order) + 1) if self.mode == "changing" else enough])

    def entering(self, view: int) -> Iterable[Outgoing]:
        if self.mode == "changing":
            self._choose()
        return ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        free = self.mode == "proposals" and not isinstance(message, Proposal)
        return ((to, message),) if free or to in self._reached or to in self.forger.signers else ()


class StateLiar(Strategy):
    """Reports a state of the application that nobody else has, to all or to some."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        if isinstance(message, StateReport) and self.chance.random() < 0.8:
            message = replace(message, state=self.chance.randbytes(HASH_BYTES))
        return ((to, message),)


class Impersonator(Strategy):
    """Speaks in the name of others: signs with its own key, or passes on what they signed."""

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        yield to, message
        other = self.chance.choice(self.others)
        if isinstance(message, (Vote, Timeout)) and message.signer == self.index:
            yield to, replace(message, signer=other)
        elif isinstance(message, Proposal) and message.block.header.proposer == self.index:
            header = replace(message.block.header, proposer=other)
            yield to, replace(message, block=replace(message.block, header=header))
        elif isinstance(message, BatchMessage) and message.batch.author == self.index:
            yield to, BatchMessage(replace(message.batch, author=other))

    def entering(self, view: int) -> Iterator[Outgoing]:
        """Genuine words of others of the last view, from the wrong mouth."""
        said: list[Message] = list(self.forger.timeouts.get(view - 1, {}).values())
        said += [vote for votes in self.forger.votes.get(view - 1, {}).values() for vote in votes.values()]
        said += self.forger.proposals.get(view - 1, {}).values()
        for message in said[:8]:
            yield self.chance.choice(self.others), message


class Amnesia(Strategy):
    """Dies while it proposes, comes back at once from an empty or an old disk and goes on from there."""

    MODES = ("empty", "old")

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._views, self._life_views, self._dying = 0, LIFE_VIEWS, False
        self._old: Disk | None = None

    def entering(self, view: int) -> Iterable[Outgoing]:
        """A backup of the disk before anything is signed in this view, or promised with a vote, now and then."""
        self._views += 1
        if self._views >= self._life_views and self.leader(view) == self.index:
            self._old = copied(self.node.disk)
            self._old.safety = replace(self._old.safety, proposed_view=min(self._old.safety.proposed_view, view - 1))
        return ()

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        """In the last view of a life, its proposal reaches one other: the view lasts until we are back."""
        if isinstance(message, Proposal) and self._views >= self._life_views and not self._dying:
            self._dying = True
            self.world.schedule(self.world.now_us, self._die)
        elif self._dying:
            return ()
        return ((to, message),)

    def _die(self) -> None:
        self._views, self._life_views, self._dying = 0, self._life_views * 3 // 2, False
        self.node.crash(flush=False)
        self.world.schedule(self.world.now_us + AWAY_US, self.node.start)

    def restarting(self, disk: Disk) -> Disk:
        self.world.coverage["amnesia"] += 1
        if self.mode == "old" and self._old is not None:
            return copied(self._old)
        return Disk(SafetyRecord.initial(self.world.context, passive=False))


def copied(disk: Disk) -> Disk:
    """A disk that does not change with `disk`, with what waits to be written."""
    found = copy.copy(disk)
    for field in dataclasses.fields(Disk):
        value = getattr(disk, field.name)
        if isinstance(value, (dict, list, set)):
            setattr(found, field.name, value.copy())
    found.write()
    return found


class LyingSyncServer(Strategy):
    """Answers requests for blocks and pages with other blocks, too few, in another order, or with a made-up proof."""

    LIES = ("other", "short", "reversed", "foreign", "nothing", "label", "proof")

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        lie = self.chance.choice(self.LIES)
        if isinstance(message, BlockResponse):
            label = self.chance.randbytes(HASH_BYTES) if lie == "label" else message.block_id
            message = BlockResponse(label, self._blocks(message.blocks, lie))
        elif isinstance(message, ChainResponse):
            message = self._page(message, lie)
        return ((to, message),)

    def _blocks(self, blocks: tuple[Any, ...], lie: str) -> tuple[Any, ...]:
        if lie == "other":
            known = tuple(self.forger.blocks.values())
            return tuple(self.chance.sample(known, min(len(known), max(len(blocks), 1))))
        if lie == "foreign" and blocks:
            header = replace(blocks[0].header, height=blocks[0].header.height + 1)
            return (replace(blocks[0], header=header), *blocks[1:])
        changed = {"short": blocks[: len(blocks) // 2], "reversed": blocks[::-1], "nothing": ()}
        return changed.get(lie, blocks)

    def _page(self, page: ChainResponse, lie: str) -> ChainResponse:
        blocks = self._blocks(page.blocks, lie)
        if not blocks:
            return ChainResponse(page.from_height, (), None)
        proof = page.commit_qc or self.forger.high_qc
        if lie == "proof":
            proof = replace(self.forger.high_qc, commit_id=blocks[-1].id)
        height = self.chance.choice((0, 1, 2**62)) if lie == "label" else page.from_height
        return ChainResponse(height, blocks, proof)


class Mutator(Strategy):
    """Changes one small thing in a third of its messages, wherever it is, and often signs the result."""

    def __init__(self, chance: random.Random, mode: str = "") -> None:
        super().__init__(chance, mode)
        self._earlier: dict[type, Message] = {}

    def sending(self, to: int, message: Message) -> Iterable[Outgoing]:
        earlier = self._earlier.setdefault(type(message), message)
        if self.chance.random() < 0.1:
            self._earlier[type(message)] = message
        if self.chance.random() < 0.67:
            return ((to, message),)
        changed: Any = self._repeated(message, earlier) if self.chance.random() < 0.2 else self._mutated(message)
        if self.chance.random() < 0.75:
            changed = self._honestly_signed(changed)
        return ((to, changed),)

    def _repeated(self, message: Message, earlier: Message) -> Message:
        names = [field.name for field in dataclasses.fields(message)]
        if not names:
            return message
        name = self.chance.choice(names)
        changed: Message = replace(message, **{name: getattr(earlier, name)})
        return changed

    def _mutated(self, value: Any) -> Any:
        """`value` with one change somewhere inside it."""
        known = self._known(type(value))
        if known and self.chance.random() < 0.5:
            return self.chance.choice(known)
        if isinstance(value, enum.Enum):
            return self.chance.choice(list(Phase if isinstance(value, Phase) else Mode))
        if isinstance(value, int):
            return max(value + self.chance.choice((-1, 1)), 0)
        if isinstance(value, bytes):
            return self._other_bytes(value)
        if isinstance(value, tuple):
            return self._other_tuple(value)
        fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
        names = [field.name for field in fields if field.init]
        if not names:
            return value
        name = self.chance.choice(names)
        return replace(value, **{name: self._mutated(getattr(value, name))})

    def _known(self, kind: type) -> list[Any]:
        """Certificates that could stand here; no TC is one, too."""
        if kind is QC:
            return list(self.forger.qcs.values())
        return [None, *self.forger.tcs.values()] if kind in (TC, type(None)) else []

    def _other_bytes(self, value: bytes) -> bytes:
        if len(value) == HASH_BYTES and self.chance.random() < 0.7:
            return self.chance.choice((ZERO_HASH, *list(self.forger.blocks)[-4:]))
        if not value or self.chance.random() < 0.1:
            return value + b"\0"
        at = self.chance.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << self.chance.randrange(8)]) + value[at + 1 :]

    def _other_tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            return value
        at = self.chance.randrange(len(value))
        one = (value[at],)
        changed = self.chance.choice(((), one * 2, (self._mutated(value[at]),)))
        return value[:at] + changed + value[at + 1 :]

    def _honestly_signed(self, message: Any) -> Any:
        """With hashes and signature that fit, where the key is ours."""
        if isinstance(message, Proposal):
            block, tc = message.block, message.entry_tc
            root, entry = payload_root(block.payload), ZERO_HASH if tc is None else tc.key
            parent = block.header.justify.block_id
            header = replace(block.header, payload_root=root, entry_tc_hash=entry, parent_id=parent)
            message = replace(message, block=replace(block, header=header))
        try:
            return self.forger.signed(message)
        except KeyError:
            return message
