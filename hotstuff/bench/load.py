"""Load: clients that send as fast as answers come (closed loop) or at a fixed rate (open loop)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hotstuff.app.sessions import MAX_GAPS
from hotstuff.bench.measure import Recorder
from hotstuff.client import Client, ReplicaAddress
from hotstuff.errors import ClientError
from hotstuff.types.client import Answer

# Transactions in a frame of the closed loop: about this many bytes, as a client with much to send would do.
FRAME_BYTES = 128 * 1024
# Frames that all closed-loop clients together keep under way: 30 MiB, for four replicas nearly as many as their clients
# may. With half of them latency is two thirds and throughput a fifth less: views come more often, each at its cost.
IN_FLIGHT_FRAMES = 240
# Frames' worth of transactions that are made before the run, and sent again and again: each frame has its own numbers,
# so to the replicas they are all different, and the generator takes no time from them.
POOL_FRAMES = 64
# How finely the open loop schedules: what is due within one tick goes in one frame for each client.
TICK_S = 0.001
REQUEST_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class LoadPlan:
    """What to offer. `rate` is transactions a second over all clients; None: closed loop, with so many frames under way
    for each client, each of about so many bytes."""

    tx_size: int
    rate: float | None
    duration_s: float
    in_flight: int = 1
    frame_bytes: int = FRAME_BYTES

    @property
    def frame(self) -> int:
        """Transactions in a full frame."""
        return max(1, self.frame_bytes // self.tx_size)


def default_in_flight(clients: int) -> int:
    """Frames for each of so many clients."""
    return min(max(IN_FLIGHT_FRAMES // max(clients, 1), 1), MAX_GAPS)


class Load:
    """One client for each replica, each with that replica as its author."""

    def __init__(self, replicas: Sequence[ReplicaAddress], plan: LoadPlan, recorder: Recorder, *, tls: bool) -> None:
        self._first_at_s: list[dict[int, float]] = [{} for _ in replicas]
        self._clients = [
            Client(replicas, tls=tls, author=i, on_answer=partial(self._first_answer, first_at_s))
            for i, first_at_s in enumerate(self._first_at_s)
        ]
        self._plan = plan
        self._recorder = recorder
        self._pool = [os.urandom(plan.tx_size) for _ in range(POOL_FRAMES * plan.frame)]
        self._next = 0
        self._errors: list[str] = []

    @property
    def errors(self) -> list[str]:
        """Why requests failed, the first few."""
        return self._errors[:5]

    async def run(self) -> None:
        """Sends for the planned time, then waits for what is still under way."""
        plan = self._plan
        await asyncio.gather(*(client.start() for client in self._clients))
        try:
            if plan.rate is None:
                authors = range(len(self._clients))
                await asyncio.gather(*(self._closed_loop(a) for a in authors for _ in range(plan.in_flight)))
            else:
                await self._open_loop(plan.rate)
        finally:
            await asyncio.gather(*(client.close() for client in self._clients))

    async def _closed_loop(self, author: int) -> None:
        while self._recorder.now_s() < self._plan.duration_s:
            await self._request(author, self._plan.frame, self._recorder.now_s())

    async def _open_loop(self, rate: float) -> None:
        """Transaction k is due at k / rate, whatever happened to those before; latency counts from then."""
        under_way: set[asyncio.Task[None]] = set()
        sent, turn = 0, 0
        while (now := self._recorder.now_s()) < self._plan.duration_s:
            due = int(now * rate) + 1
            while sent < due:
                # A late tick sends what each missed one would have sent, with the time it was due. Ticks are never
                # quite on time, so up to half of one goes with the one before.
                count = min(due - sent, int(1.5 * rate * TICK_S) + 1, self._plan.frame)
                task = asyncio.create_task(self._request(turn % len(self._clients), count, sent / rate))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                sent, turn = sent + count, turn + 1
            await asyncio.sleep(max(sent / rate, now + TICK_S) - self._recorder.now_s())
        await asyncio.gather(*under_way)

    async def _request(self, author: int, count: int, sent_s: float) -> None:
        self._recorder.submitted += count
        try:
            receipt = await self._clients[author].submit(self._transactions(count), timeout_s=REQUEST_TIMEOUT_S)
        except ClientError as error:
            self._recorder.failed += count
            self._errors.append(str(error))
            return
        self._recorder.confirm(sent_s, count, self._first_at_s[author].pop(receipt.first_seq))

    def _first_answer(self, first_at_s: dict[int, float], _replica: int, answer: Answer) -> None:
        first_at_s.setdefault(answer.first_seq, self._recorder.now_s())

    def _transactions(self, count: int) -> list[bytes]:
        """The next so many of the pool."""
        first = self._next if self._next + count <= len(self._pool) else 0
        self._next = first + count
        return self._pool[first : first + count]
