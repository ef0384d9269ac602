"""How long is a replica gone after a crash, and does that grow with the chain?

    python bench/restart.py                              after 0.1, 1 and 5 million transactions
    python bench/restart.py --transactions 20000000      after that many
    python bench/restart.py --json restart.json          the figures for machines

One replica of four is killed (SIGKILL) and started again while clients offer 500 tx/s. *Votes again* is the moment at
which its status shows a vote in a later view than any before; *has caught up*, when it has executed what another one
had executed at that moment. Both count from the start of the process, the interpreter's start included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hotstuff.bench.load import Load, LoadPlan, default_in_flight
from hotstuff.bench.measure import Recorder
from hotstuff.bench.processes import Cluster
from hotstuff.client import fetch_status
from hotstuff.errors import NotConnected

NODES, VICTIM, WITNESS = 4, 3, 0
TX_SIZE = 512
CALM_TPS = 500.0
TRIES = 3
POLL_S = 0.01
LIMIT_S = 60.0


async def fill(cluster: Cluster, transactions: int) -> int:
    """Closed-loop load until so many are executed; returns how many are."""
    while (done := (await fetch_status(cluster.replicas[WITNESS], tls=True))["executed_tx"]) < transactions:
        recorder = Recorder()
        recorder.started += recorder.now_s()
        seconds = min(max((transactions - done) / 150_000, 0.5), 5.0)
        await Load(
            cluster.replicas, LoadPlan(TX_SIZE, None, seconds, default_in_flight(NODES)), recorder, tls=True
        ).run()
        print(f"\r  {done:>12,} of {transactions:,} transactions ordered", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return int(done)


async def status_of_victim(cluster: Cluster) -> dict[str, Any] | None:
    try:
        return await fetch_status(cluster.replicas[VICTIM], tls=True)
    except NotConnected:
        return None


async def restart_once(cluster: Cluster) -> tuple[float, float]:
    """Seconds until it votes again, and until it has caught up."""
    before = (await fetch_status(cluster.replicas[VICTIM], tls=True))["voted_view"]
    cluster.kill(VICTIM)
    await asyncio.sleep(1.0)  # the others go on without it
    begun = time.monotonic()
    cluster.restart(VICTIM)
    voting_s, goal = 0.0, 0
    while time.monotonic() - begun < LIMIT_S:
        cluster.check()
        status = await status_of_victim(cluster)
        if status is not None and not voting_s and status["voted_view"] > before:
            voting_s = time.monotonic() - begun
            goal = (await fetch_status(cluster.replicas[WITNESS], tls=True))["executed_tx"]
        if status is not None and voting_s and status["executed_tx"] >= goal:
            return voting_s, time.monotonic() - begun
        await asyncio.sleep(POLL_S)
    raise SystemExit(f"replica {VICTIM} does not vote, or is behind, {LIMIT_S:.0f} s after its start")


async def measure(cluster: Cluster) -> dict[str, float]:
    """Medians of a few restarts under a light load."""
    recorder = Recorder()
    recorder.started += recorder.now_s()
    calm = asyncio.create_task(Load(cluster.replicas[:1], LoadPlan(TX_SIZE, CALM_TPS, 1e9), recorder, tls=True).run())
    try:
        await asyncio.sleep(1.0)
        found = [await restart_once(cluster) for _ in range(TRIES)]
    finally:
        calm.cancel()
        await asyncio.gather(calm, return_exceptions=True)
    voting, caught_up = zip(*found, strict=True)
    return {"votes_again_s": round(statistics.median(voting), 3), "caught_up_s": round(statistics.median(caught_up), 3)}


async def run(goals: list[int]) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="hotstuff-restart-") as folder:
        cluster = Cluster.create(Path(folder), NODES, protocol="chained", tls=True, settings={})
        try:
            await cluster.start()
            for goal in sorted(goals):
                done = await fill(cluster, goal)
                size = sum(file.stat().st_blocks * 512 for file in (cluster.home(VICTIM) / "data").rglob("*.mdb"))
                rows.append({"transactions": done, "data_mib": round(size / 2**20), **await measure(cluster)})
                row = rows[-1]
                print(
                    f"{row['transactions']:>12,} transactions, {row['data_mib']:>6,} MiB: votes again after "
                    f"{row['votes_again_s']:.2f} s, has caught up after {row['caught_up_s']:.2f} s"
                )
        finally:
            cluster.stop()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, nargs="+", default=[100_000, 1_000_000, 5_000_000], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = asyncio.run(run(arguments.transactions))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
