"""What can be done to a world. Each action undoes only itself, so overlapping ones add up and any can be left out.

    kind         node, peer, argument                                          for_us
    ----         --------------------                                          ------
    crash        at crash point number `argument` from now (0: at once)        until it starts again
    power        all at once; each starts again by and by                      shortest time to a start
    amnesia      at once; the safety record is lost (1), or everything (2)     until it starts again
    pause        it does nothing, and what arrives waits                       yes
    clock        its clock runs `argument` ppm faster                          yes
    disk         each write takes `argument` us longer                         yes
    bodies       batches reach it `argument` us later (node ALL: everybody)    yes
    partition    `argument`: bits of the instances on one side                 yes
    bridge       as partition, but `node` reaches both sides                   yes
    ring         each reaches only its neighbours up to `argument` away        yes
    one-way      nothing gets from `node` to `peer` (either may be ALL)        yes
    clog         what goes from `node` to `peer` waits (either may be ALL)     yes
    loss         `argument` per mille from `node` to `peer` are lost           yes
    duplicate    `argument` per mille from `node` to `peer` come twice         yes

`node` and `peer` are instances.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hotstuff.consensus.safety import SafetyRecord
from hotstuff.simulator.disk import Disk
from hotstuff.simulator.network import Link
from hotstuff.simulator.setup import ALL, Action

if TYPE_CHECKING:
    from hotstuff.simulator.node import SimNode
    from hotstuff.simulator.world import World

Undo = Callable[[], None]

RECORD, EVERYTHING = 1, 2


def act(world: World, action: Action) -> None:
    """Does it, and undoes it in time."""
    world.coverage[_COVERAGE.get(action.kind, action.kind)] += 1
    for hook in world.on_acted:
        hook(world, action)
    undo = _ACTIONS[action.kind](world, action)
    if undo is not None and action.for_us:
        world.schedule(world.now_us + action.for_us, undo)


# ---- processes ------------------------------------------------------------------------------------------------------


def _crash(world: World, action: Action) -> None:
    node = world.nodes[action.node]
    if node.calm or not node.alive:
        return
    node.down_us = action.for_us
    node.fuse = action.argument
    if not action.argument:
        node.crash()


def _power(world: World, action: Action) -> None:
    for node in world.nodes:
        if not node.calm and node.alive:
            node.power_off(action.for_us)


def _amnesia(world: World, action: Action) -> None:
    """At most one honest replica at a time, and without bodies and blocks only one in all: others rely on those."""
    node = world.nodes[action.node]
    others = [other for other in world.honest() if other is not node]
    if node.calm or not node.honest or any(other.passive for other in others):
        return
    power = world.validators.power(sorted(world.byzantine | {node.index}))
    alone = world.wiped in (None, node.index) and 3 * power < world.validators.total_power
    node.down_us = 0
    node.crash()
    record = SafetyRecord.initial(world.context, passive=True)
    if action.argument == EVERYTHING and alone:
        world.wiped = node.index
        node.disk = Disk(record)
    else:
        node.disk.safety = record
    world.schedule(world.now_us + action.for_us, node.start)


def _pause(world: World, action: Action) -> Undo | None:
    node = world.nodes[action.node]
    if node.calm or not node.alive:
        return None
    node.pause()
    return node.resume


def _clock(world: World, action: Action) -> Undo | None:
    node = world.nodes[action.node]

    def run(ppm: int) -> None:
        if not node.calm:
            node.set_rate(ppm)

    run(action.argument)
    return partial(run, world.ppm(node.index))


def _disk(world: World, action: Action) -> Undo | None:
    node = world.nodes[action.node]

    def slow(more_us: int) -> None:
        if not node.calm:
            node.disk_us += more_us

    slow(action.argument)
    return partial(slow, -action.argument)


# ---- links ----------------------------------------------------------------------------------------------------------


def _links(world: World, which: Callable[[SimNode, SimNode], bool]) -> list[Link]:
    link = world.network.link
    return [link(a.instance, b.instance) for a in world.nodes for b in world.nodes if a is not b and which(a, b)]


def _named(world: World, action: Action) -> list[Link]:
    """Those from `node` to `peer`."""
    senders = range(len(world.nodes)) if action.node == ALL else (action.node,)
    receivers = range(len(world.nodes)) if action.peer == ALL else (action.peer,)
    return [world.network.link(a, b) for a in senders for b in receivers if a != b]


def _cut(world: World, links: list[Link]) -> Undo:
    world.network.cut(links)
    return partial(world.network.mend, links)


def _partition(world: World, action: Action) -> Undo:
    def apart(a: SimNode, b: SimNode) -> bool:
        return (action.argument >> a.instance ^ action.argument >> b.instance) & 1 == 1

    return _cut(world, _links(world, apart))


def _bridge(world: World, action: Action) -> Undo:
    def apart(a: SimNode, b: SimNode) -> bool:
        sides_differ = (action.argument >> a.instance ^ action.argument >> b.instance) & 1 == 1
        return sides_differ and action.node not in (a.instance, b.instance)

    return _cut(world, _links(world, apart))


def _ring(world: World, action: Action) -> Undo:
    size = len(world.nodes)

    def far(a: SimNode, b: SimNode) -> bool:
        steps = (a.instance - b.instance) % size
        return min(steps, size - steps) > action.argument

    return _cut(world, _links(world, far))


def _one_way(world: World, action: Action) -> Undo:
    return _cut(world, _named(world, action))


def _clog(world: World, action: Action) -> Undo:
    links = _named(world, action)
    world.network.clog(links)
    return partial(world.network.unclog, links)


def _loss(world: World, action: Action) -> Undo:
    links, disturb = _named(world, action), world.network.disturb
    disturb(links, loss=action.argument)
    return partial(disturb, links, loss=-action.argument)


def _duplicate(world: World, action: Action) -> Undo:
    links, disturb = _named(world, action), world.network.disturb
    disturb(links, duplicate=action.argument)
    return partial(disturb, links, duplicate=-action.argument)


def _bodies(world: World, action: Action) -> Undo:
    links = _links(world, lambda _, b: action.node in (ALL, b.instance))
    disturb = world.network.disturb
    disturb(links, slow_us=action.argument)
    return partial(disturb, links, slow_us=-action.argument)


_ACTIONS: dict[str, Callable[[World, Action], Undo | None]] = {
    "crash": _crash,
    "power": _power,
    "amnesia": _amnesia,
    "pause": _pause,
    "clock": _clock,
    "disk": _disk,
    "bodies": _bodies,
    "partition": _partition,
    "bridge": _bridge,
    "ring": _ring,
    "one-way": _one_way,
    "clog": _clog,
    "loss": _loss,
    "duplicate": _duplicate,
}
KINDS = tuple(_ACTIONS)
# Coverage counts what happened; of a crash, loss or duplicate this is only the occasion.
_COVERAGE = {
    "crash": "crash_planned",
    "power": "power_loss",
    "bridge": "partition",
    "ring": "partition",
    "loss": "loss_phase",
    "duplicate": "duplicate_phase",
}
