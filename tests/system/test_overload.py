"""Far more than the cluster carries: clients are held back, memory stays bounded, and then all is well again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hotstuff.app.sessions import MAX_GAPS
from hotstuff.bench.load import Load, LoadPlan
from hotstuff.bench.measure import Recorder
from hotstuff.bench.processes import Cluster

# Clients of each replica. Together they have more under way than the replicas have room for.
CLIENTS = 10
FLOOD_S, CALM_S = 4.0, 3.0
# What all limits of a replica allow together: lanes, cached bodies, write buffers, and the process itself.
RSS_MIB_MAX = 512


def test_an_overload_is_followed_by_normal_service(tmp_path: Path) -> None:
    async def offer(cluster: Cluster, plan: LoadPlan, times: int) -> Recorder:
        recorder = Recorder()
        loads = [Load(cluster.replicas, plan, recorder, tls=True) for _ in range(times)]
        recorder.started += recorder.now_s()
        await asyncio.gather(*(load.run() for load in loads))
        assert [load.errors for load in loads if load.errors] == []
        return recorder

    async def main() -> None:
        cluster = Cluster.create(tmp_path, 4, protocol="chained", tls=True, settings={})
        try:
            await cluster.start()
            flood = await offer(cluster, LoadPlan(512, None, FLOOD_S, MAX_GAPS), CLIENTS)
            rss_mib = cluster.rss_mib()
            calm = await offer(cluster, LoadPlan(512, 200.0, CALM_S), 1)
        finally:
            cluster.stop()
        after = calm.window(1.0, CALM_S).latency_ms()
        print(f"{flood.committed:,} transactions in the flood, {rss_mib:.0f} MiB in a replica, then {after}")
        assert rss_mib < RSS_MIB_MAX
        assert flood.committed == flood.submitted > 0
        assert calm.committed == calm.submitted >= 500
        assert after["p99"] < 1000

    asyncio.run(main())
