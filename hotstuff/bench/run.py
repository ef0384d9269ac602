"""One benchmark run: cluster, load, progress, report."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from hotstuff.bench.agreement import compare_chains
from hotstuff.bench.load import Load, LoadPlan
from hotstuff.bench.measure import Recorder
from hotstuff.bench.processes import Cluster, Memory, process_cpu_s
from hotstuff.crypto.bls import SecretKey, verify

PROGRESS_S = 0.25
# After the load has ended: time for slower replicas to execute what the fastest f+1 have.
SETTLE_TIMEOUT_S = 20.0
VERIFICATIONS = 25


@dataclass(frozen=True)
class BenchPlan:
    """What `hotstuff-bench` was asked for. `rate` None: closed loop, so many frames under way for each client."""

    nodes: int
    rate: float | None
    tx_size: int
    duration_s: float
    warmup_s: float
    in_flight: int
    protocol: str
    fsync: bool
    tls: bool
    data_dir: Path | None


@dataclass(frozen=True)
class Progress:
    """One moment of a run."""

    phase: str
    at_s: float
    total_s: float
    tps: float
    p50_ms: float
    submitted: int
    committed: int
    failed: int


@dataclass(frozen=True)
class Outcome:
    """The report, as the command-line contract names its fields, and the timeline for a plot."""

    report: dict[str, Any]
    timeline: list[tuple[float, float, float, float]]
    errors: list[str]


@dataclass(frozen=True)
class Snapshot:
    """What processes have used and replicas have done, at one end of what is measured."""

    at_s: float
    cpu_s: float
    client_cpu_s: float
    statuses: list[dict[str, Any]]


async def run_bench(plan: BenchPlan, show: Callable[[Progress], None]) -> Outcome:
    """Starts the cluster, offers the load, stops everything, compares the chains."""
    with ExitStack() as stack:
        directory = plan.data_dir
        if directory is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hotstuff-bench-")))
        show(Progress("starting", 0, 0, 0, 0, 0, 0, 0))
        cluster = Cluster.create(
            directory, plan.nodes, protocol=plan.protocol, tls=plan.tls, settings={"fsync": plan.fsync}
        )
        stack.callback(cluster.stop)
        await cluster.start()
        run = _Run(plan, cluster, show)
        await run.execute()
        show(Progress("comparing chains", 0, 0, 0, 0, 0, 0, 0))
        cluster.stop()
        agreement = compare_chains([cluster.home(i) / "data" for i in range(plan.nodes)])
        errors = [f"request: {error}" for error in run.load.errors]
        if not agreement.agree:
            errors.append(f"chains differ from height {agreement.first_difference} on (heights {agreement.heights})")
        return Outcome(run.report(agreement.agree), run.timeline(), errors)


class _Run:
    def __init__(self, plan: BenchPlan, cluster: Cluster, show: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._cluster = cluster
        self._show = show
        self._total_s = plan.warmup_s + plan.duration_s
        self._recorder = Recorder()
        self._snapshots: list[Snapshot] = []
        self._memory: list[tuple[float, Memory]] = []
        load_plan = LoadPlan(plan.tx_size, plan.rate, self._total_s, plan.in_flight)
        self.load = Load(cluster.replicas, load_plan, self._recorder, tls=plan.tls)

    async def execute(self) -> None:
        self._recorder.started += self._recorder.now_s()
        watch = asyncio.create_task(self._watch())
        try:
            await self.load.run()
            await watch
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await self._settle()

    async def _watch(self) -> None:
        """Progress all the time; snapshots at the two ends of what is measured."""
        marks = [self._plan.warmup_s, self._total_s]
        while marks:
            now = self._recorder.now_s()
            if now >= marks[0]:
                marks.pop(0)
                self._snapshots.append(await self._snapshot())
            self._cluster.check()
            self._memory.append((now, self._cluster.memory()))
            recent = self._recorder.window(now - 1.0, now)
            phase = "warming up" if now < self._plan.warmup_s else "measuring"
            counts = (self._recorder.submitted, self._recorder.committed, self._recorder.failed)
            self._show(Progress(phase, now, self._total_s, recent.tps, recent.latency_ms()["p50"], *counts))
            await asyncio.sleep(PROGRESS_S)

    async def _snapshot(self) -> Snapshot:
        statuses = await self._cluster.statuses()
        return Snapshot(self._recorder.now_s(), self._cluster.cpu_s(), process_cpu_s(os.getpid()), statuses)

    async def _settle(self) -> None:
        """Until all replicas have executed the same number of transactions."""
        deadline = self._recorder.now_s() + SETTLE_TIMEOUT_S
        while self._recorder.now_s() < deadline:
            if len({status["executed_tx"] for status in await self._cluster.statuses()}) == 1:
                return
            await asyncio.sleep(0.1)

    def timeline(self) -> list[tuple[float, float, float, float]]:
        return self._recorder.window(self._plan.warmup_s, self._total_s).timeline()

    def report(self, agreement: bool) -> dict[str, Any]:
        plan, (start, end) = self._plan, self._snapshots
        window = self._recorder.window(start.at_s, end.at_s)
        span_s = end.at_s - start.at_s
        blocks, views = grown(start, end, "executed_height"), grown(start, end, "view")
        timeouts = max(
            after["counters"].get("timed_out", 0) - before["counters"].get("timed_out", 0)
            for before, after in zip(start.statuses, end.statuses, strict=True)
        )
        hundred_k = window.count / 100_000
        verification_ms = bls_verification_ms()
        return {
            "tps": round(window.tps, 1),
            "latency_ms": window.latency_ms(),
            "first_answer_ms": window.first_answer_ms(),
            "submitted": self._recorder.submitted,
            "committed": self._recorder.committed,
            "failed": self._recorder.failed,
            "nodes": plan.nodes,
            "protocol": plan.protocol,
            "tx_size": plan.tx_size,
            "duration_s": round(span_s, 3),
            "offered_tps": plan.rate,
            "fsync": plan.fsync,
            "tls": plan.tls,
            "blocks": blocks,
            "views": views,
            "timeouts": timeouts,
            "block_interval_ms": round(1000 * span_s / blocks, 3) if blocks else 0.0,
            "agreement": agreement,
            "cpu_s_per_100k_tx": round((end.cpu_s - start.cpu_s) / hundred_k, 3) if hundred_k else 0.0,
            "client_cpu_share": round((end.client_cpu_s - start.client_cpu_s) / span_s, 3),
            "rss_mib_max": round(max(memory.resident_mib for _, memory in self._memory), 1),
            "own_mib": own_by_tenths(self._memory, start.at_s, end.at_s),
            "bls_verification_ms": round(verification_ms, 3),
            "p50_in_bls_verifications": round(window.latency_ms()["p50"] / verification_ms, 1),
            "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version()},
        }


def grown(start: Snapshot, end: Snapshot, name: str) -> int:
    """How far the most advanced replica moved.

    Views run ahead of what is executed, and not equally far at both ends: blocks can grow by more than views.
    """
    return int(max(s[name] for s in end.statuses) - max(s[name] for s in start.statuses))


def own_by_tenths(samples: list[tuple[float, Memory]], start_s: float, end_s: float) -> list[float]:
    """The most that was seen in each tenth of what was measured; a leak is a slope."""
    tenths: list[list[float]] = [[] for _ in range(10)]
    for at_s, memory in samples:
        if start_s <= at_s < end_s:
            tenths[int((at_s - start_s) * 10 / (end_s - start_s))].append(memory.own_mib)
    return [round(max(tenth), 1) for tenth in tenths if tenth]


def bls_verification_ms() -> float:
    """What one signature costs to verify here and now: the unit in which latencies of different machines compare."""
    secret, message = SecretKey.generate(bytes(32)), bytes(32)
    key, signature = secret.public_key(), secret.sign(message)
    times = []
    for _ in range(VERIFICATIONS):
        begun = time.perf_counter()
        verify(key, message, signature)
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
