"""Getting blocks that others have: a few unknown ancestors by hash, or a long committed chain in pages.

Blocks by hash: a verified QC names a block that is not here. Its signers made it durable before they voted, so one of
them is asked, then the next. What comes back is pinned by the hash and needs no other check.

Chain in pages: if the gap is longer than one page, committed blocks are asked for by height. Each page ends in a
block that a QC commits; that one signature and the hashes below it are all that is checked. The vote rule is *not*
applied to synced blocks: a replica locked on an abandoned branch must still accept what was committed without it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hotstuff.consensus.effects import Effect, Send
from hotstuff.types.block import Block
from hotstuff.types.messages import MAX_PAGE_BLOCKS, BlockRequest, ChainRequest

# Blocks whose parent is unknown. Only certified blocks and proposals of the current leader get here.
MAX_ORPHANS = 2 * MAX_PAGE_BLOCKS
# Certified ids being asked for. In a healthy network there is one.
MAX_WANTED = 64
# Stop asking for more pages while this many committed blocks wait for their bodies.
MAX_BACKLOG_BLOCKS = 2 * MAX_PAGE_BLOCKS


@dataclass
class _Wanted:
    view: int
    sources: list[int]
    retry_us: int
    asked: int = 0


@dataclass
class _Chain:
    sources: list[int]
    retry_us: int
    asked: int = 0
    peer: int | None = None
    in_vain: int = 0


class Sync:
    """What is missing, whom to ask and when to ask somebody else."""

    def __init__(self, index: int, validators: int, retry_us: int, effects: list[Effect]) -> None:
        self._everyone = [i for i in range(validators) if i != index]
        self._retry_us = retry_us
        self._effects = effects
        self._wanted: OrderedDict[bytes, _Wanted] = OrderedDict()
        self._orphans: OrderedDict[bytes, Block] = OrderedDict()
        self._chain: _Chain | None = None
        self._owing: set[int] = set()

    # ---- blocks by hash

    def wants(self, block_id: bytes) -> bool:
        """Has a verified certificate named this block, and is it not here?"""
        return block_id in self._wanted

    def want(self, block_id: bytes, signers: tuple[int, ...], view: int, now_us: int) -> None:
        """Ask for a certified block of `view`, or for what is missing below it if it is held already.

        First those who signed it are asked, then everybody else.
        """
        while (held := self._orphans.get(block_id)) is not None:
            block_id, view = held.header.parent_id, held.header.justify.view
        if block_id in self._wanted:
            return
        first = [i for i in signers if i in self._everyone]
        turn = view % len(first) if first else 0  # or one that does not answer would be asked first every time
        first = first[turn:] + first[:turn]
        sources = first + [i for i in self._everyone if i not in first]
        if sources:
            self._wanted[block_id] = _Wanted(view, sources, now_us)
        if len(self._wanted) > MAX_WANTED:
            self._wanted.popitem(last=False)

    def lowest_missing(self, block_id: bytes) -> bytes:
        """The block itself if it is not held, or the first of its ancestors that is not."""
        while (held := self._orphans.get(block_id)) is not None:
            block_id = held.header.parent_id
        return block_id

    def forget(self, block_id: bytes) -> None:
        """The block is here, or no longer needed."""
        self._wanted.pop(block_id, None)

    def hold(self, block: Block) -> None:
        """Keep a block until its parent arrives."""
        self._orphans[block.id] = block
        self.forget(block.id)
        if len(self._orphans) > MAX_ORPHANS:
            self._orphans.popitem(last=False)

    def children(self, parent_id: bytes) -> list[Block]:
        """Takes out the held blocks whose parent has arrived."""
        found = [block for block in self._orphans.values() if block.header.parent_id == parent_id]
        for block in found:
            del self._orphans[block.id]
        return found

    def prune(self, height: int, view: int) -> None:
        """A block was committed: forget what is not above it. That is committed too, or abandoned by everybody."""
        for block in list(self._orphans.values()):
            if block.header.height <= height or block.header.justify.view < view:
                del self._orphans[block.id]
        for block_id in [block_id for block_id, wanted in self._wanted.items() if wanted.view <= view]:
            del self._wanted[block_id]

    # ---- chain in pages

    @property
    def catching_up(self) -> bool:
        """Is a long gap being closed?"""
        return self._chain is not None

    def start_chain(self, sources: tuple[int, ...], now_us: int) -> None:
        """The gap is longer than a page: ask for committed blocks by height until nobody has more."""
        if self._chain is None and self._everyone:
            first = [i for i in sources if i in self._everyone]
            self._chain = _Chain(first + [i for i in self._everyone if i not in first], now_us)

    def awaits(self, peer: int) -> bool:
        """Has `peer` been asked for a page, and not answered yet?

        An answer may come after somebody else was asked, or after the chase was given up: where every answer takes
        longer than the retry time, it is the only kind there is.
        """
        return peer in self._owing

    def page_arrived(self, peer: int, *, useful: bool, now_us: int) -> None:
        """A page that was asked for. `useful`: it committed something; who sends another kind is not asked again."""
        self._owing.discard(peer)
        if self._chain is None and useful:
            self.start_chain((peer,), now_us)
        chain = self._chain
        if chain is None or (peer != chain.peer and not useful):
            return
        chain.peer, chain.retry_us = None, now_us
        if useful:
            chain.in_vain = 0
        else:
            self._next_source(chain)

    def _next_source(self, chain: _Chain) -> None:
        """Asked in vain: nothing there, nothing of use, or no answer. A whole round of that ends the chase."""
        chain.asked += 1
        chain.in_vain += 1
        if chain.in_vain >= len(chain.sources):
            self._chain = None

    # ---- asking

    def ask(self, root_height: int, backlog: int, now_us: int) -> None:
        """Send the requests that are due."""
        for block_id, wanted in self._wanted.items():
            if wanted.retry_us <= now_us:
                if wanted.asked and wanted.asked % len(wanted.sources) == 0:
                    # Everybody was asked in vain: it was committed too long ago to be served by hash.
                    self.start_chain(tuple(wanted.sources), now_us)
                peer = wanted.sources[wanted.asked % len(wanted.sources)]
                wanted.asked, wanted.retry_us = wanted.asked + 1, now_us + self._retry_us
                self._effects.append(Send(peer, BlockRequest(block_id, root_height, MAX_PAGE_BLOCKS)))
        chain = self._chain
        if chain is not None and chain.retry_us <= now_us and backlog < MAX_BACKLOG_BLOCKS:
            if chain.peer is not None:  # it was asked and did not answer
                self._next_source(chain)
            if self._chain is None:
                return
            chain.peer = chain.sources[chain.asked % len(chain.sources)]
            self._owing.add(chain.peer)
            chain.retry_us = now_us + self._retry_us
            self._effects.append(Send(chain.peer, ChainRequest(root_height + 1)))

    def deadline_us(self, backlog: int) -> int | None:
        """When the next request is due."""
        times = [wanted.retry_us for wanted in self._wanted.values()]
        if self._chain is not None and backlog < MAX_BACKLOG_BLOCKS:
            times.append(self._chain.retry_us)
        return min(times, default=None)
