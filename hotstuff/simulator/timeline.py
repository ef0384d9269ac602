"""A run as text: one aligned line for each thing that a reader would ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hotstuff.consensus import effects as fx
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import ALL, Action
from hotstuff.types.block import Block
from hotstuff.types.messages import Message, Proposal, Timeout, Vote

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

# A run of a few seconds has thousands of events; this is enough for any that a person reads.
MAX_LINES = 1_000_000
_SIDES = ("partition", "bridge")


def short(block_id: bytes) -> str:
    """The first bytes of an id."""
    return block_id[:3].hex()


class Timeline(Observer):
    """Collects `lines`: time (s), node, its view with a star if it leads it, and what happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said: dict[int, Message] = {}

    def _line(self, world: World, node: SimNode, what: str) -> None:
        view, leads = "-", " "
        if node.replica is not None:
            view = str(node.replica.view)
            leads = "*" if world.leaders.leader(node.replica.view) == node.index else " "
        name = f"n{node.instance}" + ("" if node.honest else "!")
        self._write(world, f"{name:<5}  {view:>6}{leads}  {what}")

    def _write(self, world: World, what: str) -> None:
        if len(self.lines) < MAX_LINES:
            self.lines.append(f"{world.now_us // 1_000_000:>5}.{world.now_us % 1_000_000:06}  {what}")

    def started(self, world: World, node: SimNode) -> None:
        """A life begins."""
        what = "starts" if node.life == 1 else "restarts"
        self._line(world, node, f"{what} at height {len(node.disk.executed)}{', passive' if node.passive else ''}")

    def crashed(self, world: World, node: SimNode) -> None:
        """A life has ended."""
        self._line(world, node, f"crashes; the disk holds height {len(node.disk.executed)}")

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: Sequence[fx.Effect]) -> None:
        """Certificates that were formed, view changes, and what else the core reports."""
        if isinstance(event, fx.Collected) and event.signature is not None:
            self._line(world, node, f"aggregates the signatures of {', '.join(map(str, event.good))}")
        for effect in effects:
            if isinstance(effect, fx.Report) and effect.name not in ("committed", "timed_out"):
                if effect.name == "view_entered" and effect.fields.get("by") == "qc":
                    continue
                fields = ", ".join(f"{key} {value}" for key, value in effect.fields.items())
                self._line(world, node, f"{effect.name.replace('_', ' ')}: {fields}")
            elif isinstance(effect, fx.Strike):
                self._line(world, node, f"strikes n{effect.peer}: {effect.reason}")

    def sent(self, world: World, node: SimNode, to: int, message: Message) -> None:
        """Proposals, votes and timeouts, once each."""
        if not isinstance(message, (Proposal, Vote, Timeout)) or self._said.get(node.instance) is message:
            return
        self._said[node.instance] = message
        if isinstance(message, Proposal):
            header = message.block.header
            entry = "" if message.entry_tc is None else f" after TC {message.entry_tc.view}"
            place = (
                f"{short(header.id)} (view {header.view}, height {header.height}) on QC {header.justify.view}{entry}"
            )
            self._line(world, node, f"proposes {place}, {len(message.block.payload)} batches")
        elif isinstance(message, Vote):
            phase = message.phase.name.lower()
            self._line(world, node, f"votes for {short(message.block_id)} (view {message.view}, {phase})")
        else:
            self._line(world, node, f"times out in view {message.view}, highest QC {message.high_qc.view}")

    def executed(self, world: World, node: SimNode, blocks: Sequence[Block]) -> None:
        """Blocks are executed."""
        names = " ".join(short(block.id) for block in blocks)
        self._line(world, node, f"commits {names}, now at height {blocks[-1].header.height}")

    def acted(self, world: World, action: Action) -> None:
        """A fault begins."""
        self._write(world, f"{'':14}  -- {describe(action, len(world.nodes))} --")


def describe(action: Action, nodes: int) -> str:
    """An action in words."""
    names = {ALL: "all"} | {i: f"n{i}" for i in range(nodes)}
    length = f" for {action.for_us / 1_000_000:g} s" if action.for_us else ""
    if action.kind in _SIDES:
        side = [f"n{i}" for i in range(nodes) if action.argument >> i & 1]
        rest = [f"n{i}" for i in range(nodes) if not action.argument >> i & 1]
        over = f" bridged by {names[action.node]}" if action.kind == "bridge" else ""
        return f"partition {' '.join(side)} | {' '.join(rest)}{over}{length}"
    words = [action.kind]
    if action.kind in ("one-way", "clog", "loss", "duplicate"):
        words.append(f"{names[action.node]} -> {names[action.peer]}")
    elif action.kind not in ("power", "ring"):
        words.append(names[action.node])
    if action.argument:
        words.append(str(action.argument))
    return " ".join(words) + length
