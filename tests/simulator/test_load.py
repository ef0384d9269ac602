"""How blocks follow the load, where writing bodies has a limit: the rule of `mempool.sealer`, and what bounds the rest.

Capacity is what each node can write; everything that a client offers has to be written by everybody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from statistics import mean, median

import pytest

from hotstuff.consensus import effects as fx
from hotstuff.mempool.mempool import Mempool
from hotstuff.simulator.node import SimNode
from hotstuff.simulator.observer import Observer
from hotstuff.simulator.setup import Parameters, Plan, Setup
from hotstuff.simulator.world import World
from hotstuff.types.block import Block

SECOND = 1_000_000
CAPACITY = 2000  # bytes a millisecond
TX_BYTES = 1000
QUOTA = 256 * 1024
FULL = 4 * (QUOTA // 2)  # what four authors may have under way


class Meter(Observer):
    """When frames were submitted and first executed, and how large blocks are."""

    def __init__(self) -> None:
        self.submitted_us: dict[int, int] = {}
        self.latency_us: dict[int, int] = {}
        self.blocks: dict[bytes, tuple[int, int]] = {}
        self.held_bytes = 0
        self.full = 0

    def stepped(self, world: World, node: SimNode, event: fx.Event, effects: object) -> None:
        if isinstance(event, fx.Submitted):
            self.submitted_us[event.frame.first_seq] = world.now_us
            assert node.process is not None and isinstance(node.process.payload, Mempool)
            mempool = node.process.payload
            self.held_bytes = max(self.held_bytes, *(lane.held_bytes for lane in mempool._lanes))
            self.full += mempool.room_bytes() < 4 * TX_BYTES

    def executed(self, world: World, node: SimNode, blocks: object) -> None:
        assert isinstance(blocks, (list, tuple))
        for block in blocks:
            if block.id not in self.blocks:
                self._first(world, node, block)

    def _first(self, world: World, node: SimNode, block: Block) -> None:
        self.blocks[block.id] = (world.now_us, sum(ref.size_bytes for ref in block.payload))
        for ref in block.payload:
            for frame in node.disk.batches[ref].frames:
                self.latency_us[frame.first_seq] = world.now_us - self.submitted_us[frame.first_seq]


@dataclass
class Run:
    """What a load did after the first half second; times in milliseconds."""

    meter: Meter
    timeouts: int

    @property
    def latencies(self) -> list[float]:
        submitted = self.meter.submitted_us
        return [us / 1000 for seq, us in self.meter.latency_us.items() if submitted[seq] > SECOND // 2]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        return [block for block in self.meter.blocks.values() if block[0] > SECOND // 2]

    @property
    def bytes_per_ms(self) -> float:
        """Of bodies ordered."""
        (first, _), (last, _) = self.blocks[0], self.blocks[-1]
        return sum(size for _, size in self.blocks[1:]) * 1000 / (last - first)

    @property
    def block_bytes(self) -> float:
        return mean(size for _, size in self.blocks if size)


def client_us(share: float) -> int:
    """The pause between frames (two transactions on average) that offers this share of the capacity."""
    return int(2 * TX_BYTES * 1000 / (share * CAPACITY))


@cache
def offered(share: float, *, then: float | None = None, seconds: float = 2) -> Run:
    """Offers `share` of the capacity; with `then`, that share from the middle on."""
    meter = Meter()
    parameters = Parameters(
        spread_us=0,
        jitter_us=0,
        small_body_bytes=0,
        bytes_per_ms=CAPACITY,
        tx_bytes=TX_BYTES,
        client_us=client_us(share),
        view_timeout_ms=2000,
    )
    world = World(Setup(duration_us=int(seconds * SECOND)), Plan(parameters), [meter])
    world.mempool_config = replace(world.mempool_config, author_quota_bytes=QUOTA, batch_bytes=8192)
    if then is not None:
        calm = replace(parameters, client_us=client_us(then))
        world.schedule(int(seconds * SECOND / 2), setattr, world, "parameters", calm)
    result = world.run()
    assert result.violations == []
    return Run(meter, world.coverage["timeouts"])


def test_at_low_load_nobody_waits_for_a_batch_to_fill() -> None:
    lone, low = offered(0.01), offered(0.1)
    assert median(low.latencies) < 1.1 * median(lone.latencies)
    assert low.block_bytes < 1.1 * lone.block_bytes < 4 * TX_BYTES


def test_towards_capacity_blocks_grow_and_everything_is_ordered() -> None:
    shares = (0.3, 0.6, 0.9)
    runs = [offered(share) for share in shares]
    for share, run in zip(shares, runs, strict=True):
        assert run.bytes_per_ms == pytest.approx(share * CAPACITY, rel=0.1)
        assert run.timeouts == 0
    sizes = [run.block_bytes for run in runs]
    assert sizes == sorted(sizes) and sizes[2] > 1.6 * sizes[0]
    assert median(runs[2].latencies) < 5 * median(runs[0].latencies)


@pytest.mark.parametrize("share", [1.5, 10])
def test_beyond_capacity_blocks_are_few_and_large_and_nothing_collapses(share: float) -> None:
    over, busy = offered(share, seconds=3), offered(0.9)
    assert over.bytes_per_ms > 0.85 * CAPACITY
    assert over.block_bytes > 10 * busy.block_bytes
    assert over.timeouts == 0


def test_beyond_capacity_clients_are_turned_away_and_what_is_under_way_is_bounded() -> None:
    over = offered(10, seconds=3)
    assert over.meter.full > 100
    assert over.meter.held_bytes <= QUOTA
    assert max(over.latencies) < 2 * FULL / CAPACITY


def test_after_an_overload_service_is_as_before() -> None:
    run, low = offered(10, then=0.1, seconds=4), offered(0.1)
    drained = 2 * SECOND + 2 * FULL * 1000 // CAPACITY
    late = [us / 1000 for seq, us in run.meter.latency_us.items() if run.meter.submitted_us[seq] > drained]
    assert len(late) > 20
    assert median(late) < 1.1 * median(low.latencies)
