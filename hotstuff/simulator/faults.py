"""Plans: from a seed to a network and to everything that goes wrong in it.

Lengths are drawn in view timeouts, so that faults meet the protocol in the middle of things on any network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from hotstuff.simulator.actions import EVERYTHING, RECORD
from hotstuff.simulator.setup import ALL, Action, Parameters, Plan, Setup

__all__ = ["Action", "Parameters", "Plan", "plan"]


@dataclass(frozen=True)
class Frame:
    """What fault makers draw from: instances, the time for faults, and the view timeout as their measure.

    `forgetful` may lose their safety records: without such a one, the others must be able to go on.
    """

    chance: random.Random
    nodes: tuple[int, ...]
    forgetful: tuple[int, ...]
    until_us: int
    view_us: int

    def time(self) -> int:
        """When a fault begins."""
        return self.chance.randrange(self.until_us)

    def length(self, views: int = 10) -> int:
        """How long it lasts: often short, sometimes many views, never most of the run."""
        longest = self.view_us * self.chance.choice((1, 2, 4, views, 4 * views))
        return 1 + self.chance.randrange(max(1, min(longest, self.until_us // 4)))

    def node(self) -> int:
        """Any instance."""
        return self.chance.choice(self.nodes)

    def pair(self) -> tuple[int, int]:
        """Two instances; equal ones only where there is no other."""
        one = self.node()
        return one, self.chance.choice([node for node in self.nodes if node != one] or [one])

    def side(self, besides: int | None = None) -> int:
        """Bits of one side of a partition: a few instances, or half of them."""
        nodes = [node for node in self.nodes if node != besides]
        size = self.chance.randrange(1, max(2, len(nodes) // 2 + 1))
        return sum(1 << node for node in self.chance.sample(nodes, min(size, len(nodes))))


def plan(setup: Setup) -> Plan:
    """Network and faults of a run: a function of the setup."""
    chance = random.Random(f"{setup.seed}/plan")
    parameters = _network(setup, chance)
    nodes = tuple(range(setup.nodes + len(setup.twins)))
    honest = tuple(i for i in range(setup.nodes) if i not in setup.byzantine)
    actions: list[Action] = []
    until_us, forgetful = setup.duration_us, honest
    if setup.mode == "liveness":
        until_us = setup.duration_us // 4 + chance.randrange(setup.duration_us // 2)
        core = _core(setup, honest, chance)
        parameters = replace(parameters, gst_us=until_us, core=core)
        actions += _fates(parameters, nodes, chance)
        forgetful = tuple(i for i in honest if _is_quorum(setup, (j for j in core if j != i)))
    frame = Frame(chance, nodes, forgetful, until_us, parameters.view_timeout_ms * 1000)
    for _ in range(chance.choice((0, 1, 3, 6, 12, 20))):
        actions += (action for action in chance.choice(_MAKERS)(frame) if action.at_us < until_us)
    return Plan(parameters, tuple(sorted(actions, key=lambda action: action.at_us)))


# ---- networks -------------------------------------------------------------------------------------------------------


def _network(setup: Setup, chance: random.Random) -> Parameters:
    """LAN, WAN or a network with a heavy tail; timers from too short (in safety runs) to generous."""
    kind = chance.choice(("lan", "lan", "wan", "tail"))
    delay_us = chance.randrange(100, 600) if kind != "wan" else chance.randrange(5_000, 50_000)
    spread_us = delay_us * chance.choice((0, 1, 4))
    jitter_us = delay_us // chance.choice((10, 4, 1))
    disk_us = chance.choice((50, 200, 1000, 5000))
    hop_us = delay_us + spread_us + jitter_us + disk_us + 200
    least = 4 if setup.mode == "safety" else 12
    hops = chance.choice((least, 12, 20, 60))
    longest_us = max(least * hop_us, setup.duration_us // 20)  # or no view would ever time out
    view_timeout_ms = max(10, min(hops * hop_us, longest_us) // 1000)
    drift = chance.choice((0, 100, 1000, 50_000 if setup.mode == "safety" else 1000))
    return Parameters(
        delay_us=delay_us,
        spread_us=spread_us,
        jitter_us=jitter_us,
        tail=kind == "tail",
        ordered=chance.random() < 0.7,
        silent_heals=chance.random() < 0.3,
        disk_us=disk_us,
        body_us=disk_us * chance.choice((1, 2, 10)),
        # From streams of their own: kept seeds were found without them.
        small_body_bytes=random.Random(f"{setup.seed}/bodies").choice((0, 16 * 1024)),
        check_us=chance.choice((20, 300, 1500)),
        wake_us=random.Random(f"{setup.seed}/wake").choice((0, 20, 200, delay_us // 2)),
        client_us=chance.choice((1, 3, 10)) * max(hop_us, 4_000),
        view_timeout_ms=view_timeout_ms,
        spread_ms=max(1, view_timeout_ms // chance.choice((8, 20, 40))),
        # Sometimes before an answer can be there: late ones count, too.
        fetch_retry_ms=max(2, hop_us // 1000, view_timeout_ms // chance.choice((2, 5, 10))),
        ppm=tuple(chance.randrange(-drift, drift + 1) for _ in range(setup.nodes)),
    )


# ---- liveness -------------------------------------------------------------------------------------------------------


def _core(setup: Setup, honest: tuple[int, ...], chance: random.Random) -> tuple[int, ...]:
    """Honest validators with quorum power: as few as possible, or all, or something between."""
    rest = chance.sample(honest, len(honest))
    core: list[int] = []
    while rest and not _is_quorum(setup, core):
        core.append(rest.pop())
    extra = chance.choice((0, 0, len(rest), chance.randrange(len(rest) + 1)))
    return tuple(sorted(core + rest[:extra]))


def _is_quorum(setup: Setup, validators: Iterable[int]) -> bool:
    powers = setup.powers or (1,) * setup.nodes
    return 3 * sum(powers[i] for i in validators) > 2 * sum(powers)


def _fates(parameters: Parameters, nodes: tuple[int, ...], chance: random.Random) -> Iterator[Action]:
    """What holds for ever for everybody outside the core: dead, cut off, deaf, mute, clogged, or left alone."""
    at_us = parameters.gst_us
    for node in nodes:
        if node in parameters.core:
            continue
        fate = chance.choice(("crash", "partition", "deaf", "mute", "clog", "alone", "alone"))
        if fate == "crash":
            yield Action(at_us, "crash", node)
        elif fate == "partition":
            yield Action(at_us, "partition", argument=1 << node)
        elif fate == "deaf":
            yield Action(at_us, "one-way", ALL, node)
        elif fate == "mute":
            yield Action(at_us, "one-way", node, ALL)
        elif fate == "clog":
            yield from (Action(at_us, "clog", node, ALL), Action(at_us, "clog", ALL, node))


# ---- faults ---------------------------------------------------------------------------------------------------------


def _crash(frame: Frame) -> Iterator[Action]:
    """At an exact point: before or after a write, between two sends, after a body was stored."""
    point = frame.chance.randrange(frame.chance.choice((1, 4, 20, 200)))
    yield Action(frame.time(), "crash", frame.node(), argument=point, for_us=frame.length())


def _crashes(frame: Frame) -> Iterator[Action]:
    """Several at about the same time, or one again and again."""
    at_us, nodes = frame.time(), frame.chance.choice((frame.nodes, (frame.node(),)))
    for _ in range(frame.chance.randrange(2, 6)):
        at_us += frame.chance.randrange(2 * frame.view_us)
        node, point = frame.chance.choice(nodes), frame.chance.randrange(10)
        yield Action(at_us, "crash", node, argument=point, for_us=frame.length(4))


def _power(frame: Frame) -> Iterator[Action]:
    yield Action(frame.time(), "power", for_us=frame.length(2))


def _amnesia(frame: Frame) -> Iterator[Action]:
    if frame.forgetful:
        node, what = frame.chance.choice(frame.forgetful), frame.chance.choice((RECORD, EVERYTHING))
        yield Action(frame.time(), "amnesia", node, argument=what, for_us=frame.length())


def _pause(frame: Frame) -> Iterator[Action]:
    yield Action(frame.time(), "pause", frame.node(), for_us=frame.length())


def _clock(frame: Frame) -> Iterator[Action]:
    ppm = frame.chance.choice((-500_000, -100_000, -10_000, 10_000, 100_000, 1_000_000))
    yield Action(frame.time(), "clock", frame.node(), argument=ppm, for_us=frame.length(40))


def _disk(frame: Frame) -> Iterator[Action]:
    slow_us = 1 + frame.chance.randrange(frame.chance.choice((frame.view_us // 8, frame.view_us, 3 * frame.view_us)))
    yield Action(frame.time(), "disk", frame.node(), argument=slow_us, for_us=frame.length(20))


def _bodies(frame: Frame) -> Iterator[Action]:
    late_us = 1 + frame.chance.randrange(frame.chance.choice((frame.view_us // 4, 4 * frame.view_us)))
    yield Action(frame.time(), "bodies", frame.chance.choice((frame.node(), ALL)), 0, late_us, frame.length(20))


def _isolate(frame: Frame) -> Iterator[Action]:
    """One, or one after the other."""
    at_us = frame.time()
    for _ in range(frame.chance.choice((1, 1, 4, 8))):
        for_us = frame.length(4)
        yield Action(at_us, "partition", argument=1 << frame.node(), for_us=for_us)
        at_us += for_us


def _partition(frame: Frame) -> Iterator[Action]:
    yield Action(frame.time(), "partition", argument=frame.side(), for_us=frame.length())


def _bridge(frame: Frame) -> Iterator[Action]:
    bridge = frame.node()
    if side := frame.side(bridge):
        yield Action(frame.time(), "bridge", bridge, argument=side, for_us=frame.length())


def _ring(frame: Frame) -> Iterator[Action]:
    """Everybody sees another majority, or less than one."""
    reach = frame.chance.choice((len(frame.nodes) // 3, len(frame.nodes) // 4 + 1))
    yield Action(frame.time(), "ring", argument=reach, for_us=frame.length())


def _one_way(frame: Frame) -> Iterator[Action]:
    one, other = frame.pair()
    node, peer = frame.chance.choice(((one, other), (one, ALL), (ALL, one)))
    yield Action(frame.time(), "one-way", node, peer, 0, frame.length())


def _clog(frame: Frame) -> Iterator[Action]:
    one, other = frame.pair()
    node, peer = frame.chance.choice(((one, other), (one, ALL), (ALL, one)))
    yield Action(frame.time(), "clog", node, peer, 0, frame.length())


def _swizzle(frame: Frame) -> Iterator[Action]:
    """A subset is clogged one by one, and unclogged in another order."""
    begin_us, length_us = frame.time(), frame.length(20)
    for node in frame.chance.sample(frame.nodes, frame.chance.randrange(1, len(frame.nodes) + 1)):
        at_us = begin_us + frame.chance.randrange(length_us)
        for_us = length_us + frame.chance.randrange(length_us)
        yield Action(at_us, "clog", node, ALL, 0, for_us)
        yield Action(at_us, "clog", ALL, node, 0, for_us)


def _loss(frame: Frame) -> Iterator[Action]:
    per_mille = frame.chance.choice((10, 50, 200, 500))
    node, peer = frame.chance.choice(((ALL, ALL), frame.pair()))
    yield Action(frame.time(), "loss", node, peer, per_mille, frame.length(40))


def _duplicate(frame: Frame) -> Iterator[Action]:
    per_mille = frame.chance.choice((50, 200, 500))
    yield Action(frame.time(), "duplicate", ALL, ALL, per_mille, frame.length(40))


_MAKERS: tuple[Callable[[Frame], Iterator[Action]], ...] = (
    *(_crash, _crash, _crash, _crashes, _power, _amnesia, _pause, _clock, _disk, _bodies),
    *(_isolate, _partition, _bridge, _ring, _one_way, _clog, _swizzle, _loss, _duplicate),
)
