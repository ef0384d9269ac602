"""The block tree of a run as SVG: a column for each view, the committed branch on top, the others below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import count
from textwrap import wrap
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.checkers.ledger import certificates
from hotstuff.simulator.observer import Observer
from hotstuff.types.block import Block, Header
from hotstuff.types.certificates import QC, TC
from hotstuff.types.hashing import PHASES, Mode, Phase
from hotstuff.types.messages import Message, Proposal, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

# Views in a picture: the last ones; after a fork, as many from there and fewer at the end.
VIEWS = 16
LAST_VIEWS = 4
# Validators that get a mark of their own; of more, only the number is told.
MARKS_MAX = 21


class Recorder(Observer):
    """Keeps what a picture shows. It goes to a run as an observer, and from there to `draw`."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.blocks: dict[bytes, Header] = {}
        self.votes: dict[tuple[bytes, Phase], dict[int, None]] = {}
        self.timeouts: dict[int, dict[int, None]] = {}
        self.certified: dict[bytes, dict[Phase, None]] = {}
        self.failed: dict[int, None] = {}

    def started(self, world: World, node: SimNode) -> None:
        """Where all the rest can be asked for at the end."""
        self.world = world

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        """Blocks, votes and timeouts of anybody; certificates that honest replicas pass on."""
        if isinstance(message, Proposal):
            self._add(message.block)
        elif isinstance(message, Vote) and message.signer == node.index:
            self.votes.setdefault((message.block_id, message.phase), {})[node.index] = None
        elif isinstance(message, Timeout) and message.signer == node.index:
            self.timeouts.setdefault(message.view, {})[node.index] = None
        if node.honest:
            self._certified(certificates(message))

    def persisted(self, world: World, node: SimNode, writes: Sequence[fx.Persist]) -> None:
        """Blocks and certificates that honest replicas keep."""
        for write in writes if node.honest else ():
            for block in write.blocks:
                self._add(block)
            if write.safety is not None:
                self._certified(c for c in (write.safety.high_qc, write.safety.high_tc) if c is not None)

    def _add(self, block: Block) -> None:
        self.blocks.setdefault(block.id, block.header)

    def _certified(self, found: Iterable[QC | TC]) -> None:
        for certificate in found:
            if isinstance(certificate, TC):
                self.failed[certificate.view] = None
                certificate = certificate.high_qc
            self.certified.setdefault(certificate.block_id, {})[certificate.phase] = None


# ---- what stands where ----------------------------------------------------------------------------------------------


@dataclass
class Tree:
    """The branches of a record: `executed` by block id, who has; `forked`: at heights where executed blocks differ."""

    blocks: dict[bytes, Header]
    executed: dict[bytes, list[int]] = field(default_factory=dict)
    forked: dict[bytes, None] = field(default_factory=dict)
    locked: dict[bytes, list[int]] = field(default_factory=dict)
    main: dict[bytes, None] = field(default_factory=dict)
    lanes: dict[bytes, int] = field(default_factory=dict)
    columns: dict[int, int] = field(default_factory=dict)
    """Of each view that is shown. A column that is left out stands for the views left out there."""

    @property
    def shown(self) -> list[Header]:
        """Blocks in the columns that are drawn, by view."""
        return sorted((h for h in self.blocks.values() if h.view in self.columns), key=lambda header: header.view)

    def path(self, block_id: bytes) -> Iterator[bytes]:
        """A block and what it extends, as far as it is known."""
        while block_id in self.blocks:
            yield block_id
            block_id = self.blocks[block_id].parent_id


def tree_of(record: Recorder) -> Tree:
    """Who has executed and locked what, and which block goes where."""
    tree = Tree(record.blocks)
    world = record.world
    at: dict[int, dict[bytes, None]] = {}
    for node in world.honest() if world is not None else ():
        for block in node.disk.executed:
            tree.blocks.setdefault(block.id, block.header)
            tree.executed.setdefault(block.id, []).append(node.index)
            at.setdefault(block.header.height, {})[block.id] = None
        safety = node.disk.safety if node.replica is None else node.replica.safety.record
        if safety.locked_qc.view:
            tree.locked.setdefault(safety.locked_qc.block_id, []).append(node.index)
    tree.forked = {block_id: None for ids in at.values() if len(ids) > 1 for block_id in ids}
    tree.columns = _columns(tree, max([*(h.view for h in tree.blocks.values()), *record.failed], default=1))
    tree.main = dict.fromkeys(tree.path(_tip(tree, record)))
    tree.lanes = _lanes(tree)
    return tree


def _columns(tree: Tree, last: int) -> dict[int, int]:
    forks = [tree.blocks[block_id].view for block_id in tree.forked]
    first = max(1, min([last - VIEWS + 1, *(view - 2 for view in forks)]))
    if last - first < VIEWS + LAST_VIEWS:
        return {view: view - first for view in range(first, last + 1)}
    views = (*range(first, first + VIEWS), None, *range(last - LAST_VIEWS + 1, last + 1))
    return {view: column for column, view in enumerate(views) if view is not None}


def _tip(tree: Tree, record: Recorder) -> bytes:
    """The best block on top of what most replicas have executed: certified, if there is such a one, and high."""
    last = max(tree.executed, key=lambda i: (len(tree.executed[i]), tree.blocks[i].height), default=b"")

    def rank(block_id: bytes) -> tuple[bool, bool, int]:
        header = tree.blocks[block_id]
        above = not last or (header.height >= tree.blocks[last].height and last in tree.path(block_id))
        return above, block_id in record.certified, header.view

    return max(tree.blocks, key=rank, default=b"")


def _lanes(tree: Tree) -> dict[bytes, int]:
    """The main branch is lane 0; another block goes below its parent or into the first lane that is free from there."""
    lanes: dict[bytes, int] = {}
    taken: dict[int, int] = {}
    for header in tree.shown:
        parent = tree.blocks.get(header.parent_id)
        after = parent.view if parent is not None else 0
        above = lanes.get(header.parent_id, 0)
        free = (lane for lane in count(1) if taken.get(lane, -1) <= after)
        lane = 0 if header.id in tree.main else above if above and taken[above] == after else next(free)
        lanes[header.id] = lane
        taken[lane] = header.view
    return lanes


# ---- drawing --------------------------------------------------------------------------------------------------------

COLUMN, BOX, MARGIN, HEAD = 164, 132, 28, 62
INK, FAINT, LINE = "#1f2933", "#7b8794", "#9aa5b1"
RED, BLUE, GREEN, AMBER = "#c0262d", "#1d5fa8", "#237a3b", "#9a5b00"
FILLS = {
    "": ("#ffffff", LINE),
    "certified": ("#e8f1fb", BLUE),
    "committed": ("#e6f5ea", GREEN),
    "forked": ("#fdeaea", RED),
}
SANS, MONO = "DejaVu Sans, Helvetica, Arial, sans-serif", "DejaVu Sans Mono, Menlo, Consolas, monospace"


class Picture:
    """One drawing; `text()` is the file."""

    def __init__(self, record: Recorder, title: str, violated: str) -> None:
        assert record.world is not None
        self._record = record
        self._world = record.world
        self._tree = tree_of(record)
        self._phases = PHASES[self._world.context.mode]
        self._n = len(self._world.validators)
        self._per_row = min(self._n, 7)
        self._rows = 1 if self._n > MARKS_MAX else -(-self._n // self._per_row)
        self._box = 46 + len(self._phases) * self._rows * 17 + 18
        self._lane = self._box + 38
        lanes = max(self._tree.lanes.values(), default=0) + 1
        columns = max(self._tree.columns.values()) + 1
        self._width = max(2 * MARGIN + columns * COLUMN, 980)
        told = wrap(violated or "no violation", self._width // 8)
        self._top = MARGIN + 24 + 18 * len(told) + HEAD
        self._height = self._top + lanes * self._lane + 52
        self._parts: list[str] = []
        self._heading(title, told, RED if violated else GREEN)
        self._columns()
        for header in self._tree.shown:
            self._edge(header)
        for header in self._tree.shown:
            self._block(header)
        self._legend()

    def text(self) -> str:
        """The whole SVG file."""
        size = f'width="{self._width}" height="{self._height}" viewBox="0 0 {self._width} {self._height}"'
        background = f'<rect width="{self._width}" height="{self._height}" fill="#ffffff"/>'
        body = "\n".join((background, *self._parts))
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{SANS}">\n{body}\n</svg>\n'

    # ---- strokes

    def _say(self, x: float, y: float, text: str, *, size: int = 12, colour: str = INK, more: str = "") -> None:
        self._parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" {more}>{escape(text)}</text>')

    def _rect(self, x: float, y: float, w: float, h: float, fill: str, more: str = "") -> None:
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="{fill}" {more}/>')

    def _path(self, points: str, more: str) -> None:
        self._parts.append(f'<path d="{points}" fill="none" stroke="{LINE}" {more}/>')

    def _x(self, view: int) -> float:
        return MARGIN + self._tree.columns[view] * COLUMN + (COLUMN - BOX) / 2

    def _y(self, lane: int) -> float:
        return self._top + lane * self._lane

    # ---- parts

    def _heading(self, title: str, told: list[str], colour: str) -> None:
        self._say(MARGIN, MARGIN + 4, title, size=17, more='font-weight="bold"')
        for i, line in enumerate(told):
            self._say(MARGIN, MARGIN + 26 + 18 * i, line, size=13, colour=colour)

    def _columns(self) -> None:
        bottom = self._height - 44
        last_column = -1
        for view, column in self._tree.columns.items():
            x = MARGIN + column * COLUMN
            if column > last_column + 1:
                self._say(x - COLUMN / 2, self._top + 26, "\u2026", size=22, colour=FAINT, more='text-anchor="middle"')
            last_column = column
            if column % 2 == 0:
                self._rect(x, self._top - HEAD + 10, COLUMN, bottom - self._top + HEAD - 10, "#f6f8fa")
            leader = self._world.leaders.leader(view)
            byzantine = leader in self._world.byzantine
            self._say(x + 16, self._top - HEAD + 28, f"view {view}", size=13, more='font-weight="bold"')
            told = f"leader {leader}" + (", Byzantine" if byzantine else "")
            self._say(x + 16, self._top - HEAD + 43, told, size=11, colour=RED if byzantine else FAINT)
            self._failed(view, x + COLUMN - 16, self._top - HEAD + 28)

    def _failed(self, view: int, x: float, y: float) -> None:
        """How a view failed, if it did: a TC, or who gave up on it."""
        gave_up = len(self._record.timeouts.get(view, {}))
        told = "TC" if view in self._record.failed else f"{gave_up} gave up" if gave_up else ""
        if told:
            self._say(x, y, told, size=11, colour=AMBER, more='text-anchor="end" font-weight="bold"')

    def _edge(self, header: Header) -> None:
        lane, parent = self._tree.lanes[header.id], self._tree.blocks.get(header.parent_id)
        to_x, to_y = self._x(header.view), self._y(lane) + 22
        if parent is None or parent.view not in self._tree.columns:
            earlier = [view for view in self._tree.columns if parent is not None and view < parent.view]
            from_x = self._x(max(earlier)) + BOX + COLUMN if earlier else MARGIN
            from_y = to_y
        else:
            from_x, from_y = self._x(parent.view) + BOX, self._y(self._tree.lanes[parent.id]) + 22
        consecutive = header.justify.view + 1 == header.view
        style = 'stroke-width="1.8"' + ("" if consecutive else ' stroke-dasharray="6 4"')
        turn = from_x + (COLUMN - BOX) / 2
        self._path(f"M{from_x:g} {from_y:g} H{turn:g} V{to_y:g} H{to_x:g}", style)

    def _state(self, header: Header) -> str:
        if header.id in self._tree.forked:
            return "forked"
        if header.id in self._tree.executed:
            return "committed"
        return "certified" if header.id in self._record.certified else ""

    def _block(self, header: Header) -> None:
        x, y = self._x(header.view), self._y(self._tree.lanes[header.id])
        state = self._state(header)
        fill, stroke = FILLS[state]
        tip = f"block {header.id.hex()}, justified by view {header.justify.view}"
        self._parts.append(f"<g><title>{escape(tip)}</title>")
        dashes = "" if state else ' stroke-dasharray="4 3"'
        self._rect(x, y, BOX, self._box, fill, f'stroke="{stroke}" stroke-width="1.8" rx="6"{dashes}')
        self._say(x + 9, y + 20, header.id.hex()[:8], size=13, more=f'font-family="{MONO}" font-weight="bold"')
        self._say(x + BOX - 9, y + 20, f"height {header.height}", size=10, colour=FAINT, more='text-anchor="end"')
        byzantine = header.proposer in self._world.byzantine
        self._say(x + 9, y + 37, f"by {header.proposer}", size=11, colour=RED if byzantine else INK)
        if header.justify.view + 1 != header.view:
            told = f"on view {header.justify.view}"
            self._say(x + BOX - 9, y + 37, told, size=10, colour=FAINT, more='text-anchor="end"')
        for i, phase in enumerate(self._phases):
            self._votes(header, phase, x + 9, y + 46 + i * self._rows * 17)
        self._say(x + 9, y + self._box - 7, self._told(header, state), size=10, colour=stroke if state else FAINT)
        locked = self._tree.locked.get(header.id)
        if locked:
            told = f"locked: {_listed(locked)}"
            self._say(x + 9, y + self._box + 14, told, size=11, colour=AMBER, more='font-weight="bold"')
        self._parts.append("</g>")

    def _told(self, header: Header, state: str) -> str:
        if header.id in self._tree.executed:
            return f"committed by {_listed(self._tree.executed[header.id])}"
        phases = self._record.certified.get(header.id, {})
        if self._world.context.mode == Mode.BASIC and phases:
            return f"certified: {max(phases).name.lower()}"
        return state or "not certified"

    def _votes(self, header: Header, phase: Phase, x: float, y: float) -> None:
        """A mark for each validator, full if it voted; red ones are Byzantine."""
        voted = self._record.votes.get((header.id, phase), {})
        if self._n > MARKS_MAX:
            self._say(x, y + 12, f"{len(voted)} of {self._n} voted", size=10)
            return
        for i in range(self._n):
            cx, cy = x + 7 + i % self._per_row * 16.5, y + 8 + i // self._per_row * 17
            colour = RED if i in self._world.byzantine else INK
            ring = f'fill="{colour}"' if i in voted else f'fill="none" stroke="{LINE}"'
            self._parts.append(f'<circle cx="{cx:g}" cy="{cy:g}" r="7" {ring}/>')
            inside = "#ffffff" if i in voted else colour if i in self._world.byzantine else FAINT
            self._say(cx, cy + 3, str(i), size=8, colour=inside, more='text-anchor="middle"')

    def _legend(self) -> None:
        y, x = self._height - 20, float(MARGIN)
        for state, told in (("", "not certified"), ("certified", "certified"), ("committed", "committed")):
            x = self._sample(x, y, state, told)
        if self._tree.forked:
            x = self._sample(x, y, "forked", "committed, and another block elsewhere")
        self._parts.append(f'<circle cx="{x + 8:g}" cy="{y - 4}" r="7" fill="{INK}"/>')
        told = "has voted (red: Byzantine); an empty circle has not.  Dashed line: views in between have failed"
        if len(self._phases) > 1:
            told += ".  Rows: " + ", ".join(phase.name.lower() for phase in self._phases)
        self._say(x + 20, y, told, size=11)

    def _sample(self, x: float, y: float, state: str, told: str) -> float:
        fill, stroke = FILLS[state]
        dashes = "" if state else ' stroke-dasharray="4 3"'
        self._rect(x, y - 12, 18, 14, fill, f'stroke="{stroke}" stroke-width="1.5" rx="3"{dashes}')
        self._say(x + 24, y, told, size=11)
        return x + 42 + 6.6 * len(told)


def _listed(validators: Sequence[int]) -> str:
    found = sorted(set(validators))
    return " ".join(map(str, found)) if len(found) <= 7 else f"{len(found)} validators"


def draw(record: Recorder, title: str, violated: str = "") -> str:
    """The SVG of a record after its run; `violated`: what, if anything."""
    return Picture(record, title, violated).text()
