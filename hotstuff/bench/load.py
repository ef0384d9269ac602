"""Load: clients that send as fast as answers come (closed loop) or at a fixed rate (open loop)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from hotstuff.bench.measure import Recorder
from hotstuff.client import Client, ReplicaAddress
from hotstuff.errors import ClientError

# Transactions in a frame of the closed loop: about this many bytes, as a client with much to send would do.
FRAME_BYTES = 64 * 1024
# Frames each closed-loop client keeps under way.
INFLIGHT_FRAMES = 60
# How finely the open loop schedules: what is due within one tick goes in one frame for each client.
TICK_S = 0.001
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class LoadPlan:
    """What to offer. `rate` is transactions a second over all clients; None: closed loop."""

    tx_size: int
    rate: float | None
    duration_s: float


class Load:
    """One client for each replica, each with that replica as its author."""

    def __init__(self, replicas: Sequence[ReplicaAddress], plan: LoadPlan, recorder: Recorder, *, tls: bool) -> None:
        self.clients = [Client(replicas, tls=tls, author=i) for i in range(len(replicas))]
        self._plan = plan
        self._recorder = recorder
        self._noise = os.urandom(plan.tx_size + 4096)
        self._serial = 0
        self._errors: list[str] = []

    @property
    def errors(self) -> list[str]:
        """Why requests failed, the first few."""
        return self._errors[:5]

    async def run(self) -> None:
        """Sends for the planned time, then waits for what is still under way."""
        await asyncio.gather(*(client.start() for client in self.clients))
        try:
            if self._plan.rate is None:
                frame = max(1, FRAME_BYTES // self._plan.tx_size)
                workers = [self._closed_loop(c, frame) for c in self.clients for _ in range(INFLIGHT_FRAMES)]
                await asyncio.gather(*workers)
            else:
                await self._open_loop(self._plan.rate)
        finally:
            await asyncio.gather(*(client.close() for client in self.clients))

    async def _closed_loop(self, client: Client, frame: int) -> None:
        while self._recorder.now_s() < self._plan.duration_s:
            await self._request(client, frame, self._recorder.now_s())

    async def _open_loop(self, rate: float) -> None:
        """Transaction k is due at k / rate, whatever happened to those before; latency counts from then."""
        under_way: set[asyncio.Task[None]] = set()
        sent, turn = 0, 0
        while (now := self._recorder.now_s()) < self._plan.duration_s:
            due = int(now * rate) + 1
            while sent < due:
                # A late tick sends what each missed one would have sent, with the time it was due.
                count = min(due - sent, max(1, int(rate * TICK_S)))
                task = asyncio.create_task(self._request(self.clients[turn % len(self.clients)], count, sent / rate))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent, turn = sent + count, turn + 1
            await asyncio.sleep(max(sent / rate - self._recorder.now_s(), TICK_S / 4))
        await asyncio.gather(*under_way)

    async def _request(self, client: Client, count: int, sent_s: float) -> None:
        self._recorder.submitted += count
        try:
            await client.submit(self._transactions(count), timeout_s=REQUEST_TIMEOUT_S)
        except ClientError as error:
            self._recorder.failed += count
            self._errors.append(str(error))
            return
        self._recorder.confirm(sent_s, count)

    def _transactions(self, count: int) -> list[bytes]:
        """Different bytes for each: a serial number in front of a piece of noise."""
        size, first = self._plan.tx_size, self._serial
        self._serial += count
        if size <= 8:
            return [(first + i).to_bytes(8, "big")[-size:] for i in range(count)]
        body = self._noise[first % 4096 : first % 4096 + size - 8]
        return [(first + i).to_bytes(8, "big") + body for i in range(count)]
