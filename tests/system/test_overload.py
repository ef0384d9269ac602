"""Far more than the cluster carries: clients are held back, memory stays bounded, and then all is well again.

For longer: `pytest tests/system/test_overload.py -s --flood 60`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from hotstuff.app.sessions import MAX_GAPS
from hotstuff.bench.load import Load, LoadPlan
from hotstuff.bench.measure import Recorder
from hotstuff.bench.processes import Cluster

# Clients of each replica. Each alone keeps as much under way as it may, and about as much as makes a replica busy:
# together they offer ten times what the cluster carries, and more than it has room for.
CLIENTS = 10
# Who is refused tries again in no order, so a few requests wait several times as long as most: with frames twice as
# large, longer than their 30 s.
FLOOD_FRAME_BYTES = 64 * 1024
CALM_S, CALM_TPS = 3.0, 200.0
# A replica that the flood has left behind fetches what it missed, and is slow in its turns as a leader until it has.
AS_BEFORE, CALM_TRIES = 3, 10
# What all limits of a replica allow together: lanes, cached bodies, write buffers, and the process itself; without the
# pages of its database that it has read, which are the page cache's.
OWN_MIB_MAX = 512


async def offer(cluster: Cluster, plan: LoadPlan, times: int) -> Recorder:
    recorder = Recorder()
    loads = [Load(cluster.replicas, plan, recorder, tls=True) for _ in range(times)]
    recorder.started += recorder.now_s()
    await asyncio.gather(*(load.run() for load in loads))
    assert [load.errors for load in loads if load.errors] == []
    return recorder


async def calm_latency(cluster: Cluster) -> dict[str, float]:
    calm = await offer(cluster, LoadPlan(512, CALM_TPS, CALM_S), 1)
    assert calm.committed == calm.submitted >= CALM_S * CALM_TPS * 0.8
    return calm.window(1.0, CALM_S).latency_ms()


async def most_memory(cluster: Cluster, seen: list[float]) -> None:
    while True:
        seen.append(cluster.memory().own_mib)
        await asyncio.sleep(0.25)


def test_an_overload_is_followed_by_normal_service(tmp_path: Path, flood_s: float) -> None:
    async def main() -> None:
        cluster = Cluster.create(tmp_path, 4, protocol="chained", tls=True, settings={})
        try:
            await cluster.start()
            before = await calm_latency(cluster)
            memory: list[float] = []
            watch = asyncio.create_task(most_memory(cluster, memory))
            flood = await offer(cluster, LoadPlan(512, None, flood_s, MAX_GAPS, FLOOD_FRAME_BYTES), CLIENTS)
            watch.cancel()
            after = [await calm_latency(cluster)]
            while after[-1]["p50"] > AS_BEFORE * before["p50"] and len(after) < CALM_TRIES:
                after.append(await calm_latency(cluster))
        finally:
            cluster.stop()
        during = flood.window(flood_s / 4, flood_s)
        print(f"\n{flood.committed:,} transactions in the flood, {during.tps:,.0f} a second, {during.latency_ms()}")
        print(f"{max(memory):.0f} MiB in a replica\nbefore {before}")
        for i, latency in enumerate(after):
            print(f"{CALM_S * i:.0f} s after {latency}")
        assert max(memory) < OWN_MIB_MAX
        assert flood.committed == flood.submitted > 0
        assert after[-1]["p50"] <= AS_BEFORE * before["p50"], "no normal service again"

    asyncio.run(main())
